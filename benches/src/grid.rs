//! The grid of one tensor at a time: every peer in turn, over and over, so that what a neighbour on the machine takes away it
//! takes from all of them.

use crate::Outcome;
use crate::peers::{Peer, Work};
use crate::process::{CpuUse, Place, background_load};

/// From here down an operation is mostly waking up: a background load keeps the cores awake, and CPU time decides.
pub const SMALL_BYTES: u64 = 64 << 10;

/// What one peer took for one kind of work at one size.
pub struct Series {
    /// Who.
    pub peer: &'static str,
    /// Where its two ends ran.
    pub place: Place,
    /// What.
    pub work: Work,
    /// Of how many bytes each.
    pub bytes: u64,
    /// Operations in each repetition.
    pub ops: u32,
    /// Seconds of each repetition.
    pub seconds: Vec<f64>,
    /// CPU seconds of each repetition, all of the peer's processes together.
    pub cpu: Vec<f64>,
}

impl Series {
    /// Seconds an operation, the median.
    pub fn op_seconds(&self) -> f64 {
        median(&self.seconds) / f64::from(self.ops)
    }

    /// CPU seconds an operation, the median.
    pub fn op_cpu(&self) -> f64 {
        median(&self.cpu) / f64::from(self.ops)
    }

    /// How many times as fast this is as `other`: the median of the pairs.
    pub fn speed_over(&self, other: &Series) -> f64 {
        pairs(&other.seconds, &self.seconds)
    }

    /// How many times the CPU of `other` this takes: the median of the pairs.
    pub fn cpu_over(&self, other: &Series) -> f64 {
        pairs(&self.cpu, &other.cpu)
    }
}

/// Runs all `peers`, which were started there, through `works` at every size.
pub fn run(
    peers: &mut [Box<dyn Peer>],
    place: Place,
    works: &[Work],
    sizes: &[u64],
    repeats: usize,
) -> Outcome<Vec<Series>> {
    let mut all = Vec::new();
    for &bytes in sizes {
        let _load = if bytes <= SMALL_BYTES {
            background_load()
        } else {
            Vec::new()
        };
        for peer in peers.iter_mut() {
            peer.prepare(bytes)?;
        }
        for &work in works {
            if !peers.iter().any(|peer| peer.can(work)) {
                continue;
            }
            let ops = ops(bytes);
            let mut series: Vec<Series> = Vec::new();
            let mut able: Vec<&mut Box<dyn Peer>> =
                peers.iter_mut().filter(|peer| peer.can(work)).collect();
            for peer in &mut able {
                peer.run(work, bytes, ops.div_ceil(4))?;
                let peer = peer.name();
                let (seconds, cpu) = (Vec::new(), Vec::new());
                series.push(Series {
                    peer,
                    place,
                    work,
                    bytes,
                    ops,
                    seconds,
                    cpu,
                });
            }
            for round in 0..repeats {
                for turn in 0..able.len() {
                    // Who goes first changes, or one would always follow the same other.
                    let who = (turn + round) % able.len();
                    let uses = |peer: &dyn Peer| {
                        peer.pids().into_iter().map(CpuUse::of).collect::<Vec<_>>()
                    };
                    let before = uses(&**able[who]);
                    let seconds = able[who].run(work, bytes, ops)?;
                    let after = uses(&**able[who]);
                    let cpu = after
                        .iter()
                        .zip(&before)
                        .map(|(after, before)| after.since(before))
                        .sum();
                    series[who].seconds.push(seconds);
                    series[who].cpu.push(cpu);
                }
            }
            for series in &series {
                eprintln!(
                    "{} {} {}{}: {:.1} µs, {:.1} µs CPU, {:.2} GB/s",
                    series.peer,
                    work.name(),
                    size_name(bytes),
                    place.suffix(),
                    series.op_seconds() * 1e6,
                    series.op_cpu() * 1e6,
                    bytes as f64 / series.op_seconds() / 1e9
                );
            }
            all.extend(series);
        }
    }
    Ok(all)
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `3 KiB`, `16 MiB`.
pub fn size_name(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes >> 10)
    } else {
        format!("{} MiB", bytes >> 20)
    }
}

/// How many times `under` `over` is: the median of the pairs.
pub fn pairs(over: &[f64], under: &[f64]) -> f64 {
    let ratios: Vec<f64> = over
        .iter()
        .zip(under)
        .map(|(over, under)| over / under)
        .collect();
    median(&ratios)
}

/// So many that a repetition takes a tenth of a second or two.
fn ops(bytes: u64) -> u32 {
    u32::try_from((256 << 20) / bytes)
        .unwrap_or(u32::MAX)
        .clamp(1, 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_outlive_a_neighbour() {
        // Both are held up in the second repetition; the medians of each alone would say less.
        let ours = [1.0, 9.0, 1.0];
        let theirs = [2.0, 18.0, 2.0];
        assert_eq!(pairs(&theirs, &ours), 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_repetition_has_some_work() {
        assert_eq!(ops(3 << 10), 1000);
        assert_eq!(ops(16 << 20), 16);
        assert_eq!(ops(1 << 30), 1);
    }

    #[test]
    fn sizes() {
        assert_eq!(size_name(3 << 10), "3 KiB");
        assert_eq!(size_name(256 << 20), "256 MiB");
    }
}
