//! `bowstring info`: one tensor: what it is, and what its values are like.
//!
//! - `read`: its values, or some of a large one
//! - `values`: bytes as numbers, and what there is to say of them
//! - `histogram`: how often which values are there

mod histogram;
mod read;
mod values;

use bowstring_wire::action::DescribeRequest;
use bowstring_wire::byte_size::ByteSize;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::name::Key;
use bowstring_wire::reply::{DescribeReply, EntryDescribed};
use console::Style;
use serde::Serialize;

use self::histogram::Histogram;
use self::values::Values;
use crate::Error;
use crate::client::Client;
use crate::human::{self, count, of, shown};
use crate::out::{self, Format, push_json};
use crate::table::pairs;
use crate::target::Space;

/// Which tensor.
#[derive(Debug, clap::Args)]
pub struct Info {
    /// The tensor's key
    key: Key,
    /// At most so much of its values is read; of a larger one, in several places from its beginning
    /// to its end. 0 reads none
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    read: ByteSize,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    space: Space,
}

/// What is known of it, as JSON: the members of `describe`, and of its values.
#[derive(Serialize)]
struct Known<'a> {
    key: &'a Key,
    #[serde(flatten)]
    entry: &'a EntryDescribed,
    values: &'a Option<Values>,
    histogram: &'a Histogram,
}

impl Info {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let mut client = Client::connect(&self.space.target).await?;
        let request = DescribeRequest {
            namespace: self.space.namespace.clone(),
            keys: vec![self.key.clone()],
        };
        let mut reply: DescribeReply = client.action("describe", request.to_json()).await?;
        let Some(entry) = reply.keys.pop().and_then(|key| key.entry) else {
            return Err(WireError::not_found(format!(
                "no such key: `bowstring ls` lists them; namespace=`{}` key=`{}`",
                self.space.namespace, self.key
            ))
            .into());
        };
        let namespace = self.space.namespace.clone();
        let (pieces, places) =
            read::pieces(&mut client, namespace, &self.key, &entry, self.read.bytes()).await?;
        let values = Values::of(entry.dtype, &pieces);
        let histogram = Histogram::of(entry.dtype, &values, &pieces);
        let mut text = String::new();
        if self.format.json {
            let known = Known {
                key: &self.key,
                entry: &entry,
                values: &values,
                histogram: &histogram,
            };
            push_json(&mut text, &known);
        } else {
            let all = entry.shape.elements()?;
            pairs(&mut text, &self.lines(&entry, &values, (all, places)));
            histogram.draw(&mut text);
        }
        out::print(&text)?;
        Ok(0)
    }

    fn lines(
        &self,
        entry: &EntryDescribed,
        values: &Option<Values>,
        (all, places): (u64, u64),
    ) -> Vec<(&'static str, String)> {
        let bold = Style::new().bold();
        let name = shown(self.key.as_str());
        let mut lines = vec![
            (
                "key",
                format!("{}  in {}", bold.apply_to(name), self.space.namespace),
            ),
            ("dtype", entry.dtype.name().to_owned()),
            ("shape", entry.shape.to_string()),
            ("size", human::bytes(entry.bytes, self.format)),
            (
                "version",
                format!("{}  {}", entry.version, human::date(entry.version.ms())),
            ),
            (
                "checksum",
                match &entry.checksum {
                    Some(checksum) => shown(checksum).into_owned(),
                    None => "not known before it is read".to_owned(),
                },
            ),
            (
                "expires",
                entry.ttl_ms.map_or("never".to_owned(), |ms| {
                    format!("in {}", human::time(ms, self.format))
                }),
            ),
        ];
        if entry.pinned {
            lines.push(("pinned", "yes".to_owned()));
        }
        lines.push(("hits", count(entry.hits)));
        for (name, value) in entry.metadata.iter() {
            lines.push(("metadata", format!("{} = {}", shown(name), shown(value))));
        }
        if let Some(values) = values {
            let read = match values.elements == all {
                true => of(all, "value", "values"),
                false => format!(
                    "{} of {} values, in {}",
                    count(values.elements),
                    count(all),
                    of(places, "place", "places")
                ),
            };
            let odd = [
                (values.nan, "NaN"),
                (values.positive_infinity, "+inf"),
                (values.negative_infinity, "-inf"),
            ];
            let odd = odd.iter().filter(|(number, _)| *number > 0);
            let odd: String = odd
                .map(|(number, what)| format!(", {} {what}", count(*number)))
                .collect();
            let what = match entry.dtype {
                DType::Complex64 | DType::Complex128 => "magnitudes of ",
                _ => "",
            };
            lines.push(("read", format!("{what}{read}{odd}")));
            if let Some(range) = &values.range {
                lines.push((
                    "values",
                    format!(
                        "min {}  max {}  mean {}  std {}",
                        values::told(range.min),
                        values::told(range.max),
                        values::told(range.mean),
                        values::told(range.std)
                    ),
                ));
            }
        }
        lines
    }
}
