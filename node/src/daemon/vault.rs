//! The data key of a data directory: created by `init`, wrapped by a key file of mode 0600.

use super::error::DaemonError;
use anyhow::Context as _;
use sealpost_e2ee::vault::{DataKey, KeyFile};
use sealpost_service::{DataDir, read_secret_file};
use std::path::Path;
use zeroize::Zeroizing;

pub(super) const KEY_FILE: &str = "key";
pub(super) const DATA_KEY_FILE: &str = "data-key";

/// New key file, and the data key that it wraps.
pub(super) struct WrappedDataKey {
    /// Content of [`KEY_FILE`].
    pub(super) key_file: Zeroizing<String>,
    /// Content of [`DATA_KEY_FILE`].
    pub(super) data_key: Vec<u8>,
}

/// Wraps a data key with a new key file.
pub(super) fn wrap(data_key: &DataKey) -> WrappedDataKey {
    let mut rng = sealpost_service::entropy();
    let key_file = KeyFile::generate(&mut rng);
    WrappedDataKey {
        key_file: key_file.encode(),
        data_key: key_file.wrap(data_key, &mut rng),
    }
}

/// Creates the data key of a new node, or opens the one that an interrupted `init` left.
pub(super) fn create(directory: &DataDir) -> anyhow::Result<DataKey> {
    if directory.read_secret(DATA_KEY_FILE)?.is_some() {
        return open(directory.path());
    }
    let data_key = DataKey::generate(&mut sealpost_service::entropy());
    let wrapped = wrap(&data_key);
    directory
        .write_secret(KEY_FILE, wrapped.key_file.as_bytes())
        .context("writing the key file")?;
    directory
        .write_secret(DATA_KEY_FILE, &wrapped.data_key)
        .context("writing the data key")?;
    Ok(data_key)
}

/// Opens the data key of a data directory, which another process may use.
///
/// # Errors
/// The directory holds no node, or its key file is missing, damaged or from another directory.
pub(super) fn open(directory: &Path) -> anyhow::Result<DataKey> {
    let Some(wrapped) = read_secret_file(&directory.join(DATA_KEY_FILE))? else {
        return Err(DaemonError::no_node(directory).into());
    };
    let Some(text) = read_secret_file(&directory.join(KEY_FILE))? else {
        let path = directory.join(KEY_FILE);
        return Err(DaemonError::NoKeyFile { path }.into());
    };
    unwrap(&text, &wrapped)
}

/// Unwraps a data key with the content of a key file.
pub(super) fn unwrap(key_file: &[u8], wrapped: &[u8]) -> anyhow::Result<DataKey> {
    let unusable = |reason: String| DaemonError::UnusableKeyFile { reason };
    let text = std::str::from_utf8(key_file).map_err(|_| unusable("it is not text".to_owned()))?;
    let key_file = KeyFile::parse(text).map_err(|error| unusable(error.to_string()))?;
    let data_key = key_file.unwrap(wrapped);
    Ok(data_key.map_err(|error| unusable(error.to_string()))?)
}
