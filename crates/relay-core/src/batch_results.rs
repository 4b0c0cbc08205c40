//! What a node's results says of each item of a batch (`docs/protocol.md`, *Deliveries*).

use sealpost_proto::{
    DeliveryId,
    limits::{BACKOFF_FIRST, ENVELOPE_DEFERRALS_MAX, RETRY_AFTER_MAX, RETRY_AFTER_MIN},
    wire::{DeliveryOutcome, DeliveryResult},
};
use std::{collections::BTreeMap, time::Duration};

/// What becomes of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The node has it: the relay deletes it.
    Stored,
    /// Junk: the relay deletes it and tells the sender.
    Refused,
    /// It waits.
    Deferred,
}

/// A whole results, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchResults {
    /// One verdict for each item of the batch, in its order.
    pub verdicts: Vec<(DeliveryId, Verdict)>,
    /// How long the node asks to be left alone; absent when it took everything.
    pub retry_after: Option<Duration>,
    /// The item that held the batch up while others of it were stored. [`exceeds_deferral_limit`] says what that leads to.
    pub blocking_item: Option<DeliveryId>,
}

impl BatchResults {
    /// No results at all: everything waits on.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            verdicts: Vec::new(),
            retry_after: None,
            blocking_item: None,
        }
    }
}

/// Reads the outcomes for the items of a batch. After the first `later`, or an item without an outcome, everything
/// counts as `later` except what is `stored`. Of two outcomes for one item the first counts; outcomes for other items
/// are skipped.
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
        retry_after: first_deferred.map(|(_, asked)| clamp_retry_after(asked)),
        blocking_item: first_deferred.map(|(id, _)| id).filter(|_| has_stored),
        verdicts,
    }
}

/// Whether an envelope that was to blame so many times is set aside.
#[must_use]
pub const fn exceeds_deferral_limit(deferrals: u32) -> bool {
    deferrals >= ENVELOPE_DEFERRALS_MAX
}

fn clamp_retry_after(asked_ms: Option<u64>) -> Duration {
    asked_ms
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
    fn after_the_first_later_only_stored_counts() {
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
    fn an_item_without_an_outcome_is_later() {
        let results = evaluate(&ids(&[1, 2]), &[]);
        assert_eq!(verdicts(&results), [Verdict::Deferred, Verdict::Deferred]);
        assert_eq!(
            (results.retry_after, results.blocking_item),
            (Some(BACKOFF_FIRST), None)
        );
    }

    #[test]
    fn everything_stored_asks_for_nothing() {
        let results = evaluate(
            &ids(&[1]),
            &[result(1, DeliveryOutcome::Stored), result(1, DEFERRED)],
        );
        assert_eq!((results.retry_after, results.blocking_item), (None, None));
    }

    #[test]
    fn a_wait_of_years_is_a_day_and_none_is_a_second() {
        for (asked, wait) in [(u64::MAX, RETRY_AFTER_MAX), (0, RETRY_AFTER_MIN)] {
            let deferred = DeliveryOutcome::Deferred {
                retry_after_ms: Some(asked),
            };
            assert_eq!(
                evaluate(&ids(&[1]), &[result(1, deferred)]).retry_after,
                Some(wait)
            );
        }
    }

    #[test]
    fn ten_laters_set_aside() {
        assert!(
            !exceeds_deferral_limit(ENVELOPE_DEFERRALS_MAX - 1)
                && exceeds_deferral_limit(ENVELOPE_DEFERRALS_MAX)
        );
    }
}
