//! Logs go to standard error, structured. What they never hold (an envelope, a token, the query of a URL) is the duty of
//! whoever writes a line.

use serde::{Deserialize, Serialize};
use std::{io::IsTerminal as _, str::FromStr};
use tracing_subscriber::{EnvFilter, fmt};

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = LogsError;
    fn from_str(text: &str) -> Result<Self, LogsError> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(LogsError::Format),
        }
    }
}

/// Why there are no logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogsError {
    /// Neither `human` nor `json`.
    #[error("the format of logs is \"human\" or \"json\"")]
    Format,
    /// The filter does not parse.
    #[error("the log filter \"{filter}\" does not parse: write for example \"info\" or \"info,sealpost_relay=debug\"")]
    Filter {
        /// As it was given.
        filter: String,
    },
    /// Somebody else in the process writes logs already.
    #[error("logs were set up before")]
    Twice,
}

/// Sends the process's logs to standard error. `filter` is a level (`info`) with exceptions (`sealpost_relay=debug`).
///
/// # Errors
/// [`LogsError`] when the filter does not parse, or logs were set up before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogsError> {
    let parsed = EnvFilter::try_new(filter).map_err(|_| LogsError::Filter { filter: filter.to_owned() })?;
    let lines = fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogsError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let error = init(LogFormat::Human, "a=b=c").unwrap_err();
        assert!(matches!(error, LogsError::Filter { .. }), "{error}");
    }

    #[test]
    fn formats_read() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("xml".parse::<LogFormat>(), Err(LogsError::Format));
    }
}
