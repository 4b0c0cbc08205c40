//! Runtime services shared by relay and node: clock, random source, configuration, logs, data
//! directory, shutdown, supervisor notifications, an HTTP listener that is robust against slow
//! clients, and formatting of numbers and metrics.
//!
//! This crate knows no messages, mailboxes or tables. Start reading at [`http::serve`] and
//! [`DataDir`].

#![warn(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate provides the clock and the random source"
)]

mod ca_file;
pub mod checks;
mod clock;
pub mod config;
mod data_dir;
mod entropy;
pub mod escape;
pub mod fair_pool;
pub mod http;
pub mod logs;
pub mod metrics;
mod open_files;
mod shutdown;
pub mod supervisor;
pub mod units;

pub use ca_file::{CaFileError, read_ca_file};
pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use data_dir::{
    DataDir, DataDirError, SecretError, create_private_directory, credentials_directory,
    read_secret_file, write_secret_file,
};
pub use entropy::{Entropy, entropy, random_array};
pub use open_files::raise_open_files_limit;
pub use shutdown::Shutdown;
