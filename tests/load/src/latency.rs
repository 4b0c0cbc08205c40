//! Latency histograms.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest recorded time; longer ones are clamped to it.
const LONGEST_US: u64 = 600_000_000;

/// Histogram in microseconds with three significant digits.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// Quantiles of a histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// Median in milliseconds.
    pub(crate) p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub(crate) p99_ms: f64,
    /// Maximum in milliseconds.
    pub(crate) max_ms: f64,
}

impl Latencies {
    /// Creates an empty histogram.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST_US, 3)?))
    }

    /// Records a duration between two times in Unix nanoseconds.
    pub(crate) fn add(&mut self, started_ns: u64, ended_ns: u64) {
        self.0
            .saturating_record((ended_ns.saturating_sub(started_ns) / 1_000).clamp(1, LONGEST_US));
    }

    /// Merges another histogram.
    pub(crate) fn merge(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// Returns the quantiles.
    #[must_use]
    pub(crate) fn quantiles(&self) -> Quantiles {
        let millis = |us: u64| us as f64 / 1e3;
        Quantiles {
            p50_ms: millis(self.0.value_at_quantile(0.5)),
            p99_ms: millis(self.0.value_at_quantile(0.99)),
            max_ms: millis(self.0.max()),
        }
    }
}
