//! The program that the tests of this package start in the roles of relay, daemon and CLI.

use std::{env::args_os, ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = args_os().collect();
    sealpost_demo::roles::run_role(&args).unwrap_or(ExitCode::FAILURE)
}
