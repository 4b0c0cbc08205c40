//! How fast files pass and in how much memory, on the same machine in the same run beside what others would use: `rage`
//! piped into a plain upload, a plain download piped into `age`. `./tests/run files` builds and runs it;
//! `docs/performance.md` says what exactly is compared and what came out.
//!
//! The relay, both nodes, their command line and the plain server are processes of their own. Start reading at
//! `scenarios`, then `passage`.

mod bench;
mod figures;
mod one_core;
mod others;
mod passage;
mod plain;
mod scenarios;

use anyhow::Context as _;
use bench::{Bench, Plan};
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use figures::Figures;
use scenarios::Scenario;
use std::{io::Write as _, path::PathBuf};

/// Measures files on their way; the last line of standard output is JSON with the figures.
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
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// Only this; then there is no last line (can be repeated)
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Folder with `sealpost` and `sealpost-relay`; without it, the one of this program
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Folder with `rage` and `rage-keygen`; without it, as the shell finds them
    #[arg(long, value_name = "DIR")]
    rage: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be the plain server
    Plain {
        /// Folder for what is uploaded
        #[arg(long)]
        data: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { role, measure } = Cli::parse();
    match role {
        Some(Role::Plain { data }) => plain::serve(data).await,
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
    let beside = std::env::current_exe()?
        .parent()
        .context("a program without a folder")?
        .to_owned();
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let bench = Bench::new(plan, &programs.unwrap_or(beside), rage.as_deref())?;
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
