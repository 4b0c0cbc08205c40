//! Commands that talk to a running relay through the admin API.

use super::{
    accounts::AccountsCommand,
    client::Client,
    error::{CliError, CommandFailure},
    output::Output,
    queue::QueueCommand,
    stats::{self, StatsArgs},
    tokens::TokensCommand,
};
use crate::config::Config;
use clap::{Args, Subcommand};
use sealpost_service::config;
use serde::Deserialize;
use std::path::PathBuf;

/// Command that needs a running relay.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// List, show, label, suspend, resume and delete accounts, and set their quotas
    Accounts {
        #[command(subcommand)]
        command: AccountsCommand,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Create, list and revoke registration tokens
    Tokens {
        #[command(subcommand)]
        command: TokensCommand,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// List and show queues, retry them, drop envelopes
    Queue {
        #[command(subcommand)]
        command: QueueCommand,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Show a summary of the relay
    Stats {
        #[command(flatten)]
        args: StatsArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
}

/// Flags of all operator commands.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Data directory of the relay
    #[arg(long, global = true, env = "SEALPOST_RELAY_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file that sets the data directory
    #[arg(
        long,
        global = true,
        env = "SEALPOST_RELAY_CONFIG",
        value_name = "FILE"
    )]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// The only setting that these commands need.
#[derive(Default, Deserialize)]
struct DataSetting {
    data: Option<PathBuf>,
}

impl CommonArgs {
    fn data_directory(&self) -> Result<PathBuf, CliError> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let file: DataSetting = match &self.config {
            Some(path) => config::load(Some(path))
                .map_err(|error| CliError::usage(error, "pass the data directory with --data"))?,
            None => DataSetting::default(),
        };
        Ok(file.data.unwrap_or_else(|| Config::default().data))
    }
}

impl OperatorCommand {
    const fn common(&self) -> &CommonArgs {
        match self {
            Self::Accounts { common, .. }
            | Self::Tokens { common, .. }
            | Self::Queue { common, .. }
            | Self::Stats { common, .. } => common,
        }
    }

    /// Runs the command and prints its result.
    ///
    /// # Errors
    /// A [`CommandFailure`], which sets the exit code.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let as_json = self.common().json;
        self.execute(as_json)
            .await
            .map_err(|error| CommandFailure { error, as_json }.into())
    }

    async fn execute(self, as_json: bool) -> Result<(), CliError> {
        let client = Client::open(&self.common().data_directory()?)?;
        let mut output = Output::stdout(as_json);
        match self {
            Self::Accounts { command, .. } => command.run(&client, &mut output).await,
            Self::Tokens { command, .. } => command.run(&client, &mut output).await,
            Self::Queue { command, .. } => command.run(&client, &mut output).await,
            Self::Stats { args, .. } => stats::run(&args, &client, &mut output).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn account_ids_can_start_with_a_hyphen() {
        for line in [
            "accounts show -abc --json",
            "queue show --json -abc",
            "queue drop -abc --json --yes",
        ] {
            let words = ["sealpost-relay"].into_iter().chain(line.split(' '));
            let Command::Operator(command) = Cli::try_parse_from(words).unwrap().command else {
                panic!("{line}")
            };
            assert!(command.common().json, "{line}");
            let id = match command {
                OperatorCommand::Accounts {
                    command: AccountsCommand::Show(arg),
                    ..
                } => arg.account,
                OperatorCommand::Queue {
                    command: QueueCommand::Show(args),
                    ..
                } => args.account,
                OperatorCommand::Queue {
                    command: QueueCommand::Drop(args),
                    ..
                } if args.yes => args.target,
                _ => panic!("{line}"),
            };
            assert_eq!(id, "-abc", "{line}");
        }
    }
}
