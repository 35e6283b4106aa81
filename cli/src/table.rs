//! Tables for people: a line of names, columns side by side, no borders. Rows may come in parts, of
//! which none is kept; a column never becomes narrower again.

use std::borrow::Cow;

use console::{Alignment, Style, Term, measure_text_width, pad_str, truncate_str};

/// Between two columns.
const GAP: usize = 2;
/// A column that gives way keeps so much.
const KEPT: usize = 12;

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    name: Cow<'static, str>,
    alignment: Alignment,
    gives: bool,
}

/// A cell: text that shows itself, and how.
#[derive(Clone, Debug)]
pub struct Cell(Cow<'static, str>, Style);

/// A table whose rows come in parts.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    begun: bool,
    /// A line's, where a terminal has one.
    limit: Option<usize>,
}

impl Column {
    /// Of text.
    pub fn text(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            alignment: Alignment::Left,
            gives: false,
        }
    }

    /// Of numbers, on the right.
    pub fn number(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            alignment: Alignment::Right,
            gives: false,
        }
    }

    /// It is clipped where a line is too long for the terminal.
    pub fn gives(self) -> Self {
        Self {
            gives: true,
            ..self
        }
    }
}

impl Cell {
    /// In a style.
    pub fn styled(text: impl Into<Cow<'static, str>>, style: Style) -> Self {
        Self(text.into(), style)
    }

    /// What matters less.
    pub fn dim(text: impl Into<Cow<'static, str>>) -> Self {
        Self::styled(text, Style::new().dim())
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

impl Table {
    /// A table as wide as the terminal, or as it likes where there is none.
    pub fn new(columns: Vec<Column>) -> Self {
        Self::within(columns, width())
    }

    /// A table in lines of at most `limit` characters, as far as its columns give way.
    pub fn within(columns: Vec<Column>, limit: Option<usize>) -> Self {
        Self {
            widths: columns
                .iter()
                .map(|column| measure_text_width(&column.name))
                .collect(),
            columns,
            begun: false,
            limit,
        }
    }

    /// Whether these rows have room in lines as long as they may be, with nothing clipped.
    pub fn fits(&self, rows: &[Vec<Cell>]) -> bool {
        let widths = self.widths_with(rows);
        over(&widths, self.limit) == 0
    }

    /// Adds lines of `rows` to `text`, behind the names of the columns where they are the first.
    pub fn push(&mut self, text: &mut String, rows: &[Vec<Cell>]) {
        self.widths = self.widths_with(rows);
        let widths = self.fitting();
        if !self.begun {
            self.begun = true;
            let names = self
                .columns
                .iter()
                .map(|column| Cell::dim(column.name.clone()));
            self.line(text, &widths, &names.collect::<Vec<_>>());
        }
        for row in rows {
            self.line(text, &widths, row);
        }
    }

    /// How wide the columns are with these rows.
    fn widths_with(&self, rows: &[Vec<Cell>]) -> Vec<usize> {
        let mut widths = self.widths.clone();
        for row in rows {
            for (width, Cell(cell, _)) in widths.iter_mut().zip(row) {
                *width = measure_text_width(cell).max(*width);
            }
        }
        widths
    }

    /// The widths, within the limit where columns give way.
    fn fitting(&self) -> Vec<usize> {
        let mut widths = self.widths.clone();
        let mut over = over(&widths, self.limit);
        for (width, column) in widths.iter_mut().zip(&self.columns) {
            if column.gives {
                let gives = width.saturating_sub(KEPT).min(over);
                *width -= gives;
                over -= gives;
            }
        }
        widths
    }

    fn line(&self, text: &mut String, widths: &[usize], cells: &[Cell]) {
        for (at, Cell(cell, style)) in cells.iter().enumerate() {
            let (width, alignment) = (widths[at], self.columns[at].alignment);
            let cell = truncate_str(cell, width, "…");
            // Nothing stands at the end of a line that only fills it.
            let last = at + 1 == cells.len() && matches!(alignment, Alignment::Left);
            let padded = if last {
                cell
            } else {
                pad_str(&cell, width, alignment, None).into_owned().into()
            };
            match padded.trim().is_empty() {
                true => text.push_str(&padded),
                false => text.push_str(&style.apply_to(padded).to_string()),
            }
            if at + 1 < cells.len() {
                text.push_str(&" ".repeat(GAP));
            }
        }
        let end = text.trim_end_matches(' ').len();
        text.truncate(end);
        text.push('\n');
    }
}

/// How many characters a line of columns of these widths is longer than it may be.
fn over(widths: &[usize], limit: Option<usize>) -> usize {
    let gaps = GAP * widths.len().saturating_sub(1);
    let whole = widths.iter().sum::<usize>() + gaps;
    whole.saturating_sub(limit.unwrap_or(usize::MAX))
}

/// A terminal's width.
pub fn width() -> Option<usize> {
    let size = Term::stdout().size_checked();
    size.map(|(_, columns)| usize::from(columns))
}

/// Lines of a name and what stands for it, the names in a column of their own.
pub fn pairs(text: &mut String, pairs: &[(&str, String)]) {
    let width = pairs.iter().map(|(name, _)| measure_text_width(name)).max();
    let name_style = Style::new().dim();
    for (name, value) in pairs {
        let name = pad_str(name, width.unwrap_or(0) + GAP, Alignment::Left, None);
        text.push_str(&format!("{}{value}\n", name_style.apply_to(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&'static str; 3]) -> Vec<Cell> {
        cells.map(Cell::from).to_vec()
    }

    fn columns() -> Vec<Column> {
        vec![
            Column::text("KEY").gives(),
            Column::number("SIZE"),
            Column::text("MORE"),
        ]
    }

    #[test]
    fn columns_stand_side_by_side_over_parts() {
        let (mut table, mut text) = (Table::within(columns(), None), String::new());
        table.push(
            &mut text,
            &[row(["a", "1 B", ""]), row(["漢字", "1.5 MiB", "x"])],
        );
        table.push(&mut text, &[row(["b", "2 B", "y"])]);
        let lines = [
            "KEY      SIZE  MORE",
            "a         1 B",
            "漢字  1.5 MiB  x",
            "b         2 B  y",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_terminal_is_not_passed() {
        let (mut table, mut text) = (Table::within(columns(), Some(30)), String::new());
        let long = "k".repeat(50);
        table.push(
            &mut text,
            &[vec![long.into(), "1.5 MiB".into(), "xyz".into()]],
        );
        assert_eq!(text.lines().map(measure_text_width).max(), Some(30));
        assert!(text.contains("kk…  1.5 MiB  xyz"), "{text}");
    }

    #[test]
    fn what_fits_is_known_before() {
        let table = Table::within(columns(), Some(20));
        assert!(table.fits(&[]) && table.fits(&[row(["1234567", "B", ""])]));
        assert!(!table.fits(&[row(["a", "B", ""]), row(["12345678901", "B", ""])]));
        assert!(Table::within(columns(), None).fits(&[row(["k", "B", "xyz"])]));
    }
}
