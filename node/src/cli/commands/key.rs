//! `sealpost key`

use crate::{
    cli::{
        args::{KeyChangeArgs, KeyCommand, ProtectionKind},
        console::Console,
        error::CliError,
        key_secrets::{self, CurrentSecrets},
        units::shell_quote,
    },
    daemon::vault::{self, KeyProtection, LockedVault},
};
use sealpost_e2ee::vault::KeyFile;
use serde::Serialize;
use std::path::Path;

/// What protects a data key, as JSON.
#[derive(Serialize)]
#[serde(tag = "protection", rename_all = "snake_case")]
enum ProtectionDocument<'a> {
    #[serde(rename_all = "camelCase")]
    KeyFile { key_file: String },
    #[serde(rename_all = "camelCase")]
    Passphrase {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
    },
    #[serde(rename_all = "camelCase")]
    Credential { credential: &'a str },
}

/// Shows or changes what protects the data key.
pub fn run(command: &KeyCommand, data: &Path, console: &mut Console) -> Result<(), CliError> {
    match command {
        KeyCommand::Show => show(data, console),
        KeyCommand::Change(args) => change(args, data, console),
        KeyCommand::Generate => {
            let key = KeyFile::generate(&mut sealpost_service::entropy());
            console.print_verbatim(&key.encode())
        }
    }
}

fn show(data: &Path, console: &mut Console) -> Result<(), CliError> {
    let credential = key_secrets::load_settings(data)?.credential;
    print(&vault::describe(data)?, &credential, console)
}

fn change(args: &KeyChangeArgs, data: &Path, console: &mut Console) -> Result<(), CliError> {
    let settings = key_secrets::load_settings(data)?;
    let mut current = CurrentSecrets::from_settings(&settings);
    if args.current_passphrase_file.is_some() {
        current
            .passphrase_file
            .clone_from(&args.current_passphrase_file);
    }
    current.key_file.clone_from(&args.current_key_file);
    let vault = LockedVault::open(data, &current)?;
    let mut new_settings = settings.clone();
    // The file of the setting has the current passphrase.
    new_settings.passphrase_file.clear();
    let protection = key_secrets::new_protection(args.to, &args.secret, &new_settings)?;
    let changed = vault.change(&protection, args.erase_old_key_file)?;
    print(&changed.protection, &settings.credential, console)?;
    if console.is_json() {
        return Ok(());
    }
    if let Some(path) = &changed.old_key_file {
        let path = path.display();
        console.print_line(format!("The old key file {path} is not needed any more."))?;
    }
    console.print_line(
        "Copies of the data directory from before still open with the old secret; delete them.",
    )?;
    match args.to {
        ProtectionKind::KeyFile => Ok(()),
        ProtectionKind::Passphrase => console.print_hint(
            "`sealpost serve` asks for the passphrase; to start without a terminal, set \
             key.passphrase_file to a file with it",
        ),
        ProtectionKind::Credential => console.print_hint(format!(
            "Pass the credential in the systemd unit: LoadCredentialEncrypted={}",
            shell_quote(&settings.credential)
        )),
    }
}

fn print(
    protection: &KeyProtection,
    credential: &str,
    console: &mut Console,
) -> Result<(), CliError> {
    if console.is_json() {
        return console.print_json(&match protection {
            KeyProtection::KeyFile(path) => ProtectionDocument::KeyFile {
                key_file: path.display().to_string(),
            },
            KeyProtection::Passphrase(parameters) => ProtectionDocument::Passphrase {
                memory_kib: parameters.memory_kib,
                passes: parameters.passes,
                lanes: parameters.lanes,
            },
            KeyProtection::Credential => ProtectionDocument::Credential { credential },
        });
    }
    console.print_line(match protection {
        KeyProtection::KeyFile(path) => {
            format!("The key file {} protects the data key.", path.display())
        }
        KeyProtection::Passphrase(parameters) => format!(
            "A passphrase protects the data key (Argon2id, {} MiB, {} passes, {} lanes).",
            parameters.memory_kib / 1024,
            parameters.passes,
            parameters.lanes
        ),
        KeyProtection::Credential => {
            format!("The systemd credential {credential} protects the data key.")
        }
    })
}
