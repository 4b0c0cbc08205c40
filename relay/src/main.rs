//! The program `sealpost-relay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealpost_relay::main_with_args(std::env::args_os().collect())
}
