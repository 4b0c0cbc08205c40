//! Whole files: encrypted and decrypted here, and exchanged with the `age` program.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "an operation that fails, fails the test"
)]

mod age_program;
mod damage;
mod round_trips;
mod support;
