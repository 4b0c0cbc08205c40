//! Output of the demo. Lines fit into 80 columns; colours are used only on a terminal.

use std::io::{self, IsTerminal as _, Stdout, Write as _, stdout};

/// Width of the label at the start of a line.
const LABEL_COLUMNS: usize = 22;

/// Formatted output of the demo on standard output.
pub(crate) struct Screen {
    out: Stdout,
    is_terminal: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Heading,
    Secondary,
    Success,
    Waiting,
    Failure,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Heading => "1",
            Self::Secondary => "2",
            Self::Success => "32",
            Self::Waiting => "33",
            Self::Failure => "31",
        }
    }
}

impl Screen {
    pub(crate) fn stdout() -> Self {
        let out = stdout();
        let is_terminal = out.is_terminal();
        Self { out, is_terminal }
    }

    /// Returns whether lines can be redrawn, which needs a terminal.
    pub(crate) const fn can_redraw(&self) -> bool {
        self.is_terminal
    }

    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.is_terminal {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn print_line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    pub(crate) fn print_heading(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint(Style::Heading, text);
        self.print_line(&format!("\n{text}\n"))
    }

    /// Prints a label with its text.
    pub(crate) fn print_field(&mut self, label: &str, text: &str) -> io::Result<()> {
        self.print_line(&format!("  {label:<LABEL_COLUMNS$}{text}"))
    }

    /// Prints a check that passed.
    pub(crate) fn print_passed(&mut self, text: &str) -> io::Result<()> {
        let mark = self.paint(Style::Success, "ok");
        self.print_line(&format!("  {mark}  {text}"))
    }

    /// Prints text with a bar before each line.
    pub(crate) fn print_quote(&mut self, text: &str) -> io::Result<()> {
        let bar = self.paint(Style::Secondary, "│");
        text.trim_end()
            .lines()
            .try_for_each(|line| self.print_line(format!("  {bar} {line}").trim_end()))
    }

    /// Prints the error that ended the demo.
    pub(crate) fn print_error(&mut self, text: &str) -> io::Result<()> {
        let mark = self.paint(Style::Failure, "failed");
        self.print_line(&format!("\n{mark}: {text}"))
    }

    /// Clears the last lines so that they can be redrawn.
    pub(crate) fn clear_lines(&mut self, lines: usize) -> io::Result<()> {
        if self.is_terminal && lines > 0 {
            write!(self.out, "\x1b[{lines}A\x1b[J")?;
        }
        Ok(())
    }
}
