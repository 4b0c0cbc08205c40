//! The figures of a whole run, and how they are drawn from rounds.

use serde::{Serialize, Serializer};

/// The last line of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// Envelopes a second of the relay by the ceiling's, 64 in flight, one account.
    pub(crate) ratio_to_ceiling: Figure,
    /// Commits by accepted envelopes, in the same rounds.
    pub(crate) fsyncs_per_message: Figure,
    /// Median time from due to the webhook by the ceiling's, at 500 a second.
    pub p50_ratio_500: Figure,
    /// The same for the 99th percentile.
    pub p99_ratio_500: Figure,
    /// Envelopes a second with a long queue by the same without.
    pub(crate) million_queued_ratio: Figure,
    /// What each living endpoint gets, while a tenth is dead, by the same while all live; the lower of rate and inverse p99.
    pub living_ratio_10: Figure,
    /// The same while half is dead.
    pub living_ratio_50: Figure,
    /// The relay's memory in MiB.
    pub(crate) rss_mb: Memories,
    /// The most memory in MiB while twice as much is offered as it can do.
    pub(crate) overload_rss_mb: Figure,
}

/// Memory in MiB.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Memories {
    /// After the start.
    pub(crate) idle: Figure,
    /// The most during the rounds of `ratio_to_ceiling`.
    pub(crate) load: Figure,
    /// The most with a long queue.
    pub(crate) million: Figure,
}

/// A number that is printed with three digits behind the point.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figure(pub f64);

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0 * 1e3).round() / 1e3)
    }
}

/// The middle one; of an even number the lower of the two.
#[must_use]
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([2.0, 1.0]), 1.0);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn the_line_has_the_agreed_names() {
        let line = serde_json::to_string(&Figures {
            ratio_to_ceiling: Figure(0.41234),
            ..Figures::default()
        });
        let expected = r#"{"ratio_to_ceiling":0.412,"fsyncs_per_message":0.0,"p50_ratio_500":0.0,"p99_ratio_500":0.0,"million_queued_ratio":0.0,"living_ratio_10":0.0,"living_ratio_50":0.0,"rss_mb":{"idle":0.0,"load":0.0,"million":0.0},"overload_rss_mb":0.0}"#;
        assert_eq!(line.ok().as_deref(), Some(expected));
    }
}
