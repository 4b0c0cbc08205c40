//! The data key of a data directory: created by `init`, wrapped by a key file of mode 0600.

use anyhow::{Context as _, bail};
use sealpost_e2ee::vault::{DataKey, KeyFile};
use sealpost_service::DataDir;

const KEY_FILE: &str = "key";
const DATA_KEY_FILE: &str = "data-key";

/// Creates the data key of a new node, or opens the one that an interrupted `init` left.
pub(super) fn create(directory: &DataDir) -> anyhow::Result<DataKey> {
    if directory.read_secret(DATA_KEY_FILE)?.is_some() {
        return open(directory);
    }
    let mut rng = sealpost_service::entropy();
    let data_key = DataKey::generate(&mut rng);
    let key_file = KeyFile::generate(&mut rng);
    directory
        .write_secret(KEY_FILE, key_file.encode().as_bytes())
        .context("writing the key file")?;
    directory
        .write_secret(DATA_KEY_FILE, &key_file.wrap(&data_key, &mut rng))
        .context("writing the data key")?;
    Ok(data_key)
}

/// Opens the data key of a data directory.
///
/// # Errors
/// The directory holds no node, or its key file is missing, damaged or from another directory.
pub(super) fn open(directory: &DataDir) -> anyhow::Result<DataKey> {
    let Some(wrapped) = directory.read_secret(DATA_KEY_FILE)? else {
        bail!(
            "there is no node in {}; create one with `sealpost init`",
            directory.path().display()
        );
    };
    let Some(text) = directory.read_secret(KEY_FILE)? else {
        bail!(
            "the key file {} is missing; restore it from a copy",
            directory.join(KEY_FILE).display()
        );
    };
    let text =
        std::str::from_utf8(&text).context("the key file is damaged: restore it from a copy")?;
    Ok(KeyFile::parse(text)?.unwrap(&wrapped)?)
}
