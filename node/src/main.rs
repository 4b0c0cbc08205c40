//! `sealpost`: the node's daemon and its CLI.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealpost_node::run(std::env::args_os().collect())
}
