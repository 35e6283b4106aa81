//! `bowstring put`: a file becomes one tensor.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::name::Key;
use bowstring_wire::put_result::PutReply;
use bowstring_wire::version::Version;

use crate::Error;
use crate::client::Client;
use crate::entry::Entry;
use crate::format::{self, Format, Input, Options, Part};
use crate::out::{self, push_json};
use crate::put_stream::{self, MESSAGE_BYTES, pieces};
use crate::target::Space;

/// Put a file as one tensor.
#[derive(Debug, clap::Args)]
pub struct Put {
    #[command(flatten)]
    space: Space,
    #[command(flatten)]
    entry: Entry,
    /// The key that it gets
    key: Key,
    /// The file, or `-` for standard input: .npy; .npz and .safetensors with one tensor; Arrow, Feather and Parquet with one column
    file: String,
    /// What the file is, where its first bytes do not say
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Which column of a table
    #[arg(long, value_name = "NAME")]
    tensor_column: Option<String>,
    /// What NumPy's void bytes are, which it writes for float8 and bfloat16
    #[arg(long, value_name = "DTYPE", value_parser = DType::parse)]
    dtype: Option<DType>,
    /// The entry's metadata; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Only where the entry has this version
    #[arg(long, value_name = "VERSION", value_parser = Version::parse)]
    if_version: Option<Version>,
    /// Not to be evicted
    #[arg(long)]
    pin: bool,
    /// Say what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Done<'a> {
    key: &'a Key,
    #[serde(flatten)]
    reply: PutReply,
}

impl Put {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let metadata = Metadata::new(self.metadata)?;
        let command = PutCommand {
            namespace: self.space.namespace,
            key: Some(self.key.clone()),
            if_version: self.if_version,
            pin: self.pin,
            metadata: (!metadata.is_empty()).then_some(metadata),
            ..self.entry.command()
        };
        let options = Options {
            tensor_column: self.tensor_column,
            dtype: self.dtype,
            one: true,
            ..Options::default()
        };
        // Before anybody is asked to receive it.
        let (schema, batches) = read(&self.file, self.format, &options)?;
        let mut client = Client::connect(&self.space.target).await?;
        let batches = futures::stream::iter(batches);
        let reply = put_stream::put(&mut client, &command, &schema, batches).await?;
        if self.json {
            let mut text = String::new();
            push_json(
                &mut text,
                &Done {
                    key: &self.key,
                    reply,
                },
            );
            out::print(&text)?;
            return Ok(0);
        }
        let done = if reply.existed > 0 {
            "existed"
        } else {
            "stored"
        };
        let version = reply
            .version
            .ok_or_else(|| WireError::internal("a put was answered without a version"))?;
        out::print(&format!("{done} version {version}\n"))?;
        Ok(0)
    }
}

fn read(
    path: &str,
    format: Option<Format>,
    options: &Options,
) -> Result<(Arc<Schema>, Vec<RecordBatch>), Error> {
    let input = Input::open(path)?;
    let name = input.name.clone();
    let wrong = |message: String| Error::file("cannot put", &name, message);
    let format = input.format(format)?;
    let mut reader = format::open(input, format, options)?;
    let (mut schema, mut batches, mut tensors) = (None, Vec::new(), 0);
    while let Some(part) = reader.next()? {
        match part {
            Part::Tensor(tensor) => {
                tensors += 1;
                if tensors > 1 {
                    return Err(wrong("there are several tensors in it; `bowstring load` puts each under its name".to_owned()));
                }
                let (of, flat) = tensor
                    .flat(MESSAGE_BYTES)
                    .map_err(|error| wrong(error.to_string()))?;
                schema = Some(Arc::new(of));
                batches = flat;
            }
            Part::Rows(rows) => {
                schema.get_or_insert_with(|| rows.batch.schema());
                batches.extend(pieces(&rows.batch));
            }
        }
    }
    let schema = schema.ok_or_else(|| wrong("there is no tensor in it".to_owned()))?;
    Ok((schema, batches))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("expected NAME=VALUE; given=`{text}`"))?;
    Ok((name.to_owned(), value.to_owned()))
}
