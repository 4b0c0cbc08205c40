//! Metrics in the text format of Prometheus, version 0.0.4, which all its versions and tools read.

use std::fmt::{self, Display, Write as _};

/// Content type of the format.
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics under construction.
#[derive(Debug, Default)]
pub struct MetricsText {
    prefix: &'static str,
    text: String,
}

impl MetricsText {
    /// Starts a text whose names begin with `prefix` and an underscore.
    #[must_use]
    pub const fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            text: String::new(),
        }
    }

    /// Adds a gauge.
    ///
    /// # Errors
    /// If the value cannot be formatted.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) -> fmt::Result {
        self.describe(name, help, "gauge")?;
        writeln!(self.text, "{}_{name} {value}", self.prefix)
    }

    /// Adds a gauge if its value is known.
    ///
    /// # Errors
    /// If the value cannot be formatted.
    pub fn optional_gauge(
        &mut self,
        name: &str,
        help: &str,
        value: Option<impl Display>,
    ) -> fmt::Result {
        value.map_or(Ok(()), |value| self.gauge(name, help, value))
    }

    /// Adds a gauge with one series for each value of a label. The values must be fixed words of the
    /// program, which need no escaping.
    ///
    /// # Errors
    /// If a value cannot be formatted.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        series: &[(&str, u64)],
    ) -> fmt::Result {
        self.describe(name, help, "gauge")?;
        for (word, value) in series {
            writeln!(
                self.text,
                "{}_{name}{{{label}=\"{word}\"}} {value}",
                self.prefix
            )?;
        }
        Ok(())
    }

    /// Adds a counter, whose name ends with `_total`.
    ///
    /// # Errors
    /// If the value cannot be formatted.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.describe(name, help, "counter")?;
        writeln!(self.text, "{}_{name} {value}", self.prefix)
    }

    /// Returns the text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    fn describe(&mut self, name: &str, help: &str, kind: &str) -> fmt::Result {
        let prefix = self.prefix;
        writeln!(self.text, "# HELP {prefix}_{name} {help}")?;
        writeln!(self.text, "# TYPE {prefix}_{name} {kind}")
    }
}

/// Converts text in the OpenMetrics format, in which the type of a counter or of an info metric
/// belongs to its name without the suffix. `promtool` and old versions of Prometheus do not read it.
#[must_use]
pub fn from_openmetrics(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // It precedes the type of the same metric, which determines its name.
            help = described.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|typed| typed.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            text.extend([
                "# HELP ", name, suffix, " ", help, "\n", "# TYPE ", name, suffix, " ", kind, "\n",
            ]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

/// Returns the resident memory of this process in bytes, as far as the system reports it.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_samples_have_the_same_name() {
        let openmetrics = "# HELP a_requests Requests by route.\n\
                           # TYPE a_requests counter\n\
                           a_requests_total{route=\"x\"} 1\n\
                           # HELP a_build Program version.\n\
                           # TYPE a_build info\n\
                           a_build_info{version=\"1\"} 1\n\
                           # HELP a_delay_seconds Delay.\n\
                           # TYPE a_delay_seconds histogram\n\
                           # UNIT a_delay_seconds seconds\n\
                           a_delay_seconds_count 1\n\
                           # EOF\n";
        let text = "# HELP a_requests_total Requests by route.\n\
                    # TYPE a_requests_total counter\n\
                    a_requests_total{route=\"x\"} 1\n\
                    # HELP a_build_info Program version.\n\
                    # TYPE a_build_info gauge\n\
                    a_build_info{version=\"1\"} 1\n\
                    # HELP a_delay_seconds Delay.\n\
                    # TYPE a_delay_seconds histogram\n\
                    a_delay_seconds_count 1\n";
        assert_eq!(from_openmetrics(openmetrics), text);
    }

    #[test]
    fn metrics_are_described_once() {
        let mut metrics = MetricsText::new("a");
        metrics.gauge("connected", "Connected", 1).unwrap();
        metrics.optional_gauge("last", "Last", None::<u64>).unwrap();
        metrics
            .gauges("items", "Items", "state", &[("open", 2), ("failed", 0)])
            .unwrap();
        metrics.counter("commits_total", "Commits", 3).unwrap();
        assert_eq!(
            metrics.into_text(),
            "# HELP a_connected Connected\n\
             # TYPE a_connected gauge\n\
             a_connected 1\n\
             # HELP a_items Items\n\
             # TYPE a_items gauge\n\
             a_items{state=\"open\"} 2\n\
             a_items{state=\"failed\"} 0\n\
             # HELP a_commits_total Commits\n\
             # TYPE a_commits_total counter\n\
             a_commits_total 3\n"
        );
        assert!(resident_bytes().is_some_and(|bytes| bytes > 0));
    }
}
