//! Where a statement ends: at a `;` that stands in no text, name or comment, as the server reads them.

/// Something to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// A statement without its `;`, or a command of the terminal with its `\`.
    pub text: String,
    /// In which line of all that was read it begins, from 1.
    pub line: usize,
}

/// Takes lines, gives statements and commands.
#[derive(Debug)]
pub struct Splitter {
    pending: String,
    within: Within,
    /// How many lines have ended.
    lines: usize,
    /// In which line what is pending begins.
    begins: usize,
}

/// What the next character is part of.
#[derive(Debug, PartialEq, Eq)]
enum Within {
    Plain,
    /// A text or a name, up to this. Twice this one is the end of one and the beginning of the next, which comes to the same.
    Quotes(char),
    /// `E'…'`, in which a backslash takes the quote's meaning.
    Escapes,
    LineComment,
    /// They nest.
    Comment(usize),
    /// `$tag$…$tag$`
    Dollars(String),
    /// `\d`, up to the end of its line.
    Command,
}

impl Splitter {
    /// At the beginning.
    pub fn new() -> Splitter {
        Splitter {
            pending: String::new(),
            within: Within::Plain,
            lines: 0,
            begins: 0,
        }
    }

    /// What ends in these lines. Nothing of two characters may be cut in two: give it whole lines.
    pub fn push(&mut self, lines: &str) -> Vec<Item> {
        let mut items = Vec::new();
        let mut rest = lines;
        while let Some(first) = rest.chars().next() {
            if self.ends(first) {
                items.extend(self.take());
            }
            let bytes = self.step(rest, first);
            let (step, after) = rest.split_at(bytes);
            self.keep(step);
            self.lines += step.matches('\n').count();
            rest = after;
        }
        items
    }

    /// What has no `;`, where there is no more to come.
    pub fn finish(&mut self) -> Option<Item> {
        self.take()
    }

    /// Whether nothing waits for its end.
    pub fn is_at_end(&self) -> bool {
        self.pending.is_empty() && self.within == Within::Plain
    }

    /// Bytes that wait for their end.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Whether this character ends what is pending.
    fn ends(&self, next: char) -> bool {
        match self.within {
            Within::Plain => next == ';',
            Within::Command => next == '\n',
            _ => false,
        }
    }

    fn take(&mut self) -> Option<Item> {
        self.within = Within::Plain;
        let text = std::mem::take(&mut self.pending);
        let text = text.trim_end();
        let line = self.begins;
        (!text.is_empty()).then(|| Item {
            text: text.to_owned(),
            line,
        })
    }

    /// Adds to what is pending; nothing begins with a comment or with white space.
    fn keep(&mut self, step: &str) {
        let is_comment = matches!(self.within, Within::LineComment | Within::Comment(_));
        let ended_comment = step.ends_with("*/") && self.within == Within::Plain;
        let is_blank = is_comment || ended_comment || step == ";" || step.trim().is_empty();
        if self.pending.is_empty() {
            if is_blank {
                return;
            }
            self.begins = self.lines + 1;
        }
        self.pending.push_str(step);
    }

    /// Takes one step: how many bytes of `rest` it is, and what the next is part of then.
    fn step(&mut self, rest: &str, first: char) -> usize {
        let past = |end: &str| rest.find(end).map(|at| at + end.len());
        let (within, bytes) = match &self.within {
            Within::Plain => return self.plain(rest, first),
            Within::Quotes(quote) => match past(quote.encode_utf8(&mut [0; 4])) {
                Some(bytes) => (Within::Plain, bytes),
                None => return rest.len(),
            },
            Within::Dollars(tag) => match past(tag) {
                Some(bytes) => (Within::Plain, bytes),
                None => return rest.len(),
            },
            Within::Escapes => match first {
                '\\' => {
                    let escaped = rest.chars().nth(1);
                    return 1 + escaped.map_or(0, char::len_utf8);
                }
                '\'' => (Within::Plain, 1),
                other => return other.len_utf8(),
            },
            Within::LineComment => match first {
                '\n' => (Within::Plain, 1),
                other => return other.len_utf8(),
            },
            Within::Comment(depth) => match () {
                () if rest.starts_with("/*") => (Within::Comment(depth + 1), 2),
                () if !rest.starts_with("*/") => return first.len_utf8(),
                () if *depth > 1 => (Within::Comment(depth - 1), 2),
                () => (Within::Plain, 2),
            },
            Within::Command => return first.len_utf8(),
        };
        self.within = within;
        bytes
    }

    fn plain(&mut self, rest: &str, first: char) -> usize {
        let before = self.pending.chars().next_back();
        let in_word = before.is_some_and(is_of_a_word);
        let (within, bytes) = match first {
            '\'' if self.is_after_e() => (Within::Escapes, 1),
            '\'' | '"' | '`' => (Within::Quotes(first), 1),
            '-' if rest.starts_with("--") => (Within::LineComment, 2),
            '/' if rest.starts_with("/*") => (Within::Comment(1), 2),
            '\\' if self.pending.is_empty() => (Within::Command, 1),
            '$' if !in_word => match dollar_tag(rest) {
                Some(tag) => (Within::Dollars(tag.to_owned()), tag.len()),
                None => return 1,
            },
            other => return other.len_utf8(),
        };
        self.within = within;
        bytes
    }

