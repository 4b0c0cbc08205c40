//! The relay: it takes sealed envelopes, keeps them on disk, hands them to their recipients' nodes and tells the senders
//! what became of them. It cannot open one; nothing here depends on the cryptography of messages.
//!
//! `http/` is the API, a file for each endpoint; `store/` is what it keeps, an operation for each step of the protocol;
//! `delivery/` calls webhooks; `blobs` holds the parts of files. All decisions are those of `sealpost-relay-core`.
//!
//! Start reading at [`start`].

pub mod bare;
mod blobs;
mod cache;
pub mod config;
mod delivery;
mod health;
mod http;
mod relay;
mod serve;
mod store;
mod sweeper;
mod wakes;

pub use blobs::BlobError;
pub use config::Config;
pub use serve::{Running, StartError, start};
pub use store::StoreError;

use anyhow::Context as _;
use clap::Parser as _;
use config::{Cli, Command};
use sealpost_service::{Shutdown, SystemClock, logs};
use std::{
    ffi::OsString,
    io::{Write as _, stderr, stdout},
    process::ExitCode,
    sync::Arc,
};

/// Runs the program with these arguments, the first of which is its name, until it ends. The binary and the demo call it.
///
/// # Errors
/// What went wrong, with what to do next.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let Command::Serve(args) = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    serve_until_signal(Config::load(*args)?).await
}

/// Runs [`run`] on a runtime of its own and turns its end into an exit code.
pub fn main_with_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.context("the runtime cannot start").and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When standard error is closed there is nobody to tell.
            let _ = writeln!(stderr(), "sealpost-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_until_signal(config: Config) -> anyhow::Result<()> {
    logs::init(config.log, &config.log_filter)?;
    let shutdown = Shutdown::on_signals().context("signals cannot be caught")?;
    let running = start(config, Arc::new(SystemClock), shutdown).await?;
    let mut out = stdout();
    writeln!(out, "listening on {}", running.address_url()).and_then(|()| out.flush()).context("standard output")?;
    running.ended().await;
    Ok(())
}
