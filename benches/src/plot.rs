//! The grid as a picture: throughput over size, a panel a kind of work, a line a peer.

use crate::grid::{Series, size_name};
use crate::peers::Work;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 40.0;
const GAP: f64 = 80.0;
const COLOURS: [&str; 6] = [
    "#1b6ca8", "#222222", "#c0392b", "#2e8b57", "#b8860b", "#7d3c98",
];

/// One SVG document.
pub fn svg(all: &[Series]) -> String {
    // Of several placements the first, or a line would go back and forth.
    let first = all.first().map(|one| one.place);
    let series: Vec<&Series> = all.iter().filter(|one| Some(one.place) == first).collect();
    let works = [Work::Get, Work::Array, Work::Put];
    let works: Vec<Work> = works
        .into_iter()
        .filter(|work| series.iter().any(|one| one.work == *work))
        .collect();
    let mut peers: Vec<&str> = Vec::new();
    for one in &series {
        if !peers.contains(&one.peer) {
            peers.push(one.peer);
        }
    }
    let width = LEFT + (WIDTH + GAP) * works.len() as f64;
    let height = TOP + HEIGHT + 60.0 + 18.0 * peers.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, work) in works.iter().enumerate() {
        let left = LEFT + (WIDTH + GAP) * i as f64;
        panel(&mut out, &series, *work, &peers, left);
    }
    for (i, peer) in peers.iter().enumerate() {
        let y = TOP + HEIGHT + 50.0 + 18.0 * i as f64;
        let colour = COLOURS[i % COLOURS.len()];
        out += &format!(
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
            y - 6.0
        );
        out += &text(LEFT + 22.0, y, "start", peer);
    }
    out + "</svg>\n"
}

fn panel(out: &mut String, series: &[&Series], work: Work, peers: &[&str], left: f64) {
    let shown: Vec<&&Series> = series.iter().filter(|one| one.work == work).collect();
    let mut sizes: Vec<u64> = shown.iter().map(|one| one.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let rate = |one: &Series| one.bytes as f64 / one.op_seconds() / 1e9;
    let most = shown.iter().map(|one| rate(one)).fold(0.1, f64::max).ceil();
    let x = |bytes: u64| {
        let at = sizes.iter().position(|size| *size == bytes).unwrap_or(0) as f64;
        left + WIDTH * (at + 0.5) / sizes.len() as f64
    };
    let y = |rate: f64| TOP + HEIGHT * (1.0 - rate / most);
    *out += &text(left, TOP - 16.0, "start", &format!("{}, GB/s", work.name()));
    for step in 0..=4 {
        let value = most * f64::from(step) / 4.0;
        let at = y(value);
        let right = left + WIDTH;
        *out += &format!("<path d=\"M{left} {at}H{right}\" stroke=\"#ddd\"/>");
        *out += &text(left - 6.0, at + 4.0, "end", &format!("{value:.2}"));
    }
    for bytes in &sizes {
        *out += &text(x(*bytes), TOP + HEIGHT + 18.0, "middle", &size_name(*bytes));
    }
    for (i, peer) in peers.iter().enumerate() {
        let points: Vec<(f64, f64)> = shown
            .iter()
            .filter(|one| one.peer == *peer)
            .map(|one| (x(one.bytes), y(rate(one))))
            .collect();
        let colour = COLOURS[i % COLOURS.len()];
        let line: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        *out += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (x, y) in points {
            *out += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        out.push('\n');
    }
}

fn text(x: f64, y: f64, anchor: &str, what: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Place;

    #[test]
    fn every_peer_and_every_kind_of_work_is_drawn() {
        let one = |peer, work, bytes| Series {
            peer,
            place: Place::Free,
            work,
            bytes,
            ops: 1,
            seconds: vec![0.1],
            cpu: vec![0.1],
        };
        let series = [
            one("a", Work::Get, 3 << 10),
            one("a", Work::Get, 1 << 20),
            one("b", Work::Put, 3 << 10),
        ];
        let drawn = svg(&series);
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
        for wanted in [
            ">a</text>",
            ">b</text>",
            "get, GB/s",
            "put, GB/s",
            ">3 KiB<",
            ">1 MiB<",
        ] {
            assert!(drawn.contains(wanted), "{wanted}");
        }
        assert!(!drawn.contains("array") && !drawn.contains("NaN"));
        assert_eq!(drawn.matches("<circle").count(), 3);
        assert!(svg(&[]).contains("</svg>"));
    }
}
