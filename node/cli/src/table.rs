//! Aligned columns; readable without colour.

use console::Style;
use decores_telemetry::plain;

/// A cell: its text, and how it looks on a terminal.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// Rows under a heading; the last column may be of any length. Shown as [`plain`] text.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        let style = Style::new().bold();
        Self { rows: vec![heading.iter().map(|h| Cell::styled(*h, style.clone())).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// The lines; with colour only if asked for.
    pub(crate) fn render(&self, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |at: usize| self.rows.iter().filter_map(|r| r.get(at)).map(|c| plain(&c.text).chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let last = at + 1 == row.len();
                let cell_text = plain(&cell.text);
                let padding = if last { 0 } else { width.saturating_sub(cell_text.chars().count()) + 2 };
                let shown = cell.style.clone().force_styling(colour).apply_to(cell_text).to_string();
                line.push_str(&shown);
                line.extend(std::iter::repeat_n(' ', padding));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Prints it; with colour on a terminal that takes it.
    pub(crate) fn print(&self) -> Result<(), crate::failure::Failure> {
        crate::output::bytes(self.render(console::colors_enabled()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_clean() {
        let mut table = Table::new(&["claim", "status", "why"]);
        table.row(["issuer".into(), "holds".into(), "pinned".into()]);
        table.row(["wipe".into(), "does not hold".into(), "".into()]);
        let expected = "claim   status         why\nissuer  holds          pinned\nwipe    does not hold\n";
        assert_eq!(table.render(false), expected);
    }

    #[test]
    fn colour_does_not_shift_columns() {
        let mut table = Table::new(&["a", "b"]);
        table.row([Cell::styled("x", Style::new().green()), "y".into()]);
        let coloured = table.render(true);
        assert!(coloured.contains("\u{1b}[32mx\u{1b}[0m  y"), "{coloured:?}");
        assert_eq!(console::strip_ansi_codes(&coloured), table.render(false));
    }

    #[test]
    fn control_characters_from_outside_are_escaped() {
        let mut table = Table::new(&["name"]);
        table.row(["a\u{1b}[2Jb\n\u{202e}c".into()]);
        assert_eq!(table.render(false), "name\na\\u{1b}[2Jb\\n\\u{202e}c\n");
    }
}
