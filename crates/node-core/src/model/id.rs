//! Public ids: a prefix that names the kind and twelve decimal digits, such as
//! `CON-1111-2222-3333`.
//!
//! One type for each kind, so that two cannot be swapped. Ids are small and [`Copy`]; text exists
//! only in the API, on the command line and in rows.

use rand_core::CryptoRng;
use std::{fmt, str::FromStr};

/// Text that is not an id of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct ParseIdError;

const DIGITS: u32 = 12;
const NUMBERS: u64 = 10_u64.pow(DIGITS);

/// Kind of id with random numbers.
pub trait IdKind: Copy + fmt::Display + FromStr<Err = ParseIdError> {
    /// The letters before the digits.
    const PREFIX: &'static str;

    /// Creates the id of a number, from its last twelve decimal digits.
    #[must_use]
    fn from_number(number: u64) -> Self;
}

/// Generates an id for which `is_taken` returns false.
///
/// # Errors
/// The error of `is_taken`.
pub fn generate_id<I: IdKind, E>(
    rng: &mut (impl CryptoRng + ?Sized),
    mut is_taken: impl FnMut(I) -> Result<bool, E>,
) -> Result<I, E> {
    loop {
        // The slight bias of the remainder does not matter: ids are names, not secrets.
        let id = I::from_number(rng.next_u64());
        if !is_taken(id)? {
            return Ok(id);
        }
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Reads the id; letters may be of either case.
            ///
            /// # Errors
            /// [`ParseIdError`] when the text is not exactly an id of this kind.
            pub fn parse(text: &str) -> Result<Self, ParseIdError> {
                let numbers = strip_prefix(text, Self::PREFIX)?;
                parse_digits(numbers).map(Self)
            }
        }

        impl IdKind for $name {
            const PREFIX: &'static str = $prefix;

            fn from_number(number: u64) -> Self {
                Self(number % NUMBERS)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Self::PREFIX)?;
                write_digits(f, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ids! {
    /// An invite of this node, `INV-…`.
    InviteId = "INV";
    /// A connection with another instance, `CON-…`.
    ConnectionId = "CON";
    /// A chat, `CHT-…`.
    ChatId = "CHT";
    /// One side of a chat, `CPT-…`.
    ParticipantId = "CPT";
    /// A stored file, `FIL-…`.
    FileId = "FIL";
    /// The use of a file in a message, `ATC-…`.
    AttachmentId = "ATC";
}

/// A message as one chat shows it, `CMG-…`: the chat's digits and the number in that chat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The chat that shows the message.
    pub chat: ChatId,
    /// Position in the order of arrival, from 1.
    pub number: u64,
}

impl MessageId {
    /// Reads the id; letters may be of either case.
    ///
    /// # Errors
    /// [`ParseIdError`] when the text is not exactly a message id.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        let rest = strip_prefix(text, "CMG")?;
        let (chat, number) = rest.rsplit_once('-').ok_or(ParseIdError)?;
        let is_canonical = number.len() >= 5 && (number.len() == 5 || !number.starts_with('0'));
        if !is_canonical || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseIdError);
        }
        Ok(Self {
            chat: ChatId(parse_digits(chat)?),
            number: number.parse().map_err(|_| ParseIdError)?,
        })
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::parse(text)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CMG")?;
        write_digits(f, self.chat.0)?;
        write!(f, "-{:05}", self.number)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Number of a message's database row. Never leaves the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRowId(i64);

impl MessageRowId {
    /// Wraps the number of a row.
    #[must_use]
    pub const fn from_i64(id: i64) -> Self {
        Self(id)
    }

    /// Returns the number of the row.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

/// User of this node. So far there is one, which the schema creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(i64);

impl UserId {
    /// The only user.
    pub const FIRST: Self = Self(1);

    /// Returns the number under which the database stores the user.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Result<&'a str, ParseIdError> {
    let (letters, rest) = text.split_at_checked(prefix.len()).ok_or(ParseIdError)?;
    if letters.eq_ignore_ascii_case(prefix) {
        Ok(rest)
    } else {
        Err(ParseIdError)
    }
}

/// Reads `-dddd-dddd-dddd`.
fn parse_digits(text: &str) -> Result<u64, ParseIdError> {
    let bytes = text.as_bytes();
    if bytes.len() != 15 {
        return Err(ParseIdError);
    }
    bytes
        .iter()
        .enumerate()
        .try_fold(0, |number, (at, byte)| match byte {
            b'-' if at % 5 == 0 => Ok(number),
            b'0'..=b'9' if at % 5 != 0 => Ok(number * 10 + u64::from(byte - b'0')),
            _ => Err(ParseIdError),
        })
}

fn write_digits(f: &mut fmt::Formatter<'_>, number: u64) -> fmt::Result {
    let (first, second, third) = (
        number / 100_000_000,
        number / 10_000 % 10_000,
        number % 10_000,
    );
    write!(f, "-{first:04}-{second:04}-{third:04}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};

    proptest! {
        #[test]
        fn ids_read_back(number in 0..NUMBERS, posting in 1_u64..10_000_000) {
            let chat = ChatId::from_number(number);
            prop_assert_eq!(ChatId::parse(&chat.to_string()), Ok(chat));
            prop_assert_eq!(ChatId::parse(&chat.to_string().to_lowercase()), Ok(chat));
            prop_assert!(ConnectionId::parse(&chat.to_string()).is_err());
            let message = MessageId { chat, number: posting };
            prop_assert_eq!(MessageId::parse(&message.to_string()), Ok(message));
        }

        #[test]
        fn only_written_text_is_read(text in "(CON|CMG|con)?[-0-9a-zé]{0,24}") {
            if let Ok(id) = ConnectionId::parse(&text) {
                prop_assert_eq!(id.to_string(), text.to_uppercase());
            }
            if let Ok(id) = MessageId::parse(&text) {
                prop_assert_eq!(id.to_string(), text.to_uppercase());
            }
        }
    }

    #[test]
    fn message_ids_contain_their_chat() {
        let chat = ChatId::parse("CHT-1111-2222-3333").unwrap();
        let id = |number| MessageId { chat, number }.to_string();
        assert_eq!(id(7), "CMG-1111-2222-3333-00007");
        assert_eq!(id(123_456), "CMG-1111-2222-3333-123456");
    }

    #[test]
    fn taken_ids_are_not_generated() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut rejected = None;
        let id = generate_id(&mut rng, |id: InviteId| {
            Ok::<_, ParseIdError>(rejected.replace(id).is_none())
        });
        assert_ne!(id.ok(), None);
        assert_eq!(id.ok(), rejected);
    }
}
