//! `bowstring export`: all tensors whose keys begin with something, into a file.

use std::thread;

use arrow_array::RecordBatch;
use arrow_flight::FlightDescriptor;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error as WireError};
use bowstring_wire::reply::{FlightMetadata, Reply as _};
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::{Layout, Missing, Select, Ticket, With};
use serde_json::json;
use tokio::sync::mpsc;

use crate::Error;
use crate::client::{Client, refused};
use crate::error::EXIT_PARTLY;
use crate::format::{self, Format, Writer};
use crate::get_stream::Get as Stream;
use crate::human::shown;
use crate::out::{self, push_json};
use crate::output::{Output, To};
use crate::progress::{LINE_EVERY, Progress};
use crate::target::Space;

/// Batches between the connection and the file.
const QUEUED: usize = 4;
/// Keys that are named where they are gone; all are counted.
const GONE_SHOWN: usize = 10;

/// Write all tensors whose keys begin with something into a file.
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    space: Space,
    #[command(flatten)]
    to: To,
    /// What keys begin with; all where it is not given
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// How tables lie: a column of tensors, which have one dtype and shape (rows), or a column of bytes beside dtype and shape (opaque). Without this, rows where they can be
    #[arg(long, value_enum)]
    layout: Option<LayoutFlag>,
    /// Of tables, key and tensor alone, without metadata and time to live
    #[arg(long)]
    plain: bool,
    /// Show nothing on the way
    #[arg(short, long)]
    quiet: bool,
}

/// [`Layout`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LayoutFlag {
    Rows,
    Opaque,
}

impl Export {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let format = self.to.format(Format::ArrowStream)?;
        let output = self.to.open()?;
        // An array has no place for the names of its rows.
        let keys = match (format, self.to.output.as_str()) {
            (Format::Npy, "-") => return Err(Error::Usage("an npy has no place for keys, which go into a file beside it; give a file with -o FILE, or choose another --format".to_owned())),
            (Format::Npy, path) => Some(Output::file(&keys_beside(path))?),
            _ => None,
        };
        let mut client = Client::connect(&self.space.target).await?;
        let with = match (format.has_columns(), self.plain) {
            (true, true) => Vec::new(),
            (true, false) => vec![With::Metadata, With::TtlMs],
            (false, _) => vec![With::Metadata],
        };
        let mut ticket = Ticket {
            namespace: self.space.namespace.clone(),
            select: Select::Prefix {
                prefix: self.prefix.clone(),
                part: None,
            },
            layout: Some(Layout::Opaque),
            max_message_bytes: None,
            fixed: None,
            with,
            missing: Missing::default(),
            partitions: None,
        };
        if format.has_columns() && self.layout != Some(LayoutFlag::Opaque) {
            ticket.layout = Some(Layout::Rows);
        }
        let (total, shared) = match about(&mut client, &ticket).await {
            // Their dtypes or shapes differ.
            Err(Error::Refused(error)) if error.code == Code::FailedPrecondition => {
                ticket.layout = Some(Layout::Opaque);
                about(&mut client, &ticket).await?
            }
            other => other?,
        };
        if ticket.layout == Some(Layout::Rows) && shared.is_none() {
            ticket.layout = Some(Layout::Opaque);
        }
        if self.layout == Some(LayoutFlag::Rows) && shared.is_none() && total > 0 {
            return Err(Error::Usage("--layout rows is for tensors of one dtype and shape without empty axes, and these are not; leave it out, or choose some with --prefix".to_owned()));
        }
        ticket.fixed = shared.filter(|_| ticket.layout == Some(Layout::Rows));
        let mut stream = Stream::start(&mut client, ticket.to_json()).await?;
        let writer = match &keys {
            Some(keys) => format::stack(output.writer(), output.name(), keys.writer())?,
            None => format::create(output.writer(), output.name(), format, &stream.schema)?,
        };
        let (sender, queue) = mpsc::channel(QUEUED);
        let file = thread::spawn(move || write(writer, queue));
        let progress = Progress::start(Some(total), 0, (!self.quiet).then_some(LINE_EVERY));
        let mut rows = 0;
        while let Some(batch) = stream.next().await? {
            let (count, bytes) = (
                batch.num_rows() as u64,
                batch.get_array_memory_size() as u64,
            );
            rows += count;
            if sender.send(batch).await.is_err() {
                // It failed; why is said where it is joined.
                break;
            }
            progress.add(count, bytes);
        }
        drop(sender);
        let left_out = file
            .join()
            .map_err(|_| Error::file("cannot write", output.name(), "the writer panicked"))??;
        if !stream.closed {
            return Err(
                WireError::unavailable("the stream ended before its end; run it again").into(),
            );
        }
        let files: Vec<String> = keys
            .iter()
            .chain([&output])
            .map(|file| file.name().to_owned())
            .collect();
        if let Some(keys) = keys {
            keys.commit()?;
        }
        output.commit()?;
        let time = progress.end();
        for said in left_out {
            eprintln!("bowstring: {said}");
        }
        let gone = &stream.closing.gone;
        let seconds = time.as_secs_f64();
        if self.to.json {
            let mut text = String::new();
            let done = json!({"rows": rows, "gone": gone, "seconds": seconds, "files": files});
            push_json(&mut text, &done);
            out::print(&text)?;
        } else if !self.quiet {
            eprintln!("bowstring: {rows} tensors in {seconds:.1} s");
        }
        if gone.is_empty() {
            return Ok(0);
        }
        for key in gone.iter().take(GONE_SHOWN) {
            eprintln!(
                "bowstring: gone before its turn, and not in the file: {}",
                shown(key.as_str())
            );
        }
        eprintln!(
            "bowstring: keys that were replaced, evicted or deleted before their turn; gone=`{}`",
            gone.len()
        );
        Ok(EXIT_PARTLY)
    }
}

/// The keys of `a.npy` go into `a.keys.txt`.
fn keys_beside(path: &str) -> String {
    let stem = path.strip_suffix(".npy").unwrap_or(path);
    format!("{stem}.keys.txt")
}

/// How many there are, and what dtype and shape they share.
async fn about(
    client: &mut Client,
    ticket: &Ticket,
) -> Result<(u64, Option<(DType, Shape)>), Error> {
    let descriptor = FlightDescriptor::new_cmd(ticket.to_json());
    let info = client
        .flight
        .get_flight_info(descriptor)
        .await
        .map_err(refused)?
        .into_inner();
    let total = u64::try_from(info.total_records).unwrap_or(0);
    let shares = FlightMetadata::parse(&info.app_metadata)?;
    let shared = shares.dtype.zip(shares.shape);
    // A column of lists of nothing does not say of what shape they are, in Parquet.
    Ok((
        total,
        shared.filter(|(_, shape)| !shape.dims().contains(&0)),
    ))
}

fn write(
    mut writer: Box<dyn Writer>,
    mut queue: mpsc::Receiver<RecordBatch>,
) -> Result<Vec<String>, Error> {
    while let Some(batch) = queue.blocking_recv() {
        writer.write(&batch)?;
    }
    writer.finish()
}
