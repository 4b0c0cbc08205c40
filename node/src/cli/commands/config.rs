//! `sealpost config`

use crate::{
    cli::{args::ConfigCommand, console::Console, error::CliError},
    config,
};
use sealpost_service::config::{format_json, format_toml};
use std::path::Path;

pub fn run(command: &ConfigCommand, data: &Path, console: &mut Console) -> Result<(), CliError> {
    let ConfigCommand::Show(args) = command;
    let loaded = config::load(&args.overrides, data)?;
    let text = if console.is_json() {
        format_json(&loaded.settings).map_err(|error| CliError::Output(error.into()))?
    } else {
        format_toml(&loaded.settings, args.origin)
    };
    console.print_verbatim(text.trim_start())
}
