//! What a put was answered: counted, and written down where rows were bad.

use bowstring_wire::error::Code;
use bowstring_wire::limits::MAX_PUT_ERRORS;
use bowstring_wire::put_result::{PutError, PutReply};

use crate::Error;
use crate::client::Client;
use crate::load::attempt::Attempt;
use crate::load::bad_rows::Line;
use crate::load::source::{Item, What};
use crate::put_stream;

impl Attempt {
    /// Counts, writes down and remembers what a put was answered.
    pub async fn answered(
        &mut self,
        client: &mut Client,
        items: &[Item],
        reply: PutReply,
    ) -> Result<(), Error> {
        let mut lines = Vec::new();
        for item in items {
            let file = &self.plan.files[item.end.file];
            lines.extend(item.bad.iter().map(|bad| Line {
                file: file.clone(),
                row: bad.row,
                key: bad.key.clone(),
                code: Code::InvalidArgument.as_str().to_owned(),
                message: bad.message.clone(),
            }));
        }
        let bad = lines.len() as u64 + reply.errors_total;
        if reply.errors_total > reply.errors.len() as u64 && self.bad_rows.is_some() {
            lines.extend(self.spelt_out(client, items).await?);
        } else {
            lines.extend(self.lines_of(items, &reply));
        }
        let counts = &mut self.state.counts;
        counts.stored += reply.stored;
        counts.existed += reply.existed;
        counts.bytes += reply.bytes;
        counts.bad += bad;
        if let Some(bad_rows) = &mut self.bad_rows {
            lines.sort_by_key(|line| line.row);
            self.state.bad_rows_bytes = bad_rows.write(&lines)?;
        }
        if let Some(last) = items.last() {
            self.state.position = last.end;
        }
        self.progress
            .add(reply.stored + reply.existed + bad, reply.bytes);
        Ok(())
    }

    fn lines_of(&self, items: &[Item], reply: &PutReply) -> Vec<Line> {
        let line = |error: &PutError| {
            let mut row = usize::try_from(error.row).ok()?;
            let item = items.iter().find(|item| {
                let rows = item.rows();
                let here = row < rows;
                row -= if here { 0 } else { rows };
                here
            })?;
            Some(Line {
                file: self.plan.files[item.end.file].clone(),
                row: item.numbers.at(row),
                key: error.key.clone(),
                code: error.code.clone(),
                message: error.message.clone(),
            })
        };
        reply.errors.iter().filter_map(line).collect()
    }

    /// A put names the first [`MAX_PUT_ERRORS`] of its bad rows; so those of a put with more are put again, a hundred rows at a time.
    async fn spelt_out(&self, client: &mut Client, items: &[Item]) -> Result<Vec<Line>, Error> {
        let mut lines = Vec::new();
        for item in items {
            let What::Rows(batch) = &item.what else {
                continue;
            };
            let mut at = 0;
            let mut step = batch.num_rows();
            while at < batch.num_rows() {
                let count = step.min(batch.num_rows() - at);
                let rows = batch.slice(at, count);
                let schema = rows.schema();
                let reply = put_stream::put(
                    client,
                    &self.command,
                    &schema,
                    futures::stream::iter([rows]),
                )
                .await?;
                if reply.errors_total > reply.errors.len() as u64 && count > MAX_PUT_ERRORS {
                    step = MAX_PUT_ERRORS;
                    continue;
                }
                let piece = Item {
                    what: What::Rows(batch.slice(at, count)),
                    numbers: item.numbers.skip(at),
                    bad: Vec::new(),
                    end: item.end,
                };
                lines.extend(self.lines_of(&[piece], &reply));
                at += count;
            }
        }
        Ok(lines)
    }
}

impl Item {
    fn rows(&self) -> usize {
        match &self.what {
            What::Rows(batch) => batch.num_rows(),
            What::Tensor(_) => 1,
        }
    }
}
