//! Measures the relay against a ceiling that only stores and forwards, on the same machine, in the
//! same run, with the same bytes. `./tests/run load` builds and runs it; `docs/performance.md`
//! explains the results.
//!
//! The relay, the ceiling and the receiver that both call are processes of their own; the generator
//! runs in this process. Start reading at `scenarios`, then `generator`.

mod account;
mod bench;
mod ceiling;
mod figures;
mod generator;
mod latency;
mod process;
mod receiver;
mod scenarios;
mod stamp;
#[cfg(test)]
mod tests;

use anyhow::Context as _;
use bench::{Bench, Plan};
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use figures::Figures;
use rustix::process::{Resource, getrlimit, setrlimit};
use scenarios::Scenario;
use std::{io::Write as _, path::PathBuf};
use tokio::net::TcpListener;

/// Measures the relay; the last line of standard output holds the figures as JSON
#[derive(Debug, Parser)]
#[command(name = "sealpost-load")]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    measure: Measure,
}

#[derive(Debug, Args)]
struct Measure {
    /// Run shorter rounds with fewer queued envelopes
    #[arg(long)]
    quick: bool,
    /// Run only this scenario and print no figures (can be repeated)
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Path of the relay [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    relay: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Run the endpoint of every webhook
    Receiver,
    /// Run the ceiling
    Ceiling {
        /// Directory for the database
        #[arg(long)]
        data: PathBuf,
        /// URL to which messages are pushed
        #[arg(long)]
        target: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { role, measure } = Cli::parse();
    match role {
        Some(Role::Receiver) => receiver::serve(listen().await?).await,
        Some(Role::Ceiling { data, target }) => {
            ceiling::serve(listen().await?, &data, &target).await
        }
        None => run(measure).await,
    }
}

async fn run(Measure { quick, only, relay }: Measure) -> anyhow::Result<()> {
    raise_open_files_limit()?;
    let relay = match relay {
        Some(relay) => relay,
        None => std::env::current_exe()?.with_file_name("sealpost-relay"),
    };
    let bench = Bench::new(if quick { Plan::QUICK } else { Plan::FULL }, relay)?;
    let mut figures = Figures::default();
    for scenario in Scenario::value_variants() {
        if only.is_empty() || only.contains(scenario) {
            scenario
                .measure(&bench, &mut figures)
                .await
                .with_context(|| format!("{scenario:?}"))?;
        }
    }
    if only.is_empty() {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&figures)?)?;
    }
    Ok(())
}

/// Raises the limit on open files for thousands of connections; child processes inherit it.
fn raise_open_files_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?)
}

/// Listens on a free loopback port and prints the address as the relay does.
async fn listen() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on http://{}", listener.local_addr()?)?;
    out.flush()?;
    Ok(listener)
}
