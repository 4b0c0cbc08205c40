//! The node: `sealpost`, daemon and CLI in one program. It runs beside the software of a business,
//! encrypts outgoing messages, decrypts incoming ones, and exchanges them through a relay that can
//! read none of them.
//!
//! Decisions are in `sealpost-node-core` and cryptography is in `sealpost-e2ee`. Imports point one
//! way: [`cli`] and [`api`] on top, then [`daemon`] with its tasks, then transactions ([`pairing`],
//! [`outbox`], [`inbox`], [`healing`], [`recovery`], [`refused_jobs`], [`checkpoint`],
//! [`conversation`]), then [`store`].
//!
//! Start reading at [`daemon`], then follow a message out through [`outbox`] and in through
//! [`inbox`].

pub mod api;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod conversation;
pub mod daemon;
pub mod fault;
pub(crate) mod files;
pub mod healing;
mod hex;
pub mod identity;
pub(crate) mod inbox;
pub(crate) mod lost_blobs;
pub mod outbox;
pub mod pairing;
pub(crate) mod preview;
pub(crate) mod progress;
pub mod recovery;
pub mod refused_jobs;
pub mod store;
mod utc;

#[cfg(test)]
mod testing;

pub use cli::run;
