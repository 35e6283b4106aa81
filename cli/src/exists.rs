//! `bowstring exists`: which keys are there.

use bowstring_wire::action::ExistsRequest;
use bowstring_wire::name::Key;
use bowstring_wire::reply::ExistsReply;

use crate::Error;
use crate::client::Client;
use crate::target::Space;

/// Which keys are there.
#[derive(Debug, clap::Args)]
pub struct Exists {
    #[command(flatten)]
    space: Space,
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<Key>,
}

impl Exists {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let mut client = Client::connect(&self.space.target.endpoint).await?;
        let request = ExistsRequest {
            namespace: self.space.namespace,
            keys: self.keys,
        };
        let reply: ExistsReply = client.action("exists", request.to_json()).await?;
        for key in &reply.keys {
            println!(
                "{} {}",
                if key.found { "there" } else { "missing" },
                key.key
            );
        }
        Ok(u8::from(reply.keys.iter().any(|key| !key.found)))
    }
}
