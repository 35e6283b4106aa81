//! `bowstring attach` and `detach`: files that lie with the server as a namespace, without being loaded.

use bowstring_wire::action::{AttachRequest, DetachRequest, FileColumns};
use bowstring_wire::name::Namespace;
use bowstring_wire::reply::{AttachReply, DetachReply};

use crate::Error;
use crate::client::Client;
use crate::human::{self, of};
use crate::out::{self, Format, push_json};
use crate::target::Target;

/// Which files are which namespace.
#[derive(Debug, clap::Args)]
pub struct Attach {
    /// Files and folders of Parquet and Arrow, and patterns of them, as the server sees them: absolute paths under its setting
    /// load_roots
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Which column has the keys; within structs NAME.NAME
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,
    /// Which column has the tensors; within structs NAME.NAME
    #[arg(long, value_name = "NAME")]
    tensor_column: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

/// Which namespace is no more.
#[derive(Debug, clap::Args)]
pub struct Detach {
    #[command(flatten)]
    which: Which,
    /// Print JSON: an object
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// No namespace becomes read-only, or empty, because its name was forgotten.
#[derive(Debug, clap::Args)]
struct Which {
    /// Which namespace; it has to be named
    #[arg(short, long, value_name = "NAME")]
    namespace: Namespace,
}

impl Attach {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let request = AttachRequest {
            namespace: self.which.namespace,
            files: self.files,
            columns: FileColumns {
                key: self.key_column,
                tensor: self.tensor_column,
                metadata: None,
            },
        };
        let mut client = Client::connect(&self.target).await?;
        let reply: AttachReply = client.action("attach", request.to_json()).await?;
        let mut text = String::new();
        match self.format.json {
            true => push_json(&mut text, &reply),
            false => {
                text = format!(
                    "{} of {} attached, {}; their keys take {} of memory\n",
                    of(reply.rows, "row", "rows"),
                    of(reply.files, "file", "files"),
                    human::bytes(reply.bytes, self.format),
                    human::bytes(reply.index_bytes, self.format)
                );
            }
        }
        out::print(&text)?;
        Ok(0)
    }
}

impl Detach {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let request = DetachRequest {
            namespace: self.which.namespace,
        };
        let mut client = Client::connect(&self.target).await?;
        let reply: DetachReply = client.action("detach", request.to_json()).await?;
        let mut text = String::new();
        match self.json {
            true => push_json(&mut text, &reply),
            false => text = format!("{} detached\n", of(reply.rows, "row", "rows")),
        }
        out::print(&text)?;
        Ok(0)
    }
}
