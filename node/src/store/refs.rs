//! The short names that people see: `CHT-1111-2222-3333` and its relatives.

use crate::{fault::Fault, store::Tx};
use rand_core::CryptoRng;
use std::fmt::Write as _;

/// Which noun a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// `INV-…`
    Invite,
    /// `CON-…`
    Connection,
    /// `CHT-…`
    Chat,
    /// `CPT-…`
    Participant,
    /// `ATC-…`
    Attachment,
}

impl Noun {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Invite => "INV",
            Self::Connection => "CON",
            Self::Chat => "CHT",
            Self::Participant => "CPT",
            Self::Attachment => "ATC",
        }
    }

    const fn taken(self) -> &'static str {
        match self {
            Self::Invite => "SELECT 1 FROM invites WHERE ref = ?1",
            Self::Connection => "SELECT 1 FROM connections WHERE ref = ?1",
            Self::Chat => "SELECT 1 FROM chats WHERE ref = ?1",
            Self::Participant => "SELECT 1 FROM participants WHERE ref = ?1",
            Self::Attachment => "SELECT 1 FROM attachments WHERE ref = ?1",
        }
    }
}

/// Draws a name that is free: twelve random digits.
///
/// # Errors
/// When SQLite fails.
pub fn draw(tx: &mut Tx<'_>, noun: Noun) -> Result<String, Fault> {
    loop {
        let name = format!("{}{}", noun.prefix(), digits(tx.rng));
        if tx.value::<i64>(noun.taken(), &[&name])?.is_none() {
            return Ok(name);
        }
    }
}

/// `-dddd-dddd-dddd`; the slight bias of the remainder does not matter for a name.
fn digits(rng: &mut (impl CryptoRng + ?Sized)) -> String {
    let mut text = String::new();
    for _ in 0..3 {
        let _ = write!(text, "-{:04}", rng.next_u32() % 10_000);
    }
    text
}

/// The name of a chat's message: the chat's numbers, then its own count with at least five digits.
#[must_use]
pub fn message(chat: &str, number: i64) -> String {
    let numbers = chat.strip_prefix("CHT").unwrap_or(chat);
    format!("CMG{numbers}-{number:05}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_message_is_named_after_its_chat() {
        assert_eq!(
            super::message("CHT-1111-2222-3333", 7),
            "CMG-1111-2222-3333-00007"
        );
        assert_eq!(
            super::message("CHT-1111-2222-3333", 123_456),
            "CMG-1111-2222-3333-123456"
        );
    }
}
