//! `sealpost init`

use crate::{
    cli::{args::InitArgs, console::Console, error::CliError},
    daemon::{self, NewNode},
};
use std::path::PathBuf;

/// Creates a node in the data directory.
pub async fn run(args: InitArgs, data: PathBuf, console: &mut Console) -> Result<(), CliError> {
    let new = NewNode {
        data,
        name: args.name,
        relay: args.relay,
        webhook_url: args.webhook_url,
        webhook_listen: args.webhook_listen,
        registration_token: args.token.registration_token,
        listen: args.listen,
    };
    let created = daemon::init(new).await.map_err(CliError::Daemon)?;
    if console.is_json() {
        return console.print_json(&created);
    }
    console.print_line(format!(
        "Created the node \"{}\" in {}.",
        created.name, created.data_directory
    ))?;
    console.print_line(format!("Fingerprint: {}", created.fingerprint))?;
    console.print_hint("Run it with: sealpost serve")
}
