//! Where the output of a command goes: lines and tables for people, JSON for programs. What strangers wrote is made visible
//! first, so that nothing of it acts on the terminal.

use super::error::CliError;
use comfy_table::{
    Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle,
    presets,
};
use sealpost_proto::Timestamp;
use sealpost_service::units::length;
use serde::Serialize;
use std::io::{self, BufRead as _, IsTerminal as _, Write};

/// Two spaces between columns and a rule under the header: readable without colour, and short.
const STYLE: TableStyle =
    presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

/// The output of a command.
pub(super) struct Output {
    out: Box<dyn Write + Send>,
    is_json: bool,
    is_coloured: bool,
    /// Columns of the terminal; none when it is no terminal, and then nothing is wrapped.
    width: Option<u16>,
}

/// How something stands, for those who see colours; its words say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Light {
    Good,
    Waiting,
    Bad,
    None,
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

    pub(super) fn line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        Ok(writeln!(self.out, "{}", visible(text.as_ref()))?)
    }

    /// What a person may want to know; programs and files do not see it.
    pub(super) fn hint(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        if self.width.is_none() || self.is_json {
            Ok(())
        } else {
            self.line(text)
        }
    }

    pub(super) fn json(&mut self, document: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(document).map_err(io::Error::from)?;
        // What could act on a terminal stands in strings only, where an escape means the same.
        for c in text.chars() {
            if c == '\n' || !is_hidden(c) {
                write!(self.out, "{c}")?;
            } else {
                c.encode_utf16(&mut [0; 2])
                    .iter()
                    .try_for_each(|unit| write!(self.out, "\\u{unit:04x}"))?;
            }
        }
        Ok(writeln!(self.out)?)
    }

    pub(super) fn grid(&mut self, mut grid: Grid) -> Result<(), CliError> {
        let table = &mut grid.0;
        if self.is_coloured {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        match self.width {
            Some(width) => table
                .set_width(width)
                .set_content_arrangement(ContentArrangement::Dynamic),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        let last = table.column_count().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, u16::from(index != last)));
        }
        for line in grid.0.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Asks before something that cannot be taken back.
    pub(super) fn confirm(&mut self, question: &str, yes: bool) -> Result<(), CliError> {
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(CliError::usage(
                "this cannot be taken back",
                "say --yes if you are sure",
            ));
        }
        write!(io::stderr(), "{question} [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(CliError::usage(
                "nothing was done",
                "answer y, or say --yes, if you are sure",
            )),
        }
    }
}

/// Rows in columns.
pub(super) struct Grid(Table);

impl Grid {
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(header);
        Self(table)
    }

    /// Writes these columns to the right, as numbers are.
    pub(super) fn right(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// Never breaks these columns: an id that is not whole is of no use.
    pub(super) fn keep(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        self
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.0.add_row(cells);
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a number, a name, or the text that was just made of one"
)]
pub(super) fn cell(value: impl ToString) -> Cell {
    Cell::new(visible(&value.to_string()))
}

pub(super) fn coloured(text: impl ToString, light: Light) -> Cell {
    let cell = cell(text);
    match light {
        Light::Good => cell.fg(Color::Green),
        Light::Waiting => cell.fg(Color::Yellow),
        Light::Bad => cell.fg(Color::Red),
        Light::None => cell,
    }
}

/// How long ago, or a dash.
pub(super) fn ago(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "-".to_owned(), |at| length(now.since(at)))
}

/// How long until then, or a dash.
pub(super) fn until(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(
        || "-".to_owned(),
        |at| format!("in {}", length(at.since(now))),
    )
}

fn visible(text: &str) -> String {
    text.chars()
        .map(|c| {
            if is_hidden(c) && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Controls and the marks that turn the direction of writing around.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        assert_eq!(
            visible("a\u{1b}[31mb\u{9b}\u{202e}c\nd"),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}c\nd"
        );
    }
}
