//! `sealpost init`

use crate::{
    cli::{
        args::{InitArgs, ProtectionArgs},
        client::command_line,
        console::Console,
        error::CliError,
        key_secrets,
    },
    daemon::{self, NewNode},
};
use std::path::PathBuf;

/// Creates a node in the data directory.
pub async fn run(args: InitArgs, data: PathBuf, console: &mut Console) -> Result<(), CliError> {
    let ProtectionArgs { protection, secret } = &args.protection;
    let settings = key_secrets::load_settings(&data)?;
    let protection = key_secrets::new_protection(*protection, secret, &settings)?;
    let new = NewNode {
        data,
        name: args.name,
        relay: args.relay,
        webhook_url: args.webhook_url,
        webhook_listen: args.webhook_listen,
        registration_token: args.token.registration_token,
        listen: args.listen,
        protection,
    };
    let run = command_line(&new.data, "serve");
    let created = daemon::init(new).await.map_err(CliError::from_daemon)?;
    if console.is_json() {
        return console.print_json(&created);
    }
    console.print_line(format!(
        "Created the node \"{}\" in {}.",
        created.name, created.data_directory
    ))?;
    console.print_line(format!("Fingerprint: {}", created.fingerprint))?;
    console.print_hint(format!("Run it with: {run}"))
}
