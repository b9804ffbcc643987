//! Aligned tables for terminals.
//!
//! Where the lines are too long, columns that may be cut are, and the last ones, which are prose or belong to it, go to
//! a line of their own beneath each row: a sentence in a column of fifteen characters says nothing.

use std::fmt::Write;

/// What stands between columns.
const GAP: usize = 2;
/// How far the line beneath a row is set in.
const INDENT: usize = 2;
/// Prose stays beside the other columns where it has so much room.
const LEAST_PROSE: usize = 48;
/// A column that may be cut keeps so much.
const LEAST_CUT: usize = 8;
/// A cell is no longer than this: names come from other processes, and no terminal shows more.
const LONGEST_CELL: usize = 1_000;
/// Prose beneath a row has at most so many lines.
const PROSE_LINES: usize = 2;

/// A table whose columns are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<Heading>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Heading {
    text: &'static str,
    column: Column,
}

/// How a column is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Text,
    /// Aligned to the right.
    Number,
    /// Cut where the line would be too long.
    Cut,
    /// Beneath the row where the line would be too long; the last such column is prose.
    Beneath,
}

impl Table {
    /// A table with columns. Names that begin with `>` hold numbers and are aligned to the right; with `~`, they may be
    /// cut; with `|`, they may go beneath, and are the last ones.
    pub(crate) fn new(headings: &[&'static str]) -> Table {
        let marks = [('>', Column::Number), ('~', Column::Cut), ('|', Column::Beneath)];
        let headings = headings.iter().map(|&text| {
            let marked = marks.iter().find_map(|(mark, column)| Some((text.strip_prefix(*mark)?, *column)));
            let (text, column) = marked.unwrap_or((text, Column::Text));
            Heading { text, column }
        });
        Table { headings: headings.collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| bounded(printable(&cell))).collect();
        row.resize(self.headings.len(), String::new());
        self.rows.push(row);
    }

    /// The table as text, one line feed after each line, however long.
    pub(crate) fn render(&self) -> String {
        self.render_within(usize::MAX)
    }

    /// The table in lines of at most so many characters, as far as its columns can give way.
    pub(crate) fn render_within(&self, width: usize) -> String {
        let mut widths: Vec<usize> =
            (0..self.headings.len()).map(|column| self.natural_width(column)).collect();
        let beneath = self.first_beneath();
        let is_beside = match beneath {
            Some(first) => {
                let last = widths.len() - 1;
                let others: usize = widths[..last].iter().map(|width| width + GAP).sum();
                let room = width.saturating_sub(others);
                let fits = room >= widths[last].min(LEAST_PROSE) && first > 0;
                if fits {
                    widths[last] = widths[last].min(room);
                }
                fits
            }
            None => true,
        };
        let split = beneath.filter(|_| !is_beside).unwrap_or(widths.len());
        self.cut_to(width, &mut widths[..split]);
        let headings: Vec<String> = self.headings.iter().map(|heading| heading.text.to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            self.add_line(&mut text, row, &widths[..split]);
            if split < widths.len() {
                self.add_beneath(&mut text, row, &widths, split, width);
            }
        }
        text
    }

    fn natural_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.chain([self.headings[column].text.chars().count()]).max().unwrap_or(0)
    }

    fn first_beneath(&self) -> Option<usize> {
        self.headings.iter().position(|heading| heading.column == Column::Beneath)
    }

