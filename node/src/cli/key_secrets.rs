//! Secrets that open and protect a data key: passphrases from the terminal, standard input or a
//! file, key files and credentials.

use super::{
    args::{NewSecretArgs, ProtectionKind},
    error::CliError,
    passphrase_prompt::{self, PromptError},
};
use crate::{
    config::{self, Overrides},
    daemon::vault::{
        KeySecrets, NewProtection, VaultError, parse_key_file, read_key_file, read_passphrase,
    },
};
use sealpost_e2ee::vault::{KeyFile, Passphrase};
use sealpost_proto::limits::SECRET_FILE_BYTES_MAX;
use sealpost_service::credentials_directory;
use std::{
    io::{self, BufRead as _, Read as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Argument that names standard input.
const STANDARD_INPUT: &str = "-";

/// Sources of the secret that opens the data key of a node.
pub(super) struct CurrentSecrets {
    /// File with the passphrase, which is asked for otherwise.
    pub(super) passphrase_file: Option<PathBuf>,
    /// Key file instead of the one that the data directory names, or the text of the credential.
    pub(super) key_file: Option<PathBuf>,
    /// Name of the credential.
    pub(super) credential: String,
}

impl CurrentSecrets {
    pub(super) fn from_settings(settings: &config::Key) -> Self {
        Self {
            passphrase_file: non_empty(&settings.passphrase_file),
            key_file: None,
            credential: settings.credential.clone(),
        }
    }
}

/// Loads the settings of the data key for a command without flags for settings.
pub(super) fn load_settings(data: &Path) -> Result<config::Key, CliError> {
    let overrides = Overrides::from_environment()
        .map_err(|error| CliError::usage(error.to_string(), "correct the variable"))?;
    Ok(config::load(&overrides, data)?.config.key)
}

impl KeySecrets for CurrentSecrets {
    fn passphrase(&self) -> Result<Passphrase, VaultError> {
        match &self.passphrase_file {
            Some(path) => read_passphrase_from(path),
            None => passphrase_prompt::ask("Passphrase of the node: ")
                .map(Passphrase::new)
                .map_err(prompt_error),
        }
    }

    fn key_file(&self) -> Result<Option<KeyFile>, VaultError> {
        self.key_file.as_deref().map(read_key_from).transpose()
    }

    fn credential(&self) -> Result<KeyFile, VaultError> {
        match &self.key_file {
            Some(path) => read_key_from(path),
            None => read_credential(&self.credential),
        }
    }
}

/// Reads or asks for what a new protection needs.
pub(super) fn new_protection(
    kind: ProtectionKind,
    args: &NewSecretArgs,
    settings: &config::Key,
) -> Result<NewProtection, CliError> {
    let unused = match kind {
        ProtectionKind::Passphrase => args.key_file.as_ref().map(|_| "--key-file"),
        ProtectionKind::KeyFile | ProtectionKind::Credential => args
            .key_passphrase_file
            .as_ref()
            .map(|_| "--key-passphrase-file"),
    };
    if let Some(flag) = unused {
        return Err(CliError::usage(
            format!("{flag} does not belong to the protection by a {kind}"),
            format!("leave out {flag}, or choose the other protection"),
        ));
    }
    Ok(match kind {
        ProtectionKind::KeyFile if args.key_file.as_deref() == Some(Path::new(STANDARD_INPUT)) => {
            return Err(CliError::usage(
                "a new key file cannot be standard input",
                "name a file, or leave out --key-file",
            ));
        }
        ProtectionKind::KeyFile => NewProtection::KeyFile(args.key_file.clone()),
        ProtectionKind::Passphrase => {
            let file = args.key_passphrase_file.clone();
            let file = file.or_else(|| non_empty(&settings.passphrase_file));
            NewProtection::Passphrase(new_passphrase(file.as_deref())?)
        }
        ProtectionKind::Credential => NewProtection::Credential(match &args.key_file {
            Some(path) => read_key_from(path)?,
            None => read_credential(&settings.credential)?,
        }),
    })
}

fn new_passphrase(file: Option<&Path>) -> Result<Passphrase, CliError> {
    let passphrase = match file {
        Some(path) => read_passphrase_from(path)?,
        None => passphrase_prompt::ask_twice("New passphrase of the node: ")
            .map(Passphrase::new)
            .map_err(|error| {
                error.into_cli_error("pass --key-passphrase-file FILE, or - for standard input")
            })?,
    };
    passphrase.check_length().map_err(VaultError::from)?;
    Ok(passphrase)
}

fn read_passphrase_from(path: &Path) -> Result<Passphrase, VaultError> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok(Passphrase::new(read_input_line(path)?));
    }
    read_passphrase(path)
}

/// Reads a key file that must exist, or its text from standard input.
fn read_key_from(path: &Path) -> Result<KeyFile, VaultError> {
    if path == Path::new(STANDARD_INPUT) {
        return parse_key_file(path, read_input_line(path)?.as_bytes());
    }
    read_key_file(path)?.ok_or_else(|| VaultError::KeyFileMissing {
        path: path.to_owned(),
    })
}

fn read_credential(name: &str) -> Result<KeyFile, VaultError> {
    let path = credentials_directory().map(|directory| directory.join(name));
    let key = path.map(|path| read_key_file(&path)).transpose()?.flatten();
    key.ok_or_else(|| VaultError::CredentialMissing {
        name: name.to_owned(),
    })
}

/// Reads one line of standard input, so that two secrets can follow each other.
fn read_input_line(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    let mut line = Zeroizing::new(String::new());
    io::stdin()
        .lock()
        .take(SECRET_FILE_BYTES_MAX)
        .read_line(&mut line)
        .map_err(|source| VaultError::File {
            path: path.to_owned(),
            source,
        })?;
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    Ok(line)
}

fn prompt_error(error: PromptError) -> VaultError {
    match error {
        PromptError::Interrupted => VaultError::Interrupted,
        PromptError::NoTerminal | PromptError::Different => VaultError::NoTerminal,
    }
}

fn non_empty(path: &str) -> Option<PathBuf> {
    (!path.is_empty()).then(|| PathBuf::from(path))
}
