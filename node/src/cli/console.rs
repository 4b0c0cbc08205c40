//! Where the output of a command goes. Whatever is printed passes here, and nothing that the other side wrote can act
//! on the terminal: lines and cells are made visible first.

use super::error::CliError;
use crate::api::iso::Iso;
use comfy_table::{
    Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Row, Table,
    TableStyle, Width, presets,
};
use sealpost_node_core::{
    markdown::{self, Paint},
    text::{visible_block, visible_line},
};
use sealpost_proto::{DeliveryStatus, Timestamp};
use sealpost_service::{SharedClock, SystemClock};
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
    sync::Arc,
};

/// One space between columns and a rule under the header: readable without colour, and short.
const STYLE: TableStyle =
    presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

/// What a narrow column gets of a line: a name is recognised by its beginning.
const NARROW: ColumnConstraint = ColumnConstraint::Boundaries {
    lower: Width::Fixed(8),
    upper: Width::Percentage(15),
};

/// Text for people or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines and tables.
    Text,
    /// One document, or one a line where it goes on.
    Json,
}

/// The output of a command.
pub struct Console {
    out: Box<dyn Write + Send>,
    format: Format,
    paint: Paint,
    /// Columns of the terminal; none when it is no terminal, and then nothing is cut or wrapped.
    width: Option<u16>,
    clock: SharedClock,
}

impl Console {
    /// Standard output, with styles if it is a terminal that has them.
    #[must_use]
    pub fn stdout(format: Format) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_plain = std::env::var_os("NO_COLOR").is_some()
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: Box::new(io::stdout()),
            format,
            paint: if is_terminal && !is_plain {
                Paint::Ansi
            } else {
                Paint::Plain
            },
            width: Table::new().width(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Any writer; `width` columns, if it is to behave like a terminal.
    #[must_use]
    pub fn new(
        out: Box<dyn Write + Send>,
        format: Format,
        paint: Paint,
        width: Option<u16>,
        clock: SharedClock,
    ) -> Self {
        Self {
            out,
            format,
            paint,
            width,
            clock,
        }
    }

    /// Whether programs read it.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// Whether a person sits before it.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.width.is_some() && !self.is_json()
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `2 min ago`, or a dash.
    #[must_use]
    pub fn relative(&self, at: Option<Iso>) -> String {
        at.map_or_else(
            || "-".to_owned(),
            |at| super::units::relative(at, self.now()),
        )
    }

    /// A line, or several.
    ///
    /// # Errors
    /// [`CliError::Output`]
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        self.write(&visible_block(text.as_ref()))
    }

    /// What a person may want to do next; programs and files do not see it.
    ///
    /// # Errors
    /// [`CliError::Output`]
    pub fn hint(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        if !self.is_terminal() {
            return Ok(());
        }
        let text = visible_block(text.as_ref());
        match self.paint {
            Paint::Ansi if !text.is_empty() => self.write(&format!("\x1b[2m{text}\x1b[0m")),
            Paint::Plain | Paint::Ansi => self.write(&text),
        }
    }

    /// A message's text.
    ///
    /// # Errors
    /// [`CliError::Output`]
    pub fn content(&mut self, content: &str, content_type: &str) -> Result<(), CliError> {
        let text = match content_type {
            "text/html" => markdown::html_to_terminal(content),
            _ => markdown::to_terminal(content, self.paint),
        };
        self.write(&text)
    }

    /// Rows in columns.
    ///
    /// # Errors
    /// [`CliError::Output`]
    pub fn grid(&mut self, grid: Grid) -> Result<(), CliError> {
        let text = grid.into_text(self.paint, self.width);
        self.write(&text)
    }

    /// A document.
    ///
    /// # Errors
    /// [`CliError::Output`]
    pub fn json(&mut self, document: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| CliError::Output(error.into()))?;
        self.write(&escaped(&text))
    }

    /// A document on one line.
    ///
    /// # Errors
    /// [`CliError::Output`]
    pub fn json_line(&mut self, document: &impl Serialize) -> Result<(), CliError> {
        let text =
            serde_json::to_string(document).map_err(|error| CliError::Output(error.into()))?;
        self.write(&escaped(&text))
    }

    /// Text of this program itself, as it is.
    ///
    /// # Errors
    /// [`CliError::Output`]
    pub fn verbatim(&mut self, text: &str) -> Result<(), CliError> {
        self.write(text.trim_end())
    }

    fn write(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.out, "{text}")
            .and_then(|()| self.out.flush())
            .map_err(CliError::Output)
    }
}

