//! Passphrases that are typed at the terminal, without being shown.

use super::error::CliError;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
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
    read_from(&terminal, question).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => PromptError::Interrupted,
        _ => PromptError::NoTerminal,
    })
}

/// Asks for a new passphrase twice.
pub(super) fn ask_twice(question: &str) -> Result<Zeroizing<String>, PromptError> {
    let first = ask(question)?;
    if first != ask("The same passphrase again: ")? {
        return Err(PromptError::Different);
    }
    Ok(first)
}

fn read_from(terminal: &File, question: &str) -> io::Result<Zeroizing<String>> {
    let _hidden = HiddenInput::start(terminal)?;
    let mut output = terminal;
    output.write_all(question.as_bytes())?;
    let mut line = Zeroizing::new(String::with_capacity(1024));
    let read = BufReader::new(terminal).read_line(&mut line);
    output.write_all(b"\n")?;
    read?;
    if line.ends_with(char::from(INTERRUPT)) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    Ok(line)
}

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
