//! Relay between the nodes of businesses. It accepts sealed envelopes, stores them on disk,
//! delivers them to the nodes of their recipients, and notifies the senders of the outcome. It
//! cannot open an envelope: nothing here depends on the cryptography of messages, and all decisions
//! are made by `sealpost-relay-core`.
//!
//! Imports point one way, from the top of this list to the bottom:
//!
//! 1. `cli`, then `serve`, which assembles the parts of a relay and runs its tasks.
//! 2. `http` and `admin`, the APIs for nodes and for the operator, with one file per resource. Only
//!    they know HTTP errors.
//! 3. `delivery`, which calls webhooks, and the background tasks `sweeper`, `reload` and `backup`;
//!    `simulated` runs the same store and deliveries without tasks.
//! 4. `accounts` and `activity`, which combine the store and the metrics with state in memory.
//! 5. `store`, the database, with one operation for each step of the protocol; `metrics`.
//! 6. `notifier` with `lease`, `storage`, `health`, `blobs`, `settings`, `rates`, `memory`,
//!    `slots`, `throughput`, `listener`, and at the bottom `config` and `data_layout`.
//!
//! Start reading at [`start`].

mod accounts;
mod activity;
mod admin;
mod backup;
mod blobs;
mod cli;
pub mod config;
mod data_layout;
mod delivery;
mod health;
mod http;
mod lease;
mod listener;
mod memory;
mod metrics;
mod notifier;
mod openapi;
mod rates;
mod reload;
mod serve;
mod settings;
pub mod simulated;
mod storage;
mod store;
mod sweeper;
mod throughput;

pub use admin::AdminError;
pub use blobs::BlobError;
pub use cli::{main_with_args, run};
pub use config::{AdminListen, Config};
pub use listener::{Certificates, ListenerError};
pub use serve::{Running, StartError, start};
pub use store::StoreError;
