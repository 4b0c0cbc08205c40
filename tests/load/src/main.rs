//! How fast the relay is, beside a ceiling that does no more than store and forward, on the same machine in the same run
//! with the same bytes. `./tests/run load` builds and runs it; `docs/performance.md` says what came out.
//!
//! The relay, the ceiling and the receiver that both call are processes of their own; the generator runs in this one.
//! Start reading at `scenarios`, then `generator`.

mod account;
mod bench;
mod ceiling;
mod connection;
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

/// Measures the relay; the last line of standard output is JSON with the figures.
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
    /// Shorter rounds, and fewer envelopes that wait
    #[arg(long)]
    quick: bool,
    /// Only this; then there is no last line (can be repeated)
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// The relay; without it, the one beside this program
    #[arg(long, value_name = "FILE")]
    relay: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be the endpoint of every webhook
    Receiver,
    /// Be the ceiling
    Ceiling {
        /// Folder for its database
        #[arg(long)]
        data: PathBuf,
        /// URL that everything is pushed to
        #[arg(long)]
        target: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { role, measure } = Cli::parse();
    match role {
        Some(Role::Receiver) => receiver::serve(connection::listen().await?).await,
        Some(Role::Ceiling { data, target }) => {
            ceiling::serve(connection::listen().await?, &data, &target).await
        }
        None => run(measure).await,
    }
}

async fn run(Measure { quick, only, relay }: Measure) -> anyhow::Result<()> {
    raise_open_files()?;
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

/// Thousands of connections need as many files; programs that are started inherit it.
fn raise_open_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?)
}
