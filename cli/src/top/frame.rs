//! One picture: a line about the server, what it does, its memory as bars, its namespaces.

use console::{Alignment, Style, pad_str, truncate_str};

use super::sample::{NamespaceRates, Rates};
use crate::bar::bar;
use crate::human::{self, count, shown};
use crate::out::Format;
use crate::table::{Cell, Column, Table};

/// A bar where the terminal leaves room.
const BAR_MAX: usize = 40;
/// Beside a bar: a name, and what it stands for.
const BESIDE_BAR: usize = 9 + 34;
/// The columns of figures: a name, and a number on its right.
const FIGURES: [(usize, usize); 4] = [(4, 10), (8, 11), (9, 8), (11, 5)];

/// A terminal on which a picture is drawn over the last one, or what is no terminal.
#[derive(Debug)]
pub struct Screen {
    live: bool,
    lines: usize,
}

impl Screen {
    /// Nothing is drawn yet.
    pub fn new(live: bool) -> Self {
        Self { live, lines: 0 }
    }

    /// What to print so that `text` stands where the last one stood.
    pub fn over(&mut self, text: String) -> String {
        if !self.live {
            return text;
        }
        let up = match self.lines {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}A"),
        };
        self.lines = text.lines().count();
        // Each line to its end, and all below the last one.
        format!("{up}{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))
    }
}

/// A picture of at most `lines` lines, none of them longer than `width`.
pub fn frame(
    rates: &Rates,
    endpoint: &str,
    note: &str,
    width: Option<usize>,
    lines: usize,
    format: Format,
) -> String {
    let mut text = String::new();
    let bold = Style::new().bold();
    text.push_str(&format!(
        "{}  {endpoint}  up {}  {} entries  {}\n",
        bold.apply_to(format!("bowstring {}", shown(&rates.server))),
        human::time(rates.uptime_ms, format),
        count(rates.entries),
        human::bytes(rates.bytes, format)
    ));
    if !note.is_empty() {
        text.push_str(&format!("{}\n", Style::new().yellow().apply_to(note)));
    }
    text.push('\n');
    figures(&mut text, rates, format);
    text.push('\n');
    memory(&mut text, rates, width.unwrap_or(80), format);
    if !rates.namespaces.is_empty() {
        text.push('\n');
        // One line is for the names of the columns.
        let room = lines.saturating_sub(text.lines().count() + 1);
        let rows = rates.namespaces.iter().take(room);
        let rows = rows.map(|it| row(it, format)).collect::<Vec<_>>();
        let columns = vec![
            Column::text("NAMESPACE").gives(),
            Column::number("GETS/S"),
            Column::number("HIT RATIO"),
            Column::number("EVICTED/S"),
            Column::number("ENTRIES"),
            Column::number("SIZE"),
        ];
        Table::within(columns, width).push(&mut text, &rows);
    }
    let width = width.unwrap_or(usize::MAX);
    let clipped = text
        .lines()
        .take(lines)
        .map(|line| truncate_str(line, width, "…"));
    clipped.flat_map(|line| [line, "\n".into()]).collect()
}

fn figures(text: &mut String, rates: &Rates, format: Format) {
    let dim = Style::new().dim();
    let per_second = |rate: f64| format!("{}/s", human::rate(rate));
    let bytes = |rate| human::byte_rate(rate, format);
    for figures in [
        [
            ("gets", per_second(rates.gets_per_second)),
            ("sent", bytes(rates.sent_bytes_per_second)),
            ("hit ratio", percent(rates.hit_ratio)),
            ("in flight", count(rates.in_flight)),
        ],
        [
            ("puts", per_second(rates.puts_per_second)),
            ("received", bytes(rates.received_bytes_per_second)),
            ("evicted", per_second(rates.evicted_per_second)),
            ("connections", count(rates.connections)),
        ],
    ] {
        for ((name, figure), (left, right)) in figures.iter().zip(FIGURES) {
            let name = pad_str(name, left, Alignment::Left, None).into_owned();
            let figure = pad_str(figure, right, Alignment::Right, None);
            text.push_str(&format!("{} {figure}  ", dim.apply_to(name)));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

fn memory(text: &mut String, rates: &Rates, width: usize, format: Format) {
    let memory = &rates.memory;
    let room = width.saturating_sub(BESIDE_BAR).clamp(8, BAR_MAX);
    let full = memory.used_bytes as f64 / memory.limit_bytes.max(1) as f64;
    let colour = match full {
        full if full < 0.75 => Style::new().green(),
        full if full < 0.95 => Style::new().yellow(),
        _ => Style::new().red(),
    };
    let bytes = |bytes| human::bytes(bytes, format);
    let mut line = |name: &str, used: u64, told: &str, colour: &Style| {
        let name = pad_str(name, 8, Alignment::Left, None).into_owned();
        let bar = bar(used, memory.limit_bytes, room);
        let bar = pad_str(&bar, room, Alignment::Left, None).into_owned();
        let used = bytes(used);
        text.push_str(&format!(
            "{} {} {used:>10}{told}\n",
            Style::new().dim().apply_to(name),
            colour.apply_to(bar)
        ));
    };
    let told = format!(" of {}, {}", bytes(memory.limit_bytes), percent(Some(full)));
    line("memory", memory.used_bytes, &told, &colour);
    for (name, account) in &memory.accounts {
        if account.peak_bytes > 0 {
            line(&shown(name), account.used_bytes, "", &Style::new().cyan());
        }
    }
}

fn row(it: &NamespaceRates, format: Format) -> Vec<Cell> {
    vec![
        it.namespace.to_string().into(),
        human::rate(it.gets_per_second).into(),
        percent(it.hit_ratio).into(),
        human::rate(it.evicted_per_second).into(),
        count(it.entries).into(),
        human::bytes(it.bytes, format).into(),
    ]
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), |ratio| format!("{:.1} %", 100.0 * ratio))
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::rates;
    use super::*;
    use console::measure_text_width;

    const FORMAT: Format = Format {
        json: false,
        bytes: false,
    };

    #[test]
    fn a_picture_keeps_within_the_terminal() {
        for (width, lines) in [(80, 24), (40, 10), (20, 3), (200, 60)] {
            let text = frame(
                &rates(),
                "grpc://127.0.0.1:8815",
                "",
                Some(width),
                lines,
                FORMAT,
            );
            assert!(text.lines().count() <= lines);
            assert!(
                text.lines().all(|line| measure_text_width(line) <= width),
                "{text}"
            );
        }
        let text = frame(
            &rates(),
            "grpc://127.0.0.1:8815",
            "anew",
            Some(80),
            24,
            FORMAT,
        );
        for part in ["anew", "40/s", "75.0 %", "2.0 KiB/s", "hot"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_picture_is_drawn_over_the_last_one() {
        let mut screen = Screen::new(true);
        assert_eq!(
            screen.over("a\nb\n".to_owned()),
            "a\u{1b}[K\nb\u{1b}[K\n\u{1b}[J"
        );
        assert!(screen.over("c\n".to_owned()).starts_with("\u{1b}[2Ac"));
        assert_eq!(Screen::new(false).over("a\n".to_owned()), "a\n");
    }
}
