//! A set of texts that a condition on a column leaves: some by name, or a range, or a prefix.

use std::collections::BTreeSet;
use std::fmt;

/// Texts; what all of its parts allow. As it is made it is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// None but these.
    pub named: Option<BTreeSet<String>>,
    /// What they begin with.
    pub prefix: String,
    /// From where on.
    pub low: Option<End>,
    /// Up to where.
    pub high: Option<End>,
}

/// An end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The text.
    pub text: String,
    /// Whether it belongs to the range.
    pub included: bool,
}

impl Texts {
    /// These alone.
    pub fn named(texts: impl IntoIterator<Item = String>) -> Self {
        Self {
            named: Some(texts.into_iter().collect()),
            ..Self::default()
        }
    }

    /// Those that begin with `prefix`.
    pub fn beginning(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..Self::default()
        }
    }

    /// Those above `text`.
    pub fn from(text: String, included: bool) -> Self {
        Self {
            low: Some(End { text, included }),
            ..Self::default()
        }
    }

    /// Those below `text`.
    pub fn up_to(text: String, included: bool) -> Self {
        Self {
            high: Some(End { text, included }),
            ..Self::default()
        }
    }

    /// Those of both.
    pub fn and(self, other: Self) -> Self {
        let (longer, shorter) = match self.prefix.len() >= other.prefix.len() {
            true => (self.prefix, other.prefix),
            false => (other.prefix, self.prefix),
        };
        if !longer.starts_with(&shorter) {
            return Self::named([]);
        }
        let both = Self {
            named: None,
            prefix: longer,
            low: tighter(self.low, other.low, |one, other| one > other),
            high: tighter(self.high, other.high, |one, other| one < other),
        };
        let named = match (self.named, other.named) {
            (Some(one), Some(other)) => {
                Some(one.intersection(&other).cloned().collect::<BTreeSet<_>>())
            }
            (one, other) => one.or(other),
        };
        match named {
            Some(named) => Self::named(named.into_iter().filter(|text| both.contains(text))),
            None => both,
        }
    }

    /// Those of either; `None` where that is more than can be said this way.
    pub fn or(self, other: Self) -> Option<Self> {
        let mut named = self.named?;
        named.extend(other.named?);
        Some(Self::named(named))
    }

    /// Whether a text is one of them.
    pub fn contains(&self, text: &str) -> bool {
        let above = |low: &End| match low.included {
            true => text >= &*low.text,
            false => text > &*low.text,
        };
        let below = |high: &End| match high.included {
            true => text <= &*high.text,
            false => text < &*high.text,
        };
        self.named.as_ref().is_none_or(|named| named.contains(text))
            && text.starts_with(&self.prefix)
            && self.low.as_ref().is_none_or(above)
            && self.high.as_ref().is_none_or(below)
    }

    /// Whether it leaves nothing out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// What all of them begin with.
    pub fn common_prefix(&self) -> &str {
        let (Some(low), Some(high)) = (&self.low, &self.high) else {
            return &self.prefix;
        };
        let (low, high) = (&low.text, &high.text);
        let same = low.chars().zip(high.chars()).take_while(|(a, b)| a == b);
        let bytes = same.map(|(c, _)| c.len_utf8()).sum::<usize>();
        match bytes > self.prefix.len() {
            true => &low[..bytes],
            false => &self.prefix,
        }
    }
}

fn tighter(
    one: Option<End>,
    other: Option<End>,
    is_tighter: fn(&str, &str) -> bool,
) -> Option<End> {
    match (one, other) {
        (Some(one), Some(other)) if one.text == other.text => Some(End {
            included: one.included && other.included,
            text: one.text,
        }),
        (Some(one), Some(other)) if is_tighter(&one.text, &other.text) => Some(one),
        (Some(_), Some(other)) => Some(other),
        (one, other) => one.or(other),
    }
}

/// Names shown of a set.
const SHOWN: usize = 3;

impl fmt::Display for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(named) = &self.named {
            let shown: Vec<&str> = named.iter().take(SHOWN).map(String::as_str).collect();
            write!(f, "in {shown:?}")?;
            return match named.len() > SHOWN {
                true => write!(f, " and {} more", named.len() - SHOWN),
                false => Ok(()),
            };
        }
        if self.is_all() {
            return f.write_str("all");
        }
        let mut parts = Vec::new();
        if !self.prefix.is_empty() {
            parts.push(format!("prefix {:?}", self.prefix));
        }
        if let Some(low) = &self.low {
            let sign = if low.included { ">=" } else { ">" };
            parts.push(format!("{sign} {:?}", low.text));
        }
        if let Some(high) = &self.high {
            let sign = if high.included { "<=" } else { "<" };
            parts.push(format!("{sign} {:?}", high.text));
        }
        f.write_str(&parts.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        "[ab]{0,4}"
    }

    fn texts() -> impl Strategy<Value = Texts> {
        prop_oneof![
            prop::collection::btree_set(text(), 0..4).prop_map(Texts::named),
            text().prop_map(Texts::beginning),
            (text(), any::<bool>()).prop_map(|(text, included)| Texts::from(text, included)),
            (text(), any::<bool>()).prop_map(|(text, included)| Texts::up_to(text, included)),
        ]
    }

    proptest! {
        #[test]
        fn and_or_mean_what_they_say(one in texts(), two in texts(), three in texts(), text in text()) {
            let all = one.clone().and(two.clone()).and(three.clone());
            let each = [&one, &two, &three];
            prop_assert_eq!(all.contains(&text), each.iter().all(|it| it.contains(&text)));
            if all.contains(&text) {
                prop_assert!(text.starts_with(all.common_prefix()));
            }
            if let Some(either) = one.clone().or(two.clone()) {
                prop_assert_eq!(either.contains(&text), one.contains(&text) || two.contains(&text));
            }
        }
    }

    #[test]
    fn what_it_is_can_be_read() {
        let range = Texts::from("b".into(), true).and(Texts::up_to("c".into(), false));
        assert_eq!(range.to_string(), r#">= "b" and < "c""#);
        let named = Texts::named(["a", "b", "c", "d", "e"].map(String::from));
        assert_eq!(named.to_string(), r#"in ["a", "b", "c"] and 2 more"#);
        assert_eq!(Texts::default().to_string(), "all");
    }
}
