//! redhare on its own work, blocks of a KV cache, beside us by plain PyArrow. Nobody has to reach these figures here: what is to be compared
//! with its copy within a process is memory shared with a client on the same host.

use crate::Outcome;
use crate::grid::{median, pairs};
use crate::peers::bowstring::Server;
use crate::peers::pyarrow::Python;
use crate::peers::redis::Redis;
use crate::report::Goal;

/// All of them.
pub fn run(rounds: usize, python: &Python) -> Outcome<Vec<Goal>> {
    let (ours, redis) = (Server::start("2GiB")?, Redis::start()?);
    let mut goals = Vec::new();
    for transport in ["tcp", "inmemory"] {
        let mut client = python.redhare_client(&redis.uri())?;
        for work in ["put", "get"] {
            let us = serde_json::json!({"uri": ours.flight, "work": work});
            let they = serde_json::json!({"transport": transport, "work": work});
            let mut seconds = [Vec::new(), Vec::new()];
            for _ in 0..rounds {
                for (command, seconds) in [&us, &they].iter().zip(&mut seconds) {
                    let answer = client.ask(&command.to_string())?;
                    let answer: serde_json::Value = serde_json::from_str(&answer)?;
                    seconds.push(
                        answer["seconds"]
                            .as_f64()
                            .ok_or("no seconds in the answer")?,
                    );
                }
            }
            let [us, they] = [0, 1].map(|who| median(&seconds[who]) * 1e3);
            let ratio = pairs(&seconds[1], &seconds[0]);
            goals.push(Goal::figure(
                &format!("{work} of 16 blocks of 3 MiB, PyArrow"),
                &format!("redhare, {transport}"),
                format!("{ratio:.2} ×; {us:.1} against {they:.1} ms"),
            ));
        }
    }
    Ok(goals)
}
