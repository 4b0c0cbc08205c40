//! Output of a command.
//!
//! All output goes through this module. It replaces control characters in lines and cells, so that
//! text from a partner cannot control the terminal.

use super::error::CliError;
use crate::api::iso::Iso;
use comfy_table::{
    Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Row, Table,
    TableStyle, Width, presets,
};
use sealpost_node_core::{
    content::{self, TextStyle},
    model::ContentType,
    text::visible_line,
};
use sealpost_proto::{DeliveryStatus, Timestamp};
use sealpost_service::{SharedClock, SystemClock, escape::escape_block};
use serde::Serialize;
use std::{
    io::{self, IsTerminal as _, Write},
    sync::Arc,
};

/// One space between columns and a rule under the header: compact, and readable without colour.
const STYLE: TableStyle =
    presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

/// Width limits of a narrow column. A name remains recognisable by its first characters.
const NARROW: ColumnConstraint = ColumnConstraint::Boundaries {
    lower: Width::Fixed(8),
    upper: Width::Percentage(15),
};

/// Output format: text for people, or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    /// One document, or one document per line for a stream.
    Json,
}

/// Writer for the output of a command.
pub struct Console {
    out: Box<dyn Write + Send>,
    format: Format,
    text_style: TextStyle,
    /// Columns of the terminal; some report 0. `None` when the output is not a terminal.
    width: Option<u16>,
    clock: SharedClock,
}

impl Console {
    /// Creates a console on standard output, styled if the terminal supports it.
    #[must_use]
    pub fn stdout(format: Format) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_plain = std::env::var_os("NO_COLOR").is_some()
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: Box::new(io::stdout()),
            format,
            text_style: if is_terminal && !is_plain {
                TextStyle::Ansi
            } else {
                TextStyle::Plain
            },
            width: Table::new().width(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Creates a console on any writer; with a `width`, it behaves like a terminal.
    #[must_use]
    pub fn new(
        out: Box<dyn Write + Send>,
        format: Format,
        text_style: TextStyle,
        width: Option<u16>,
        clock: SharedClock,
    ) -> Self {
        Self {
            out,
            format,
            text_style,
            width,
            clock,
        }
    }

    #[must_use]
    pub const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.width.is_some() && !self.is_json()
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Formats a time as `2 min ago`, or as a dash if there is none.
    #[must_use]
    pub fn format_relative(&self, at: Option<Iso>) -> String {
        at.map_or_else(
            || "-".to_owned(),
            |at| super::units::format_relative(at, self.now()),
        )
    }

    /// Prints a line. Line breaks in a partner's text become visible characters, because another
    /// line could pretend to be output of this program.
    pub fn print_line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        self.write(&visible_line(text.as_ref()))
    }

    /// Prints a suggestion for the next step, on a terminal only.
    pub fn print_hint(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        if !self.is_terminal() {
            return Ok(());
        }
        let text = visible_line(text.as_ref());
        match self.text_style {
            TextStyle::Ansi if !text.is_empty() => self.write(&format!("\x1b[2m{text}\x1b[0m")),
            TextStyle::Plain | TextStyle::Ansi => self.write(&text),
        }
    }

    /// Prints the text of a message.
    pub fn print_message(&mut self, text: &str, content_type: &str) -> Result<(), CliError> {
        let text = content::to_terminal(text, parse_content_type(content_type), self.text_style);
        self.write(&text)
    }

    pub fn print_table(&mut self, table: TextTable) -> Result<(), CliError> {
        // Without a width, no line is wrapped or truncated.
        let width = self.width.filter(|&columns| columns > 0);
        let text = table.into_text(self.text_style, width);
        self.write(&text)
    }

    /// Prints an indented JSON document.
    pub fn print_json(&mut self, document: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| CliError::Output(error.into()))?;
        self.write(&escape_block(&text))
    }

    /// Prints a JSON document on one line.
    pub fn print_json_line(&mut self, document: &impl Serialize) -> Result<(), CliError> {
        let text =
            serde_json::to_string(document).map_err(|error| CliError::Output(error.into()))?;
        self.write(&escape_block(&text))
    }

    /// Prints text unchanged. For text that this program generated itself.
    pub fn print_verbatim(&mut self, text: &str) -> Result<(), CliError> {
        self.write(text.trim_end())
    }

    fn write(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.out, "{text}")
            .and_then(|()| self.out.flush())
            .map_err(CliError::Output)
    }
}

/// Returns the content type of a message. A type that a later version may add is plain text.
pub fn parse_content_type(content_type: &str) -> ContentType {
    ContentType::parse(content_type).unwrap_or(ContentType::Plain)
}

