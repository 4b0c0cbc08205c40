//! The figures of a full run.

use sealpost_bench_support::Figure;
use serde::Serialize;

/// Figures in the last line of output.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// Rate of the relay divided by that of the ceiling, with 64 requests in flight and one
    /// account.
    pub(crate) ratio_to_ceiling: Figure,
    /// Commits per accepted envelope in the same rounds.
    pub(crate) fsyncs_per_message: Figure,
    /// Median delivery time divided by that of the ceiling, at 500 envelopes per second.
    pub(crate) p50_ratio_500: Figure,
    /// The same for the 99th percentile.
    pub(crate) p99_ratio_500: Figure,
    /// Rate with a long queue divided by the rate without.
    pub(crate) million_queued_ratio: Figure,
    /// Service of each healthy endpoint while 10 % fail, divided by the service while none fail:
    /// the lower of the ratio of rates and the inverse ratio of p99.
    pub(crate) healthy_ratio_10: Figure,
    /// The same while 50 % fail.
    pub(crate) healthy_ratio_50: Figure,
    /// Memory of the relay in MiB.
    pub(crate) rss_mb: Memories,
    /// Peak memory in MiB at twice the capacity.
    pub(crate) overload_rss_mb: Figure,
}

/// Memory in MiB.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Memories {
    /// After the start.
    pub(crate) idle: Figure,
    /// Peak during the rounds of `ratio_to_ceiling`.
    pub(crate) load: Figure,
    /// Peak with a long queue.
    pub(crate) million: Figure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_json_names() {
        let line = serde_json::to_string(&Figures {
            ratio_to_ceiling: Figure(0.41234),
            ..Figures::default()
        });
        let expected = concat!(
            r#"{"ratio_to_ceiling":0.412,"fsyncs_per_message":0.0,"p50_ratio_500":0.0,"#,
            r#""p99_ratio_500":0.0,"million_queued_ratio":0.0,"healthy_ratio_10":0.0,"#,
            r#""healthy_ratio_50":0.0,"rss_mb":{"idle":0.0,"load":0.0,"million":0.0},"#,
            r#""overload_rss_mb":0.0}"#
        );
        assert_eq!(line.ok().as_deref(), Some(expected));
    }
}
