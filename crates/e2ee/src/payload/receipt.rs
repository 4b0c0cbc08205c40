//! Receipts and probes. Only receipts report that a message was delivered, read or fetched.

use super::PayloadError;
use super::cbor::{self, Map, MapWriter};
use super::message::{encode_ids, parse_message_id, parse_timestamp};
use sealpost_proto::limits::RECEIPT_IDS_MAX;
use sealpost_proto::{MessageId, Timestamp};

/// What a receipt reports. An unknown kind is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiptKind(pub u8);

impl ReceiptKind {
    /// The recipient's node stored the messages.
    pub const DELIVERED: Self = Self(0);
    /// A person or the business system read the messages.
    pub const READ: Self = Self(1);
    /// The recipient fetched and verified files; the ids are those of blobs. The sender may delete
    /// the blobs.
    pub const FETCHED: Self = Self(2);
}

/// Body of [`crate::plaintext::Kind::RECEIPT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What the receipt reports.
    pub kind: ReceiptKind,
    /// Ids of messages, or of blobs; up to 64.
    pub ids: Vec<MessageId>,
    /// The time of the event.
    pub at: Timestamp,
}

impl Receipt {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.number(0, self.kind.0)
            .items(1, &encode_ids(&self.ids))
            .number(2, self.at.as_millis())
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        let kind = ReceiptKind(map.required(0, cbor::parse_u8)?);
        Ok(Self {
            kind,
            ids: map.items(1, RECEIPT_IDS_MAX, parse_message_id)?,
            at: map.required(2, parse_timestamp)?,
        })
    }
}

/// Body of [`crate::plaintext::Kind::PROBE`]: asks whether the peer can open messages and respond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Nonce that the response repeats.
    pub nonce: [u8; 16],
    /// Whether this is the response.
    pub is_response: bool,
}

impl Probe {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .bytes(0, &self.nonce)
            .flag(1, self.is_response)
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        Ok(Self {
            nonce: map.required(0, cbor::parse_array)?,
            is_response: map.flag(1)?,
        })
    }
}
