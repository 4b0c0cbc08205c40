//! Messages, edits, retractions and reactions.

use super::cbor::{self, Map, MapWriter};
use super::{PayloadError, cbor::encode};
use crate::attachment::Descriptor;
use minicbor::{Decoder, Encoder};
use sealpost_proto::limits::{
    CARD_NAME_BYTES_MAX, FILES_PER_MESSAGE_MAX, LINK_TEXT_BYTES_MAX, LINKS_PER_MESSAGE_MAX,
    MESSAGE_TEXT_BYTES_MAX, REACTION_BYTES_MAX,
};
use sealpost_proto::{MessageId, Timestamp};

/// Id of a chat: 16 bytes, equal on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChatId(pub [u8; 16]);

/// Format of a text. A node displays an unknown format as plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentType(pub u8);

impl ContentType {
    /// The text is Markdown.
    pub const MARKDOWN: Self = Self(0);
    /// HTML.
    pub const HTML: Self = Self(1);
    /// The text is not interpreted.
    pub const PLAIN: Self = Self(2);
}

/// Author of a message: a person at the sender's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Name, up to 64 bytes.
    pub name: String,
    /// SHA-256 of the avatar.
    pub avatar: Option<[u8; 32]>,
}

/// A URL or business object that a message refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// URL of the link.
    pub url: Option<String>,
    /// The id of the business object.
    pub object_id: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// Icon of the business object, as text.
    pub icon: Option<String>,
}

/// Body of [`crate::plaintext::Kind::MESSAGE`].
#[derive(Clone)]
pub struct Message {
    /// The chat; the connection's direct chat if absent.
    pub chat: Option<ChatId>,
    /// Person who wrote the message; absent if the sender's node does not say.
    pub author: Option<Author>,
    /// The text, up to 64 KiB.
    pub content: String,
    /// The format of the text.
    pub content_type: ContentType,
    /// Attached files, up to 5.
    pub attachments: Vec<Descriptor>,
    /// Links, up to 64.
    pub links: Vec<Link>,
    /// The message that this one replies to.
    pub reply_to: Option<MessageId>,
    /// Whether the recipient must act.
    pub action_required: bool,
    /// Time by which the message should be delivered. It is displayed; nothing enforces it.
    pub deliver_by: Option<Timestamp>,
    /// Time by which the message should be read. It is displayed; nothing enforces it.
    pub read_by: Option<Timestamp>,
}

impl Message {
    /// Creates a Markdown message without other entries.
    #[must_use]
    pub fn text(content: impl Into<String>) -> Self {
        Self {
            chat: None,
            author: None,
            content: content.into(),
            content_type: ContentType::MARKDOWN,
            attachments: Vec::new(),
            links: Vec::new(),
            reply_to: None,
            action_required: false,
            deliver_by: None,
            read_by: None,
        }
    }

    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let attachments: Vec<_> = self.attachments.iter().map(encode_descriptor).collect();
        let links: Vec<_> = self.links.iter().map(Link::encode).collect();
        MapWriter::new()
            .optional_bytes(0, self.chat.as_ref().map(|chat| &chat.0[..]))
            .optional_item(1, self.author.as_ref().map(Author::encode))
            .text(2, &self.content)
            .number(3, self.content_type.0)
            .items(4, &attachments)
            .items(5, &links)
            .optional_bytes(6, self.reply_to.as_ref().map(|id| &id.as_bytes()[..]))
            .flag(7, self.action_required)
            .optional_number(8, self.deliver_by.map(Timestamp::as_millis))
            .optional_number(9, self.read_by.map(Timestamp::as_millis))
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        Ok(Self {
            chat: map.optional(0, parse_chat_id)?,
            author: map.optional(1, Author::parse)?,
            content: map.required(2, cbor::parse_text(MESSAGE_TEXT_BYTES_MAX))?,
            content_type: ContentType(map.required(3, cbor::parse_u8)?),
            attachments: map.items(4, FILES_PER_MESSAGE_MAX, parse_descriptor)?,
            links: map.items(5, LINKS_PER_MESSAGE_MAX, Link::parse)?,
            reply_to: map.optional(6, parse_message_id)?,
            action_required: map.flag(7)?,
            deliver_by: map.optional(8, parse_timestamp)?,
            read_by: map.optional(9, parse_timestamp)?,
        })
    }
}

