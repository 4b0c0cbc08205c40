//! API tests of the relay: a real listener on loopback, nodes that sign their requests, and a
//! manual clock.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure fails the test"
)]

mod openapi_check;
mod process;
mod support;

mod account_names;
mod accounts;
mod admin;
mod admin_page;
mod admin_queues;
mod admin_tokens;
mod bad_admin_input;
mod bad_http;
mod bad_input;
mod blobs;
mod deliveries;
mod envelopes;
mod foreign_ids;
mod full_disk;
mod limits;
mod logs;
mod maintenance_commands;
mod operator_commands;
mod outage;
mod requests;
mod stalled_clients;
mod webhooks;
