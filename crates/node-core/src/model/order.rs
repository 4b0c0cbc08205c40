//! Order in which a chat shows its messages. A message that arrives late gets the next number, like
//! any other, but it is shown where its sender sent it.

use sealpost_proto::Timestamp;

/// Place of a message among those of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenderPosition {
    /// Orders the incarnations of the sender ([`assign_life`]).
    pub life: u64,
    /// Sequence number in that incarnation, assigned by the sender.
    pub seq: u64,
}

/// Place of a message in its chat. The derived order is the display order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DisplayPosition {
    /// Number of the message before which this one is shown, or its own number.
    pub sort: u64,
    /// Orders the messages that are shown before the same message. They are all of one sender.
    pub sender: SenderPosition,
    /// Number in the order of arrival, starting at 1, without gaps.
    pub number: u64,
}

impl SenderPosition {
    /// Position of messages that this node writes itself, which never arrive late.
    pub const OWN: Self = Self { life: 0, seq: 0 };
}

impl DisplayPosition {
    /// Places a message that arrives as `number`. `next_sort` is the sort key of the message that
    /// follows it among those of its sender, if that one has arrived before.
    #[must_use]
    pub fn new(number: u64, sender: SenderPosition, next_sort: Option<u64>) -> Self {
        Self {
            sort: next_sort.unwrap_or(number),
            sender,
            number,
        }
    }

    /// Whether the message arrived after one that its sender sent later.
    #[must_use]
    pub const fn is_late(self) -> bool {
        self.sort != self.number
    }
}

/// Returns the life of an incarnation of a peer from which nothing has arrived before. `highest` is
/// the highest life of that peer so far, and `sent_at` the time of the first message.
///
/// The current incarnation comes after all others, whatever the clocks say. An earlier one, whose
/// messages arrive late, comes before the current one.
#[must_use]
pub fn assign_life(highest: Option<u64>, is_current: bool, sent_at: Timestamp) -> u64 {
    let sent_at = sent_at.as_millis().max(1);
    match highest {
        None => sent_at,
        Some(highest) if is_current => sent_at.max(highest.saturating_add(1)),
        Some(current) => sent_at.min(current.saturating_sub(1)).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Message of a chat that a test plays: one of our own, or one that the peer sent.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Arrival {
        Own,
        Peer(SenderPosition),
    }

    /// Arrivals in any order: the peer sent each of its messages once.
    fn arrival_order() -> impl Strategy<Value = Vec<Arrival>> {
        let peer = prop::collection::btree_set((1_u64..4, 1_u64..12), 0..30);
        (peer, 0..15_usize).prop_flat_map(|(peer, own)| {
            let peer = peer.into_iter();
            let peer = peer.map(|(life, seq)| Arrival::Peer(SenderPosition { life, seq }));
            let all: Vec<_> = peer.chain(std::iter::repeat_n(Arrival::Own, own)).collect();
            Just(all).prop_shuffle()
        })
    }

    fn position_of(
        shown: &[(DisplayPosition, Arrival)],
        number: u64,
        arrival: Arrival,
    ) -> DisplayPosition {
        let Arrival::Peer(sender) = arrival else {
            return DisplayPosition::new(number, SenderPosition::OWN, None);
        };
        let later = shown.iter().filter_map(|(position, other)| match other {
            Arrival::Peer(other) if *other > sender => Some((*other, position.sort)),
            _ => None,
        });
        DisplayPosition::new(number, sender, later.min().map(|(_, sort)| sort))
    }

    /// Lists the arrivals as a person would: each at the end, but a late one just before the next
    /// one of its sender.
    fn expected(arrivals: &[Arrival]) -> Vec<u64> {
        let mut list: Vec<(u64, Arrival)> = Vec::new();
        for (number, arrival) in (1..).zip(arrivals) {
            let is_next = |other: &Arrival| match (arrival, other) {
                (Arrival::Peer(sender), Arrival::Peer(other)) => other > sender,
                _ => false,
            };
            let at = list.iter().position(|(_, other)| is_next(other));
            list.insert(at.unwrap_or(list.len()), (number, *arrival));
        }
        list.into_iter().map(|(number, _)| number).collect()
    }

    proptest! {
        #[test]
        fn late_messages_stand_before_the_next(arrivals in arrival_order()) {
            let mut shown: Vec<(DisplayPosition, Arrival)> = Vec::new();
            for (number, arrival) in (1..).zip(&arrivals) {
                let position = position_of(&shown, number, *arrival);
                shown.push((position, *arrival));
                shown.sort_by_key(|(position, _)| *position);
            }
            let numbers: Vec<_> = shown.iter().map(|(position, _)| position.number).collect();
            prop_assert_eq!(numbers, expected(&arrivals));
            let peer: Vec<_> = shown.iter().filter_map(|(_, arrival)| match arrival {
                Arrival::Peer(sender) => Some(*sender),
                Arrival::Own => None,
            }).collect();
            prop_assert!(peer.is_sorted(), "{:?}", peer);
        }

        #[test]
        fn current_incarnation_is_last(
            arrivals in prop::collection::vec((any::<bool>(), 0_u64..50), 1..20),
        ) {
            let (mut highest, mut current) = (None, None);
            for (is_current, sent_at) in arrivals {
                let sent_at = Timestamp::from_millis(sent_at);
                let life = assign_life(highest, is_current, sent_at);
                prop_assert!(life > SenderPosition::OWN.life);
                if is_current || current.is_none() {
                    prop_assert!(current.is_none_or(|current| life > current));
                    current = Some(life);
                } else if current > Some(1) {
                    prop_assert!(Some(life) < current);
                }
                highest = highest.max(Some(life));
            }
        }
    }

    #[test]
    fn lives_follow_the_clock() {
        let at = Timestamp::from_millis;
        let first = assign_life(None, true, at(1_000));
        let second = assign_life(Some(first), true, at(5_000));
        assert_eq!((first, second), (1_000, 5_000));
        let between = assign_life(Some(second), false, at(3_000));
        assert_eq!(between, 3_000);
        // The clock of the peer was set back, or ahead.
        assert_eq!(assign_life(Some(second), true, at(10)), 5_001);
        assert_eq!(assign_life(Some(second), false, at(9_000)), 4_999);
    }
}
