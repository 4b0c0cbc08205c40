//! Structured logs on standard error.
//!
//! Our own code never logs envelopes, tokens or the queries of URLs. Other crates do not know this
//! rule, so their `DEBUG` and `TRACE` lines are dropped.
//!
//! A line can contain text from a partner, a relay or a client. [`EscapedStderr`] escapes whatever
//! could act on a terminal or start another line.

use crate::escape::escape_line;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, IsTerminal as _, Write},
    str::FromStr,
};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

/// Format of the log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Human,
    /// One JSON object per line.
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

/// Error when setting up logs or changing their filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogsError {
    /// The format is neither `human` nor `json`.
    #[error("the log format is \"human\" or \"json\"")]
    Format,
    /// The filter does not parse.
    #[error(
        "the log filter \"{filter}\" does not parse: \
         write for example \"info\" or \"info,sealpost_relay=debug\""
    )]
    Filter {
        /// The invalid filter.
        filter: String,
    },
    /// The process has set up logs already.
    #[error("logs are already set up")]
    AlreadyInitialized,
}

/// Handle to the logs of the process that changes their filter.
pub struct Logs(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl Logs {
    /// Replaces the filter.
    ///
    /// # Errors
    /// Returns [`LogsError::Filter`] if the filter does not parse; then the old one stays in force.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogsError> {
        (self.0)(parse(filter)?).map_err(|_| LogsError::AlreadyInitialized)
    }
}

/// Starts to write logs to standard error. `filter` is a level (`info`), optionally with exceptions
/// (`info,sealpost_relay=debug`).
///
/// # Errors
/// Returns [`LogsError`] if the filter does not parse, or logs are already set up.
pub fn init(format: LogFormat, filter: &str) -> Result<Logs, LogsError> {
    let is_coloured = format == LogFormat::Human && io::stderr().is_terminal();
    let lines = fmt()
        .with_env_filter(parse(filter)?)
        .with_writer(move || EscapedStderr { is_coloured });
    let (logs, started) = match format {
        LogFormat::Human => {
            let lines = lines.with_ansi(is_coloured).with_filter_reloading();
            let handle = lines.reload_handle();
            (
                Logs(Box::new(move |filter| handle.reload(filter))),
                lines.finish().with(filter_fn(is_permitted)).try_init(),
            )
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            (
                Logs(Box::new(move |filter| handle.reload(filter))),
                lines.finish().with(filter_fn(is_permitted)).try_init(),
            )
        }
    };
    started
        .map(|()| logs)
        .map_err(|_| LogsError::AlreadyInitialized)
}

/// Standard error for one line per `write`, which is how `tracing_subscriber` writes.
struct EscapedStderr {
    is_coloured: bool,
}

impl Write for EscapedStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let escaped = escape_log_line(&String::from_utf8_lossy(line), self.is_coloured);
        io::stderr().lock().write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Escapes a line except its end and, if it is coloured, its colours. Colours in a value cannot
/// pass, because `tracing_subscriber` escapes `ESC` in values.
fn escape_log_line(line: &str, is_coloured: bool) -> String {
    const COLOUR: &str = "\u{1b}[";
    let text = line.strip_suffix('\n').unwrap_or(line);
    let mut pieces = text.split(COLOUR);
    let mut escaped = escape_line(pieces.next().unwrap_or_default());
    for piece in pieces {
        let is_number = |code: &str| code.bytes().all(|c| c.is_ascii_digit() || c == b';');
        match piece.split_once('m') {
            Some((code, text)) if is_coloured && is_number(code) => {
                escaped.extend([COLOUR, code, "m", &escape_line(text)]);
            }
            _ => escaped.extend([&*escape_line(COLOUR), &*escape_line(piece)]),
        }
    }
    escaped.push('\n');
    escaped
}

/// Returns whether a line may be logged: HTTP libraries log headers and addresses at low levels.
fn is_permitted(line: &Metadata<'_>) -> bool {
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
    fn parse_errors_name_the_filter() {
        assert!(matches!(
            init(LogFormat::Human, "a=b=c"),
            Err(LogsError::Filter { .. })
        ));
    }

    #[test]
    fn other_crates_log_no_debug_lines() {
        let logs = init(LogFormat::Human, "trace").unwrap();
        assert!(tracing::enabled!(target: "sealpost_relay::http", Level::TRACE));
        assert!(
            tracing::enabled!(target: "hyper", Level::INFO)
                && !tracing::enabled!(target: "hyper", Level::DEBUG)
        );
        logs.set_filter("sealpost_relay=debug").unwrap();
        assert!(!tracing::enabled!(target: "sealpost_relay::http", Level::TRACE));
        assert!(tracing::enabled!(target: "sealpost_relay::http", Level::DEBUG));
    }

    #[test]
    fn log_lines_cannot_be_forged() {
        let forged = "\u{1b}[2mINFO\u{1b}[0m a=\u{9b}2J\u{202e}x\nINFO b\u{1b}]0;t\u{7}\n";
        assert_eq!(
            escape_log_line(forged, false),
            "\\u001b[2mINFO\\u001b[0m a=\\u009b2J\\u202ex\\nINFO b\\u001b]0;t\\u0007\n"
        );
        assert_eq!(
            escape_log_line(forged, true),
            "\u{1b}[2mINFO\u{1b}[0m a=\\u009b2J\\u202ex\\nINFO b\\u001b]0;t\\u0007\n"
        );
    }

    #[test]
    fn formats_are_parsed() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("xml".parse::<LogFormat>(), Err(LogsError::Format));
    }
}