/// JSON leaves C1 controls and overrides as they are, and a terminal would obey them. They stand in strings only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || visible_line(c.encode_utf8(&mut [0; 4])).starts_with(c) {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

/// Rows in columns, while they are gathered.
pub struct Grid {
    table: Table,
    rows: usize,
    is_cut: bool,
}

impl Grid {
    /// With a header.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        let mut head = Row::from(header);
        head.max_height(1);
        let mut table = Table::new();
        table.load_style(STYLE).set_header(head);
        Self {
            table,
            rows: 0,
            is_cut: false,
        }
    }

    /// Never breaks or cuts these columns: an id that is not whole is of no use.
    #[must_use]
    pub fn keep(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            self.constrain(column, ColumnConstraint::ContentWidth);
        }
        self
    }

    /// Cuts every row to one line when the terminal is too narrow, in place of wrapping it; `narrow` is a column that
    /// gets no more than its share.
    #[must_use]
    pub fn cut(mut self, narrow: usize) -> Self {
        self.constrain(narrow, NARROW);
        self.is_cut = true;
        self
    }

    fn constrain(&mut self, column: usize, constraint: ColumnConstraint) {
        if let Some(column) = self.table.column_mut(column) {
            column.set_constraint(constraint);
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        let mut row = Row::from(cells);
        if self.is_cut {
            row.max_height(1);
        }
        self.table.add_row(row);
        self.rows += 1;
    }

    /// Whether it has no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn into_text(mut self, paint: Paint, width: Option<u16>) -> String {
        match paint {
            Paint::Ansi => self.table.enforce_styling(),
            Paint::Plain => self.table.force_no_tty(),
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

/// A cell with any text.
#[must_use]
pub fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(visible_line(text.as_ref()))
}

/// A cell with a number.
#[must_use]
pub fn number(text: impl AsRef<str>) -> Cell {
    cell(text).set_alignment(CellAlignment::Right)
}

/// A cell that is green, yellow or red, for those who see it; its words say the same.
#[must_use]
pub fn coloured(text: impl AsRef<str>, light: Light) -> Cell {
    let color = match light {
        Light::Good => Color::Green,
        Light::Waiting => Color::Yellow,
        Light::Bad => Color::Red,
    };
    cell(text).fg(color)
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// As it should.
    Good,
    /// On its way.
    Waiting,
    /// Somebody has to do something.
    Bad,
}

impl From<DeliveryStatus> for Light {
    fn from(status: DeliveryStatus) -> Self {
        match status {
            DeliveryStatus::Pending | DeliveryStatus::Sent | DeliveryStatus::Retrying => {
                Self::Waiting
            }
            DeliveryStatus::Delivered | DeliveryStatus::Read => Self::Good,
            DeliveryStatus::Failed => Self::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&["ID", "CONTACT", "TEXT"]).keep(&[0]).cut(1);
        grid.row(vec![
            cell("CON-1"),
            cell("Bolt\u{1b}[2J"),
            cell("a long text that does not fit in forty columns"),
        ]);
        grid.row(vec![
            cell("CON-22"),
            coloured("Cargo", Light::Good),
            cell("short"),
        ]);
        grid
    }

    #[test]
    fn a_table_reads_without_colour() {
        let text = "\
ID      CONTACT   TEXT
────────────────────────────────────────────────────────────────
CON-1   Bolt␛[2J  a long text that does not fit in forty columns
CON-22  Cargo     short";
        assert_eq!(grid().into_text(Paint::Plain, None), text);
        assert_eq!(grid().into_text(Paint::Plain, Some(80)), text);
    }

    #[test]
    fn a_narrow_terminal_cuts_rows() {
        let text = grid().into_text(Paint::Plain, Some(40));
        assert!(
            text.lines().count() == 4 && text.lines().all(|line| line.chars().count() <= 40),
            "{text}"
        );
        assert!(text.contains('…'), "{text}");
    }

    #[test]
    fn only_our_own_colours_get_through() {
        let text = grid().into_text(Paint::Ansi, Some(80));
        assert!(
            text.contains("\u{1b}[38;5;10m") || text.contains("\u{1b}[32m"),
            "{text:?}"
        );
        assert!(!text.contains("\u{1b}[2J"));
    }

    #[test]
    fn json_cannot_act_and_reads_back() {
        let text = escaped(&serde_json::to_string("a\u{9b}31m\u{202e}é\u{e0001}\n").unwrap());
        assert_eq!(text, "\"a\\u009b31m\\u202eé\\udb40\\udc01\\n\"");
        assert_eq!(
            serde_json::from_str::<String>(&text).unwrap(),
            "a\u{9b}31m\u{202e}é\u{e0001}\n"
        );
    }
}
