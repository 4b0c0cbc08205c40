//! Bodies that describe a chat or a side's profile.

use super::PayloadError;
use super::cbor::{self, Map, MapWriter, encode};
use super::message::{ChatId, parse_chat_id};
use sealpost_proto::limits::{
    CARD_BYTES_MAX, CARD_NAME_BYTES_MAX, CHAT_DESCRIPTION_BYTES_MAX, CHAT_NAME_BYTES_MAX,
    PARTICIPANTS_PER_EVENT_MAX,
};

/// Change of a chat. An unknown one is stored and otherwise ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChatEvent(pub u8);

impl ChatEvent {
    /// The chat was created.
    pub const CREATED: Self = Self(0);
    /// The name or description changed.
    pub const RENAMED: Self = Self(1);
    /// The participants changed.
    pub const PARTICIPANTS: Self = Self(2);
    /// The chat was closed.
    pub const CLOSED: Self = Self(3);
}

/// Body of [`crate::plaintext::Kind::CHAT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// Id of the chat.
    pub chat: ChatId,
    /// Change of the chat.
    pub event: ChatEvent,
    /// The type: 0 direct, 1 group, 2 case, 3 channel.
    pub chat_type: Option<u8>,
    /// The name, up to 200 bytes.
    pub name: Option<String>,
    /// The description, up to 2,048 bytes.
    pub description: Option<String>,
    /// Names of the sender's participants: up to 256 of up to 64 bytes.
    pub participants: Vec<String>,
}

impl Chat {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let participants: Vec<_> = self
            .participants
            .iter()
            .map(|name| encode(|e| e.str(name)?.ok()))
            .collect();
        MapWriter::new()
            .bytes(0, &self.chat.0)
            .number(1, self.event.0)
            .optional_number(2, self.chat_type.map(u64::from))
            .optional_text(3, self.name.as_deref())
            .optional_text(4, self.description.as_deref())
            .items(5, &participants)
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        Ok(Self {
            chat: map.required(0, parse_chat_id)?,
            event: ChatEvent(map.required(1, cbor::parse_u8)?),
            chat_type: map.optional(2, cbor::parse_u8)?,
            name: map.optional(3, cbor::parse_text(CHAT_NAME_BYTES_MAX))?,
            description: map.optional(4, cbor::parse_text(CHAT_DESCRIPTION_BYTES_MAX))?,
            participants: map.items(
                5,
                PARTICIPANTS_PER_EVENT_MAX,
                cbor::parse_text(CARD_NAME_BYTES_MAX),
            )?,
        })
    }
}

/// Body of [`crate::plaintext::Kind::PROFILE`]: changes of the sender's profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// A signed card of the same identity, not verified yet.
    pub card: Option<Vec<u8>>,
    /// SHA-256 of the avatar.
    pub avatar: Option<[u8; 32]>,
    /// A rotated card, not verified yet.
    pub rotated_card: Option<Vec<u8>>,
}

impl Profile {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .optional_bytes(0, self.card.as_deref())
            .optional_bytes(1, self.avatar.as_ref().map(|hash| &hash[..]))
            .optional_bytes(2, self.rotated_card.as_deref())
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        let card = |key| map.optional(key, cbor::parse_bytes(CARD_BYTES_MAX));
        Ok(Self {
            card: card(0)?,
            avatar: map.optional(1, cbor::parse_array)?,
            rotated_card: card(2)?,
        })
    }
}
