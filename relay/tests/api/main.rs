//! The relay as nodes see it: a real listener on loopback, a small signing client, a clock that the tests move.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what is not as it should be fails the test"
)]

mod described;
mod process;
mod support;

mod accounts;
mod admin;
mod bad_input;
mod bad_operator;
mod blobs;
mod commands;
mod deliveries;
mod envelopes;
mod full_disk;
mod limits;
mod logs;
mod operator;
mod outage;
mod requests;
mod webhooks;
