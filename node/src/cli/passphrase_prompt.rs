//! Passphrases that are typed at the terminal, without being shown.

use super::error::CliError;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write as _},
};
use zeroize::Zeroizing;

/// Error of a question on the terminal.
#[derive(Debug, Clone, Copy)]
pub(super) enum PromptError {
    NoTerminal,
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The passphrase was typed differently the second time.
    Different,
}

impl PromptError {
    /// Returns the error of the command. `next` says what to do without a terminal.
    pub(super) fn into_cli_error(self, next: &str) -> CliError {
        match self {
            Self::NoTerminal => {
                CliError::usage("there is no terminal to ask for the passphrase", next)
            }
            Self::Interrupted => CliError::interrupted(),
            Self::Different => CliError::usage(
                "the two passphrases differ",
                "run the command again and type the same passphrase twice",
            ),
        }
    }
}

/// Asks for a passphrase.
pub(super) fn ask(question: &str) -> Result<Zeroizing<String>, PromptError> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let terminal = terminal.map_err(|_| PromptError::NoTerminal)?;
    let typed = read_from(&terminal, question).map_err(|_| PromptError::NoTerminal)?;
    typed.ok_or(PromptError::Interrupted)
}

/// Asks for a new passphrase twice.
pub(super) fn ask_twice(question: &str) -> Result<Zeroizing<String>, PromptError> {
    let first = ask(question)?;
    if first != ask("The same passphrase again: ")? {
        return Err(PromptError::Different);
    }
    Ok(first)
}

/// Returns `None` if the user pressed Ctrl-C.
fn read_from(terminal: &File, question: &str) -> io::Result<Option<Zeroizing<String>>> {
    let _hidden = HiddenInput::start(terminal)?;
    let mut output = terminal;
    output.write_all(question.as_bytes())?;
    let line = read_line(terminal);
    output.write_all(b"\n")?;
    line
}

/// Reads up to the end of the line. Every byte is read on its own, because Ctrl-C ends the line
/// too, and a buffer would keep a copy of the passphrase.
fn read_line(mut input: impl Read) -> io::Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(TERMINAL_LINE_BYTES_MAX));
    let mut byte = Zeroizing::new([0]);
    while line.len() < TERMINAL_LINE_BYTES_MAX {
        match input.read(&mut *byte) {
            Ok(0) => break,
            Ok(_) if byte[0] == INTERRUPT => return Ok(None),
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Some(Zeroizing::new(text.trim_end_matches('\r').to_owned())))
}

/// Longest line that Linux accepts from a terminal.
const TERMINAL_LINE_BYTES_MAX: usize = 4_096;

/// What Ctrl-C types.
const INTERRUPT: u8 = 3;

/// Terminal that does not show what is typed until this value is dropped.
struct HiddenInput<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> HiddenInput<'a> {
    fn start(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // Ctrl-C ends the line instead of the process, which would leave the terminal hidden.
        hidden.local_modes.remove(LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for HiddenInput<'_> {
    fn drop(&mut self) {
        // If the terminal is gone, nobody sees what is typed.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupt_ends_the_line_like_enter() {
        let typed = |input: &str| {
            // More input follows, which the terminal has not delivered yet.
            let rest = std::iter::repeat_n(b'x', 8).collect::<Vec<_>>();
            read_line(input.as_bytes().chain(rest.as_slice())).unwrap()
        };
        assert_eq!(typed("horse\n").unwrap().as_str(), "horse");
        assert_eq!(typed("horse\r\n").unwrap().as_str(), "horse");
        assert_eq!(typed("\u{3}"), None);
        assert_eq!(typed("hor\u{3}"), None);
        assert!(read_line([0xff, b'\n'].as_slice()).is_err());
    }
}
