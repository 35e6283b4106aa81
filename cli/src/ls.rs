//! `bowstring ls`: the keys of a namespace, in their order, a part at a time: a namespace may have
//! more than a terminal's machine has memory.

use arrow_flight::FlightInfo;
use bowstring_wire::action::ListFilter;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::name::Key;
use bowstring_wire::reply::{FlightMetadata, Reply as _};
use serde::Serialize;

use crate::Error;
use crate::client::Client;
use crate::human::{self, shown};
use crate::out::{self, Format, push_json};
use crate::table::{Cell, Column, Table};
use crate::target::Space;

/// Entries that are asked for at once. A part is read whole before it is printed, so that nobody
/// who pages through it keeps the server waiting.
const PART: u64 = 1_000;

/// Which keys are listed.
#[derive(Debug, clap::Args)]
pub struct Ls {
    /// Only keys that begin with it
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// At most so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only keys above this one, to go on where a list ended
    #[arg(long, value_name = "KEY")]
    after: Option<Key>,
    /// With version, and when it was put by the server's clock
    #[arg(short, long)]
    long: bool,
    /// Only the keys, one a line, as they are
    #[arg(short = '1', long, conflicts_with_all = ["long", "json"])]
    keys: bool,
    /// Only the keys, each with a NUL behind it: for `rm -0 -`, and `xargs -0`
    #[arg(short = '0', long, conflicts_with_all = ["long", "json"])]
    null: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    space: Space,
}

/// An entry as JSON: the members of its FlightInfo.
#[derive(Serialize)]
struct Listed<'a> {
    key: &'a str,
    bytes: u64,
    #[serde(flatten)]
    entry: &'a FlightMetadata,
}

impl Ls {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let mut client = Client::connect(&self.space.target).await?;
        let mut columns = vec![
            Column::text("KEY").gives(),
            Column::text("DTYPE"),
            Column::text("SHAPE"),
            Column::number("SIZE"),
        ];
        if self.long {
            columns.extend([Column::text("PUT"), Column::text("VERSION")]);
        }
        let mut table = Table::new(columns);
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut after = self.after.clone();
        while left > 0 {
            let filter = ListFilter {
                namespace: self.space.namespace.clone(),
                prefix: self.prefix.clone(),
                limit: Some(left.min(PART)),
                after: after.take(),
            };
            let infos = client.list(&filter).await?;
            // A part may be short of what was deleted while it was listed: only an empty one is the end.
            let Some(last) = infos.last() else {
                self.nothing(left);
                break;
            };
            after = Some(Key::parse(key_of(last)?)?);
            left -= infos.len() as u64;
            out::print(&self.part(&infos, &mut table)?)?;
        }
        Ok(0)
    }

    /// A person may have meant another namespace.
    fn nothing(&self, left: u64) {
        let table = !(self.keys || self.null || self.format.json);
        if table && left == self.limit.unwrap_or(u64::MAX) {
            eprintln!(
                "no keys: `bowstring ns` lists namespaces; namespace=`{}` prefix=`{}`",
                self.space.namespace,
                shown(&self.prefix)
            );
        }
    }

    fn part(&self, infos: &[FlightInfo], table: &mut Table) -> Result<String, Error> {
        let mut text = String::new();
        let mut rows = Vec::new();
        for info in infos {
            let key = key_of(info)?;
            if self.keys || self.null {
                text.push_str(key);
                text.push(if self.null { '\0' } else { '\n' });
                continue;
            }
            let entry = FlightMetadata::parse(&info.app_metadata)?;
            if self.format.json {
                let listed = Listed {
                    key,
                    bytes: bytes_of(info),
                    entry: &entry,
                };
                push_json(&mut text, &listed);
            } else {
                rows.push(self.row(key, info, &entry));
            }
        }
        if !rows.is_empty() {
            table.push(&mut text, &rows);
        }
        Ok(text)
    }

    fn row(&self, key: &str, info: &FlightInfo, entry: &FlightMetadata) -> Vec<Cell> {
        let dtype = entry.dtype.map_or("", |dtype| dtype.name());
        let shape = entry.shape.as_ref().map(ToString::to_string);
        let mut row = vec![
            shown(key).into_owned().into(),
            dtype.into(),
            shape.unwrap_or_default().into(),
            human::bytes(bytes_of(info), self.format).into(),
        ];
        if let Some(version) = entry.version.filter(|_| self.long) {
            row.push(human::date(version.ms()).into());
            row.push(Cell::dim(version.to_string()));
        }
        row
    }
}

fn bytes_of(info: &FlightInfo) -> u64 {
    u64::try_from(info.total_bytes).unwrap_or(0)
}

/// The key that a listed entry's descriptor ends with.
fn key_of(info: &FlightInfo) -> Result<&str, Error> {
    let path = info.flight_descriptor.as_ref().map(|it| &it.path[..]);
    match path {
        Some([.., key]) => Ok(key),
        _ => Err(WireError::internal("the server listed an entry without a key").into()),
    }
}
