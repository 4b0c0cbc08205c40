//! CLI of `sealpost-relay`, with one file per command.
//!
//! [Operator commands](operator::OperatorCommand) talk to a running relay through the admin API and
//! never open its database. The other commands read the same settings as `serve`, so that they
//! apply to the relay that would run with them. Start reading at [`run`].

mod accounts;
mod backup;
mod check;
mod client;
mod config;
mod error;
mod migrate;
mod operator;
mod output;
mod queue;
mod serve;
mod stats;
mod tokens;

use crate::config::Overrides;
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use error::CommandFailure;
use futures_util::future::LocalBoxFuture;
use sealpost_service::escape::escape_block;
use std::{
    ffi::OsString,
    io::{Write as _, stderr},
    process::ExitCode,
};

/// Relay for Sealpost nodes: stores sealed envelopes and files and delivers them, without being
/// able to read them
#[derive(Debug, Parser)]
#[command(name = "sealpost-relay", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the relay in the foreground
    Serve(Box<Overrides>),
    /// Show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check the settings, the data directory, the certificate and the public address
    Check(Box<check::Check>),
    /// Copy all data of a running or stopped relay into a new directory
    Backup(Box<backup::Backup>),
    /// Migrate the database of a stopped relay to the current schema
    Migrate(Box<migrate::Migrate>),
    #[command(flatten)]
    Operator(operator::OperatorCommand),
}

/// Runs the program with these arguments, including its name as the first.
///
/// The binary and the demo call it.
pub fn run(args: Vec<OsString>) -> LocalBoxFuture<'static, anyhow::Result<()>> {
    // Boxing keeps the whole relay from being compiled again in every crate that calls this
    // function.
    Box::pin(run_command(args))
}

async fn run_command(args: Vec<OsString>) -> anyhow::Result<()> {
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    match command {
        Command::Serve(overrides) => serve::run(*overrides).await,
        Command::Config(command) => config::run(&command),
        Command::Check(check) => check::run(&check).await,
        Command::Backup(backup) => backup::run(&backup),
        Command::Migrate(migrate) => migrate::run(&migrate).await,
        Command::Operator(command) => command.run().await,
    }
}

/// Executes [`run`] on a new runtime and returns the exit code.
pub fn main_with_args(args: Vec<OsString>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .context("the runtime cannot start")
        .and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // A failed write means that standard error is closed, so there is nowhere to report it.
        Err(error) => match error.downcast_ref::<CommandFailure>() {
            Some(failure) => {
                let _ = failure.write(stderr());
                failure.exit_code()
            }
            None => {
                let _ = writeln!(
                    stderr(),
                    "sealpost-relay: {}",
                    escape_block(&format!("{error:#}"))
                );
                ExitCode::FAILURE
            }
        },
    }
}
