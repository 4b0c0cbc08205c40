//! Every decision a node takes: how a connection is made and kept, what an envelope means, what a message may say and
//! how it is shown, how long to wait after a failure.
//!
//! Nothing here reads a clock, draws randomness by itself or touches a disk or socket. The node's edge loads rows, asks
//! here, and commits what comes back.
//!
//! Start reading at [`connection::Connection`].

#![warn(missing_docs)]

pub mod connection;
pub mod file_type;
pub mod filename;
pub mod held_invite;
pub mod markdown;
pub mod model;
pub mod submission;
pub mod text;
pub mod transfer;
