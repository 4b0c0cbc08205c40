//! Arguments of `sealpost key`, and of the protection of a new data directory.

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use std::{fmt, path::PathBuf};

/// Kind of protection of a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProtectionKind {
    /// A key in a file
    KeyFile,
    /// A passphrase that is entered at each start
    Passphrase,
    /// A key that systemd passes to the service
    Credential,
}

impl fmt::Display for ProtectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyFile => "key file",
            Self::Passphrase => "passphrase",
            Self::Credential => "credential",
        })
    }
}

#[derive(Args)]
pub struct ProtectionArgs {
    /// What protects the data key, which encrypts the secrets in the data directory
    #[arg(long, value_enum, value_name = "KIND", default_value = "key-file")]
    pub protection: ProtectionKind,
    #[command(flatten)]
    pub secret: NewSecretArgs,
}

/// Secret of a new protection.
#[derive(Args)]
pub struct NewSecretArgs {
    /// Key file, which is created if it does not exist; by default a new one in the data directory.
    /// For a credential: file with its key, or - for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,
    /// File with the passphrase that protects the data key, or - for standard input; without it,
    /// the passphrase is asked for
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key_passphrase_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum KeyCommand {
    /// Show what protects the data key
    Show,
    /// Change what protects the data key, while the node is stopped
    Change(KeyChangeArgs),
    /// Print a new key for a credential
    Generate,
}

#[derive(Args)]
pub struct KeyChangeArgs {
    /// What protects the data key from now on
    #[arg(long, value_enum, value_name = "KIND")]
    pub to: ProtectionKind,
    #[command(flatten)]
    pub secret: NewSecretArgs,
    /// File with the current passphrase, or - for standard input; without it, key.passphrase_file
    /// is used, or the passphrase is asked for
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub current_passphrase_file: Option<PathBuf>,
    /// Current key file if it was moved, or file with the key of the current credential; - for
    /// standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub current_key_file: Option<PathBuf>,
    /// Erase the current key file if it is outside the data directory; one in it is always erased
    #[arg(long)]
    pub erase_old_key_file: bool,
}
