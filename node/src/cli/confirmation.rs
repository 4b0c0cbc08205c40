//! Questions before something that cannot be undone.

use super::error::CliError;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

/// Asks a person on the terminal.
///
/// # Errors
/// There is no terminal, where `consequence` is the message, or the answer is no.
pub(super) fn confirm(consequence: &str, question: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = format!("confirmation required: {consequence}");
        return Err(CliError::usage(message, "pass --yes if you are sure"));
    }
    // If standard error is closed, the answer is read all the same.
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| CliError::failed(error.to_string(), "pass --yes if you are sure"))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::usage(
            "nothing was changed",
            "answer y, or pass --yes, if you are sure",
        )),
    }
}
