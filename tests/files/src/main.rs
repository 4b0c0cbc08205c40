//! Measures the speed and memory of file transfers against reference tools on the same machine in
//! the same run: `rage` piped into a plain upload, and a plain download piped into `age`.
//! `./tests/run files` builds and runs it; `docs/performance.md` explains the comparison and the
//! results.
//!
//! The relay, both nodes, the CLI and the plain server are processes of their own. Start
//! reading at `scenarios`, then `node_pair`.

mod bench;
mod figures;
mod node_pair;
mod one_core;
mod plain_server;
mod reference;
mod scenarios;

use anyhow::Context as _;
use bench::{Bench, Plan};
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use figures::Figures;
use scenarios::Scenario;
use std::{io::Write as _, path::PathBuf};

/// Measures file transfers; the last line of standard output holds the figures as JSON
#[derive(Debug, Parser)]
#[command(name = "sealpost-files")]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    measure: Measure,
}

#[derive(Debug, Args)]
struct Measure {
    /// Run fewer rounds
    #[arg(long)]
    quick: bool,
    /// Run only this scenario and print no figures (can be repeated)
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Directory with `sealpost` and `sealpost-relay` [default: the directory of this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Directory with `rage` and `rage-keygen` [default: searched in PATH]
    #[arg(long, value_name = "DIR")]
    rage: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Run the plain server
    Plain {
        /// Directory for uploads
        #[arg(long)]
        data: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { role, measure } = Cli::parse();
    match role {
        Some(Role::Plain { data }) => plain_server::serve(data).await,
        None => run(measure).await,
    }
}

async fn run(
    Measure {
        quick,
        only,
        programs,
        rage,
    }: Measure,
) -> anyhow::Result<()> {
    let own_directory = std::env::current_exe()?
        .parent()
        .context("the program has no directory")?
        .to_owned();
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let bench = Bench::new(plan, &programs.unwrap_or(own_directory), rage.as_deref())?;
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
