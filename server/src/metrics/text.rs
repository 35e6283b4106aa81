//! The text that Prometheus scrapes (exposition format 0.0.4).

use std::fmt::{Display, Write as _};

/// Most series a scrape gives, whatever clients do.
pub const SERIES_MAX: usize = 1_000;

/// The page under construction.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
    series: usize,
    dropped: usize,
}

/// One metric of the page; its samples follow.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut Text,
    name: &'a str,
}

impl Text {
    /// A number that goes up and down.
    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    /// A number that only grows; its name ends in `_total`.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// Counts of what fell into buckets; see [`super::histogram`].
    pub(super) fn histogram<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "histogram", help)
    }

    /// The page, and how many samples the limit kept out of it.
    pub fn finish(mut self) -> String {
        let dropped = self.dropped;
        self.series = 0;
        self.gauge(
            "bowstring_metric_series_dropped",
            "Series left out of this page by its limit.",
        )
        .value(dropped);
        self.out
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: self, name }
    }
}

impl Family<'_> {
    /// The only sample.
    pub fn value(mut self, value: impl Display) {
        self.sample("", &[], value);
    }

    /// One of several samples. Labels are names of ours, so that their number is known.
    pub fn labelled(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.sample("", labels, value)
    }

    /// A sample of a part of a histogram: `_bucket`, `_sum`, `_count`.
    pub(super) fn sample(
        &mut self,
        part: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) -> &mut Self {
        let Text {
            out,
            series,
            dropped,
        } = self.text;
        if *series >= SERIES_MAX {
            *dropped += 1;
            return self;
        }
        *series += 1;
        let _ = write!(out, "{}{part}", self.name);
        for (at, (name, value)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(out, "{open}{name}=\"");
            for c in value.chars() {
                let _ = match c {
                    '\\' => out.write_str("\\\\"),
                    '"' => out.write_str("\\\""),
                    '\n' => out.write_str("\\n"),
                    c => out.write_char(c),
                };
            }
            out.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(out, "{close} {value}");
        self
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// Checks a page against the exposition format, and gives its samples by series.
    pub(crate) fn parse(page: &str) -> HashMap<String, f64> {
        assert!(page.ends_with('\n'), "the last line must end");
        let mut kinds = HashMap::new();
        let mut samples = HashMap::new();
        let mut closed = HashSet::new();
        let mut current = String::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty(), "{line}");
                // All lines of one metric stand together.
                assert!(closed.insert(name.to_owned()), "{name} stands twice");
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current);
                assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
                kinds.insert(name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let base = match kinds[&current].as_str() {
                    "histogram" => ["_bucket", "_sum", "_count"]
                        .iter()
                        .find_map(|part| name.strip_suffix(part))
                        .unwrap(),
                    _ => name,
                };
                assert_eq!(base, current, "{line}");
                assert!(is_name(name), "{line}");
                if let Some(labels) = series
                    .strip_prefix(name)
                    .and_then(|rest| rest.strip_prefix('{'))
                {
                    check_labels(labels.strip_suffix('}').unwrap());
                }
                let value = value.parse::<f64>().unwrap();
                assert!(
                    samples.insert(series.to_owned(), value).is_none(),
                    "{series} stands twice"
                );
            }
        }
        samples
    }

    fn is_name(name: &str) -> bool {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    }

    fn check_labels(mut labels: &str) {
        loop {
            let (name, rest) = labels.split_once("=\"").unwrap();
            assert!(is_name(name), "{name}");
            let mut escaped = false;
            let end = rest
                .find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })
                .unwrap();
            match &rest[end + 1..] {
                "" => return,
                more => labels = more.strip_prefix(',').unwrap(),
            }
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.gauge("a_bytes", "Help.")
            .labelled(&[("b", "x\"\\\n,y"), ("c", "")], 1.5);
        let page = text.finish();
        assert!(
            page.contains("a_bytes{b=\"x\\\"\\\\\\n,y\",c=\"\"} 1.5\n"),
            "{page}"
        );
        parse(&page);
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let mut text = Text::default();
        let mut family = text.gauge("a", "Help.");
        for at in 0..SERIES_MAX + 5 {
            family.labelled(&[("n", &at.to_string())], at);
        }
        let samples = parse(&text.finish());
        assert_eq!(samples.len(), SERIES_MAX + 1);
        assert_eq!(samples["bowstring_metric_series_dropped"], 5.0);
    }
}
