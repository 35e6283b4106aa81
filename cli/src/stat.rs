//! `bowstring stat`: what is known of keys, or of the server.

use bowstring_wire::action::DescribeRequest;
use bowstring_wire::reply::{DescribeReply, KeyDescribed, StatsReply};
use console::Style;

use crate::Error;
use crate::client::Client;
use crate::human::{self, count, share, shown};
use crate::keys::Keys;
use crate::out::{self, Format, push_json};
use crate::table::{Cell, Column, Table, pairs};
use crate::target::Space;

/// Of what all is said.
#[derive(Debug, clap::Args)]
pub struct Stat {
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    space: Space,
}

impl Stat {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let mut client = Client::connect(&self.space.target).await?;
        if self.keys.is_empty() {
            let stats: StatsReply = client.action("stats", String::new()).await?;
            let mut text = String::new();
            match self.format.json {
                true => push_json(&mut text, &stats),
                false => server(&mut text, &stats, self.format),
            }
            out::print(&text)?;
            return Ok(0);
        }
        let mut table = Table::new(vec![
            Column::text("KEY").gives(),
            Column::text("DTYPE"),
            Column::text("SHAPE"),
            Column::number("SIZE"),
            Column::text("PUT"),
            Column::number("EXPIRES IN"),
            Column::number("HITS"),
            Column::text("TIER"),
            Column::text(""),
        ]);
        let mut all = true;
        for keys in self.keys.chunks() {
            let request = DescribeRequest {
                namespace: self.space.namespace.clone(),
                keys: keys?,
            };
            let reply: DescribeReply = client.action("describe", request.to_json()).await?;
            let mut text = String::new();
            all &= reply.keys.iter().all(|key| key.found);
            if self.format.json {
                for key in &reply.keys {
                    push_json(&mut text, key);
                }
            } else {
                let rows = reply.keys.iter().map(|key| row(key, self.format));
                table.push(&mut text, &rows.collect::<Vec<_>>());
            }
            out::print(&text)?;
        }
        Ok(u8::from(!all))
    }
}

fn row(key: &KeyDescribed, format: Format) -> Vec<Cell> {
    let name = shown(key.key.as_str()).into_owned();
    let Some(entry) = &key.entry else {
        let red = Style::new().red();
        return vec![name.into(), Cell::styled("not there", red)];
    };
    let expires = match entry.ttl_ms {
        Some(ms) => human::time(ms, format).into(),
        None => Cell::dim("never"),
    };
    vec![
        name.into(),
        entry.dtype.name().into(),
        entry.shape.to_string().into(),
        human::bytes(entry.bytes, format).into(),
        human::date(entry.version.ms()).into(),
        expires,
        count(entry.hits).into(),
        shown(&entry.tier).into_owned().into(),
        if entry.pinned { "pinned" } else { "" }.into(),
    ]
}

/// What a server is, holds and has done.
fn server(text: &mut String, stats: &StatsReply, format: Format) {
    let counter = |name: &str| stats.counters.get(name).map_or(0, |counter| counter.0);
    let bytes = |bytes| human::bytes(bytes, format);
    let (hits, misses) = (counter("hits"), counter("misses"));
    let memory = &stats.memory;
    let eviction = &stats.eviction;
    let lines = [
        ("server", format!("bowstring {}", stats.server)),
        ("up", human::time(stats.uptime_ms, format)),
        (
            "entries",
            format!("{}  {}", count(stats.entries), bytes(stats.bytes)),
        ),
        (
            "gets",
            format!(
                "{}  {} hits",
                count(hits + misses),
                share(hits, hits + misses)
            ),
        ),
        (
            "put",
            format!(
                "{}  {} of them replaced others",
                count(counter("published")),
                count(counter("replaced"))
            ),
        ),
        (
            "gone",
            format!(
                "{} deleted, {} expired, {} evicted",
                count(counter("deleted")),
                count(counter("expired")),
                count(counter("evicted"))
            ),
        ),
        (
            "eviction",
            match eviction.policy == eviction.follows {
                true => shown(&eviction.policy).into_owned(),
                false => format!(
                    "{}, {} at the moment",
                    shown(&eviction.policy),
                    shown(&eviction.follows)
                ),
            },
        ),
        (
            "memory",
            format!(
                "{} of {}, {}",
                bytes(memory.used_bytes),
                bytes(memory.limit_bytes),
                share(memory.used_bytes, memory.limit_bytes)
            ),
        ),
    ];
    pairs(text, &lines);
    if let Some(cold) = &stats.cold {
        let figure = |name: &str| cold.get(name).map_or(0, |figure| figure.0);
        let entries = format!(
            "{}  {} on their way",
            count(figure("entries")),
            count(figure("queued"))
        );
        let mut moved = format!(
            "{} written, {} read, {} came back into memory",
            bytes(figure("written_bytes")),
            bytes(figure("read_bytes")),
            count(figure("promoted"))
        );
        if figure("compressed") > 0 {
            moved += &format!(
                "; {} compressed to {}",
                bytes(figure("compressed_bytes")),
                bytes(figure("compressed_stored_bytes"))
            );
        }
        let mut state = match (figure("ready"), figure("degraded")) {
            (0, _) => "its index is being opened: until then it finds nothing".to_owned(),
            (_, 0) => "well".to_owned(),
            _ => "writes fail: what is evicted may be lost".to_owned(),
        };
        if figure("warming") > 0 {
            let warmed = count(figure("warmed"));
            state += &format!("; memory is being warmed, {warmed} entries so far");
        }
        pairs(
            text,
            &[
                ("cold", entries),
                ("cold moves", moved),
                ("cold state", state),
            ],
        );
    }
    text.push('\n');
    let mut table = Table::new(vec![
        Column::text("ACCOUNT"),
        Column::number("USED"),
        Column::number("AT MOST"),
    ]);
    // Accounts of what is not built, or not used, say nothing.
    let used = memory.accounts.iter().filter(|it| it.1.peak_bytes > 0);
    let rows = used.map(|(name, account)| {
        vec![
            shown(name).into_owned().into(),
            bytes(account.used_bytes).into(),
            bytes(account.peak_bytes).into(),
        ]
    });
    table.push(text, &rows.collect::<Vec<_>>());
}
