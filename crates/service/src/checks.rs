//! Report of checks. `sealpost-relay check` prints it, one line for each check, with what to do
//! about each problem.

use crate::escape::{escape_block, escape_line};
use serde::Serialize;
use std::{
    fmt,
    io::{self, Write},
};

/// Columns of the subjects in a text.
const SUBJECT_WIDTH: usize = 10;

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Nothing has to be done.
    Ok,
    /// Something should be done, or is not as usual.
    Warning,
    /// Something has to be done.
    Failed,
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

/// Check with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Result.
    pub status: CheckStatus,
    /// What was checked, in one word.
    pub subject: &'static str,
    /// What was found.
    pub text: String,
    /// What to do. Only a check that is ok has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Results of checks, in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport(Vec<CheckResult>);

/// Report as JSON.
#[derive(Serialize)]
struct ReportDocument<'a> {
    /// The worst status of all checks.
    status: CheckStatus,
    warnings: usize,
    failed: usize,
    checks: &'a [CheckResult],
}

impl CheckReport {
    /// Adds a check that found nothing to do.
    pub fn ok(&mut self, subject: &'static str, text: impl fmt::Display) {
        self.push(CheckStatus::Ok, subject, &text, None);
    }

    /// Adds a warning, and what to do.
    pub fn warn(
        &mut self,
        subject: &'static str,
        text: impl fmt::Display,
        next: impl Into<String>,
    ) {
        self.push(CheckStatus::Warning, subject, &text, Some(next.into()));
    }

    /// Adds a check that failed, and what to do.
    pub fn fail(
        &mut self,
        subject: &'static str,
        text: impl fmt::Display,
        next: impl Into<String>,
    ) {
        self.push(CheckStatus::Failed, subject, &text, Some(next.into()));
    }

    fn push(
        &mut self,
        status: CheckStatus,
        subject: &'static str,
        text: &dyn fmt::Display,
        next: Option<String>,
    ) {
        self.0.push(CheckResult {
            status,
            subject,
            text: text.to_string(),
            next,
        });
    }

    /// Returns the results.
    #[must_use]
    pub fn results(&self) -> &[CheckResult] {
        &self.0
    }

    /// Counts the checks with this result.
    #[must_use]
    pub fn count(&self, status: CheckStatus) -> usize {
        let results = self.0.iter();
        results.filter(|result| result.status == status).count()
    }

    /// Writes one line for each check, and one below it that says what to do.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        for result in &self.0 {
            let (status, subject) = (result.status, result.subject);
            let text = escape_line(&result.text);
            writeln!(out, "{status:<7}  {subject:<SUBJECT_WIDTH$}  {text}")?;
            if let Some(next) = &result.next {
                let next = escape_line(next);
                writeln!(out, "{:<7}  {:<SUBJECT_WIDTH$}  next: {next}", "", "")?;
            }
        }
        Ok(())
    }

    /// Writes the report as a JSON document.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let statuses = self.0.iter().map(|result| result.status);
        let text = serde_json::to_string_pretty(&ReportDocument {
            status: statuses.max().unwrap_or(CheckStatus::Ok),
            warnings: self.count(CheckStatus::Warning),
            failed: self.count(CheckStatus::Failed),
            checks: &self.0,
        })?;
        writeln!(out, "{}", escape_block(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> CheckReport {
        let mut report = CheckReport::default();
        report.ok("settings", "valid");
        report.warn("database", "not found", "start the relay");
        report.fail("directory", "a\nb", "run chmod 700 /x");
        report
    }

    #[test]
    fn problems_say_what_to_do() {
        let mut text = Vec::new();
        report().write_text(&mut text).unwrap();
        let expected = "ok       settings    valid\n\
                        warning  database    not found\n\
                        \x20                    next: start the relay\n\
                        failed   directory   a\\nb\n\
                        \x20                    next: run chmod 700 /x\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn json_has_the_worst_status() {
        let mut text = Vec::new();
        report().write_json(&mut text).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "status": "failed", "warnings": 1, "failed": 1,
                "checks": [
                    {"status": "ok", "subject": "settings", "text": "valid"},
                    {"status": "warning", "subject": "database", "text": "not found",
                     "next": "start the relay"},
                    {"status": "failed", "subject": "directory", "text": "a\nb",
                     "next": "run chmod 700 /x"},
                ],
            })
        );
    }
}
