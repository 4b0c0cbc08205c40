//! `sealpost serve`

use crate::{
    api,
    cli::{args::ServeArgs, error::CliError, key_secrets::CurrentSecrets},
    config, daemon,
};
use std::path::Path;

/// Runs the daemon until Ctrl-C.
pub async fn run(args: &ServeArgs, data: &Path) -> Result<(), CliError> {
    let config = config::load(&args.overrides, data)?.config;
    let secrets = CurrentSecrets::from_settings(&config.key);
    let token = args.token.registration_token.clone();
    Box::pin(daemon::serve(data, config, &secrets, token, api::ROUTERS))
        .await
        .map_err(CliError::from_daemon)
}
