//! The daemon: the tasks that do what the database lists as due, and the parts that they share.
//!
//! | task | waits for | does |
//! |---|---|---|
//! | [`ingest`] | the relay's calls and pulls | stores envelopes and reports their outcomes |
//! | [`submission`] | the outbox | seals and submits messages, and records the responses |
//! | [`relay_jobs`] | relay jobs | opens mailboxes, publishes prekeys |
//! | [`transfer`] | files | uploads and downloads parts, deletes blobs that nobody needs |
//! | [`maintenance`] | the clock | expires invites, renews prekeys, deletes old rows |
//!
//! Each task reads what is due from the database after every wake-up, so a lost wake-up loses
//! nothing. They share one loop, [`Worker::run`](worker::Worker::run).
//!
//! [`serve`] assembles the [`NodeParts`]. Each task receives only the ones that it needs.

mod contact;
mod database;
mod home_relay;
pub mod ingest;
mod init;
pub mod maintenance;
mod parts;
mod registration;
mod relay_jobs;
mod retry;
mod serve;
mod submission;
pub(crate) mod transfer;
mod vault;
mod worker;

pub(crate) use database::Database;
pub(crate) use home_relay::HomeRelay;
pub(crate) use ingest::Ingest;
pub(crate) use init::{NewNode, init};
pub(crate) use parts::{NodeParts, RunInfo};
pub(crate) use serve::{ADDRESS_FILE, Routers, TOKEN_FILE, serve};
