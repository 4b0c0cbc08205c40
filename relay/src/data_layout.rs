//! Names of the files and directories in the data directory.

/// SQLite database.
pub(crate) const DATABASE_FILE: &str = "relay.db";
/// Directory with the parts of blobs.
pub(crate) const BLOBS_DIR: &str = "blobs";
/// Secret from which session keys are derived.
pub(crate) const SECRET_FILE: &str = "relay.secret";
/// File that reserves disk space.
pub(crate) const RESERVE_FILE: &str = "reserve";

/// Creates an empty data directory for a test.
#[cfg(test)]
pub(crate) fn temporary_data_directory() -> tempfile::TempDir {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(private)
        .tempdir()
        .unwrap()
}
