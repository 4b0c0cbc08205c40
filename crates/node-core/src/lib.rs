//! Decisions of a node: how connections are made, what an envelope means, what a message may
//! contain and how it is displayed, when to retry after a failure.
//!
//! The crate is pure: it reads no clock, has no random source of its own and does no I/O. The node
//! loads rows, calls this crate and commits the result.
//!
//! Start reading at [`connection::Connection`].

#![warn(missing_docs)]

pub mod checkpoint;
pub mod connection;
pub mod contact_name;
pub mod content;
pub mod file_type;
pub mod filename;
pub mod issued_invite;
pub mod model;
pub mod name;
mod prekey_bundles;
pub mod submission;
pub mod text;
pub mod transfer;
