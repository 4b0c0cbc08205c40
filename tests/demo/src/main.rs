//! `cargo run --release`: the demo, which starts itself as child processes for the relay and the
//! nodes.

use std::{env::args_os, ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = args_os().collect();
    sealpost_demo::roles::run_role(&args).unwrap_or_else(|| sealpost_demo::run(args))
}
