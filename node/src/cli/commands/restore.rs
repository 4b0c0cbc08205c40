//! `sealpost restore`

use super::backup::{Contents, ask_passphrase, print_contents};
use crate::{
    cli::{
        args::{BackupSecretArgs, ProtectionArgs, RestoreArgs},
        console::Console,
        error::CliError,
        key_secrets, passphrase_prompt,
        units::shell_quote,
    },
    daemon::backup::{self, EncryptedBackup, OpenBackup, Secret},
};
use std::path::Path;

/// Restores a node from a backup into a new data directory.
pub fn run(args: &RestoreArgs, data: &Path, console: &mut Console) -> Result<(), CliError> {
    let fingerprint = args.fingerprint.as_deref().map(str::to_ascii_lowercase);
    let backup = unlock(&args.file, &args.secret)?;
    let ProtectionArgs { protection, secret } = &args.protection;
    let settings = key_secrets::load_settings(data)?;
    let protection = key_secrets::new_protection(*protection, secret, &settings)?;
    let contents = backup.restore(data, &protection, fingerprint.as_deref())?;
    if console.is_json() {
        return console.print_json(&Contents::from(&contents));
    }
    console.print_line(format!("The node was restored to {}.", data.display()))?;
    print_contents(&contents, console)?;
    console.print_line("")?;
    console.print_line(
        "When it starts, it replaces the sessions with all partners and requests what they sent \
         since the backup. The old node must never run again: two nodes with one identity lose \
         messages.",
    )?;
    console.print_hint(format!(
        "Start it with: sealpost --data {} serve",
        shell_quote(&data.to_string_lossy())
    ))
}

/// Opens a backup with the secret that it needs, which is asked for unless it is in a file.
pub(super) fn unlock(file: &Path, args: &BackupSecretArgs) -> Result<OpenBackup, CliError> {
    let encrypted = EncryptedBackup::open(file)?;
    let secret = match (&args.identity, &args.passphrase_file) {
        (Some(path), _) => Secret::Identities(backup::read_identities(path)?),
        (None, Some(path)) => Secret::Passphrase(backup::read_passphrase(path)?),
        (None, None) if encrypted.needs_passphrase() => {
            Secret::Passphrase(ask_passphrase(passphrase_prompt::ask)?)
        }
        (None, None) => {
            return Err(CliError::usage(
                "the backup is encrypted to a recipient",
                "pass the key file of the recipient with --identity KEYFILE",
            ));
        }
    };
    Ok(encrypted.unlock(&secret)?)
}
