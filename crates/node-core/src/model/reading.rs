//! Which messages of a chat become read when a user reads one of them.

use super::DisplayPosition;

/// Returns the new read position of a user who reads `message` and whose read position is
/// `position`. All messages with numbers up to the read position are read.
///
/// The position advances as far as possible without passing a message that is shown below
/// `message`. It is a single number, so a late message, which is shown above earlier messages, can
/// stay unread itself; reading it never marks the messages below it as read. `unread` are the
/// incoming messages with numbers greater than `position`, in any order.
#[must_use]
pub fn read_up_to(
    position: u64,
    message: DisplayPosition,
    unread: impl IntoIterator<Item = DisplayPosition>,
) -> u64 {
    let (mut last, mut first_below) = (position, None);
    for other in unread.into_iter().filter(|other| other.number > position) {
        last = last.max(other.number);
        if other > message {
            first_below = Some(first_below.map_or(other.number, |n: u64| n.min(other.number)));
        }
    }
    first_below.map_or(last, |number| number - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SenderPosition;
    use proptest::prelude::*;

    /// Message that is shown directly before the one with the number `sort`, if that is another.
    fn shown_before(number: u64, sort: u64) -> DisplayPosition {
        let is_late = sort < number;
        let seq = 100 * sort - if is_late { 100 - number } else { 0 };
        let sender = SenderPosition { life: 1, seq };
        DisplayPosition::new(number, sender, is_late.then_some(sort))
    }

    /// A chat in which some messages are shown above messages that arrived earlier.
    fn chat() -> impl Strategy<Value = Vec<DisplayPosition>> {
        proptest::collection::vec(0_u64..6, 1..30).prop_map(|lateness| {
            let numbered = (1_u64..).zip(lateness);
            let messages = numbered.map(|(n, late)| shown_before(n, n.saturating_sub(late).max(1)));
            messages.collect()
        })
    }

    fn unread(chat: &[DisplayPosition], position: u64) -> impl Iterator<Item = DisplayPosition> {
        chat.iter()
            .copied()
            .filter(move |other| other.number > position)
    }

    proptest! {
        #[test]
        fn late_message_arrives_unread(
            chat in chat(), at in any::<prop::sample::Index>(), sort in 1_u64..30,
        ) {
            let position = read_up_to(0, *at.get(&chat), chat.clone());
            let number = chat.len() as u64 + 1;
            let late = shown_before(number, sort.min(number));
            prop_assert!(position < number);
            // Reading what is shown above it does not read it.
            let mut with_late = chat.clone();
            with_late.push(late);
            for message in chat.iter().filter(|message| **message < late) {
                prop_assert!(read_up_to(position, *message, with_late.clone()) < number);
            }
            // Reading it when everything else was read reads it.
            prop_assert_eq!(read_up_to(number - 1, late, with_late), number);
        }

        #[test]
        fn nothing_below_the_message_is_read(
            chat in chat(), at in any::<prop::sample::Index>(), position in 0_u64..30,
        ) {
            let position = position.min(chat.len() as u64);
            let message = *at.get(&chat);
            let after = read_up_to(position, message, unread(&chat, position));
            prop_assert!(after >= position && after <= chat.len() as u64);
            for other in &chat {
                if other.number > position && other.number <= after {
                    prop_assert!(*other <= message);
                }
            }
            // It advances as far as it can: the next one is shown below the message.
            if let Some(next) = chat.iter().find(|other| other.number == after + 1) {
                prop_assert!(*next > message);
            }
        }

        #[test]
        fn reading_twice_changes_nothing(
            chat in chat(), at in any::<prop::sample::Index>(),
        ) {
            let message = *at.get(&chat);
            let once = read_up_to(0, message, unread(&chat, 0));
            prop_assert_eq!(read_up_to(once, message, unread(&chat, once)), once);
        }

        #[test]
        fn in_order_chats_are_read_up_to_the_message(count in 1_u64..50, at in 1_u64..50) {
            let chat: Vec<_> = (1..=count).map(|n| shown_before(n, n)).collect();
            let at = at.min(count);
            prop_assert_eq!(read_up_to(0, shown_before(at, at), chat), at);
        }
    }

    #[test]
    fn late_messages_stay_unread() {
        // The third message arrived late and is shown between the first and the second.
        let chat = [(1, 1), (2, 2), (3, 2)].map(|(number, sort)| shown_before(number, sort));
        assert_eq!(read_up_to(1, chat[2], chat), 1, "the second stays unread");
        assert_eq!(
            read_up_to(1, chat[1], chat),
            3,
            "nothing is shown below the second"
        );
    }
}
