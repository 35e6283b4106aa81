//! Five times the load that a server can take: what it still gets done, how fast it says no, how soon it is itself again.
//!
//! The work is puts of four thousand rows, which cost the server more than ten times what they cost who sends them, so that one core can ask more
//! than another can do. Requests begin on time, whatever became of those before, and are worth nothing after their deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor};
use futures::TryStreamExt;
use futures::future::try_join_all;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::entries::rows;
use crate::peers::bowstring::Server;
use crate::peers::stock_flight;
use crate::process::Place;
use crate::report::Goal;

const CONNECTIONS: usize = 256;
const ROWS: u64 = 4_000;
/// Different batches, each of keys of its own.
const BATCHES: u64 = 64;
const DEADLINE: Duration = Duration::from_secs(1);
const TIMES: f64 = 5.0;
/// Of the load that it can take: what it has before and afterwards.
const EASY: f64 = 0.5;
const AFTER_SECONDS: u64 = 30;
const RECOVERY_MAX: f64 = 10.0;

/// The rows of an overload of so many seconds.
pub fn run(seconds: u64) -> Outcome<Vec<Goal>> {
    Place::Apart.settle()?;
    let server = Server::start("1GiB")?;
    let goals = Runtime::new()?.block_on(measure(&server, seconds));
    Place::Free.settle()?;
    goals
}

async fn measure(server: &Server, seconds: u64) -> Outcome<Vec<Goal>> {
    let uri = server.flight.replace("grpc://", "http://");
    let clients = try_join_all((0..CONNECTIONS).map(|_| stock_flight::connect(&uri))).await?;
    let puts = try_join_all((0..BATCHES).map(encode)).await?;
    let load = Arc::new(Load { clients, puts });
    let capacity = load.capacity(10.0).await?;
    let quiet = load.offer(capacity * EASY, 10).await;
    let over = load.offer(capacity * TIMES, seconds).await;
    let after = load.offer(capacity * EASY, AFTER_SECONDS).await;
    let goodput = over.done() / seconds as f64;
    let what = format!("{TIMES} × the puts of {ROWS} rows that it can take, for {seconds} s");
    let mut good = Goal::at_least(
        &format!("{what}: done within {DEADLINE:?}"),
        "itself, 16 callers at a time",
        0.8,
        goodput / capacity,
    );
    good.note(&format!(
        "{goodput:.0} against {capacity:.0} a second; {}",
        over.say()
    ));
    let recovery = after.recovered(quantile(&quiet.done, 99));
    let mut well = Goal::below(
        "seconds after it until every request is done, p99 within 3 × of before",
        "itself before",
        RECOVERY_MAX,
        recovery,
        "s",
    );
    well.note(&format!("before: {}; after: {}", quiet.say(), after.say()));
    Ok(vec![good, well])
}

async fn encode(number: u64) -> Outcome<Vec<FlightData>> {
    let batch = rows(number * ROWS, (number + 1) * ROWS)?;
    let command = r#"{"namespace": "bulk", "mode": "replace"}"#;
    let encoder = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command)))
        .build(futures::stream::iter([Ok(batch)]));
    Ok(encoder.try_collect().await?)
}

struct Load {
    clients: Vec<FlightServiceClient<Channel>>,
    puts: Vec<Vec<FlightData>>,
}

impl Load {
    /// Puts a second that are done when the next follows the last, sixteen at a time.
    async fn capacity(self: &Arc<Self>, seconds: f64) -> Outcome<f64> {
        let watch = Stopwatch::start();
        let callers = (0..16).map(|caller| {
            let load = Arc::clone(self);
            async move {
                let mut done = 0_usize;
                while watch.seconds() < seconds {
                    load.put(caller + done * 16).await?;
                    done += 1;
                }
                Outcome::Ok(done)
            }
        });
        let done: usize = try_join_all(callers).await?.iter().sum();
        Ok(done as f64 / watch.seconds())
    }

