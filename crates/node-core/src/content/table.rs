//! Layout of a table as columns of text.

use unicode_width::UnicodeWidthStr as _;

/// Width up to which the cells of a column are aligned. Without a limit, one long cell would make
/// every row of a long table long.
const ALIGNED_WIDTH_MAX: usize = 40;

/// Cells of a table that is being read.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    has_head: bool,
}

impl Table {
    pub(super) fn start_row(&mut self, is_head: bool) {
        self.has_head |= is_head;
        self.rows.push(Vec::new());
    }

    pub(super) fn start_cell(&mut self) {
        if let Some(row) = self.rows.last_mut() {
            row.push(String::new());
        }
    }

    pub(super) fn write(&mut self, text: &str) {
        if let Some(cell) = self.rows.last_mut().and_then(|row| row.last_mut()) {
            cell.push_str(&text.replace('\n', " "));
        }
    }

    /// Returns one line for each row, and a rule under the head.
    pub(super) fn to_lines(&self) -> Vec<String> {
        let widths = self.widths();
        let mut lines: Vec<String> = self
            .rows
            .iter()
            .map(|row| format_row(row, &widths))
            .collect();
        if self.has_head {
            let rule = widths.iter().map(|&width| "─".repeat(width));
            lines.insert(1, rule.collect::<Vec<_>>().join("  "));
        }
        lines
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().min(ALIGNED_WIDTH_MAX).max(*width);
            }
        }
        widths
    }
}

fn format_row(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line.push_str(cell);
        let padding = width.saturating_sub(cell.width()) + 2;
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line.truncate(line.trim_end().len());
    line
}
