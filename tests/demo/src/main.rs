//! `cargo run --release`: the demo, and the roles in which it starts itself again.

use std::{env::args_os, ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = args_os().collect();
    sealpost_demo::roles::play(&args).unwrap_or_else(|| sealpost_demo::run(args))
}
