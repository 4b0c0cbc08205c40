//! Names of the files and directories in the data directory.

/// SQLite database.
pub(crate) const DATABASE_FILE: &str = "relay.db";
/// Directory with the parts of blobs.
pub(crate) const BLOBS_DIR: &str = "blobs";
/// Secret from which session keys are derived.
pub(crate) const SECRET_FILE: &str = "relay.secret";
/// File that reserves disk space.
pub(crate) const RESERVE_FILE: &str = "reserve";
