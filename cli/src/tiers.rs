//! `bowstring flush`, `evict`, `prewarm`: between memory and the cold tier.

use bowstring_wire::action::{FlushRequest, MoveRequest, MoveSelect};
use bowstring_wire::reply::MoveReply;

use crate::Error;
use crate::client::Client;
use crate::human::of;
use crate::keep::Tally;
use crate::keys::Keys;
use crate::out::{self, push_json};
use crate::target::Space;

/// Which namespace is written down.
#[derive(Debug, clap::Args)]
pub struct Flush {
    /// Print JSON: an object
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    space: Space,
}

/// Which keys leave memory.
#[derive(Debug, clap::Args)]
pub struct Evict {
    #[command(flatten)]
    which: Which,
}

/// Which keys come into memory.
#[derive(Debug, clap::Args)]
pub struct Prewarm {
    #[command(flatten)]
    which: Which,
}

impl Flush {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let mut client = Client::connect(&self.space.target).await?;
        let request = FlushRequest {
            namespace: self.space.namespace,
        };
        let reply = client.action("flush", request.to_json()).await?;
        tell(&reply, "in the cold tier", self.json)
    }
}

impl Evict {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        self.which.run("evict", "moved out of memory").await
    }
}

impl Prewarm {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        self.which.run("prewarm", "brought into memory").await
    }
}

/// Keys, or all that begin with a prefix.
#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    keys: Keys,
    /// All keys that begin with it, instead of keys
    #[arg(long, conflicts_with = "keys")]
    prefix: Option<String>,
    /// Print JSON: an object a line
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    space: Space,
}

impl Which {
    async fn run(self, action: &str, does: &str) -> Result<u8, Error> {
        let namespace = self.space.namespace;
        let Some(prefix) = self.prefix else {
            let keys = self.keys.required()?;
            let mut client = Client::connect(&self.space.target).await?;
            let mut tally = Tally::new(self.json);
            let mut entries = 0;
            for keys in keys.chunks() {
                let request = MoveRequest {
                    namespace: namespace.clone(),
                    select: MoveSelect::Keys(keys?),
                };
                let reply: MoveReply = client.action(action, request.to_json()).await?;
                entries += reply.entries;
                tally.add(&reply.keys.unwrap_or_default())?;
            }
            return tally.end(&format!("there, {entries} {does}"));
        };
        let mut client = Client::connect(&self.space.target).await?;
        let request = MoveRequest {
            namespace,
            select: MoveSelect::Prefix(prefix),
        };
        let reply = client.action(action, request.to_json()).await?;
        tell(&reply, does, self.json)
    }
}

fn tell(reply: &MoveReply, does: &str, json: bool) -> Result<u8, Error> {
    let mut text = String::new();
    match json {
        true => push_json(&mut text, reply),
        false => text = format!("{} {does}\n", of(reply.entries, "key", "keys")),
    }
    out::print(&text)?;
    Ok(0)
}
