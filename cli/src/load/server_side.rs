//! `bowstring load --server-side`: the server reads the files itself, where it may.

use std::time::Duration;

use arrow_flight::Action;
use bowstring_wire::action::{FileColumns, LoadFilesRequest};
use bowstring_wire::error::Error as WireError;
use bowstring_wire::reply::{LoadFilesReply, Reply as _};
use serde_json::json;

use crate::Error;
use crate::client::{Client, refused};
use crate::human::count;
use crate::load::Load;
use crate::out;
use crate::progress::Progress;

impl Load {
    /// Has the server load them; where this ends, the load does.
    pub(super) async fn by_server(&self, line_every: Option<Duration>) -> Result<u8, Error> {
        let command = self.entry.command();
        let request = LoadFilesRequest {
            namespace: self.space.namespace.clone(),
            files: self.files.clone(),
            columns: FileColumns {
                key: self.key_column.clone(),
                tensor: self.tensor_column.clone(),
                metadata: None,
            },
            prefix: self.prefix.clone(),
            mode: command.mode,
            ttl_ms: command.ttl_ms,
            replace_all: self.replace_all,
            detach: false,
        };
        let mut client = Client::connect(&self.space.target).await?;
        let action = Action::new("load", request.to_json());
        let replies = client.flight.do_action(action).await.map_err(refused)?;
        let mut replies = replies.into_inner();
        let progress = Progress::start(None, 0, line_every);
        let (mut last, mut rows, mut bytes) = (None, 0, 0);
        while let Some(reply) = replies.message().await.map_err(refused)? {
            let reply = LoadFilesReply::parse(&reply.body)?;
            progress.add(
                reply.rows.saturating_sub(rows),
                reply.bytes.saturating_sub(bytes),
            );
            (rows, bytes) = (reply.rows, reply.bytes);
            last = Some(reply);
        }
        let seconds = progress.end().as_secs_f64();
        let committed = |reply: &LoadFilesReply| reply.state == "committed";
        let reply = last.filter(committed).ok_or_else(|| {
            WireError::internal("the server ended the load without saying what became of it")
        })?;
        let existed = reply.rows.saturating_sub(reply.entries);
        let text = if self.json {
            json!({"rows": reply.rows, "stored": reply.entries, "existed": existed, "bytes": reply.bytes, "bad": 0, "committed": true, "seconds": seconds}).to_string()
        } else {
            format!(
                "{} rows of {} files: {} stored; {:.1} MiB in {seconds:.2} s ({:.0} rows/s)",
                count(reply.rows),
                count(reply.files),
                count(reply.entries),
                reply.bytes as f64 / f64::from(1 << 20),
                reply.rows as f64 / seconds.max(1e-3)
            )
        };
        out::print(&(text + "\n"))?;
        Ok(0)
    }
}
