//! `sealpost init`

use crate::{
    cli::{args::InitArgs, console::Console, error::CliError},
    daemon,
};
use std::path::PathBuf;

/// Makes a node in the data folder.
///
/// # Errors
/// When there is one already, or the folder cannot be used.
pub async fn run(args: InitArgs, data: PathBuf, console: &mut Console) -> Result<(), CliError> {
    let made = daemon::init(InitArgs { data, ..args })
        .await
        .map_err(CliError::Daemon)?;
    if console.is_json() {
        return console.json(&made);
    }
    console.line(format!(
        "Made the node \"{}\" in {}.",
        made.name, made.data_folder
    ))?;
    console.line(format!("Fingerprint: {}", made.fingerprint))?;
    console.hint("Run it with: sealpost serve")
}
