//! CLI: parses arguments, calls the daemon's local API and prints the results.
//!
//! The CLI never opens the database. Only `init`, `serve`, `backup`, `restore` and `key` use the data
//! directory, and they run daemon code.
//!
//! Start reading at [`args`]; each command is a file in [`commands`]. All output goes through
//! [`console`], so that text from a partner cannot control the terminal.

pub mod args;
pub mod client;
pub mod commands;
mod confirmation;
pub mod console;
pub mod error;
pub mod events;
mod key_secrets;
mod passphrase_prompt;
mod progress_bars;
mod transfer_wait;
pub mod units;
mod upload;
mod views;

use crate::config::Config;
use args::{ApiCommand, Cli, Command};
use clap::Parser as _;
use client::Client;
use console::{Console, Format};
use error::CliError;
use std::{ffi::OsString, io, process::ExitCode};
use tokio::runtime::{Builder, Runtime};

/// Runs one command; `args` starts with the program's name.
///
/// Not generic, so that the node is compiled in this crate only and not again in every caller.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let given = args.clone();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let error = args::add_hyphen_tip(error, &given);
            // If standard error is closed, there is nowhere left to report it.
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

/// Builds a multi-threaded runtime for the daemon only; the other commands mostly wait.
fn runtime(command: &Command) -> io::Result<Runtime> {
    match command {
        Command::Serve(_) => Builder::new_multi_thread().enable_all().build(),
        _ => Builder::new_current_thread().enable_all().build(),
    }
}

async fn dispatch(cli: Cli) -> Result<(), CliError> {
    sealpost_service::config::reject_unknown_variables::<Config>()?;
    let mut console = Console::stdout(if cli.json { Format::Json } else { Format::Text });
    let data = match cli.data {
        Some(data) => data,
        None => client::default_data_directory()?,
    };
    match cli.command {
        Command::Init(args) => Box::pin(commands::init::run(args, data, &mut console)).await,
        Command::Serve(args) => commands::serve::run(&args, &data).await,
        Command::Backup(args) => Box::pin(commands::backup::run(args, &data, &mut console)).await,
        Command::Restore(args) => commands::restore::run(&args, &data, &mut console),
        Command::Key { command } => commands::key::run(&command, &data, &mut console),
        Command::Config { command } => commands::config::run(&command, &data, &mut console),
        Command::Completions(args) => commands::completions::run(&args, &mut console),
        Command::Watch(args) => {
            let watching = commands::watch::run(&args, &data, &mut console);
            let next = "continue with: sealpost watch".into();
            until_interrupt(watching, CliError::Interrupted { next }).await
        }
        // `send` handles Ctrl-C itself, because it first discards the files it staged.
        Command::Api(command @ ApiCommand::Send(_)) => {
            Box::pin(run_api_command(
                command,
                &Client::open(&data)?,
                &mut console,
            ))
            .await
        }
        Command::Api(command) => {
            let client = Client::open(&data)?;
            let work = Box::pin(run_api_command(command, &client, &mut console));
            until_interrupt(work, CliError::interrupted()).await
        }
    }
}

pub async fn run_api_command(
    command: ApiCommand,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match command {
        ApiCommand::Invite(args) => commands::invite::run(&args, client, console).await,
        ApiCommand::Invites { command } => commands::invites::run(command, client, console).await,
        ApiCommand::Connect(args) => commands::connect::run(args, client, console).await,
        ApiCommand::Connections { command } => {
            commands::connections::run(command, client, console).await
        }
        ApiCommand::Send(args) => commands::send::run(args, client, console).await,
        ApiCommand::Inbox(args) => commands::inbox::run(&args, client, console).await,
        ApiCommand::Show(args) => commands::show::run(&args, client, console).await,
        ApiCommand::Read(args) => commands::read::run(&args, client, console).await,
        ApiCommand::Status(args) => commands::status::run(&args, client, console).await,
        ApiCommand::Recover(args) => commands::recover::run(&args, client, console).await,
        ApiCommand::Mailboxes { command } => {
            commands::mailboxes::run(command, client, console).await
        }
        ApiCommand::Files { command } => commands::files::run(command, client, console).await,
    }
}

/// Drops the work on Ctrl-C, and with it temporary files and connections.
async fn until_interrupt(
    work: impl Future<Output = Result<(), CliError>>,
    interrupted: CliError,
) -> Result<(), CliError> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(interrupted),
    }
}

#[cfg(test)]
mod tests;
