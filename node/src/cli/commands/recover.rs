//! `sealpost recover`

use crate::{
    api::model::Node,
    cli::{args::RecoverArgs, client::Client, console::Console, error::CliError, units},
};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

/// Makes the daemon start new sessions with all partners.
pub async fn run(
    args: &RecoverArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    if !args.yes {
        confirm()?;
    }
    let node: Node = client
        .post(&["v1", "node", "recover"], &serde_json::json!({}))
        .await?;
    if console.is_json() {
        return console.print_json(&node);
    }
    let connections = usize::try_from(node.healing_count).unwrap_or(usize::MAX);
    console.print_line(format!(
        "Starting new sessions: {}. Follow the progress with: sealpost status",
        units::format_count(connections, "connection")
    ))
}

/// Asks a person on the terminal.
fn confirm() -> Result<(), CliError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = "confirmation required: this replaces the sessions with all partners, \
                       which see a warning";
        return Err(CliError::usage(message, "pass --yes if you are sure"));
    }
    let question = "Replace the sessions with all partners? They see a warning. [y/N] ";
    // If standard error is closed, the answer is read all the same.
    let _ = io::stderr().write_all(question.as_bytes());
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