impl Author {
    fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .text(0, &self.name)
            .optional_bytes(1, self.avatar.as_ref().map(|hash| &hash[..]))
            .finish()
    }

    fn parse(item: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(item)?;
        let name = map.required(0, cbor::parse_text(CARD_NAME_BYTES_MAX))?;
        Ok(Self {
            name,
            avatar: map.optional(1, cbor::parse_array)?,
        })
    }
}

impl Link {
    fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        for (key, text) in (0..).zip([&self.url, &self.object_id, &self.name, &self.icon]) {
            map.optional_text(key, text.as_deref());
        }
        map.finish()
    }

    fn parse(item: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(item)?;
        let text = |key| map.optional(key, cbor::parse_text(LINK_TEXT_BYTES_MAX));
        Ok(Self {
            url: text(0)?,
            object_id: text(1)?,
            name: text(2)?,
            icon: text(3)?,
        })
    }
}

fn encode_descriptor(descriptor: &Descriptor) -> Vec<u8> {
    encode(|encoder: &mut Encoder<&mut Vec<u8>>| descriptor.encode(encoder))
}

fn parse_descriptor(item: &[u8]) -> Result<Descriptor, PayloadError> {
    cbor::decode_exact(item, |decoder: &mut Decoder<'_>| {
        Descriptor::parse(decoder).map_err(|_| PayloadError::Attachment)
    })
}

pub(super) fn parse_chat_id(item: &[u8]) -> Result<ChatId, PayloadError> {
    cbor::parse_array(item).map(ChatId)
}

pub(super) fn parse_message_id(item: &[u8]) -> Result<MessageId, PayloadError> {
    cbor::parse_array(item).map(MessageId::from_bytes)
}

pub(super) fn parse_timestamp(item: &[u8]) -> Result<Timestamp, PayloadError> {
    cbor::parse_u64(item).map(Timestamp::from_millis)
}

/// Encodes message ids as the items of a list.
pub(super) fn encode_ids(ids: &[MessageId]) -> Vec<Vec<u8>> {
    ids.iter()
        .map(|id| encode(|e| e.bytes(id.as_bytes())?.ok()))
        .collect()
}

/// Body of [`crate::plaintext::Kind::EDIT`]: new content for a message of the same author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The message to edit.
    pub message: MessageId,
    /// The new text, up to 64 KiB.
    pub content: String,
    /// The format of the text.
    pub content_type: ContentType,
}

impl Edit {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.bytes(0, self.message.as_bytes())
            .text(1, &self.content)
            .number(2, self.content_type.0)
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        Ok(Self {
            message: map.required(0, parse_message_id)?,
            content: map.required(1, cbor::parse_text(MESSAGE_TEXT_BYTES_MAX))?,
            content_type: ContentType(map.required(2, cbor::parse_u8)?),
        })
    }
}

/// Body of [`crate::plaintext::Kind::RETRACT`]: withdraws a message of the same author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retract {
    /// The message to withdraw.
    pub message: MessageId,
}

impl Retract {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new().bytes(0, self.message.as_bytes()).finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        Ok(Self {
            message: Map::parse(body)?.required(0, parse_message_id)?,
        })
    }
}

/// Body of [`crate::plaintext::Kind::REACTION`]: a reaction to a message, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The message that the reaction refers to.
    pub message: MessageId,
    /// One emoji, up to 64 bytes.
    pub emoji: String,
    /// Whether the reaction is removed.
    pub is_removed: bool,
}

impl Reaction {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.bytes(0, self.message.as_bytes())
            .text(1, &self.emoji)
            .flag(2, self.is_removed)
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        let emoji = map.required(1, cbor::parse_text(REACTION_BYTES_MAX))?;
        Ok(Self {
            message: map.required(0, parse_message_id)?,
            emoji,
            is_removed: map.flag(2)?,
        })
    }
}
