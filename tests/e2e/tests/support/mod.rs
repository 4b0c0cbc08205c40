//! What the tests of this package share.

use sealpost_demo::process::Program;

/// The program of this package, in whatever role.
pub(crate) fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_sealpost-e2e"))
}
