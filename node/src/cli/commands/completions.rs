//! `sealpost completions`

use crate::cli::{
    args::{Cli, CompletionsArgs},
    console::Console,
    error::CliError,
};
use clap::CommandFactory as _;

/// Prints the completion script for a shell.
pub fn run(args: &CompletionsArgs, console: &mut Console) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sealpost", &mut script);
    console.print_verbatim(&String::from_utf8_lossy(&script))
}