/// Table with a header.
pub struct TextTable {
    table: Table,
    truncates_rows: bool,
}

impl TextTable {
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        let mut head = Row::from(header);
        head.max_height(1);
        let mut table = Table::new();
        table.load_style(STYLE).set_header(head);
        Self {
            table,
            truncates_rows: false,
        }
    }

    /// Never wraps or truncates these columns, for example because they hold ids.
    #[must_use]
    pub fn without_wrapping(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            self.constrain(column, ColumnConstraint::ContentWidth);
        }
        self
    }

    /// Truncates rows to one line instead of wrapping them when the terminal is too narrow, and
    /// limits the width of `narrow_column`.
    #[must_use]
    pub fn with_single_line_rows(mut self, narrow_column: usize) -> Self {
        self.constrain(narrow_column, NARROW);
        self.truncates_rows = true;
        self
    }

    fn constrain(&mut self, column: usize, constraint: ColumnConstraint) {
        if let Some(column) = self.table.column_mut(column) {
            column.set_constraint(constraint);
        }
    }

    pub fn add_row(&mut self, cells: Vec<Cell>) {
        let mut row = Row::from(cells);
        if self.truncates_rows {
            row.max_height(1);
        }
        self.table.add_row(row);
    }

    fn into_text(mut self, text_style: TextStyle, width: Option<u16>) -> String {
        match text_style {
            TextStyle::Ansi => self.table.enforce_styling(),
            TextStyle::Plain => self.table.force_no_tty(),
        };
        match width {
            Some(width) => self
                .table
                .set_width(width)
                .set_content_arrangement(ContentArrangement::Dynamic),
            None => self
                .table
                .set_content_arrangement(ContentArrangement::Disabled),
        };
        let last = self.table.column_count().saturating_sub(1);
        for (index, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, u16::from(index != last)));
        }
        self.table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Creates a cell with arbitrary text.
#[must_use]
pub fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(visible_line(text.as_ref()))
}

/// Creates a right-aligned cell.
#[must_use]
pub fn number_cell(text: impl AsRef<str>) -> Cell {
    cell(text).set_alignment(CellAlignment::Right)
}

/// Creates a coloured cell. Its text must carry the same information as its colour.
#[must_use]
pub fn status_cell(text: impl AsRef<str>, color: StatusColor) -> Cell {
    let color = match color {
        StatusColor::Green => Color::Green,
        StatusColor::Yellow => Color::Yellow,
        StatusColor::Red => Color::Red,
    };
    cell(text).fg(color)
}

/// Traffic-light colour of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusColor {
    /// Success.
    Green,
    /// In progress.
    Yellow,
    /// Somebody has to act.
    Red,
}

impl From<DeliveryStatus> for StatusColor {
    fn from(status: DeliveryStatus) -> Self {
        match status {
            DeliveryStatus::Pending | DeliveryStatus::Sent | DeliveryStatus::Retrying => {
                Self::Yellow
            }
            DeliveryStatus::Delivered | DeliveryStatus::Read => Self::Green,
            DeliveryStatus::Failed => Self::Red,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TextTable {
        let mut table = TextTable::new(&["ID", "CONTACT", "TEXT"])
            .without_wrapping(&[0])
            .with_single_line_rows(1);
        table.add_row(vec![
            cell("CON-1"),
            cell("Bolt\u{1b}[2J"),
            cell("a long text that does not fit in forty columns"),
        ]);
        table.add_row(vec![
            cell("CON-22"),
            status_cell("Cargo", StatusColor::Green),
            cell("short"),
        ]);
        table
    }

    #[test]
    fn plain_table_is_readable() {
        let text = "\
ID      CONTACT   TEXT
────────────────────────────────────────────────────────────────
CON-1   Bolt␛[2J  a long text that does not fit in forty columns
CON-22  Cargo     short";
        assert_eq!(table().into_text(TextStyle::Plain, None), text);
        assert_eq!(table().into_text(TextStyle::Plain, Some(80)), text);
    }

    #[test]
    fn narrow_terminal_truncates_rows() {
        let text = table().into_text(TextStyle::Plain, Some(40));
        assert!(
            text.lines().count() == 4 && text.lines().all(|line| line.chars().count() <= 40),
            "{text}"
        );
        assert!(text.contains('…'), "{text}");
    }

    #[test]
    fn only_own_colours_reach_the_terminal() {
        let text = table().into_text(TextStyle::Ansi, Some(80));
        assert!(
            text.contains("\u{1b}[38;5;10m") || text.contains("\u{1b}[32m"),
            "{text:?}"
        );
        assert!(!text.contains("\u{1b}[2J"));
    }
}
