//! What every daemon of Sealpost needs around its own work: the clock, entropy, configuration, logs, the data folder, the
//! end of the process, what a supervisor is told, an HTTP listener that does not let a slow client hold it, and how figures are
//! written.
//!
//! Nothing here knows a message, a mailbox or a table. Start reading at [`http::serve`] and [`DataFolder`].

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
pub use open_files::raise_open_files;
pub use shutdown::Shutdown;
