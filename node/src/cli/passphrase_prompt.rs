//! Passphrases that are typed at the terminal, without being shown.

use super::error::CliError;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use sealpost_age::Passphrase;
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
};
use zeroize::Zeroizing;

/// Asks for a passphrase, which is not empty.
pub(super) fn ask(question: &str) -> Result<Passphrase, CliError> {
    let text = read_hidden_line(question)?;
    Passphrase::new(text).map_err(|error| {
        CliError::usage(
            error.to_string(),
            "run the command again and type a passphrase",
        )
    })
}

/// Asks for a new passphrase twice.
pub(super) fn ask_new() -> Result<Passphrase, CliError> {
    let first = read_hidden_line("Passphrase of the backup: ")?;
    let second = read_hidden_line("The same passphrase again: ")?;
    if first != second {
        return Err(CliError::usage(
            "the two passphrases differ",
            "run the command again and type the same passphrase twice",
        ));
    }
    Passphrase::new(first).map_err(|error| {
        CliError::usage(
            error.to_string(),
            "run the command again and type a passphrase",
        )
    })
}

fn read_hidden_line(question: &str) -> Result<Zeroizing<String>, CliError> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let read = terminal.and_then(|terminal| read_from(&terminal, question));
    read.map_err(|_| {
        CliError::usage(
            "there is no terminal to ask for the passphrase",
            "pass --passphrase-file FILE, or a key: --recipient KEY for a backup, \
             --identity KEYFILE to open one",
        )
    })
}

fn read_from(terminal: &File, question: &str) -> io::Result<Zeroizing<String>> {
    let _hidden = HiddenInput::start(terminal)?;
    let mut output = terminal;
    output.write_all(question.as_bytes())?;
    let mut line = Zeroizing::new(String::with_capacity(1024));
    let read = BufReader::new(terminal).read_line(&mut line);
    output.write_all(b"\n")?;
    read?;
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    Ok(line)
}

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
