//! The daemon: tasks that do what the database lists as due, and the components that they share.
//!
//! | task | waits for | does |
//! |---|---|---|
//! | [`ingest`] | the relay's calls and pulls | stores envelopes and reports their outcomes |
//! | [`submission`] | the outbox | seals and submits messages, and records the responses |
//! | [`relay_jobs`] | relay jobs | opens and closes mailboxes, publishes and fetches prekeys |
//! | [`transfer`] | files | uploads and downloads parts, extends and deletes blobs |
//! | [`checkpoints`] | the clock | writes checkpoints, and notices a second node |
//! | [`unknown_mailboxes`] | the start | looks for mailboxes that a backup did not know |
//! | [`maintenance`] | the clock | expires invites, renews prekeys, deletes old rows |
//! | [`backup::schedule`] | the clock | backs up the node, deletes old backups |
//!
//! Each task reads what is due from the database after every wake-up, so a lost wake-up loses
//! nothing. They share one loop, [`Worker::run`](worker::Worker::run).
//!
//! [`serve`] assembles the [`NodeComponents`]. Each task receives only the ones that it needs.

pub(crate) mod backup;
mod checkpoint_file;
mod checkpoints;
mod components;
mod database;
mod error;
mod home_relay;
pub mod ingest;
mod init;
pub mod maintenance;
mod next_step;
mod registration;
mod relay_health;
mod relay_jobs;
mod restored;
mod retry;
#[cfg(test)]
mod scripted_relay;
mod serve;
mod submission;
pub(crate) mod transfer;
mod unknown_mailboxes;
pub(crate) mod vault;
mod worker;

pub(crate) use backup::schedule::BackupStatus;
pub(crate) use components::{NodeComponents, RunInfo};
pub(crate) use database::Database;
pub(crate) use home_relay::HomeRelay;
pub(crate) use ingest::Ingest;
pub(crate) use init::{NewNode, init};
pub(crate) use next_step::next_step;
pub(crate) use relay_health::RelayHealth;
pub(crate) use serve::{LocalApiRouters, Routers, SOCKET_FILE, TOKEN_FILE, serve};
pub(crate) use unknown_mailboxes::{
    MailboxError, UnknownMailboxes, format_id as format_mailbox_id,
};
