//! The three forms of an answer: a table for people, JSON lines for programs, comma-separated values for spreadsheets.
//!
//! In the last, a cell that a spreadsheet would take for a formula begins with an apostrophe, and what would move a terminal's cursor is
//! escaped: a job chooses the names of its files.

use clap::Args;
use serde_json::Value;

use crate::{
    failure::Failure,
    records::Line,
    terminal::{print, print_json, shown, table},
};

/// In which form.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Form {
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// Comma-separated values with a head
    #[arg(long, conflicts_with = "json")]
    pub(super) csv: bool,
}

/// The columns of records; what a record says besides is in the last, as JSON.
const COLUMNS: [&str; 22] = [
    "time",
    "job",
    "task",
    "task_attempt",
    "site",
    "node",
    "slot",
    "log",
    "log_session",
    "seq",
    "source",
    "event",
    "session",
    "path",
    "to",
    "verdict",
    "rule",
    "errno",
    "pid",
    "comm",
    "bytes",
    "more",
];

/// One row: cells for a table, and everything that it says.
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) line: Line,
}

/// What can be a row.
pub(super) trait ToRow {
    /// The row, with its tasks if that says something.
    fn to_row(&self, names_tasks: bool) -> Row;
}

impl ToRow for Row {
    fn to_row(&self, _: bool) -> Row {
        Row {
            cells: self.cells.clone(),
            line: self.line.clone(),
        }
    }
}

impl Form {
    /// A sheet of rows.
    pub(super) fn sheet(self, head: Vec<&'static str>) -> Sheet {
        Sheet {
            form: self,
            head,
            rows: Vec::new(),
            count: 0,
        }
    }

    /// A sheet of records; none if they are told in sentences.
    pub(super) fn records(self) -> Result<Option<Records>, Failure> {
        if self.csv {
            print(COLUMNS.join(","))?;
        }
        Ok((self.json || self.csv).then_some(Records { csv: self.csv }))
    }
}

/// Records in a form for programs.
pub(super) struct Records {
    csv: bool,
}

impl Records {
    /// Puts a record.
    pub(super) fn put(&mut self, line: &Line) -> Result<(), Failure> {
        if !self.csv {
            return print_json(line);
        }
        let (mut cells, mut more) = (
            vec![String::new(); COLUMNS.len() - 1],
            serde_json::Map::new(),
        );
        for (name, value) in line.fields(0) {
            match COLUMNS.iter().position(|column| *column == name) {
                Some(at) => cells[at] = cell(value),
                None => _ = more.insert(name.to_owned(), value.clone()),
            }
        }
        cells.push(match more.is_empty() {
            true => String::new(),
            false => quoted(&Value::Object(more).to_string()),
        });
        print(cells.join(","))
    }
}

/// Rows on their way. A table is printed at the end, since its columns are as wide as the widest cell.
pub(super) struct Sheet {
    form: Form,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    count: u64,
}

impl Sheet {
    /// Puts a row.
    pub(super) fn row(&mut self, row: &Row) -> Result<(), Failure> {
        self.count += 1;
        if self.form.json {
            return print_json(&row.line);
        }
        if !self.form.csv {
            self.rows.push(row.cells.clone());
            return Ok(());
        }
        if self.count == 1 {
            let names: Vec<_> = row.line.fields(0).map(|(name, _)| name).collect();
            print(names.join(","))?;
        }
        let cells: Vec<_> = row.line.fields(0).map(|(_, value)| cell(value)).collect();
        print(cells.join(","))
    }

    /// Prints what is left to print. Answers the number of rows.
    pub(super) fn end(self) -> Result<u64, Failure> {
        if !self.rows.is_empty() {
            table(&self.head, &self.rows)?;
        }
        Ok(self.count)
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        Value::Array(all) => {
            let words: Vec<_> = all
                .iter()
                .map(|one| one.as_str().map_or(one.to_string(), str::to_owned))
                .collect();
            quoted(&words.join(" "))
        }
        other => shown(other.to_string().as_bytes()),
    }
}

fn quoted(text: &str) -> String {
    let mut text = shown(text.as_bytes());
    if text.starts_with(['=', '+', '-', '@']) {
        text.insert(0, '\'');
    }
    if text.contains([',', '"']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_neither_formula_nor_escape_sequence_nor_two_cells() {
        for (text, expected) in [
            ("/c/a", "/c/a"),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("@SUM(1)", "'@SUM(1)"),
            ("a,b", "\"a,b\""),
            ("a\nb", "a\\nb"),
            ("\x1b[2J", "\\u{1b}[2J"),
        ] {
            assert_eq!(cell(&Value::from(text)), expected);
        }
        assert_eq!(cell(&serde_json::json!(["a", "b c"])), "a b c");
        assert_eq!(cell(&Value::Null), "");
        assert_eq!(cell(&Value::from(-3)), "-3");
    }

    #[test]
    fn the_columns_of_a_record_are_all_different() {
        let all: std::collections::BTreeSet<_> = COLUMNS.into_iter().collect();
        assert_eq!(all.len(), COLUMNS.len());
    }
}
