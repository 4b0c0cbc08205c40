//! What is missing, and what is gone.

use super::PayloadError;
use super::cbor::{self, Map, MapWriter, encode};
use super::message::{encode_ids, parse_message_id};
use crate::keys::Incarnation;
use sealpost_proto::limits::{RECEIPT_IDS_MAX, RESUME_BITMAP_BYTES_MAX, VOID_SEQS_MAX};
use sealpost_proto::{BlobId, MessageId};

/// What one side holds of the other's messages in one incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The other side's incarnation.
    pub incarnation: Incarnation,
    /// The highest seq up to which nothing is missing.
    pub upto: u64,
    /// Bit i, most significant first: `upto + 1 + i` is held. At most 128 bytes.
    pub bitmap: Vec<u8>,
}

impl Resume {
    /// Writes the map.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.bytes(0, self.incarnation.as_bytes())
            .number(1, self.upto)
            .bytes(2, &self.bitmap)
            .finish()
    }

    /// Reads the map.
    ///
    /// # Errors
    /// [`PayloadError`] says what is wrong with it.
    pub fn parse(item: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(item)?;
        Ok(Self {
            incarnation: Incarnation::from_bytes(map.required(0, cbor::parse_array)?),
            upto: map.required(1, cbor::parse_u64)?,
            bitmap: map.required(2, cbor::parse_bytes(RESUME_BITMAP_BYTES_MAX))?,
        })
    }

    /// Whether the message with this seq is held.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        let Some(index) = seq
            .checked_sub(self.upto)
            .and_then(|above| above.checked_sub(1))
        else {
            return true;
        };
        let byte = usize::try_from(index / 8)
            .ok()
            .and_then(|at| self.bitmap.get(at));
        byte.is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }
}

/// Items that were recalled, expired or are gone, and will not be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    /// The sender's incarnation that counted them.
    pub incarnation: Incarnation,
    /// Their numbers, at most 1,024.
    pub seqs: Vec<u64>,
}

impl Void {
    fn encode(&self) -> Vec<u8> {
        let seqs: Vec<_> = self
            .seqs
            .iter()
            .map(|seq| encode(|e| e.u64(*seq)?.ok()))
            .collect();
        MapWriter::new()
            .bytes(0, self.incarnation.as_bytes())
            .items(1, &seqs)
            .finish()
    }

    fn parse(item: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(item)?;
        let incarnation = Incarnation::from_bytes(map.required(0, cbor::parse_array)?);
        Ok(Self {
            incarnation,
            seqs: map.items(1, VOID_SEQS_MAX, cbor::parse_u64)?,
        })
    }
}

/// A file whose blob is dead, to be uploaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentRequest {
    /// The message it belongs to.
    pub message: MessageId,
    /// The blob its descriptor names.
    pub blob: BlobId,
}

impl AttachmentRequest {
    fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .bytes(0, self.message.as_bytes())
            .bytes(1, self.blob.as_bytes())
            .finish()
    }

    fn parse(item: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(item)?;
        let message = map.required(0, parse_message_id)?;
        Ok(Self {
            message,
            blob: BlobId::from_bytes(map.required(1, cbor::parse_array)?),
        })
    }
}

/// Kind [`crate::plaintext::Kind::RESEND`]: any of its entries, most often one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resend {
    /// Our messages without a receipt, at most 64: were they stored?
    pub query: Vec<MessageId>,
    /// What we hold of yours.
    pub resume: Option<Resume>,
    /// What will not come.
    pub void: Option<Void>,
    /// A file that cannot be fetched any more.
    pub attachment: Option<AttachmentRequest>,
}

impl Resend {
    /// Writes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .items(0, &encode_ids(&self.query))
            .optional_item(1, self.resume.as_ref().map(Resume::encode))
            .optional_item(2, self.void.as_ref().map(Void::encode))
            .optional_item(3, self.attachment.as_ref().map(AttachmentRequest::encode))
            .finish()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`PayloadError`] says what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        Ok(Self {
            query: map.items(0, RECEIPT_IDS_MAX, parse_message_id)?,
            resume: map.optional(1, Resume::parse)?,
            void: map.optional(2, Void::parse)?,
            attachment: map.optional(3, AttachmentRequest::parse)?,
        })
    }
}
