//! Arguments of `sealpost backup` and `sealpost restore`.

use super::key::ProtectionArgs;
use clap::{Args, Subcommand, ValueHint};
use sealpost_age::Recipient;
use std::path::PathBuf;

/// Arguments of `sealpost backup FILE` and of its subcommands.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackupArgs {
    #[command(subcommand)]
    pub command: Option<BackupCommand>,
    #[command(flatten)]
    pub create: BackupCreateArgs,
}

#[derive(Subcommand)]
pub enum BackupCommand {
    /// Check that a backup is complete and can be restored, without writing anything
    Verify(BackupVerifyArgs),
}

#[derive(Args)]
pub struct BackupCreateArgs {
    /// File to create, in the age format
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Public key that can decrypt the backup (age1…, from age-keygen); can be repeated. Without
    /// it, the backup is encrypted with a passphrase
    #[arg(long, value_name = "KEY", value_parser = Recipient::parse)]
    pub recipient: Vec<Recipient>,
    /// File with the passphrase; without this or --recipient, you are prompted
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with = "recipient"
    )]
    pub passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub struct BackupVerifyArgs {
    /// Backup to check
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub secret: BackupSecretArgs,
}

#[derive(Args)]
pub struct RestoreArgs {
    /// Backup to restore
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub secret: BackupSecretArgs,
    /// Restore only if the backup is of the node with this fingerprint
    #[arg(long, value_name = "HEX")]
    pub fingerprint: Option<String>,
    #[command(flatten)]
    pub protection: ProtectionArgs,
}

/// What decrypts a backup.
#[derive(Args)]
pub struct BackupSecretArgs {
    /// Key file of the recipient (from age-keygen)
    #[arg(long, value_name = "KEYFILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
    /// File with the passphrase; without this or --identity, you are prompted
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with = "identity"
    )]
    pub passphrase_file: Option<PathBuf>,
}
