//! The command line: a file for each command that does more than start the relay.
//!
//! Commands that [ask](ask::Ask) the relay that runs do so through the operator's API; none opens its database. Commands that
//! only look read the same settings as `serve` does, so that they speak of the relay that would run. Start
//! reading at [`run`].

mod accounts;
mod ask;
mod backup;
mod check;
mod client;
mod config;
mod error;
mod migrate;
mod output;
mod queue;
mod serve;
mod stats;
mod tokens;

use crate::config::Told;
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use error::Failed;
use futures_util::future::LocalBoxFuture;
use std::{
    ffi::OsString,
    io::{Write as _, stderr},
    process::ExitCode,
};

/// The relay between Sealpost nodes: it stores sealed envelopes and hands them over, and can read none of them.
#[derive(Debug, Parser)]
#[command(name = "sealpost-relay", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the relay until Ctrl-C
    Serve(Box<Told>),
    /// Look at the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Look at everything that the relay needs, whether it runs or not
    Check(Box<check::Check>),
    /// Copy everything that the relay keeps into a new folder, while it runs or not
    Backup(Box<backup::Backup>),
    /// Bring the database of a stopped relay up to date
    Migrate(Box<migrate::Migrate>),
    #[command(flatten)]
    Ask(ask::Ask),
}

/// Runs the program with these arguments, the first of which is its name, until it ends. The binary and the demo call it.
///
/// # Errors
/// What went wrong, with what to do next.
pub fn run(args: Vec<OsString>) -> LocalBoxFuture<'static, anyhow::Result<()>> {
    // Boxed, so that the relay is compiled here once and not again in every program that calls it.
    Box::pin(obey(args))
}

async fn obey(args: Vec<OsString>) -> anyhow::Result<()> {
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    match command {
        Command::Serve(told) => serve::run(*told).await,
        Command::Config(command) => config::run(&command),
        Command::Check(check) => check::run(&check).await,
        Command::Backup(backup) => backup::run(&backup),
        Command::Migrate(migrate) => migrate::run(&migrate).await,
        Command::Ask(question) => question.run().await,
    }
}

/// Runs [`run`] on a runtime of its own and turns its end into an exit code.
pub fn main_with_args(args: Vec<OsString>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .context("the runtime cannot start")
        .and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // When standard error is closed there is nobody to tell.
        Err(error) => match error.downcast_ref::<Failed>() {
            Some(failed) => {
                let _ = failed.write(stderr());
                failed.exit_code()
            }
            None => {
                let _ = writeln!(stderr(), "sealpost-relay: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
