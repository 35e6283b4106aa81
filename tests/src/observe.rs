//! What an operator sees of a server.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use arrow_flight::Action;
use bowstring_wire::reply::{Reply as _, StatsReply};

use crate::server::Server;
use crate::wait::PATIENCE;

impl Server {
    /// What the action `stats` says, over a connection of its own.
    ///
    /// # Panics
    /// Where there is no answer.
    pub async fn stats(&self) -> StatsReply {
        let action = Action {
            r#type: "stats".to_owned(),
            ..Action::default()
        };
        let replies = self.client().await.do_action(action).await;
        let mut replies = replies.expect("stats").into_inner();
        let reply = replies.message().await.expect("stats").expect("a reply");
        StatsReply::parse(&reply.body).expect("a stats reply")
    }

    /// `/metrics`, read now. Needs no connection of Flight's.
    ///
    /// # Panics
    /// Where it does not answer 200.
    pub fn metrics(&self) -> Metrics {
        let (status, body) = self.http_get("/metrics");
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Status and body of an HTTP GET.
    ///
    /// # Panics
    /// Where nobody answers.
    pub fn http_get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http()).expect("the http address");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: bowstring\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        let status = response.split(' ').nth(1).and_then(|n| n.parse().ok());
        let body = response.split_once("\r\n\r\n").map(|(_, body)| body);
        match (status, body) {
            (Some(status), Some(body)) => (status, body.to_owned()),
            _ => panic!("not HTTP: {response:?}"),
        }
    }

    /// What of its memory is resident.
    ///
    /// # Panics
    /// Where the process has ended.
    pub fn resident(&self) -> ResidentMemory {
        ResidentMemory::of(self.pid())
    }
}

/// Resident memory by kind, in bytes, as `/proc/PID/status` has it. The arena is `shmem`: a
/// `memfd` is shared memory, even with nobody to share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentMemory {
    /// `RssAnon`: heap and stacks.
    pub anon: u64,
    /// `RssShmem`: the arena.
    pub shmem: u64,
    /// `RssFile`: program text and the like.
    pub file: u64,
    /// `VmHWM`: the most that all of it ever was.
    pub peak: u64,
}

impl ResidentMemory {
    /// Of a running process.
    ///
    /// # Panics
    /// Where there is no such process.
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib =
                line.and_then(|rest| rest.trim_matches([':', ' ', '\t', 'k', 'B']).parse().ok());
            kib.map_or(0, |kib: u64| kib << 10)
        };
        Self {
            anon: bytes("RssAnon"),
            shmem: bytes("RssShmem"),
            file: bytes("RssFile"),
            peak: bytes("VmHWM"),
        }
    }

    /// What is data: all but program text.
    pub fn data(&self) -> u64 {
        self.anon + self.shmem
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.anon + self.shmem + self.file
    }
}

/// The samples of `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads Prometheus' text format.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// One sample, with its labels as they are printed: `a_total{verb="DoGet"}`.
    ///
    /// # Panics
    /// Where there is none, naming those there are.
    pub fn value(&self, sample: &str) -> f64 {
        match self.0.get(sample) {
            Some(value) => *value,
            None => panic!("no sample `{sample}` among {:#?}", self.0.keys()),
        }
    }

    /// A sample that counts.
    ///
    /// # Panics
    /// As [`Metrics::value`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are whole, and far below 2^53"
    )]
    pub fn count(&self, sample: &str) -> u64 {
        self.value(sample) as u64
    }

    /// Whether there is such a sample; one with labels may come only with its first event.
    pub fn has(&self, sample: &str) -> bool {
        self.0.contains_key(sample)
    }

    /// How many series there are.
    #[expect(clippy::len_without_is_empty, reason = "a page has always some")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The sum over all labels of a metric.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |sample: &str| {
            let rest = sample.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        let samples = self.0.iter().filter(|(sample, _)| of_name(sample));
        samples.map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_with_their_labels() {
        let text =
            "# HELP a_total x\na_total{k=\"b c\"} 2\na_total{k=\"d\"} 3\na_total_x 9\nb 1.5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.count("a_total{k=\"b c\"}"), 2);
        assert_eq!((metrics.sum("a_total"), metrics.value("b")), (5.0, 1.5));
        assert!(metrics.has("b") && !metrics.has("a_total"));
    }

    #[test]
    fn a_process_has_memory() {
        let memory = ResidentMemory::of(std::process::id());
        assert!(
            memory.anon > 0 && memory.file > 0 && memory.peak >= memory.anon,
            "{memory:?}"
        );
    }
}
