//! `bowstring rm`, `bowstring clear`: deleting.

use bowstring_wire::action::{ClearRequest, DeleteRequest, DeleteSelect};
use bowstring_wire::name::Namespace;
use bowstring_wire::reply::DeleteReply;

use crate::Error;
use crate::client::Client;
use crate::confirm::confirmed;
use crate::human::{of, shown};
use crate::keep::Tally;
use crate::keys::Keys;
use crate::ns;
use crate::out::{self, push_json};
use crate::target::{Space, Target};

/// Which keys go.
#[derive(Debug, clap::Args)]
pub struct Rm {
    #[command(flatten)]
    keys: Keys,
    /// All keys that begin with it, instead of keys
    #[arg(long, conflicts_with = "keys")]
    prefix: Option<String>,
    /// Ask no question before a prefix is deleted
    #[arg(short, long)]
    yes: bool,
    /// Print JSON: an object a line
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    space: Space,
}

/// Which namespace is emptied.
#[derive(Debug, clap::Args)]
pub struct Clear {
    /// Which namespace; its settings stay
    #[arg(value_name = "NAMESPACE")]
    namespace: Namespace,
    /// Ask no question
    #[arg(short, long)]
    yes: bool,
    /// Print JSON: an object
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Rm {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let namespace = self.space.namespace;
        let Some(prefix) = self.prefix else {
            let keys = self.keys.required()?;
            let mut client = Client::connect(&self.space.target).await?;
            let mut tally = Tally::new(self.json);
            for keys in keys.chunks() {
                let request = DeleteRequest {
                    namespace: namespace.clone(),
                    select: DeleteSelect::Keys {
                        keys: keys?,
                        if_version: None,
                    },
                };
                let reply: DeleteReply = client.action("delete", request.to_json()).await?;
                tally.add(&reply.keys.unwrap_or_default())?;
            }
            return tally.end("deleted");
        };
        let what = format!(
            "delete all keys of namespace `{namespace}` that begin with `{}`?",
            shown(&prefix)
        );
        if !self.yes && !confirmed(&what)? {
            return nothing();
        }
        let mut client = Client::connect(&self.space.target).await?;
        let request = DeleteRequest {
            namespace,
            select: DeleteSelect::Prefix { prefix },
        };
        tell(client.action("delete", request.to_json()).await?, self.json)
    }
}

impl Clear {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let namespace = self.namespace;
        let mut client = Client::connect(&self.target).await?;
        if !self.yes {
            let there = ns::find(&mut client, &namespace).await?;
            let entries = of(there.map_or(0, |there| there.entries), "entry", "entries");
            let what = format!("delete all {entries} of namespace `{namespace}`?");
            if !confirmed(&what)? {
                return nothing();
            }
        }
        let request = ClearRequest { namespace };
        tell(client.action("clear", request.to_json()).await?, self.json)
    }
}

fn tell(reply: DeleteReply, json: bool) -> Result<u8, Error> {
    let mut text = String::new();
    match json {
        true => push_json(&mut text, &reply),
        false => text = format!("{} deleted\n", of(reply.deleted, "key", "keys")),
    }
    out::print(&text)?;
    Ok(0)
}

fn nothing() -> Result<u8, Error> {
    eprintln!("nothing was deleted");
    Ok(1)
}