    /// So many puts a second begin, each in its time.
    async fn offer(self: &Arc<Self>, rate: f64, seconds: u64) -> Seen {
        let (watch, mut seen) = (Stopwatch::start(), Seen::default());
        let mut tasks = JoinSet::new();
        for number in 0_u32.. {
            let due = f64::from(number) / rate;
            if due >= seconds as f64 {
                break;
            }
            sleep_until(watch.at(due)).await;
            let load = Arc::clone(self);
            tasks.spawn(async move {
                let answer = load.put(number as usize).await;
                (due, watch.seconds() - due, answer)
            });
            while let Some(Ok(ended)) = tasks.try_join_next() {
                seen.add(ended);
            }
        }
        tasks
            .join_all()
            .await
            .into_iter()
            .for_each(|ended| seen.add(ended));
        seen
    }

    async fn put(&self, number: usize) -> Result<(), Status> {
        let mut client = self.clients[number % CONNECTIONS].clone();
        let messages = self.puts[number % self.puts.len()].clone();
        let mut request = Request::new(futures::stream::iter(messages));
        request.set_timeout(DEADLINE);
        let results: Vec<_> = client
            .do_put(request)
            .await?
            .into_inner()
            .try_collect()
            .await?;
        if results.is_empty() {
            Err(Status::internal("no result"))
        } else {
            Ok(())
        }
    }
}

/// What became of the requests: when each was due and how long it took, in seconds.
#[derive(Default)]
struct Seen {
    done: Vec<(f64, f64)>,
    refused: Vec<(f64, f64)>,
    late: Vec<(f64, f64)>,
    failed: Vec<(f64, f64)>,
    /// One of the failures.
    why: Option<Status>,
}

impl Seen {
    fn add(&mut self, (at, took, answer): (f64, f64, Result<(), Status>)) {
        let kind = match answer {
            Ok(()) if took <= DEADLINE.as_secs_f64() => &mut self.done,
            Ok(()) => &mut self.late,
            Err(status) => match status.code() {
                Code::ResourceExhausted | Code::Unavailable => &mut self.refused,
                Code::DeadlineExceeded | Code::Cancelled => &mut self.late,
                _ => {
                    self.why = Some(status);
                    &mut self.failed
                }
            },
        };
        kind.push((at, took));
    }

    fn done(&self) -> f64 {
        self.done.len() as f64
    }

    /// The second from which on all were done, in times as they were when it was quiet.
    fn recovered(&self, quiet: f64) -> f64 {
        let bad = [&self.refused, &self.late, &self.failed];
        let bad = bad.into_iter().flatten().map(|(at, _)| *at);
        let slow = self
            .done
            .iter()
            .filter(|(_, took)| *took > 3.0 * quiet)
            .map(|(at, _)| *at);
        // A hundredth may be slow at any time: the last second with more of them.
        let mut seconds = BTreeMap::<u64, usize>::new();
        for at in slow {
            *seconds
                .entry(Duration::from_secs_f64(at).as_secs())
                .or_default() += 1;
        }
        let a_second = self.done.len() / usize::try_from(AFTER_SECONDS).unwrap_or(1);
        let last_slow = seconds.iter().rfind(|(_, count)| **count * 100 > a_second);
        let last_slow = last_slow.map_or(0.0, |(second, _)| (second + 1) as f64);
        bad.fold(last_slow, f64::max)
    }

    fn say(&self) -> String {
        let kinds = [
            ("done", &self.done),
            ("refused", &self.refused),
            ("too late", &self.late),
            ("failed", &self.failed),
        ];
        let mut said: Vec<String> = kinds
            .iter()
            .filter(|(_, of)| !of.is_empty())
            .map(|(name, of)| {
                let [half, most] = [50, 99].map(|percent| quantile(of, percent) * 1e3);
                format!("{} {name} (p50 {half:.0}, p99 {most:.0} ms)", of.len())
            })
            .collect();
        said.extend(self.why.as_ref().map(|status| format!("{status:.80}")));
        said.join(", ")
    }
}

/// How long so many hundredths of them took at most.
fn quantile(of: &[(f64, f64)], percent: usize) -> f64 {
    let mut times: Vec<f64> = of.iter().map(|(_, took)| *took).collect();
    times.sort_by(f64::total_cmp);
    let at = times.len() * percent / 100;
    times
        .get(at.min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}
