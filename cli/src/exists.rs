//! `bowstring exists`: which keys are there.

use bowstring_wire::action::ExistsRequest;
use bowstring_wire::reply::ExistsReply;
use console::Style;

use crate::Error;
use crate::client::Client;
use crate::human::shown;
use crate::keys::Keys;
use crate::out::{self, Format, push_json};
use crate::target::Space;

/// Which keys are there.
#[derive(Debug, clap::Args)]
pub struct Exists {
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    space: Space,
}

impl Exists {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let keys = self.keys.required()?;
        let mut client = Client::connect(&self.space.target).await?;
        let (there, missing) = (Style::new().green(), Style::new().red());
        let mut all = true;
        for keys in keys.chunks() {
            let request = ExistsRequest {
                namespace: self.space.namespace.clone(),
                keys: keys?,
            };
            let reply: ExistsReply = client.action("exists", request.to_json()).await?;
            let mut text = String::new();
            for key in &reply.keys {
                all &= key.found;
                if self.format.json {
                    push_json(&mut text, key);
                    continue;
                }
                let found = match key.found {
                    true => there.apply_to("there  "),
                    false => missing.apply_to("missing"),
                };
                text.push_str(&format!("{found}  {}\n", shown(key.key.as_str())));
            }
            out::print(&text)?;
        }
        Ok(u8::from(!all))
    }
}
