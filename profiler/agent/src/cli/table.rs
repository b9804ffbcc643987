//! Aligned tables for terminals.

use std::fmt::Write;

/// A table whose columns are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<Heading>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Heading {
    text: &'static str,
    numeric: bool,
}

impl Table {
    /// A table with columns; names that begin with `>` hold numbers and are aligned to the right.
    pub(crate) fn new(headings: &[&'static str]) -> Table {
        let headings = headings
            .iter()
            .map(|text| match text.strip_prefix('>') {
                Some(text) => Heading { text, numeric: true },
                None => Heading { text, numeric: false },
            })
            .collect();
        Table { headings, rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| printable(&cell)).collect();
        row.resize(self.headings.len(), String::new());
        self.rows.push(row);
    }

    /// The table as text, one line feed after each line.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = self
            .headings
            .iter()
            .enumerate()
            .map(|(column, heading)| {
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells.chain([heading.text.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        let headings: Vec<String> = self.headings.iter().map(|heading| heading.text.to_owned()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let line = self.line(row, &widths);
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, heading), &width) in row.iter().zip(&self.headings).zip(widths) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let _ = match heading.numeric {
                true => write!(line, "{cell:>width$}"),
                false => write!(line, "{cell:<width$}"),
            };
        }
        line
    }
}

/// Names come from other processes: control characters could move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_replaced() {
        let mut table = Table::new(&["span", ">cpu"]);
        table.row(["publish".into(), "12.0 ms".into()]);
        table.row(["é\x1b[2J".into(), "1.0 ms".into()]);
        assert_eq!(table.render(), "span         cpu\npublish  12.0 ms\né\u{fffd}[2J     1.0 ms\n");
    }
}
