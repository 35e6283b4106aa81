//! The rows against Redis: large values, pipelined gets, what a small get costs, and many at a time from Python.

use crate::Outcome;
use crate::grid::{median, pairs, size_name};
use crate::load::{Sample, Turns, bench, load};
use crate::peers::bowstring::Server;
use crate::peers::pyarrow::Python;
use crate::peers::redis::Redis;
use crate::process::background_load;
use crate::report::Goal;

const SMALL: u64 = 3 << 10;
const LARGE: u64 = 16 << 20;
/// As many keys as are asked for of both.
const KEYS: u64 = 10_000;

/// All of them.
pub fn run(rounds: usize, python: Outcome<Python>) -> Outcome<(Vec<Goal>, Vec<String>)> {
    let (ours, theirs) = (Server::start("2GiB")?, Redis::start()?);
    let mut goals = large(&ours, &theirs, rounds)?;
    goals.extend(small(&ours, &theirs, rounds)?);
    match python.and_then(|python| many(&ours, &theirs, &python, rounds)) {
        Ok(more) => goals.extend(more),
        Err(why) => return Ok((goals, vec![format!("redis-py: {why}")])),
    }
    Ok((goals, Vec::new()))
}

fn large(ours: &Server, theirs: &Redis, rounds: usize) -> Outcome<Vec<Goal>> {
    const COUNT: u64 = 24;
    let mut goals = Vec::new();
    let count = COUNT.to_string();
    let flags = ["--size", "16MiB", "--keys", "1", "--namespace", "large"];
    for endpoint in [&ours.flight, &theirs.uri()] {
        load(endpoint, &flags)?;
    }
    for (work, share, test) in [("get", "1", "get"), ("put", "0", "set")] {
        let flags = [&flags[..], &["--operations", &count, "--read-share", share]].concat();
        let by_us = || bench(&ours.flight, ours.id(), &flags);
        let clients: [(&str, &dyn Fn() -> Outcome<Sample>); 2] = [
            ("redis-benchmark", &|| {
                theirs.benchmark(test, COUNT, [1, 1], LARGE, 1)
            }),
            ("bowstring bench", &|| {
                bench(&theirs.uri(), theirs.id(), &flags)
            }),
        ];
        // A key of redis-benchmark's own, to be got.
        theirs.benchmark("set", 1, [1, 1], LARGE, 1)?;
        for (client, by_them) in clients {
            let turns = Turns::take(rounds, by_us, by_them)?;
            let name = format!("{work} {}", size_name(LARGE));
            let mut goal = Goal::at_least(&name, &format!("Redis, {client}"), 3.0, speed(&turns));
            goal.note(&rates(&turns));
            goals.push(goal);
        }
    }
    Ok(goals)
}

fn small(ours: &Server, theirs: &Redis, rounds: usize) -> Outcome<Vec<Goal>> {
    let _awake = background_load();
    let keys = KEYS.to_string();
    let flags = ["--size", "3KiB", "--keys", &keys];
    load(&ours.flight, &flags)?;
    // Ten times as many as there are keys: one in 20,000 is left out.
    theirs.benchmark("set", KEYS * 10, [1, 16], SMALL, KEYS)?;
    let mut goals = Vec::new();
    for (name, [clients, pipeline], count) in [
        ("pipelined gets of 3 KiB, 16 callers", [16, 16], 1_000_000),
        ("one get of 3 KiB", [1, 1], 40_000),
    ] {
        let numbers = [clients, pipeline].map(|number| number.to_string());
        let mut flags = flags.to_vec();
        let operations = u64::to_string(&count);
        flags.extend(["--concurrency", &numbers[0], "--pipeline", &numbers[1]]);
        flags.extend(["--operations", &operations]);
        if clients > 1 {
            // As redis-benchmark does: no thread is woken for each of sixteen connections.
            flags.extend(["--threads", "2"]);
        }
        let turns = Turns::take(
            rounds,
            || bench(&ours.flight, ours.id(), &flags),
            || theirs.benchmark("get", count, [clients, pipeline], SMALL, KEYS),
        )?;
        let against = format!("redis-benchmark -P {pipeline} -c {clients}");
        let mut goal = if clients > 1 {
            Goal::at_least(name, &against, 1.0, speed(&turns))
        } else {
            let name = format!("{name} over mux, CPU both ends");
            Goal::at_most(&name, &against, 1.5, turns.ratio(|one| one.cpu_micros))
        };
        goal.note(&rates(&turns));
        let [us, they] = turns.medians(|one| one.cpu_micros);
        goal.note(&format!("{us:.1} against {they:.1} CPU-µs"));
        goals.push(goal);
    }
    Ok(goals)
}

fn many(ours: &Server, theirs: &Redis, python: &Python, rounds: usize) -> Outcome<Vec<Goal>> {
    let mut client = python.many_client()?;
    let mut goals = Vec::new();
    for (work, name, against, least) in [
        (
            "batch",
            "1,000 × 3 KiB by key, PyArrow",
            "redis-py MGET + frombuffer",
            1.5,
        ),
        (
            "bulk",
            "bulk put of 400,000 × 50 float32, PyArrow",
            "redis-py pipelined MSET",
            5.0,
        ),
    ] {
        let mut seconds = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (uri, seconds) in [ours.flight.clone(), theirs.uri()].iter().zip(&mut seconds) {
                let command = serde_json::json!({"uri": uri, "work": work});
                let answer = client.ask(&command.to_string())?;
                let answer: serde_json::Value = serde_json::from_str(&answer)?;
                let took = answer["seconds"]
                    .as_f64()
                    .ok_or("no seconds in the answer")?;
                if round > 0 {
                    seconds.push(took);
                }
            }
        }
        let mut goal = Goal::at_least(name, against, least, pairs(&seconds[1], &seconds[0]));
        let [us, they] = [0, 1].map(|who| median(&seconds[who]) * 1e3);
        goal.note(&format!("{us:.2} against {they:.2} ms"));
        goals.push(goal);
    }
    Ok(goals)
}

fn speed(turns: &Turns) -> f64 {
    turns.ratio(|one| one.per_second)
}

fn rates(turns: &Turns) -> String {
    let [us, they] = turns.medians(|one| one.per_second);
    format!("{us:.0} against {they:.0} a second")
}
