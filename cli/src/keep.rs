//! `bowstring expire`, `pin`, `unpin`: how long keys stay.

use bowstring_wire::action::{ExpireRequest, PinRequest};
use bowstring_wire::duration;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::reply::{KeyFound, KeysReply};

use crate::Error;
use crate::client::Client;
use crate::human::{of, shown};
use crate::keys::Keys;
use crate::out::{self, push_json};
use crate::target::Space;

/// When keys expire.
#[derive(Debug, clap::Args)]
pub struct Expire {
    /// How long from now: 90s, 12h, 30d
    #[arg(long, value_name = "TIME", required_unless_present = "never", conflicts_with = "never", value_parser = duration::parse_ttl_ms)]
    ttl: Option<u64>,
    /// They do not expire
    #[arg(long)]
    never: bool,
    #[command(flatten)]
    on: On,
}

/// Which keys are kept from eviction.
#[derive(Debug, clap::Args)]
pub struct Pin {
    #[command(flatten)]
    on: On,
}

/// Which keys may be evicted again.
#[derive(Debug, clap::Args)]
pub struct Unpin {
    #[command(flatten)]
    on: On,
}

impl Expire {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let ttl_ms = self.ttl;
        let request = |namespace, keys| {
            ExpireRequest {
                namespace,
                keys,
                ttl_ms,
            }
            .to_json()
        };
        let does = match self.never {
            true => "set never to expire",
            false => "set to expire",
        };
        self.on.run("expire", does, request).await
    }
}

impl Pin {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        self.on.run("pin", "pinned", pin_request).await
    }
}

impl Unpin {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        self.on.run("unpin", "no longer pinned", pin_request).await
    }
}

fn pin_request(namespace: Namespace, keys: Vec<Key>) -> String {
    PinRequest { namespace, keys }.to_json()
}

/// What an action on keys has beside its own flags.
#[derive(Debug, clap::Args)]
pub struct On {
    #[command(flatten)]
    keys: Keys,
    /// Print JSON: an object a line
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    space: Space,
}

impl On {
    /// Sends `action` for all keys, and tells what it did to how many of them; 1 where some are
    /// not there.
    async fn run(
        self,
        action: &str,
        does: &str,
        request: impl Fn(Namespace, Vec<Key>) -> String,
    ) -> Result<u8, Error> {
        let keys = self.keys.required()?;
        let mut client = Client::connect(&self.space.target).await?;
        let mut tally = Tally::new(self.json);
        for keys in keys.chunks() {
            let request = request(self.space.namespace.clone(), keys?);
            let reply: KeysReply = client.action(action, request).await?;
            tally.add(&reply.keys)?;
        }
        tally.end(does)
    }
}

/// Counts keys that were there and that were not, and tells of them.
pub struct Tally {
    json: bool,
    found: u64,
    missing: u64,
}

impl Tally {
    /// Nothing yet.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            found: 0,
            missing: 0,
        }
    }

    /// Some more: each is a line of JSON, or, where it is missing, of standard error.
    pub fn add(&mut self, keys: &[KeyFound]) -> Result<(), Error> {
        let mut text = String::new();
        for key in keys {
            if key.found {
                self.found += 1;
            } else {
                self.missing += 1;
            }
            if self.json {
                push_json(&mut text, key);
            } else if !key.found {
                eprintln!("not there: {}", shown(key.key.as_str()));
            }
        }
        out::print(&text)
    }

    /// The sum, and what to exit with.
    pub fn end(self, does: &str) -> Result<u8, Error> {
        if !self.json {
            out::print(&format!("{} {does}\n", of(self.found, "key", "keys")))?;
        }
        Ok(u8::from(self.missing > 0))
    }
}
