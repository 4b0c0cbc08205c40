//! The relay: it takes sealed envelopes, keeps them on disk, hands them to their recipients' nodes and tells the senders
//! what became of them. It cannot open one; nothing here depends on the cryptography of messages.
//!
//! `http/` is the API, a file for each endpoint; `store/` is what it keeps, an operation for each step of the protocol;
//! `delivery/` calls webhooks; `blobs` holds the parts of files. All decisions are those of `sealpost-relay-core`.
//!
//! Start reading at [`start`].

mod admin;
mod backup;
pub mod bare;
mod blobs;
mod cache;
mod cli;
pub mod config;
mod delivery;
mod door;
mod health;
mod http;
mod metrics;
mod openapi;
mod rates;
mod relay;
mod reload;
mod rules;
mod serve;
mod slots;
mod storage;
mod store;
mod sweeper;
mod throughput;
mod wakes;

pub use admin::{AdminError, AdminListen};
pub use blobs::BlobError;
pub use cli::{main_with_args, run};
pub use config::Config;
pub use door::{Certificates, DoorError};
pub use serve::{Running, StartError, start};
pub use store::StoreError;
