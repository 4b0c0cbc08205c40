//! Settings of the daemon. Flags take precedence over environment variables, which take precedence
//! over `node.toml`, then the defaults.
//!
//! To add a setting, add a field whose `id` is `section.name`, with a doc comment and a default.
//! The flag `--section-name` and the variable `SEALPOST_SECTION_NAME` follow from the id, and
//! `sealpost config show` lists the setting.

use clap::Args;
use sealpost_node_core::transfer::DownloadPolicy;
use sealpost_proto::limits;
use sealpost_service::{
    config::{self, ByteSize, ConfigError, HumanDuration, LoadedConfig, Settings},
    logs::LogFormat,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, path::Path, str::FromStr, time::Duration};

/// Name of the configuration file in the data directory. The file is optional.
pub(crate) const CONFIG_FILE: &str = "node.toml";

/// Settings from the command line and the environment.
pub type Overrides = config::Overrides<Config>;

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[command(flatten)]
    pub tls: Tls,
    #[command(flatten)]
    pub files: Files,
    #[command(flatten)]
    pub key: Key,
    #[command(flatten)]
    pub checkpoint: Checkpoint,
    #[command(flatten)]
    pub backup: Backup,
    #[command(flatten)]
    pub log: Log,
}

/// Connection to the home relay.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Private certificate authorities in PEM format that the certificate of the relay may come
    /// from, besides those of the system
    #[arg(id = "tls.ca_file", value_name = "FILE", default_value = "")]
    pub ca_file: String,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Files to download automatically: always, on_demand, or for example "up_to 20 MB"
    #[arg(id = "files.download", value_name = "POLICY", default_value = "always")]
    pub download: AutoDownload,
    /// Maximum total size of the files of one message, up to 500 MB
    #[arg(
        id = "files.message_size_max",
        value_name = "SIZE",
        default_value_t = ByteSize::from_bytes(limits::MESSAGE_FILES_BYTES_MAX)
    )]
    pub message_size_max: ByteSize,
}

/// Secret that opens the data key at start.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// File with the passphrase of the data key, for a start without a terminal
    #[arg(id = "key.passphrase_file", value_name = "FILE", default_value = "")]
    pub passphrase_file: String,
    /// Name of the systemd credential that protects the data key
    #[arg(
        id = "key.credential",
        value_name = "NAME",
        default_value = "sealpost-key"
    )]
    pub credential: String,
}

/// Checkpoints, from which a node recognises that its data directory was rolled back.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Directory outside the data directory for a small file that the node compares with its
    /// database; "off" for none, empty for sealpost in the user's state directory
    #[arg(id = "checkpoint.directory", value_name = "DIR", default_value = "")]
    pub directory: String,
    /// Interval of the checkpoints of an active node, at least 1 s
    #[arg(
        id = "checkpoint.every",
        value_name = "DURATION",
        default_value_t = HumanDuration::from_duration(limits::CHECKPOINT_INTERVAL)
    )]
    pub every: HumanDuration,
}

/// Scheduled backups.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Interval of scheduled backups, for example "1 day", or off
    #[arg(id = "backup.every", value_name = "DURATION", default_value = "off")]
    pub every: BackupInterval,
    /// Number of scheduled backups that remain; older ones are deleted
    #[arg(
        id = "backup.keep",
        value_name = "NUMBER",
        default_value_t = 7,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    #[serde(rename = "keep")]
    pub copies: u32,
    /// Directory of the scheduled backups
    #[arg(id = "backup.directory", value_name = "DIR", default_value = "")]
    pub directory: String,
    /// Public key that can decrypt the scheduled backups (age1…, from age-keygen)
    #[arg(id = "backup.recipient", value_name = "KEY", default_value = "")]
    pub recipient: String,
    /// File with the passphrase of the scheduled backups, instead of a recipient
    #[arg(id = "backup.passphrase_file", value_name = "FILE", default_value = "")]
    pub passphrase_file: String,
}

/// Log output on standard error.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Log format: human or json
    #[arg(id = "log.format", value_name = "FORMAT", default_value = "human")]
    pub format: LogFormat,
    /// Log levels, for example info,sealpost_node=debug
    #[arg(id = "log.filter", value_name = "FILTER", default_value = "info")]
    pub filter: String,
}

impl Settings for Config {
    const PREFIX: &'static str = "SEALPOST_";
    const IGNORED_PREFIXES: &'static [&'static str] = &["SEALPOST_RELAY_"];
    /// Variables of other flags, and the seed of tests.
    const OTHER_VARIABLES: &'static [&'static str] = &[
        "SEALPOST_DATA",
        "SEALPOST_REGISTRATION_TOKEN",
        "SEALPOST_SEED",
    ];
}

