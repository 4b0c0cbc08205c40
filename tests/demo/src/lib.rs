//! The demo scenario: a relay and two businesses as three processes. The library also
//! contains the tools with which other tests start, stop, query and check such processes. Each
//! process is this program in one of its [`roles`], so it always runs the current code.
//!
//! Start reading at [`scenario`], then [`environment`].

pub mod api;
pub mod checks;
pub mod environment;
pub mod files;
mod interactive;
pub mod node;
pub mod ports;
pub mod process;
pub mod relay;
pub mod roles;
mod scenario;
mod screen;
mod table;
pub mod wait;

use anyhow::Context as _;
use clap::Parser;
use environment::Environment;
use process::Program;
use screen::Screen;
use sealpost_service::Shutdown;
use std::{ffi::OsString, path::PathBuf, process::ExitCode};
use tokio::runtime::Runtime;

/// Exit code of a program that was interrupted by Ctrl-C, as shells report it.
const INTERRUPTED: u8 = 130;

/// Two businesses exchange messages and files over a relay that cannot read them.
#[derive(Debug, Parser)]
#[command(name = "sealpost-demo", version)]
struct Args {
    /// Exit at the end of the scenario, with 0 only if every check passed
    #[arg(long)]
    once: bool,
    /// Directory with the programs `sealpost` and `sealpost-relay` to run, instead of the code of
    /// this program
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Runs the demo; the first of `args` is the program's name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    let mut screen = Screen::stdout();
    let outcome = Runtime::new()
        .context("the runtime cannot start")
        .and_then(|runtime| runtime.block_on(run_demo(&args, &mut screen)));
    outcome.unwrap_or_else(|error| {
        // If the output is closed, the error cannot be reported anywhere.
        let _ = screen.print_error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Runs the scenario. The processes are stopped and the directory is deleted in every case.
async fn run_demo(args: &Args, screen: &mut Screen) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::on_signals().context("signal handlers cannot be installed")?;
    let program = match &args.programs {
        Some(directory) => Program::installed(directory),
        None => Program::current()?,
    };
    let mut env = Environment::new(program)?;
    let outcome = tokio::select! {
        outcome = scenario::run(screen, &mut env) => Some(outcome),
        () = shutdown.triggered() => None,
    };
    let code = match outcome {
        None => ExitCode::from(INTERRUPTED),
        Some(Err(error)) => return Err(error),
        Some(Ok(nodes)) => {
            if !args.once {
                interactive::run_until_interrupted(screen, &env, &nodes, &shutdown).await?;
            }
            nodes.stop().await?;
            ExitCode::SUCCESS
        }
    };
    env.finish().await?;
    Ok(code)
}
