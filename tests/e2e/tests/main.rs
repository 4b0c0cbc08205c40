//! End-to-end tests with real processes on loopback, in one binary, so that the dependencies are
//! linked once. Each test starts its own relay and nodes on ephemeral ports, which the test process
//! reserves for servers that restart.
//!
//! `cargo test -p sealpost-e2e kill::` runs the tests of one module.

mod architecture;
mod backup;
mod bad_input;
mod commands;
mod containers;
mod docs;
mod examples;
mod exchange;
mod files;
mod key;
mod kill;
mod local_access;
mod lost_account;
mod malicious_relay;
mod monitoring;
mod readme;
mod restored;
mod rollback;
mod support;
mod texts;
mod time;
mod webhooks;
