//! What a node's answer says of each item of a batch (`docs/protocol.md`, *Deliveries*).

use sealpost_proto::{
    DeliveryId,
    limits::{BACKOFF_FIRST, ENVELOPE_LATERS_MAX, RETRY_AFTER_MAX, RETRY_AFTER_MIN},
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
    Later,
}

/// A whole answer, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// One verdict for each item of the batch, in its order.
    pub verdicts: Vec<(DeliveryId, Verdict)>,
    /// How long the node asks to be left alone; absent when it took everything.
    pub later: Option<Duration>,
    /// The item that held the batch up while others of it were stored. [`sets_aside`] says what that leads to.
    pub blamed: Option<DeliveryId>,
}

impl Answer {
    /// No answer at all: everything waits on.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            verdicts: Vec::new(),
            later: None,
            blamed: None,
        }
    }
}

/// Reads the outcomes for the items of a batch. After the first `later`, or an item without an outcome, everything
/// counts as `later` except what is `stored`. Of two outcomes for one item the first counts; outcomes for other items
/// are skipped.
#[must_use]
pub fn read(batch: &[DeliveryId], results: &[DeliveryResult]) -> Answer {
    let mut outcomes = BTreeMap::new();
    for result in results {
        outcomes.entry(result.id).or_insert(result.outcome.clone());
    }
    let mut verdicts = Vec::with_capacity(batch.len());
    let mut first_later = None;
    for &id in batch {
        let verdict = match outcomes.get(&id) {
            Some(DeliveryOutcome::Stored) => Verdict::Stored,
            Some(DeliveryOutcome::Refused) if first_later.is_none() => Verdict::Refused,
            Some(DeliveryOutcome::Later { retry_after_ms }) => {
                first_later.get_or_insert((id, *retry_after_ms));
                Verdict::Later
            }
            Some(DeliveryOutcome::Refused) | None => {
                first_later.get_or_insert((id, None));
                Verdict::Later
            }
        };
        verdicts.push((id, verdict));
    }
    let others_pass = verdicts
        .iter()
        .any(|(_, verdict)| *verdict == Verdict::Stored);
    Answer {
        later: first_later.map(|(_, asked)| patience(asked)),
        blamed: first_later.map(|(id, _)| id).filter(|_| others_pass),
        verdicts,
    }
}

/// Whether an envelope that was to blame so many times is set aside.
#[must_use]
pub const fn sets_aside(laters: u32) -> bool {
    laters >= ENVELOPE_LATERS_MAX
}

fn patience(asked_ms: Option<u64>) -> Duration {
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

    fn verdicts(answer: &Answer) -> Vec<Verdict> {
        answer
            .verdicts
            .iter()
            .map(|(_, verdict)| *verdict)
            .collect()
    }

    const LATER: DeliveryOutcome = DeliveryOutcome::Later {
        retry_after_ms: Some(7_000),
    };

    #[test]
    fn after_the_first_later_only_stored_counts() {
        let results = [
            result(1, DeliveryOutcome::Refused),
            result(2, LATER),
            result(3, DeliveryOutcome::Stored),
            result(4, DeliveryOutcome::Refused),
            result(9, DeliveryOutcome::Stored),
        ];
        let answer = read(&ids(&[1, 2, 3, 4, 5]), &results);
        use Verdict::{Later, Refused, Stored};
        assert_eq!(verdicts(&answer), [Refused, Later, Stored, Later, Later]);
        assert_eq!(answer.later, Some(Duration::from_secs(7)));
        assert_eq!(answer.blamed, Some(DeliveryId(2)));
    }

    #[test]
    fn an_item_without_an_outcome_is_later() {
        let answer = read(&ids(&[1, 2]), &[]);
        assert_eq!(verdicts(&answer), [Verdict::Later, Verdict::Later]);
        assert_eq!((answer.later, answer.blamed), (Some(BACKOFF_FIRST), None));
    }

    #[test]
    fn everything_stored_asks_for_nothing() {
        let answer = read(
            &ids(&[1]),
            &[result(1, DeliveryOutcome::Stored), result(1, LATER)],
        );
        assert_eq!((answer.later, answer.blamed), (None, None));
    }

    #[test]
    fn a_wait_of_years_is_a_day_and_none_is_a_second() {
        for (asked, wait) in [(u64::MAX, RETRY_AFTER_MAX), (0, RETRY_AFTER_MIN)] {
            let later = DeliveryOutcome::Later {
                retry_after_ms: Some(asked),
            };
            assert_eq!(read(&ids(&[1]), &[result(1, later)]).later, Some(wait));
        }
    }

    #[test]
    fn ten_laters_set_aside() {
        assert!(!sets_aside(ENVELOPE_LATERS_MAX - 1) && sets_aside(ENVELOPE_LATERS_MAX));
    }
}