/// Loads the settings for a data directory. Without `--config`, the file is `node.toml` in the
/// directory.
pub fn load(overrides: &Overrides, data: &Path) -> Result<LoadedConfig<Config>, ConfigError> {
    overrides.load_or_default_file(&data.join(CONFIG_FILE))
}

/// Setting that says which files are downloaded as soon as their message arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoDownload(pub DownloadPolicy);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a download policy; write always, on_demand or for example \"up_to 20 MB\""
)]
pub struct ParseAutoDownloadError {
    text: String,
}

impl FromStr for AutoDownload {
    type Err = ParseAutoDownloadError;

    fn from_str(text: &str) -> Result<Self, ParseAutoDownloadError> {
        let policy = match text.trim() {
            "always" => Some(DownloadPolicy::Always),
            "on_demand" => Some(DownloadPolicy::OnDemand),
            other => other
                .strip_prefix("up_to ")
                .and_then(|size| size.parse::<ByteSize>().ok())
                .map(|size| DownloadPolicy::UpTo(size.bytes())),
        };
        policy.map(Self).ok_or_else(|| ParseAutoDownloadError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for AutoDownload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DownloadPolicy::Always => f.write_str("always"),
            DownloadPolicy::OnDemand => f.write_str("on_demand"),
            DownloadPolicy::UpTo(bytes) => write!(f, "up_to {}", ByteSize::from_bytes(bytes)),
        }
    }
}

impl Serialize for AutoDownload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AutoDownload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Setting that says how often a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupInterval {
    Off,
    Every(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an interval of at least a minute; write for example \"1 day\", or off")]
pub struct ParseBackupIntervalError {
    text: String,
}

impl BackupInterval {
    /// Returns the interval, unless backups are off.
    #[must_use]
    pub const fn interval(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Every(interval) => Some(interval),
        }
    }
}

impl FromStr for BackupInterval {
    type Err = ParseBackupIntervalError;

    fn from_str(text: &str) -> Result<Self, ParseBackupIntervalError> {
        if text.trim() == "off" {
            return Ok(Self::Off);
        }
        let interval = text.parse().map(HumanDuration::duration).ok();
        interval
            .filter(|interval| *interval >= limits::BACKUP_INTERVAL_MIN)
            .map(Self::Every)
            .ok_or_else(|| ParseBackupIntervalError {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for BackupInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Every(interval) => HumanDuration::from_duration(*interval).fmt(f),
        }
    }
}

impl Serialize for BackupInterval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackupInterval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn download_policies_are_parsed_and_printed() {
        for (text, policy) in [
            ("always", DownloadPolicy::Always),
            ("on_demand", DownloadPolicy::OnDemand),
            ("up_to 20 MB", DownloadPolicy::UpTo(20_000_000)),
            ("up_to 0 B", DownloadPolicy::UpTo(0)),
        ] {
            assert_eq!(text.parse(), Ok(AutoDownload(policy)));
            assert_eq!(AutoDownload(policy).to_string(), text);
        }
        for bad in ["", "Always", "up_to", "up_to MB", "up_to -1", "up_to 20 XB"] {
            assert!(bad.parse::<AutoDownload>().is_err(), "{bad}");
        }
    }

    #[test]
    fn backup_intervals_are_parsed_and_printed() {
        for (text, printed) in [("off", "off"), ("1d", "1 day"), ("12 h", "12 h")] {
            let interval: BackupInterval = text.parse().unwrap();
            assert_eq!(interval.to_string(), printed);
            assert_eq!(printed.parse(), Ok(interval));
        }
        for bad in ["", "never", "59s", "0", "-1d"] {
            assert!(bad.parse::<BackupInterval>().is_err(), "{bad}");
        }
    }

    #[test]
    fn file_settings_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(directory.path().join(CONFIG_FILE), text).unwrap();
        let overrides = crate::cli::args::parse_overrides(&["serve"]);
        write("[files]\ndownload = \"up_to 20 MB\"\nmessage_size_max = \"3 kB\"\n");
        let files = load(&overrides, directory.path()).unwrap().config.files;
        assert_eq!(files.download.0, DownloadPolicy::UpTo(20_000_000));
        assert_eq!(files.message_size_max.bytes(), 3_000);
        write("[log]\nfiltre = \"info\"\n");
        let error = load(&overrides, directory.path()).unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("log.filter"),
            "{error}"
        );
    }

    #[test]
    fn flags_win_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join(CONFIG_FILE),
            "[log]\nfilter = \"debug\"\nformat = \"json\"\n",
        )
        .unwrap();
        let overrides = crate::cli::args::parse_overrides(&["serve", "--log-filter", "warn"]);
        let log = load(&overrides, directory.path()).unwrap().config.log;
        assert_eq!((log.filter.as_str(), log.format), ("warn", LogFormat::Json));
    }
}
