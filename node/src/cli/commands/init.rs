//! `sealpost init`

use crate::{
    cli::{args::InitArgs, console::Console, error::CliError},
    daemon,
};
use std::path::PathBuf;

/// Creates a node in the data folder.
pub async fn run(args: InitArgs, data: PathBuf, console: &mut Console) -> Result<(), CliError> {
    let created = daemon::init(InitArgs { data, ..args })
        .await
        .map_err(CliError::Daemon)?;
    if console.is_json() {
        return console.print_json(&created);
    }
    console.print_line(format!(
        "Created the node \"{}\" in {}.",
        created.name, created.data_folder
    ))?;
    console.print_line(format!("Fingerprint: {}", created.fingerprint))?;
    console.print_hint("Run it with: sealpost serve")
}
