//! Output of the demo: 80 columns, colours only on a terminal.

use std::io::{self, IsTerminal as _, Stdout, Write as _, stdout};

/// Width of the label at the start of a line.
const LABEL_COLUMNS: usize = 22;

/// Standard output.
pub(crate) struct Screen {
    out: Stdout,
    is_terminal: bool,
}

/// Text style.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// A heading.
    Bold,
    /// Secondary information.
    Dim,
    /// Success.
    Green,
    /// Waiting.
    Yellow,
    /// Failure.
    Red,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

impl Screen {
    pub(crate) fn stdout() -> Self {
        let out = stdout();
        let is_terminal = out.is_terminal();
        Self { out, is_terminal }
    }

    /// Returns whether lines can be redrawn.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.is_terminal {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    pub(crate) fn heading(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint(Style::Bold, text);
        self.line(&format!("\n{text}\n"))
    }

    /// Prints a label with its text.
    pub(crate) fn fact(&mut self, label: &str, text: &str) -> io::Result<()> {
        self.line(&format!("  {label:<LABEL_COLUMNS$}{text}"))
    }

    /// Prints a check that passed.
    pub(crate) fn passed(&mut self, text: &str) -> io::Result<()> {
        let mark = self.paint(Style::Green, "ok");
        self.line(&format!("  {mark}  {text}"))
    }

    /// Prints quoted text.
    pub(crate) fn quote(&mut self, text: &str) -> io::Result<()> {
        let bar = self.paint(Style::Dim, "│");
        text.trim_end()
            .lines()
            .try_for_each(|line| self.line(format!("  {bar} {line}").trim_end()))
    }

    /// Prints the error that ended the demo.
    pub(crate) fn failed(&mut self, text: &str) -> io::Result<()> {
        let mark = self.paint(Style::Red, "failed");
        self.line(&format!("\n{mark}: {text}"))
    }

    /// Clears the last lines so that they can be redrawn.
    pub(crate) fn clear_lines(&mut self, lines: usize) -> io::Result<()> {
        if self.is_terminal && lines > 0 {
            write!(self.out, "\x1b[{lines}A\x1b[J")?;
        }
        Ok(())
    }
}
