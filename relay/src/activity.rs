//! Recording of submissions and deliveries, in the metrics and in the throughput of the status
//! page.

use crate::{
    metrics::Metrics,
    throughput::{Throughput, ThroughputCounts},
};
use sealpost_proto::{
    DeliveryId, Timestamp,
    wire::{DeliveryResult, SubmitOutcome, SubmitResult},
};
use sealpost_relay_core::classify::Class;
use std::sync::Arc;

/// Recorder of activity.
#[derive(Clone)]
pub(crate) struct Activity {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) throughput: Arc<Throughput>,
}

impl Activity {
    /// Returns a recorder for a relay that starts now.
    #[must_use]
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            metrics: Arc::new(Metrics::new(now)),
            throughput: Arc::default(),
        }
    }

    /// Records submitted envelopes.
    pub(crate) fn record_submissions(&self, now: Timestamp, results: &[SubmitResult]) {
        let mut counts = ThroughputCounts::default();
        for result in results {
            match result.outcome {
                SubmitOutcome::Accepted { .. } => counts.accepted += 1,
                SubmitOutcome::Refused { .. } => counts.refused += 1,
                SubmitOutcome::Duplicate { .. } => {}
            }
        }
        self.throughput.add(now, counts);
        let outcomes = results.iter().map(|result| &result.outcome);
        self.metrics.record_submissions(outcomes);
    }

    /// Records the results of a pulled batch, of which `stored` envelopes were delivered.
    pub(crate) fn record_pull(&self, now: Timestamp, results: &[DeliveryResult], stored: u64) {
        self.metrics.record_results(results);
        self.throughput.add(
            now,
            ThroughputCounts {
                delivered: stored,
                ..ThroughputCounts::default()
            },
        );
    }

    /// Records a webhook call with envelopes that were accepted at these times, of which `stored`
    /// were delivered.
    pub(crate) fn record_call(
        &self,
        now: Timestamp,
        class: Class,
        results: &[DeliveryResult],
        sent: &[(DeliveryId, Timestamp)],
        stored: u64,
    ) {
        self.metrics.record_call(now, class, results, sent);
        self.throughput.add(
            now,
            ThroughputCounts {
                delivered: stored,
                failed_calls: u64::from(class != Class::Succeeded),
                ..ThroughputCounts::default()
            },
        );
    }
}
