//! Logs go to standard error, structured. What they never hold (an envelope, a token, the query of a URL) is the duty of
//! whoever writes a line; other people's crates, which know of no such duty, are heard only where they warn or inform.

use serde::{Deserialize, Serialize};
use std::{io::IsTerminal as _, str::FromStr};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

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
    #[error(
        "the log filter \"{filter}\" does not parse: write for example \"info\" or \"info,sealpost_relay=debug\""
    )]
    Filter {
        /// As it was given.
        filter: String,
    },
    /// Somebody else in the process writes logs already.
    #[error("logs were set up before")]
    Twice,
}

/// The process's logs, whose level can be changed.
pub struct Logs(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl Logs {
    /// From now on logs what this filter says.
    ///
    /// # Errors
    /// [`LogsError::Filter`] when it does not parse; then the old one stays.
    pub fn refilter(&self, filter: &str) -> Result<(), LogsError> {
        (self.0)(parse(filter)?).map_err(|_| LogsError::Twice)
    }
}

/// Sends the process's logs to standard error. `filter` is a level (`info`) with exceptions (`sealpost_relay=debug`).
///
/// # Errors
/// [`LogsError`] when the filter does not parse, or logs were set up before.
pub fn init(format: LogFormat, filter: &str) -> Result<Logs, LogsError> {
    let lines = fmt()
        .with_env_filter(parse(filter)?)
        .with_writer(std::io::stderr);
    let (logs, started) = match format {
        LogFormat::Human => {
            let lines = lines
                .with_ansi(std::io::stderr().is_terminal())
                .with_filter_reloading();
            let handle = lines.reload_handle();
            (
                Logs(Box::new(move |filter| handle.reload(filter))),
                lines.finish().with(filter_fn(is_discreet)).try_init(),
            )
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            (
                Logs(Box::new(move |filter| handle.reload(filter))),
                lines.finish().with(filter_fn(is_discreet)).try_init(),
            )
        }
    };
    started.map(|()| logs).map_err(|_| LogsError::Twice)
}

/// HTTP libraries write headers and addresses down at their lower levels.
fn is_discreet(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || line.target().starts_with("sealpost")
}

fn parse(filter: &str) -> Result<EnvFilter, LogsError> {
    EnvFilter::try_new(filter).map_err(|_| LogsError::Filter {
        filter: filter.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        assert!(matches!(
            init(LogFormat::Human, "a=b=c"),
            Err(LogsError::Filter { .. })
        ));
    }

    #[test]
    fn only_our_own_crates_are_heard_at_every_level() {
        let logs = init(LogFormat::Human, "trace").unwrap();
        assert!(tracing::enabled!(target: "sealpost_relay::http", Level::TRACE));
        assert!(
            tracing::enabled!(target: "hyper", Level::INFO)
                && !tracing::enabled!(target: "hyper", Level::DEBUG)
        );
        logs.refilter("sealpost_relay=debug").unwrap();
        assert!(!tracing::enabled!(target: "sealpost_relay::http", Level::TRACE));
        assert!(tracing::enabled!(target: "sealpost_relay::http", Level::DEBUG));
    }

    #[test]
    fn formats_read() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("xml".parse::<LogFormat>(), Err(LogsError::Format));
    }
}
