//! What a benchmark found: tables, and the bars that are held to them.

use super::machine::Machine;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What a benchmark found.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) tables: Vec<Table>,
    pub(crate) bars: Vec<Bar>,
    /// Tools that were measured beside ours, and their versions.
    pub(crate) versions: Vec<String>,
}

/// A table for people.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// What stands in a table.
pub(crate) enum Cell {
    Number(f64),
    Text(String),
    Nothing,
}

/// A figure that was promised.
pub(crate) struct Bar {
    what: String,
    unit: &'static str,
    limit: Limit,
    measured: f64,
}

#[derive(Clone, Copy)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// Median and worst of the same figure taken several times.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) worst: f64,
}

impl Spread {
    /// Of times and sizes.
    pub(crate) fn of_costs(values: Vec<f64>) -> Self {
        let sorted = sorted(values);
        Self { median: middle(&sorted), worst: sorted.last().copied().unwrap_or(f64::NAN) }
    }

    /// Of speeds.
    pub(crate) fn of_speeds(values: Vec<f64>) -> Self {
        let sorted = sorted(values);
        Self { median: middle(&sorted), worst: sorted.first().copied().unwrap_or(f64::NAN) }
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        if number.is_finite() { Self::Number(number) } else { Self::Nothing }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Cell {
    fn to_text(&self) -> String {
        match self {
            Self::Number(number) => digits(*number),
            Self::Text(text) => text.clone(),
            Self::Nothing => String::new(),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Number(number) => json!(number),
            Self::Text(text) => json!(text),
            Self::Nothing => Value::Null,
        }
    }
}

/// A number with as many digits as say something.
fn digits(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{number:.2}"),
        _ => format!("{number:.4}"),
    }
}

impl Table {
    /// A table of these columns; the first names the row.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    fn to_markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.columns.join(" | "), "---|".repeat(self.columns.len()));
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(Cell::to_text).collect();
            _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }

    fn to_json(&self) -> Value {
        let row = |row: &Vec<Cell>| row.iter().map(Cell::to_json).collect::<Vec<Value>>();
        json!({ "columns": self.columns, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

impl Bar {
    /// What is measured must be this much or more.
    pub(crate) fn at_least(what: impl Into<String>, limit: f64, unit: &'static str, measured: f64) -> Self {
        Self { what: what.into(), unit, limit: Limit::AtLeast(limit), measured }
    }

    /// What is measured must be this much or less.
    pub(crate) fn at_most(what: impl Into<String>, limit: f64, unit: &'static str, measured: f64) -> Self {
        Self { what: what.into(), unit, limit: Limit::AtMost(limit), measured }
    }

    /// Whether it holds; what could not be measured does not.
    pub(crate) fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtLeast(limit) => self.measured >= limit,
            Limit::AtMost(limit) => self.measured <= limit,
        }
    }

    fn to_text(&self) -> String {
        let (word, limit) = match self.limit {
            Limit::AtLeast(limit) => ("at least", limit),
            Limit::AtMost(limit) => ("at most", limit),
        };
        let (what, unit, measured) = (&self.what, self.unit, digits(self.measured));
        let verdict = if self.is_met() {
            "met".to_owned()
        } else {
            let by = (self.measured - limit).abs();
            format!("MISSED by {} {unit} ({:.0} %)", digits(by), by / limit * 100.0)
        };
        format!("{what}: {measured} {unit}, bar {word} {} {unit}: {verdict}", digits(limit))
    }

    fn to_json(&self) -> Value {
        let (limit, at) = match self.limit {
            Limit::AtLeast(limit) => (limit, "least"),
            Limit::AtMost(limit) => (limit, "most"),
        };
        let measured = self.measured;
        json!({ "what": self.what, "unit": self.unit, "at": at, "bar": limit, "measured": measured, "met": self.is_met() })
    }
}

impl Report {
    pub(crate) fn to_markdown(&self, name: &str, machine: &Machine) -> String {
        let mut text = format!("`cargo xtask bench {name}`\n{machine}");
        if !self.versions.is_empty() {
            _ = writeln!(text, "Beside: {}", self.versions.join("; "));
        }
        for table in &self.tables {
            _ = write!(text, "\n{}", table.to_markdown());
        }
        if !self.bars.is_empty() {
            text.push('\n');
        }
        for bar in &self.bars {
            _ = writeln!(text, "* {}", bar.to_text());
        }
        text
    }

    pub(crate) fn to_json(&self, name: &str, machine: &Machine) -> Value {
        let tables: Vec<Value> = self.tables.iter().map(Table::to_json).collect();
        let bars: Vec<Value> = self.bars.iter().map(Bar::to_json).collect();
        json!({ "bench": name, "machine": machine.to_json(), "versions": self.versions, "tables": tables, "bars": bars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_or_says_by_how_much_it_is_not() {
        let met = Bar::at_least("appends", 3000.0, "a second", 3000.0);
        assert!(met.is_met());
        assert_eq!(met.to_text(), "appends: 3000 a second, bar at least 3000 a second: met");
        let missed = Bar::at_most("memory", 64.0, "MiB", 80.0);
        assert!(!missed.is_met());
        assert_eq!(missed.to_text(), "memory: 80.0 MiB, bar at most 64.0 MiB: MISSED by 16.0 MiB (25 %)");
    }

    #[test]
    fn what_was_not_measured_meets_no_bar() {
        assert!(!Bar::at_most("memory", 64.0, "MiB", f64::NAN).is_met());
        assert!(!Bar::at_least("speed", 1.0, "MB/s", f64::NAN).is_met());
    }

    #[test]
    fn the_worst_of_costs_is_the_largest_and_of_speeds_the_smallest() {
        let values = vec![3.0, 1.0, 2.0];
        let (costs, speeds) = (Spread::of_costs(values.clone()), Spread::of_speeds(values));
        assert!((costs.median - 2.0).abs() < 1e-9 && (speeds.median - 2.0).abs() < 1e-9);
        assert!((costs.worst - 3.0).abs() < 1e-9 && (speeds.worst - 1.0).abs() < 1e-9);
    }
}
