//! Settings of a program. Flags take precedence over environment variables, which take precedence
//! over a TOML file, then the defaults.
//!
//! A setting is declared once, as a field of a clap `Args` struct that also derives `Serialize` and
//! `Deserialize`. Its `id` is its dotted key in the file, its doc comment the help text and
//! `default_value` its default; `hide_env_values` marks a secret. The flag and the variable follow
//! from the key unless the field names them. Sizes are [`ByteSize`], durations [`HumanDuration`].
//!
//! A program flattens [`Overrides`] into its commands and calls [`Overrides::load`]. A misspelt key
//! in the file and a misspelt variable with the program's prefix are errors, not silent defaults.
//!
//! ```
//! use clap::{Args, Parser};
//! use sealpost_service::config::{ByteSize, HumanDuration, Overrides, Settings};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Debug, Clone, Args, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     #[command(flatten)]
//!     files: Files,
//! }
//!
//! #[derive(Debug, Clone, Args, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Files {
//!     /// Largest file that is accepted
//!     #[arg(id = "files.size_max", value_name = "SIZE", default_value = "20 MB")]
//!     size_max: ByteSize,
//!     /// Time after which files are deleted
//!     #[arg(id = "files.retention", value_name = "DURATION", default_value = "7 days")]
//!     retention: HumanDuration,
//! }
//!
//! impl Settings for Config {
//!     const PREFIX: &'static str = "EXAMPLE_";
//! }
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     overrides: Overrides<Config>,
//! }
//!
//! let cli = Cli::parse_from(["example", "--files-size-max", "64 KiB"]);
//! let files = cli.overrides.load()?.config.files;
//! assert_eq!(files.size_max.bytes(), 65_536);
//! assert_eq!(files.retention.duration(), Duration::from_secs(604_800));
//! # Ok::<(), sealpost_service::config::ConfigError>(())
//! ```

mod layers;
mod names;
mod show;
mod values;

pub use layers::{
    LoadedConfig, Overrides, Setting, SettingSource, Settings, load_defaults,
    reject_unknown_variables,
};
pub use show::{format_json, format_toml};
pub use values::{ByteSize, HumanDuration, ParseByteSizeError, ParseDurationError};

use serde::de::DeserializeOwned;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Error for a configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error from the operating system.
        source: io::Error,
    },
    /// The file has an unknown key, an invalid value or a syntax error.
    #[error(
        "{}, line {line}, column {column}: {reason}; correct that line and start again",
        path.display()
    )]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// Line of the error, counted from 1.
        line: usize,
        /// Column of the error in characters, counted from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A variable has the program's prefix but is not a setting.
    #[error(
        "the environment variable {name} is not a setting (did you mean {nearest}?); \
         correct or unset it and start again"
    )]
    UnknownVariable {
        /// Name of the variable.
        name: String,
        /// Known variable with the smallest edit distance.
        nearest: String,
    },
    /// A setting without a default is missing, and no file is named.
    #[error("{reason}; write it into a configuration file and name that file")]
    Incomplete {
        /// Which setting is missing.
        reason: String,
    },
    /// A setting has a value that TOML cannot represent.
    #[error("the settings cannot be written as TOML: {reason}")]
    NotSerializable {
        /// Error from the serializer.
        reason: String,
    },
}

/// Reads the configuration file, or uses the defaults if none is named, without the layers of
/// [`Overrides`].
///
/// # Errors
/// Returns [`ConfigError`] if the file cannot be read or a setting is unknown, missing or invalid.
pub fn load<T: DeserializeOwned>(path: Option<&Path>) -> Result<T, ConfigError> {
    let Some(path) = path else {
        return toml::from_str("").map_err(|error| ConfigError::Incomplete {
            reason: error.message().to_owned(),
        });
    };
    let text = read_file(path)?;
    toml::from_str(&text).map_err(|error| explain_toml_error(path, &text, &error))
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn explain_toml_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    invalid_at(path, text, start, error.message().replace('\n', ", "))
}

fn invalid_at(path: &Path, text: &str, start: usize, reason: String) -> ConfigError {
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    ConfigError::Invalid {
        path: path.to_owned(),
        line: line_at(text, start),
        column: before[line_start..].chars().count() + 1,
        reason,
    }
}

/// Returns the number of the line at a byte offset, counted from 1.
fn line_at(text: &str, start: usize) -> usize {
    text.get(..start).unwrap_or_default().matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::io::Write as _;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Example {
        port: u16,
        name: String,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn defaults_apply_without_file() {
        assert_eq!(load::<Example>(None).unwrap(), Example::default());
        #[derive(Debug, Deserialize)]
        struct Needs {
            _key: String,
        }
        assert!(
            load::<Needs>(None)
                .unwrap_err()
                .to_string()
                .contains("_key")
        );
    }

    #[test]
    fn errors_name_the_place() {
        let unknown = file("port = 1\nnaem = \"x\"\n");
        let text = load::<Example>(Some(unknown.path()))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("line 2, column 1") && text.contains("naem"),
            "{text}"
        );
        let wrong = file("name = \"x\"\n\nport = \"eighty\"\n");
        let text = load::<Example>(Some(wrong.path())).unwrap_err().to_string();
        assert!(text.contains("line 3, column 8"), "{text}");
        assert!(
            load::<Example>(Some(Path::new("/nowhere/x.toml")))
                .unwrap_err()
                .to_string()
                .contains("/nowhere")
        );
    }
}
