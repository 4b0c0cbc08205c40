//! Configuration files in TOML. The types are their owner's; they say `#[serde(deny_unknown_fields)]`, so that a misspelt
//! key is an error and not a silent default. [`Told`] puts flags and environment variables over a file, and knows where
//! each setting comes from.

mod layers;

pub use layers::{Loaded, Origin, Setting, Settings, Told, defaults};

use serde::de::DeserializeOwned;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("{}, line {line}, column {column}: {reason}; correct that line and start again", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// Something without a default is missing, and there is no file.
    #[error("{reason}; write it into a configuration file and name that file")]
    Incomplete {
        /// What is missing.
        reason: String,
    },
}

/// Reads the configuration file, or takes the defaults when none is named.
///
/// # Errors
/// [`ConfigError`] names the file, the line and what to do.
pub fn load<T: DeserializeOwned>(path: Option<&Path>) -> Result<T, ConfigError> {
    let Some(path) = path else {
        return toml::from_str("").map_err(|error| ConfigError::Incomplete {
            reason: error.message().to_owned(),
        });
    };
    let text = read(path)?;
    toml::from_str(&text).map_err(|error| explain(path, &text, &error))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn explain(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    ConfigError::Invalid {
        path: path.to_owned(),
        line: line_of(text, start),
        column: before[line_start..].chars().count() + 1,
        reason: error.message().replace('\n', ", "),
    }
}

/// Counted from 1.
fn line_of(text: &str, start: usize) -> usize {
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
    fn no_file_means_defaults() {
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
    fn an_error_names_file_and_line() {
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
