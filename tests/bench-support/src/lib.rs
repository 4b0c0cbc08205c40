//! What the benchmarks and the attacks share: figures, medians, progress output, and a simple HTTP
//! client and server.

pub mod connection;

use serde::{Serialize, Serializer};
use std::io::Write as _;

/// Measured number, serialised with three decimal places.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figure(pub f64);

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0 * 1e3).round() / 1e3)
    }
}

/// Returns the median, the lower of the two middle values for an even count, or 0 without values.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

/// Prints a line on standard error; standard output is reserved for the figures.
pub fn report_progress(line: &str) {
    // If standard error is closed, nobody reads the progress.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_lower_middle_value() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([2.0, 1.0]), 1.0);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn figures_have_three_decimal_places() {
        assert_eq!(
            serde_json::to_string(&Figure(0.41251)).ok().as_deref(),
            Some("0.413")
        );
    }
}
