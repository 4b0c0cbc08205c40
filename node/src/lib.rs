//! The node: `sealpost`, daemon and CLI in one program. It stands beside a business's own software, encrypts what goes out
//! and opens what comes in, and posts through a relay that can read nothing of it.
//!
//! Never here: decisions (they are `sealpost-node-core`'s) and cryptography (`sealpost-e2ee`'s). Start reading at
//! [`daemon`], then follow a message out through [`outbox`] and in through [`inbox`].

pub mod api;
pub mod cli;
pub mod config;
pub mod conversation;
pub mod daemon;
pub mod fault;
pub mod files;
mod hex;
pub mod inbox;
pub mod identity;
pub mod outbox;
pub mod pairing;
pub mod preview;
pub mod progress;
pub mod store;

#[cfg(test)]
mod testing;

pub use cli::run;
