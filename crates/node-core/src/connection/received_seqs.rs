//! Which of the peer's numbered messages arrived, so that the peer can be asked for the others.

use sealpost_e2ee::{Incarnation, payload::Resume};
use sealpost_proto::limits;
use std::collections::BTreeSet;

/// Sequence numbers that arrived, for the latest incarnations of the peer.
///
/// Messages that arrive again are recognised by their ids, so this may forget: numbers too far
/// above the first missing one, and incarnations beyond [`limits::PEER_INCARNATIONS_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedSeqs {
    /// Current one last.
    incarnations: Vec<IncarnationSeqs>,
}

/// Sequence numbers that arrived of one incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IncarnationSeqs {
    pub(super) incarnation: Incarnation,
    /// Highest number up to which nothing is missing.
    pub(super) upto: u64,
    /// Numbers above `upto + 1` that arrived.
    pub(super) above: BTreeSet<u64>,
}

impl ReceivedSeqs {
    /// Records a number of the incarnation that sealed the message first. Numbers start at 1; 0
    /// belongs to kinds that are not numbered. An unknown incarnation is an earlier one, because
    /// the peer states its current one in its prekeys and whenever it starts a session.
    pub fn record(&mut self, incarnation: Incarnation, seq: u64) {
        if seq != 0 {
            let before_current = self.incarnations.len().saturating_sub(1);
            self.entry(incarnation, before_current).record(seq);
        }
    }

    /// Records the current incarnation of the peer, even if nothing of it has arrived.
    pub fn record_incarnation(&mut self, incarnation: Incarnation) {
        self.entry(incarnation, self.incarnations.len());
    }

    /// Returns the current incarnation of the peer, as far as it is known.
    #[must_use]
    pub fn current(&self) -> Option<Incarnation> {
        self.incarnations.last().map(|entry| entry.incarnation)
    }

    /// Returns one entry for each known incarnation, the current one first.
    #[must_use]
    pub fn resumes(&self) -> Vec<Resume> {
        let latest_first = self.incarnations.iter().rev();
        latest_first.map(IncarnationSeqs::to_resume).collect()
    }

    /// Returns the entry of an incarnation. An unknown one is inserted at `position`, and the first
    /// one is removed if there are too many.
    fn entry(&mut self, incarnation: Incarnation, position: usize) -> &mut IncarnationSeqs {
        let mut known = self.incarnations.iter();
        let known = known.position(|entry| entry.incarnation == incarnation);
        let index = known.unwrap_or_else(|| {
            let is_full = self.incarnations.len() == limits::PEER_INCARNATIONS_MAX;
            if is_full {
                self.incarnations.remove(0);
            }
            let index = position - usize::from(is_full);
            self.incarnations
                .insert(index, IncarnationSeqs::new(incarnation));
            index
        });
        &mut self.incarnations[index]
    }

    pub(super) fn from_incarnations(incarnations: Vec<IncarnationSeqs>) -> Self {
        Self { incarnations }
    }

    pub(super) fn incarnations(&self) -> &[IncarnationSeqs] {
        &self.incarnations
    }
}

impl IncarnationSeqs {
    pub(super) const fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            upto: 0,
            above: BTreeSet::new(),
        }
    }

    fn record(&mut self, seq: u64) {
        let highest = self.upto.saturating_add(limits::RESUME_SEQS_MAX);
        if seq > self.upto && seq <= highest {
            self.above.insert(seq);
        }
        while self.above.remove(&(self.upto + 1)) {
            self.upto += 1;
        }
    }

    fn to_resume(&self) -> Resume {
        let mut bitmap = Vec::new();
        for seq in &self.above {
            let index = seq - self.upto - 1;
            let byte = usize::try_from(index / 8).unwrap_or(usize::MAX);
            if byte >= limits::RESUME_BITMAP_BYTES_MAX {
                break;
            }
            bitmap.resize(byte + 1, 0);
            bitmap[byte] |= 0x80 >> (index % 8);
        }
        Resume {
            incarnation: self.incarnation,
            upto: self.upto,
            bitmap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: Incarnation = Incarnation::from_bytes([1; 8]);

    fn recorded(seqs: &[u64]) -> ReceivedSeqs {
        let mut received = ReceivedSeqs::default();
        seqs.iter().for_each(|seq| received.record(PEER, *seq));
        received
    }

    #[test]
    fn gaps_are_visible_in_the_bitmap() {
        let resume = &recorded(&[1, 2, 5, 13, 0]).resumes()[0];
        assert_eq!((resume.upto, &resume.bitmap[..]), (2, &[0x20, 0x20][..]));
        let resume = &recorded(&[2, 3, 1]).resumes()[0];
        assert_eq!((resume.upto, resume.bitmap.len()), (3, 0));
    }

    #[test]
    fn unknown_incarnations_are_earlier_ones() {
        let [first, current, earlier] = [1, 2, 3].map(|byte| Incarnation::from_bytes([byte; 8]));
        let mut received = ReceivedSeqs::default();
        received.record(first, 1);
        assert_eq!(received.current(), Some(first));
        received.record_incarnation(current);
        received.record(earlier, 7);
        received.record(first, 2);
        assert_eq!(received.current(), Some(current));
        let order = received.resumes().into_iter().map(|r| r.incarnation);
        assert_eq!(order.collect::<Vec<_>>(), [current, earlier, first]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut received = recorded(&(2..10_000).collect::<Vec<_>>());
        for number in 0..100 {
            received.record_incarnation(Incarnation::from_bytes([number; 8]));
            received.record(Incarnation::from_bytes([100 + number; 8]), 1);
        }
        let resumes = received.resumes();
        assert_eq!(resumes.len(), limits::PEER_INCARNATIONS_MAX);
        assert_eq!(resumes[0].incarnation, Incarnation::from_bytes([99; 8]));
        let resume = &recorded(&(2..10_000).collect::<Vec<_>>()).resumes()[0];
        assert_eq!(resume.bitmap.len(), limits::RESUME_BITMAP_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn resume_contains_what_was_recorded(
            seqs in prop::collection::vec(1_u64..900, 0..300),
        ) {
            let resumes = recorded(&seqs).resumes();
            let contains = |seq| resumes.first().is_some_and(|resume| resume.contains(seq));
            for seq in 1..900 {
                prop_assert_eq!(contains(seq), seqs.contains(&seq), "{}", seq);
            }
        }
    }
}
