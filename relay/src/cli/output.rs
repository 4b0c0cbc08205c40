//! Output of a command: lines and tables for people, JSON for programs.
//!
//! Text from other parties may contain control characters. They are replaced first, so that they
//! cannot act on the terminal.

use super::error::CliError;
use comfy_table::{
    Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle,
    presets,
};
use sealpost_proto::Timestamp;
use sealpost_service::{
    escape::{escape_block, escape_line, is_display_control},
    units::{format_count, format_duration},
};
use serde::Serialize;
use std::io::{self, BufRead as _, IsTerminal as _, Write};

/// A line under the header and no other borders.
const STYLE: TableStyle =
    presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

/// Standard output of a command.
pub(super) struct Output {
    out: Box<dyn Write + Send>,
    is_json: bool,
    is_coloured: bool,
    /// Width of the terminal in columns; some report 0. `None` without a terminal.
    width: Option<u16>,
}

/// Colour of a state. The text conveys the same without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusColor {
    Good,
    Warning,
    Bad,
    Neutral,
}

impl Output {
    pub(super) fn stdout(is_json: bool) -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some()
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: Box::new(io::stdout()),
            is_json,
            is_coloured: io::stdout().is_terminal() && !is_plain,
            width: Table::new().width(),
        }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.is_json
    }

    pub(super) fn print_line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        Ok(writeln!(self.out, "{}", sanitize(text.as_ref()))?)
    }

    /// Prints the command that shows the next page, if there is one.
    pub(super) fn print_next_page(&mut self, arguments: Option<String>) -> Result<(), CliError> {
        match arguments {
            Some(arguments) => self.print_line(format!("More: sealpost-relay {arguments}")),
            None => Ok(()),
        }
    }

    /// Prints a line on a terminal only, never into a file or as part of JSON.
    pub(super) fn print_hint(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        if self.width.is_none() || self.is_json {
            Ok(())
        } else {
            self.print_line(text)
        }
    }

    pub(super) fn print_json(&mut self, document: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(document).map_err(io::Error::from)?;
        Ok(writeln!(self.out, "{}", escape_block(&text))?)
    }

    pub(super) fn print_table(&mut self, mut text_table: TextTable) -> Result<(), CliError> {
        let table = &mut text_table.0;
        if self.is_coloured {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        // Without a width, nothing is wrapped.
        match self.width.filter(|&columns| columns > 0) {
            Some(width) => table
                .set_width(width)
                .set_content_arrangement(ContentArrangement::Dynamic),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        let last = table.column_count().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, u16::from(index != last)));
        }
        for line in text_table.0.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Asks for confirmation of an action that cannot be undone.
    pub(super) fn confirm(&mut self, question: &str, is_confirmed: bool) -> Result<(), CliError> {
        if is_confirmed {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(CliError::usage(
                "confirmation required: this cannot be undone",
                "pass --yes if you are sure",
            ));
        }
        write!(io::stderr(), "{} [y/N] ", escape_line(question))?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(CliError::usage(
                "nothing was changed",
                "answer y, or pass --yes, if you are sure",
            )),
        }
    }
}

/// Table under construction.
pub(super) struct TextTable(Table);

impl TextTable {
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(header);
        Self(table)
    }

    /// Aligns these columns to the right.
    pub(super) fn align_right(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// Excludes these columns from wrapping, so that an id can be selected as one word.
    pub(super) fn disable_wrapping(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        self
    }

    pub(super) fn add_row(&mut self, cells: Vec<Cell>) {
        self.0.add_row(cells);
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "callers pass a number, a name, or a text that they have just formatted"
)]
pub(super) fn cell(value: impl ToString) -> Cell {
    Cell::new(sanitize(&value.to_string()))
}

pub(super) fn status_cell(text: impl ToString, color: StatusColor) -> Cell {
    let cell = cell(text);
    match color {
        StatusColor::Good => cell.fg(Color::Green),
        StatusColor::Warning => cell.fg(Color::Yellow),
        StatusColor::Bad => cell.fg(Color::Red),
        StatusColor::Neutral => cell,
    }
}

/// Formats `1 account`, `3 accounts`.
pub(super) fn format_plural(number: u64, noun: &str) -> String {
    format_count(usize::try_from(number).unwrap_or(usize::MAX), noun)
}

/// Formats `1 mailbox`, `3 mailboxes`.
pub(super) fn format_mailbox_count(mailboxes: u64) -> String {
    match mailboxes {
        1 => "1 mailbox".to_owned(),
        _ => format!("{mailboxes} mailboxes"),
    }
}

/// Formats the time since `at`, or a dash.
pub(super) fn format_age(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format_duration(now.since(at)))
}

/// Formats the time until `at`, or a dash.
pub(super) fn format_time_until(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(
        || "-".to_owned(),
        |at| format!("in {}", format_duration(at.since(now))),
    )
}

/// Replaces characters that act on a terminal, and line breaks: another line could pretend to be
/// output of this program.
fn sanitize(text: &str) -> String {
    text.replace(is_display_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Output that a test can read.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output_with_width(width: Option<u16>) -> (Output, Arc<Mutex<Vec<u8>>>) {
        let written = Written::default();
        let output = Output {
            out: Box::new(written.clone()),
            is_json: false,
            is_coloured: false,
            width,
        };
        (output, written.0)
    }

    #[test]
    fn terminal_without_width_wraps_nothing() {
        for width in [None, Some(0)] {
            let (mut output, written) = output_with_width(width);
            let mut table = TextTable::new(&["ACCOUNT", "LAST ERROR"]);
            let error = "the endpoint responded with status 503 and Retry-After";
            table.add_row(vec![cell("account"), cell(error)]);
            output.print_table(table).unwrap();
            let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
            assert!(text.contains(error), "{text}");
        }
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(
            sanitize("a\u{1b}[31mb\u{9b}\u{202e}c\nd"),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}c\u{fffd}d"
        );
    }
}
