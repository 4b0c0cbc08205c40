//! Evaluation of the results that a node reports for a batch (`docs/protocol.md`, *Deliveries*).

use sealpost_proto::{
    DeliveryId,
    limits::{BACKOFF_FIRST, ENVELOPE_DEFERRALS_MAX, RETRY_AFTER_MAX, RETRY_AFTER_MIN},
    wire::{DeliveryOutcome, DeliveryResult},
};
use std::{collections::BTreeMap, time::Duration};

/// Decision about one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The node stored the item; the relay deletes it.
    Stored,
    /// The node cannot open the item; the relay deletes it and notifies the sender.
    Refused,
    /// The item stays in the queue.
    Deferred,
}

/// Evaluated results of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchResults {
    /// One verdict for each item of the batch, in its order.
    pub verdicts: Vec<(DeliveryId, Verdict)>,
    /// Delay that the node requests; absent if it deferred nothing.
    pub retry_after: Option<Duration>,
    /// First deferred item, if other items of the batch were stored. Its deferrals count towards
    /// [`exceeds_deferral_limit`].
    pub blocking_item: Option<DeliveryId>,
}

impl BatchResults {
    /// Creates empty results: every item stays in the queue.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            verdicts: Vec::new(),
            retry_after: None,
            blocking_item: None,
        }
    }
}

/// Evaluates the results for the items of a batch.
///
/// After the first `later`, or the first item without a result, every item counts as `later` unless
/// it is `stored`. If an item has two results, the first counts. Results for other items are
/// ignored.
#[must_use]
pub fn evaluate(batch: &[DeliveryId], results: &[DeliveryResult]) -> BatchResults {
    let mut outcomes = BTreeMap::new();
    for result in results {
        outcomes.entry(result.id).or_insert(result.outcome.clone());
    }
    let mut verdicts = Vec::with_capacity(batch.len());
    let mut first_deferred = None;
    for &id in batch {
        let verdict = match outcomes.get(&id) {
            Some(DeliveryOutcome::Stored) => Verdict::Stored,
            Some(DeliveryOutcome::Refused) if first_deferred.is_none() => Verdict::Refused,
            Some(DeliveryOutcome::Deferred { retry_after_ms }) => {
                first_deferred.get_or_insert((id, *retry_after_ms));
                Verdict::Deferred
            }
            Some(DeliveryOutcome::Refused) | None => {
                first_deferred.get_or_insert((id, None));
                Verdict::Deferred
            }
        };
        verdicts.push((id, verdict));
    }
    let has_stored = verdicts
        .iter()
        .any(|(_, verdict)| *verdict == Verdict::Stored);
    BatchResults {
        retry_after: first_deferred.map(|(_, requested)| clamp_retry_after(requested)),
        blocking_item: first_deferred.map(|(id, _)| id).filter(|_| has_stored),
        verdicts,
    }
}

/// Returns whether an envelope with this number of deferrals is set aside.
#[must_use]
pub const fn exceeds_deferral_limit(deferrals: u32) -> bool {
    deferrals >= ENVELOPE_DEFERRALS_MAX
}

fn clamp_retry_after(requested_ms: Option<u64>) -> Duration {
    requested_ms
        .map_or(BACKOFF_FIRST, Duration::from_millis)
        .clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<DeliveryId> {
        numbers.iter().copied().map(DeliveryId).collect()
    }

    fn result(id: u64, outcome: DeliveryOutcome) -> DeliveryResult {
        DeliveryResult {
            id: DeliveryId(id),
            outcome,
        }
    }

    fn verdicts(results: &BatchResults) -> Vec<Verdict> {
        results
            .verdicts
            .iter()
            .map(|(_, verdict)| *verdict)
            .collect()
    }

    const DEFERRED: DeliveryOutcome = DeliveryOutcome::Deferred {
        retry_after_ms: Some(7_000),
    };

    #[test]
    fn only_stored_counts_after_first_deferral() {
        let results = [
            result(1, DeliveryOutcome::Refused),
            result(2, DEFERRED),
            result(3, DeliveryOutcome::Stored),
            result(4, DeliveryOutcome::Refused),
            result(9, DeliveryOutcome::Stored),
        ];
        let results = evaluate(&ids(&[1, 2, 3, 4, 5]), &results);
        use Verdict::{Deferred, Refused, Stored};
        assert_eq!(
            verdicts(&results),
            [Refused, Deferred, Stored, Deferred, Deferred]
        );
        assert_eq!(results.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(results.blocking_item, Some(DeliveryId(2)));
    }

    #[test]
    fn item_without_outcome_is_deferred() {
        let results = evaluate(&ids(&[1, 2]), &[]);
        assert_eq!(verdicts(&results), [Verdict::Deferred, Verdict::Deferred]);
        assert_eq!(
            (results.retry_after, results.blocking_item),
            (Some(BACKOFF_FIRST), None)
        );
    }

    #[test]
    fn stored_batch_requests_no_delay() {
        let results = evaluate(
            &ids(&[1]),
            &[result(1, DeliveryOutcome::Stored), result(1, DEFERRED)],
        );
        assert_eq!((results.retry_after, results.blocking_item), (None, None));
    }

    #[test]
    fn requested_delay_is_clamped() {
        for (requested, wait) in [(u64::MAX, RETRY_AFTER_MAX), (0, RETRY_AFTER_MIN)] {
            let deferred = DeliveryOutcome::Deferred {
                retry_after_ms: Some(requested),
            };
            assert_eq!(
                evaluate(&ids(&[1]), &[result(1, deferred)]).retry_after,
                Some(wait)
            );
        }
    }

    #[test]
    fn ten_deferrals_set_aside() {
        assert!(
            !exceeds_deferral_limit(ENVELOPE_DEFERRALS_MAX - 1)
                && exceeds_deferral_limit(ENVELOPE_DEFERRALS_MAX)
        );
    }
}
