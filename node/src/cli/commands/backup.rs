//! `sealpost backup`

use super::restore::unlock;
use crate::{
    cli::{
        args::{BackupArgs, BackupCommand, BackupCreateArgs, BackupVerifyArgs},
        client::command_line,
        console::Console,
        error::CliError,
        key_secrets::{self, CurrentSecrets},
        passphrase_prompt::{self, PromptError},
        units::{format_count, format_size, shell_quote},
    },
    daemon::{
        backup::{self, BackupContents, Protection},
        vault,
    },
};
use sealpost_age::Passphrase;
use serde::Serialize;
use std::{path::Path, sync::Arc};
use zeroize::Zeroizing;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    path: String,
    files: u64,
    missing_files: u64,
    bytes: u64,
}

/// Backup that was verified or restored, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Contents<'a> {
    name: &'a str,
    fingerprint: &'a str,
    relay: &'a str,
    created_at: &'a str,
    files: u64,
    missing_files: u64,
    bytes: u64,
}

impl<'a> From<&'a BackupContents> for Contents<'a> {
    fn from(contents: &'a BackupContents) -> Self {
        let info = &contents.info;
        Self {
            name: &info.name,
            fingerprint: &info.fingerprint,
            relay: &info.relay,
            created_at: &info.created_at,
            files: contents.files,
            missing_files: contents.missing,
            bytes: contents.bytes,
        }
    }
}

/// Makes a backup of the node, or verifies one.
pub async fn run(args: BackupArgs, data: &Path, console: &mut Console) -> Result<(), CliError> {
    match args.command {
        Some(BackupCommand::Verify(args)) => verify(&args, console),
        None => create(args.create, data, console).await,
    }
}

async fn create(
    args: BackupCreateArgs,
    data: &Path,
    console: &mut Console,
) -> Result<(), CliError> {
    let secrets = CurrentSecrets::from_settings(&key_secrets::load_settings(data)?);
    let data_key = vault::open(data, &secrets)?;
    let protection = protection(&args)?;
    let secret = describe_secret(&args);
    let Some(file) = args.file else {
        return Err(CliError::usage(
            "the file is missing",
            "name the file to create",
        ));
    };
    let created = tokio::select! {
        created = backup::create(data, data_key, &file, Arc::new(protection)) => created?,
        _ = tokio::signal::ctrl_c() => return Err(CliError::Interrupted {
            next: "run the command again; no backup was written".into(),
        }),
    };
    let (path, files) = (created.path.display(), created.files);
    if console.is_json() {
        return console.print_json(&Created {
            path: path.to_string(),
            files,
            missing_files: created.missing,
            bytes: created.bytes,
        });
    }
    console.print_line(format!(
        "The backup is in {path}: the database and {}, {}.",
        format_count(usize::try_from(files).unwrap_or(usize::MAX), "file"),
        format_size(created.bytes)
    ))?;
    print_missing(created.missing, console)?;
    let verify = format!("backup verify {}{secret}", shell_quote(&path.to_string()));
    console.print_hint(format!("Check it with: {}", command_line(data, &verify)))
}

/// Returns the arguments that open the backup.
fn describe_secret(args: &BackupCreateArgs) -> String {
    match &args.passphrase_file {
        Some(path) => format!(
            " --passphrase-file {}",
            shell_quote(&path.to_string_lossy())
        ),
        None if args.recipient.is_empty() => String::new(),
        None => " --identity KEYFILE".to_owned(),
    }
}

fn protection(args: &BackupCreateArgs) -> Result<Protection, CliError> {
    if !args.recipient.is_empty() {
        return Ok(Protection::Recipients(args.recipient.clone()));
    }
    let passphrase = match &args.passphrase_file {
        Some(path) => backup::read_passphrase(path)?,
        None => ask_passphrase(passphrase_prompt::ask_twice)?,
    };
    Ok(Protection::Passphrase(passphrase))
}

/// Asks for the passphrase of a backup, which is not empty.
pub(super) fn ask_passphrase(
    ask: impl FnOnce(&str) -> Result<Zeroizing<String>, PromptError>,
) -> Result<Passphrase, CliError> {
    let text = ask("Passphrase of the backup: ").map_err(|error| {
        error.into_cli_error(
            "pass --passphrase-file FILE, or a key: --recipient KEY for a backup, \
             --identity KEYFILE to open one",
        )
    })?;
    Passphrase::new(text).map_err(|error| {
        CliError::usage(
            error.to_string(),
            "run the command again and type a passphrase",
        )
    })
}

fn verify(args: &BackupVerifyArgs, console: &mut Console) -> Result<(), CliError> {
    let contents = unlock(&args.file, &args.secret)?.verify()?;
    if console.is_json() {
        return console.print_json(&Contents::from(&contents));
    }
    console.print_line("The backup is complete and can be restored.")?;
    print_contents(&contents, console)
}

/// Prints which node a backup is of, and what is missing.
pub(super) fn print_contents(
    contents: &BackupContents,
    console: &mut Console,
) -> Result<(), CliError> {
    let info = &contents.info;
    console.print_line(format!("Node         {} at {}", info.name, info.relay))?;
    console.print_line(format!("Fingerprint  {}", info.fingerprint))?;
    console.print_line(format!("Made         {}", info.created_at))?;
    console.print_line(format!(
        "Content      {}, {}",
        format_count(
            usize::try_from(contents.files).unwrap_or(usize::MAX),
            "file"
        ),
        format_size(contents.bytes)
    ))?;
    print_missing(contents.missing, console)
}

fn print_missing(missing: u64, console: &mut Console) -> Result<(), CliError> {
    if missing == 0 {
        return Ok(());
    }
    let files = format_count(usize::try_from(missing).unwrap_or(usize::MAX), "file");
    console.print_line(format!(
        "{files} of messages are not in the backup, because the data directory did not have them."
    ))
}
