//! What the metrics say: as the text that Prometheus scrapes (exposition format 0.0.4), or sample by sample.

use std::fmt::{self, Display, Write as _};

/// Most series a scrape gives, whatever clients do.
pub const SERIES_MAX: usize = 1_000;

/// The page under construction.
#[derive(Debug, Default)]
pub struct Text {
    families: Vec<Told>,
    series: usize,
    dropped: usize,
}

/// One metric of the page; its samples follow.
#[derive(Debug)]
pub struct Family<'a> {
    told: &'a mut Told,
    series: &'a mut usize,
    dropped: &'a mut usize,
}

/// A number of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its metric's name; of a histogram, with `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// Names and values, in order.
    pub labels: Vec<(String, String)>,
    /// How much.
    pub value: Value,
}

/// How much, in numbers of either kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// What is counted.
    Whole(i128),
    /// What has a fraction: seconds.
    Float(f64),
}

/// A metric as far as it was told.
#[derive(Debug)]
struct Told {
    name: String,
    kind: &'static str,
    help: String,
    samples: Vec<Part>,
}

/// A sample whose name is its metric's with this behind it.
#[derive(Debug)]
struct Part {
    part: &'static str,
    labels: Vec<(String, String)>,
    value: Value,
}

impl Text {
    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// A number that only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// Counts of what fell into buckets; see [`super::histogram`].
    pub(super) fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// The page, and how many samples the limit kept out of it.
    pub fn finish(mut self) -> String {
        self.tell_dropped();
        let mut out = String::new();
        for told in &self.families {
            told.write(&mut out);
        }
        out
    }

    /// All that the page says, in its order.
    pub fn samples(mut self) -> Vec<Sample> {
        self.tell_dropped();
        let families = self.families.into_iter();
        families.flat_map(Told::samples).collect()
    }

    fn tell_dropped(&mut self) {
        let dropped = self.dropped;
        self.series = 0;
        self.gauge(
            "bowstring_metric_series_dropped",
            "Series left out of this page by its limit.",
        )
        .value(dropped);
    }

    fn family(&mut self, name: &str, kind: &'static str, help: &str) -> Family<'_> {
        let Self {
            families,
            series,
            dropped,
        } = self;
        let at = families.len();
        families.push(Told {
            name: name.to_owned(),
            kind,
            help: help.to_owned(),
            samples: Vec::new(),
        });
        Family {
            told: &mut families[at],
            series,
            dropped,
        }
    }
}

impl Family<'_> {
    /// The only sample.
    pub fn value(mut self, value: impl Into<Value>) {
        self.sample("", &[], value);
    }

    /// One of several samples. Labels are names of ours, so that their number is known.
    pub fn labelled(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        self.sample("", labels, value)
    }

    /// A sample of a part of a histogram: `_bucket`, `_sum`, `_count`.
    pub(super) fn sample(
        &mut self,
        part: &'static str,
        labels: &[(&str, &str)],
        value: impl Into<Value>,
    ) -> &mut Self {
        if *self.series >= SERIES_MAX {
            *self.dropped += 1;
            return self;
        }
        *self.series += 1;
        let labels = labels.iter();
        let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.told.samples.push(Part {
            part,
            labels: labels.collect(),
            value: value.into(),
        });
        self
    }
}

impl Told {
    fn write(&self, out: &mut String) {
        let (name, kind, help) = (&self.name, self.kind, &self.help);
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in &self.samples {
            let _ = write!(out, "{name}{}", sample.part);
            for (at, (label, text)) in sample.labels.iter().enumerate() {
                let open = if at == 0 { '{' } else { ',' };
                let _ = write!(out, "{open}{label}=\"");
                for c in text.chars() {
                    let _ = match c {
                        '\\' => out.write_str("\\\\"),
                        '"' => out.write_str("\\\""),
                        '\n' => out.write_str("\\n"),
                        c => out.write_char(c),
                    };
                }
                out.push('"');
            }
            let close = if sample.labels.is_empty() { "" } else { "}" };
            let _ = writeln!(out, "{close} {}", sample.value);
        }
    }

    fn samples(self) -> Vec<Sample> {
        let Self { name, samples, .. } = self;
        let samples = samples.into_iter().map(|sample| Sample {
            name: format!("{name}{}", sample.part),
            labels: sample.labels,
            value: sample.value,
        });
        samples.collect()
    }
}

impl Value {
    /// Without its fraction; what does not fit is the largest that does, or the least.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float that does not fit becomes what does"
    )]
    pub fn whole(self) -> i64 {
        match self {
            Self::Whole(n) => n.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            Self::Float(n) => n as i64,
        }
    }

    /// With its fraction.
    pub fn float(self) -> f64 {
        match self {
            Self::Whole(n) => n as f64,
            Self::Float(n) => n,
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(n) => Display::fmt(n, f),
            Self::Float(n) => Display::fmt(n, f),
        }
    }
}

impl From<i32> for Value {
    fn from(n: i32) -> Self {
        Self::Whole(n.into())
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Whole(n.into())
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Whole(n.into())
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Whole(n.into())
    }
}

impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::Whole(n as i128)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Float(n)
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
    fn samples_are_what_the_page_says() {
        let told = || {
            let mut text = Text::default();
            text.gauge("a_bytes", "Help.")
                .labelled(&[("b", "x")], u64::MAX)
                .labelled(&[("b", "y")], -1_i64);
            text.histogram("c_seconds", "Help.")
                .sample("_sum", &[], 2.75);
            text
        };
        let page = parse(&told().finish());
        let samples = told().samples();
        assert_eq!(samples.len(), page.len());
        for Sample {
            name,
            labels,
            value,
        } in &samples
        {
            let labels = labels
                .iter()
                .map(|(name, value)| format!("{{{name}=\"{value}\"}}"));
            let series = format!("{name}{}", labels.collect::<String>());
            assert_eq!(page[&series], value.float(), "{series}");
        }
        let whole: Vec<i64> = samples.iter().map(|sample| sample.value.whole()).collect();
        assert_eq!(whole, [i64::MAX, -1, 2, 0]);
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
