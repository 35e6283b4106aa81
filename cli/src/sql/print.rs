//! An answer as it comes: a table, records of a line a column, JSON or CSV.

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};

use super::csv;
use super::json::{Row, distinct};
use super::text::{VALUES_MAX, cell, text};
use super::value::{Reader, Value};
use crate::human::shown;
use crate::out::push_json;
use crate::table::{Cell, Column, Table, pairs};

/// Rows that are made into text at once: a table's columns are as wide as those of the first so many need.
pub const ROWS_MAX: usize = 1_000;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// For people.
    Table,
    /// For programs, an object a line.
    Json,
    /// For programs and spreadsheets.
    Csv,
}

/// Whether a row is a record, of a line a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expanded {
    On,
    Off,
    /// Where a table is wider than the terminal.
    Auto,
}

/// Makes the rows of one answer into text.
pub struct Printer {
    names: Vec<String>,
    layout: Layout,
    /// `None` while no row tells how wide a table is.
    expanded: Option<bool>,
    /// What a plan says stands in lines, which mean something by where they begin.
    is_plan: bool,
    table: Table,
    begun: bool,
    /// Rows so far.
    pub rows: u64,
}

impl Printer {
    /// For an answer of these columns, in lines of at most `limit` characters.
    pub fn new(schema: &Schema, layout: Layout, expanded: Expanded, limit: Option<usize>) -> Self {
        let fields = schema.fields().iter();
        let names: Vec<String> = fields.map(|field| field.name().clone()).collect();
        let is_plan = names == ["plan_type", "plan"];
        let columns = schema.fields().iter().map(|field| {
            let name = shown(field.name()).into_owned();
            match field.data_type().is_numeric() {
                true => Column::number(name),
                false => Column::text(name).gives(),
            }
        });
        let table = Table::within(columns.collect(), limit.filter(|_| !is_plan));
        Printer {
            names: match layout {
                Layout::Json => distinct(&names),
                Layout::Table => names.iter().map(|name| shown(name).into_owned()).collect(),
                Layout::Csv => names,
            },
            layout,
            expanded: match expanded {
                Expanded::On => Some(true),
                Expanded::Off => Some(false),
                Expanded::Auto => None,
            },
            is_plan,
            table,
            begun: false,
            rows: 0,
        }
    }

    /// Adds some rows to `out`; give it at most [`ROWS_MAX`] at once.
    ///
    /// # Errors
    /// Where a column's type is none that can be shown.
    pub fn push(&mut self, out: &mut String, batch: &RecordBatch) -> Result<(), ArrowError> {
        let columns = batch.columns().iter();
        let readers: Vec<Reader<'_>> = columns
            .map(|it| Reader::new(it))
            .collect::<Result<_, _>>()?;
        let rows = 0..batch.num_rows();
        let values = |row, values_max| -> Vec<Value<'_>> {
            let readers = readers.iter();
            readers.map(|it| it.value(row, values_max)).collect()
        };
        match self.layout {
            Layout::Json => {
                for row in rows {
                    push_json(out, &Row(&self.names, values(row, usize::MAX)));
                }
            }
            Layout::Csv => {
                self.begin(out);
                for row in rows {
                    csv::row(out, &values(row, usize::MAX));
                }
            }
            Layout::Table => {
                let rows: Vec<_> = rows.map(|row| values(row, VALUES_MAX)).collect();
                self.for_people(out, &rows);
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Adds what stands there of no rows, too.
    pub fn end(&mut self, out: &mut String) {
        match self.layout {
            Layout::Csv => self.begin(out),
            Layout::Table if self.rows == 0 && self.expanded != Some(true) => {
                self.table.push(out, &[]);
            }
            Layout::Table | Layout::Json => {}
        }
    }

    fn begin(&mut self, out: &mut String) {
        if !self.begun {
            self.begun = true;
            csv::names(out, &self.names);
        }
    }

    fn for_people(&mut self, out: &mut String, rows: &[Vec<Value<'_>>]) {
        if self.is_plan {
            let lines: Vec<_> = rows.iter().flat_map(|row| plan(row)).collect();
            return self.table.push(out, &lines);
        }
        let cells: Vec<Vec<Cell>> = rows
            .iter()
            .map(|row| row.iter().map(cell).collect())
            .collect();
        let expanded = match self.expanded {
            Some(expanded) => expanded,
            None => !self.table.fits(&cells),
        };
        self.expanded = Some(expanded);
        if !expanded {
            return self.table.push(out, &cells);
        }
        for (number, row) in (self.rows + 1..).zip(rows) {
            let row = row.iter().map(text);
            let named: Vec<(&str, String)> =
                self.names.iter().map(String::as_str).zip(row).collect();
            out.push_str(&format!("-- row {number}\n"));
            pairs(out, &named);
        }
    }
}

/// A part of a plan, a row a line.
fn plan(row: &[Value<'_>]) -> Vec<Vec<Cell>> {
    let [kind, Value::Text(plan)] = row else {
        return vec![row.iter().map(cell).collect()];
    };
    let lines = plan.trim_end().lines();
    let lines = lines.enumerate().map(|(at, line)| {
        let kind = if at == 0 { cell(kind) } else { "".into() };
        vec![kind, shown(line).into_owned().into()]
    });
    lines.collect()
}