    /// Whether what is pending ends in an `E` that is a word of its own.
    fn is_after_e(&self) -> bool {
        let mut before = self.pending.chars().rev();
        matches!(before.next(), Some('e' | 'E')) && !before.next().is_some_and(is_of_a_word)
    }
}

/// What may be within a name that is not quoted.
pub fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '@' | '#')
}

/// A statement's first word, in capitals: what it does.
pub fn verb(statement: &str) -> String {
    let word = statement.split(|c: char| !c.is_ascii_alphabetic()).next();
    word.unwrap_or_default().to_ascii_uppercase()
}

/// `$tag$` or `$$`, where `rest` begins with one.
fn dollar_tag(rest: &str) -> Option<&str> {
    let name = rest.get(1..)?;
    let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    name[end..].starts_with('$').then(|| &rest[..end + 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What all of it is, given at once and line by line.
    fn split(text: &str) -> Vec<String> {
        let mut whole = Splitter::new();
        let mut items = whole.push(text);
        items.extend(whole.finish());
        let mut lines = Splitter::new();
        let mut by_line: Vec<Item> = text
            .split_inclusive('\n')
            .flat_map(|line| lines.push(line))
            .collect();
        by_line.extend(lines.finish());
        assert_eq!(items, by_line);
        items.into_iter().map(|item| item.text).collect()
    }

    #[test]
    fn statements_end_at_semicolons() {
        for (text, items) in [
            ("", &[][..]),
            (" ;\n; ;", &[]),
            ("SELECT 1", &["SELECT 1"]),
            ("SELECT 1;SELECT\n2 ; ", &["SELECT 1", "SELECT\n2"]),
            ("SELECT 'ü;ß';SELECT 2", &["SELECT 'ü;ß'", "SELECT 2"]),
        ] {
            assert_eq!(split(text), items, "{text:?}");
        }
    }

    #[test]
    fn semicolons_within_texts_names_and_comments_are_none() {
        for one in [
            "SELECT 'a;b', 'it''s;', ''",
            "SELECT \"a;\"\"b\", `c;d`",
            "SELECT 'a\\', 'b;c'",
            "SELECT E'it\\'s;', e'\\\\'",
            "SELECT name'a;b\\'",
            "SELECT 1 -- one; it's\n + 2",
            "SELECT 1 /* one; /* it's; */ \" ; */ + 2",
            "SELECT $$a;'b$$, $tag$;$$;$ta$;$tag$",
            "SELECT 'a\n;\nb'",
            "SELECT 4 - -1, 4 / 2, $1, a$b, 2 * 3",
        ] {
            let text = format!("{one};SELECT 2");
            assert_eq!(split(&text), [one, "SELECT 2"], "{text:?}");
        }
        // A parameter is no quote.
        assert_eq!(split("SELECT $1;SELECT $2"), ["SELECT $1", "SELECT $2"]);
        assert_eq!(split("SELECT a$b$;SELECT 2"), ["SELECT a$b$", "SELECT 2"]);
    }

    #[test]
    fn what_is_open_at_the_end_is_left_to_the_server() {
        for text in ["SELECT 'a;", "SELECT /* ;", "SELECT $$;", "SELECT E'\\"] {
            assert_eq!(split(text), [text]);
            let mut splitter = Splitter::new();
            assert_eq!(splitter.push(text), []);
            assert!(!splitter.is_at_end(), "{text}");
        }
    }

    #[test]
    fn comments_before_a_statement_go() {
        let text = "-- first;\n/* more; */ SELECT 1 -- one\n; -- done;\n/* ; */";
        assert_eq!(split(text), ["SELECT 1 -- one"]);
        let mut splitter = Splitter::new();
        splitter.push("SELECT 1; -- done\n");
        assert!(splitter.is_at_end());
        splitter.push("/* open ");
        assert!(!splitter.is_at_end());
    }

    #[test]
    fn commands_end_with_their_line() {
        let text = "\\d tensors\nSELECT 1;\\x on\n  \\timing";
        assert_eq!(
            split(text),
            ["\\d tensors", "SELECT 1", "\\x on", "\\timing"]
        );
        assert_eq!(split("SELECT \\d\n;"), ["SELECT \\d"]);
    }

    #[test]
    fn items_know_their_lines() {
        let mut splitter = Splitter::new();
        let mut items = splitter.push("\n-- a\nSELECT\n1;\n\n\\d\n  SELECT '\n\n'; SELECT 3");
        items.extend(splitter.finish());
        let lines: Vec<usize> = items.iter().map(|item| item.line).collect();
        assert_eq!(lines, [3, 6, 7, 9]);
    }

    #[test]
    fn verbs() {
        for (statement, told) in [
            ("select 1", "SELECT"),
            ("Delete\nFROM", "DELETE"),
            ("(1)", ""),
        ] {
            assert_eq!(verb(statement), told);
        }
    }
}
