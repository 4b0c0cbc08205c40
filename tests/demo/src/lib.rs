//! The first story of floor 5: a relay and two businesses as three processes, and what every other story needs to start,
//! stop, ask and check them. The processes are this program again, in the roles that [`roles`] names, so nothing here can
//! be older than the code that it shows.
//!
//! Start reading at [`story`]; [`world`] is what a story takes place in.

pub mod api;
pub mod checks;
mod curtain;
pub mod files;
pub mod node;
pub mod ports;
pub mod process;
pub mod relay;
pub mod roles;
mod screen;
mod story;
mod table;
pub mod wait;
pub mod world;

use anyhow::Context as _;
use clap::Parser;
use process::Program;
use screen::Screen;
use sealpost_service::Shutdown;
use std::{ffi::OsString, process::ExitCode};
use tokio::runtime::Runtime;
use world::World;

/// What a shell shows for a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Two businesses, a relay between them that cannot read, and everything that happens until a message is read.
#[derive(Debug, Parser)]
#[command(name = "sealpost-demo", version)]
struct Args {
    /// Exit when the story is told; 0 only if all of it held
    #[arg(long)]
    once: bool,
}

/// Tells the story; `args` begins with the program's name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    let mut screen = Screen::stdout();
    let outcome = Runtime::new()
        .context("the runtime cannot start")
        .and_then(|runtime| runtime.block_on(tell(&args, &mut screen)));
    outcome.unwrap_or_else(|error| {
        // When nobody reads the output there is nobody to tell.
        let _ = screen.failed(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// The story between its signals: whatever ends it, the processes stop and the folder goes.
async fn tell(args: &Args, screen: &mut Screen) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::on_signals().context("signals cannot be caught")?;
    let mut world = World::begin(Program::this()?)?;
    let told = tokio::select! {
        told = story::tell(screen, &mut world) => Some(told),
        () = shutdown.triggered() => None,
    };
    let code = match told {
        None => ExitCode::from(INTERRUPTED),
        Some(Err(error)) => return Err(error),
        Some(Ok(cast)) => {
            if !args.once {
                curtain::stay(screen, &world, &cast, &shutdown).await?;
            }
            cast.leave().await?;
            ExitCode::SUCCESS
        }
    };
    world.finish().await?;
    Ok(code)
}