    /// Takes from the widest of the columns that may be cut until the line fits.
    fn cut_to(&self, width: usize, widths: &mut [usize]) {
        let needed: usize = widths.iter().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP);
        for _ in 0..needed.saturating_sub(width) {
            let cuttable = widths
                .iter_mut()
                .zip(&self.headings)
                .filter(|(width, heading)| heading.column == Column::Cut && **width > LEAST_CUT);
            let Some((widest, _)) = cuttable.max_by_key(|(width, _)| **width) else { return };
            *widest -= 1;
        }
    }

    fn add_line(&self, text: &mut String, row: &[String], widths: &[usize]) {
        let mut line = String::new();
        for (position, (cell, &width)) in row.iter().zip(widths).enumerate() {
            if position > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            let cell = cut(cell, width);
            let _ = match self.headings[position].column {
                Column::Number => write!(line, "{cell:>width$}"),
                _ => write!(line, "{cell:<width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }

    /// The columns from `split` on, the last one wrapped at its own left edge.
    fn add_beneath(&self, text: &mut String, row: &[String], widths: &[usize], split: usize, width: usize) {
        let mut line = " ".repeat(INDENT);
        let last = widths.len() - 1;
        for (cell, &width) in row[split..last].iter().zip(&widths[split..last]) {
            let _ = write!(line, "{cell:<width$}{}", " ".repeat(GAP));
        }
        let edge = line.chars().count();
        let room = width.saturating_sub(edge).max(LEAST_CUT);
        for (position, part) in wrapped(&row[last], room).into_iter().enumerate() {
            if position > 0 {
                line = " ".repeat(edge);
            }
            line.push_str(&part);
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
}

/// The text, or its beginning and an ellipsis where it is longer than `width`.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// The text in lines of at most `width` characters, broken at spaces where there are some; at least one line, and the
/// last one is cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while lines.len() + 1 < PROSE_LINES && rest.chars().count() > width {
        let limit = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        // A line that is half empty is worse than a broken word.
        let space = rest[..limit].rfind(' ').filter(|at| *at >= limit / 2);
        let (line, after) = rest.split_at(space.unwrap_or(limit));
        lines.push(line.to_owned());
        rest = after.trim_start();
    }
    lines.push(cut(rest, width));
    lines
}

fn bounded(mut cell: String) -> String {
    if let Some((end, _)) = cell.char_indices().nth(LONGEST_CELL) {
        cell.truncate(end);
        cell.push('…');
    }
    cell
}

/// Names come from other processes: control characters could move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_length_has_a_line() {
        let mut table = Table::new(&["span", "~topic", "|cause"]);
        let name = "é".repeat(70_000);
        table.row([name.clone(), name.clone(), name]);
        for width in [1, 80, usize::MAX] {
            assert!(table.render_within(width).chars().count() < 20_000);
        }
    }

    #[test]
    fn columns_are_aligned_and_control_characters_replaced() {
        let mut table = Table::new(&["span", ">cpu"]);
        table.row(["publish".into(), "12.0 ms".into()]);
        table.row(["é\x1b[2J".into(), "1.0 ms".into()]);
        assert_eq!(table.render(), "span         cpu\npublish  12.0 ms\né\u{fffd}[2J     1.0 ms\n");
    }

    fn spans() -> Table {
        let mut table = Table::new(&["SPAN", "~DESTINATION", ">CPU", "|WAIT", "|CAUSE"]);
        let causes = ["waiting for a lock in orders::reserve (std::sync::Mutex::lock)", "running"];
        for (destination, wait, cause) in
            [("orders.created.eu", "lock", causes[0]), ("o", "sleep", causes[1])]
        {
            let cells = ["00f067aa0ba902b7", destination, "12.0 ms", wait, cause];
            table.row(cells.map(str::to_owned));
        }
        table
    }

    #[test]
    fn prose_goes_beneath_where_it_would_have_no_room() {
        assert_eq!(
            spans().render_within(52),
            "SPAN              DESTINATION            CPU\n\
             \x20 WAIT   CAUSE\n\
             00f067aa0ba902b7  orders.created.eu  12.0 ms\n\
             \x20 lock   waiting for a lock in orders::reserve\n\
             \x20        (std::sync::Mutex::lock)\n\
             00f067aa0ba902b7  o                  12.0 ms\n\
             \x20 sleep  running\n"
        );
    }

    #[test]
    fn prose_stays_beside_where_there_is_room_and_is_cut_to_it() {
        let text = spans().render_within(102);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].ends_with("WAIT   CAUSE"), "{text}");
        assert!(lines[1].ends_with("lock   waiting for a lock in orders::reserve (std::sync…"), "{text}");
        assert_eq!(spans().render().lines().nth(1).unwrap().chars().count(), 115, "whole without a limit");
    }

    #[test]
    fn no_line_is_longer_than_asked_where_columns_can_give_way() {
        for width in 40..130 {
            let text = spans().render_within(width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
            assert!(text.contains("00f067aa0ba902b7"), "what is copied is never cut: {text}");
        }
        spans().render_within(0);
        Table::new(&["|CAUSE"]).render_within(10);
    }

    #[test]
    fn long_words_are_broken_and_the_last_line_is_cut() {
        assert_eq!(wrapped("a bcdefghijklmnop", 8), ["a bcdefg", "hijklmn…"]);
        assert_eq!(wrapped("", 8), [""]);
        assert_eq!(wrapped("ééééé ööööö", 8), ["ééééé", "ööööö"]);
    }
}
