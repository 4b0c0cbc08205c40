//! How long things took.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer times count as this one.
const LONGEST_US: u64 = 600_000_000;

/// A histogram of microseconds with three digits.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// What a histogram says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// Half took no longer, in milliseconds.
    pub p50_ms: f64,
    /// All but one in a hundred took no longer, in milliseconds.
    pub p99_ms: f64,
    /// The longest, in milliseconds.
    pub(crate) max_ms: f64,
}

impl Latencies {
    /// An empty one.
    ///
    /// # Errors
    /// Never with these bounds.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST_US, 3)?))
    }

    /// Adds what began and ended at these Unix nanoseconds.
    pub(crate) fn add(&mut self, began_ns: u64, ended_ns: u64) {
        self.0
            .saturating_record((ended_ns.saturating_sub(began_ns) / 1_000).clamp(1, LONGEST_US));
    }

    /// Adds another one.
    ///
    /// # Errors
    /// Never with these bounds.
    pub(crate) fn merge(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// What it says.
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
