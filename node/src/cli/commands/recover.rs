//! `sealpost recover`

use crate::{
    api::model::Node,
    cli::{
        args::RecoverArgs, client::Client, confirmation::confirm, console::Console,
        error::CliError, units,
    },
};

/// Makes the daemon start new sessions with all partners.
pub async fn run(
    args: &RecoverArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    if !args.yes {
        confirm(
            "this replaces the sessions with all partners, which see a warning",
            "Replace the sessions with all partners? They see a warning.",
        )?;
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
