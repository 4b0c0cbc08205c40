//! The command line: it parses, asks the daemon through the local API, and prints. It never opens the database; only
//! `init` and `serve` touch the data folder, and they are the daemon's.
//!
//! Start reading at [`args`]; a command is a file in [`commands`]. Everything that is printed passes [`console`], so that
//! nothing of the other side can act on the terminal.

pub mod args;
mod bars;
pub mod client;
pub mod commands;
pub mod console;
pub mod error;
pub mod events;
mod files_wait;
pub mod units;
mod upload;
mod views;

use args::{Ask, Cli, Command, ServeArgs};
use clap::Parser as _;
use client::Client;
use console::{Console, Format};
use error::CliError;
use std::{ffi::OsString, io, process::ExitCode};
use tokio::runtime::{Builder, Runtime};

/// Runs one command; `args` begins with the program's name.
///
/// Not generic, so that the node is compiled here once and not again in every program that calls it.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nowhere is left to say that standard error is closed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let as_json = cli.json;
    let outcome = runtime(&cli.command)
        .map_err(|error| CliError::Daemon(error.into()))
        .and_then(|runtime| runtime.block_on(dispatch(cli)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = error.write(&mut io::stderr(), as_json);
            error.exit_code()
        }
    }
}

/// The daemon works on all cores; a command only waits for it.
fn runtime(command: &Command) -> io::Result<Runtime> {
    match command {
        Command::Serve => Builder::new_multi_thread().enable_all().build(),
        _ => Builder::new_current_thread().enable_all().build(),
    }
}

async fn dispatch(cli: Cli) -> Result<(), CliError> {
    let mut console = Console::stdout(if cli.json { Format::Json } else { Format::Text });
    let data = match cli.data {
        Some(data) => data,
        None => client::default_data_folder()?,
    };
    match cli.command {
        Command::Init(args) => Box::pin(commands::init::run(args, data, &mut console)).await,
        Command::Serve => Box::pin(crate::daemon::serve(ServeArgs { data }))
            .await
            .map_err(CliError::Daemon),
        Command::Completions(args) => commands::completions::run(&args, &mut console),
        Command::Watch(args) => {
            until_interrupt(commands::watch::run(&args, &data, &mut console)).await
        }
        // It takes back what it staged before it obeys Ctrl-C.
        Command::Ask(question @ Ask::Send(_)) => {
            Box::pin(ask(question, &Client::open(&data)?, &mut console)).await
        }
        Command::Ask(question) => {
            until_interrupt(Box::pin(ask(question, &Client::open(&data)?, &mut console))).await
        }
    }
}

/// Asks the running daemon.
///
/// # Errors
/// What it refuses, or [`CliError::Unreachable`].
pub async fn ask(question: Ask, client: &Client, console: &mut Console) -> Result<(), CliError> {
    match question {
        Ask::Invite(args) => commands::invite::run(&args, client, console).await,
        Ask::Invites { command } => commands::invites::run(command, client, console).await,
        Ask::Connect(args) => commands::connect::run(args, client, console).await,
        Ask::Connections { command } => commands::connections::run(command, client, console).await,
        Ask::Send(args) => commands::send::run(args, client, console).await,
        Ask::Inbox(args) => commands::inbox::run(&args, client, console).await,
        Ask::Show(args) => commands::show::run(&args, client, console).await,
        Ask::Read(args) => commands::read::run(&args, client, console).await,
        Ask::Status(args) => commands::status::run(&args, client, console).await,
        Ask::Files { command } => commands::files::run(command, client, console).await,
    }
}

/// Drops the work on Ctrl-C: what it holds (temporary files, connections) goes with it.
async fn until_interrupt(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
    }
}

#[cfg(test)]
mod tests;
