//! Runtime services shared by relay and node: clock, random source, configuration, logs, data
//! folder, shutdown, supervisor notifications, an HTTP listener that is robust against slow
//! clients, and formatting of numbers.
//!
//! This crate knows no messages, mailboxes or tables. Start reading at [`http::serve`] and
//! [`DataFolder`].

#![warn(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate provides the clock and the random source"
)]

mod clock;
pub mod config;
mod entropy;
mod folder;
pub mod http;
pub mod logs;
mod open_files;
mod shutdown;
pub mod supervisor;
pub mod units;

pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use entropy::{Entropy, entropy, random_array};
pub use folder::{DataFolder, FolderError, SecretError};
pub use open_files::raise_open_files_limit;
pub use shutdown::Shutdown;
