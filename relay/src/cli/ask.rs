//! The commands that ask the relay that runs, through the operator's API.

use super::{
    accounts::AccountsCommand,
    client::Client,
    error::{CliError, Failed},
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

/// A question or a wish of the operator's.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// List, show, suspend, resume and delete accounts, and set their quotas
    Accounts {
        #[command(subcommand)]
        command: AccountsCommand,
        #[command(flatten)]
        common: Common,
    },
    /// Make, list and revoke registration tokens
    Tokens {
        #[command(subcommand)]
        command: TokensCommand,
        #[command(flatten)]
        common: Common,
    },
    /// List and show what waits, try it again now, drop it
    Queue {
        #[command(subcommand)]
        command: QueueCommand,
        #[command(flatten)]
        common: Common,
    },
    /// Show the relay at a glance
    Stats {
        #[command(flatten)]
        args: StatsArgs,
        #[command(flatten)]
        common: Common,
    },
}

/// What every such command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Data folder of the relay
    #[arg(long, global = true, env = "SEALPOST_RELAY_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file that names the data folder
    #[arg(
        long,
        global = true,
        env = "SEALPOST_RELAY_CONFIG",
        value_name = "FILE"
    )]
    config: Option<PathBuf>,
    /// JSON in place of text
    #[arg(long, global = true)]
    json: bool,
}

/// The one key of the configuration that these commands need.
#[derive(Default, Deserialize)]
struct Place {
    data: Option<PathBuf>,
}

impl Common {
    fn folder(&self) -> Result<PathBuf, CliError> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let file: Place = match &self.config {
            Some(path) => config::load(Some(path))
                .map_err(|error| CliError::usage(error, "name the data folder with --data"))?,
            None => Place::default(),
        };
        Ok(file.data.unwrap_or_else(|| Config::default().data))
    }
}

impl Ask {
    const fn common(&self) -> &Common {
        match self {
            Self::Accounts { common, .. }
            | Self::Tokens { common, .. }
            | Self::Queue { common, .. }
            | Self::Stats { common, .. } => common,
        }
    }

    /// Asks, and prints the answer.
    ///
    /// # Errors
    /// [`Failed`]: what the relay refuses, or that it does not answer.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let as_json = self.common().json;
        self.ask(as_json)
            .await
            .map_err(|error| Failed { error, as_json }.into())
    }

    async fn ask(self, as_json: bool) -> Result<(), CliError> {
        let client = Client::open(&self.common().folder()?)?;
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
    fn an_id_may_begin_with_a_hyphen() {
        for line in [
            "accounts show -abc --json",
            "queue show --json -abc",
            "queue drop -abc --json --yes",
        ] {
            let words = ["sealpost-relay"].into_iter().chain(line.split(' '));
            let Command::Ask(question) = Cli::try_parse_from(words).unwrap().command else {
                panic!("{line}")
            };
            assert!(question.common().json, "{line}");
            let id = match question {
                Ask::Accounts {
                    command: AccountsCommand::Show(which),
                    ..
                } => which.account,
                Ask::Queue {
                    command: QueueCommand::Show(args),
                    ..
                } => args.account,
                Ask::Queue {
                    command: QueueCommand::Drop(args),
                    ..
                } if args.yes => args.what,
                _ => panic!("{line}"),
            };
            assert_eq!(id, "-abc", "{line}");
        }
    }
}
