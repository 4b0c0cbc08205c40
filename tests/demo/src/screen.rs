//! What the demo prints: 80 columns, colours only on a terminal.

use std::io::{self, IsTerminal as _, Stdout, Write as _, stdout};

/// Where the labels of a line end.
const LABEL_COLUMNS: usize = 22;

/// Standard output.
pub(crate) struct Screen {
    out: Stdout,
    is_terminal: bool,
}

/// How text stands out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ink {
    /// A heading.
    Bold,
    /// What matters less.
    Dim,
    /// What holds.
    Green,
    /// What waits.
    Yellow,
    /// What does not hold.
    Red,
}

impl Ink {
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

    /// Whether lines can be drawn again.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub(crate) fn paint(&self, ink: Ink, text: &str) -> String {
        if self.is_terminal {
            format!("\x1b[{}m{text}\x1b[0m", ink.code())
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    pub(crate) fn heading(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint(Ink::Bold, text);
        self.line(&format!("\n{text}\n"))
    }

    /// A label and what it is about.
    pub(crate) fn fact(&mut self, label: &str, text: &str) -> io::Result<()> {
        self.line(&format!("  {label:<LABEL_COLUMNS$}{text}"))
    }

    /// Something that was looked at and holds.
    pub(crate) fn holds(&mut self, text: &str) -> io::Result<()> {
        let mark = self.paint(Ink::Green, "ok");
        self.line(&format!("  {mark}  {text}"))
    }

    /// A text that somebody wrote, set off from what happens.
    pub(crate) fn quote(&mut self, text: &str) -> io::Result<()> {
        let bar = self.paint(Ink::Dim, "│");
        text.trim_end()
            .lines()
            .try_for_each(|line| self.line(format!("  {bar} {line}").trim_end()))
    }

    /// The end of a demo that does not hold.
    pub(crate) fn failed(&mut self, text: &str) -> io::Result<()> {
        let mark = self.paint(Ink::Red, "failed");
        self.line(&format!("\n{mark}: {text}"))
    }

    /// Goes back over the last lines and wipes them.
    pub(crate) fn wipe(&mut self, lines: usize) -> io::Result<()> {
        if self.is_terminal && lines > 0 {
            write!(self.out, "\x1b[{lines}A\x1b[J")?;
        }
        Ok(())
    }
}
