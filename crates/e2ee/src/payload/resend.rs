//! Requests to send again, and notices of messages that will not be sent.

use super::PayloadError;
use super::cbor::{self, Map, MapWriter, encode};
use super::message::{encode_ids, parse_message_id};
use crate::keys::Incarnation;
use sealpost_proto::limits::{RECEIPT_IDS_MAX, RESUME_BITMAP_BYTES_MAX, VOID_SEQS_MAX};
use sealpost_proto::{BlobId, MessageId};

/// Which of the peer's messages a side has received in one incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The peer's incarnation.
    pub incarnation: Incarnation,
    /// The highest seq up to which nothing is missing.
    pub upto: u64,
    /// Bit i, most significant first: the message with seq `upto + 1 + i` was received. Up to 128
    /// bytes.
    pub bitmap: Vec<u8>,
}

impl Resume {
    /// Encodes the map.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.bytes(0, self.incarnation.as_bytes())
            .number(1, self.upto)
            .bytes(2, &self.bitmap)
            .finish()
    }

    /// Parses the map.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(item: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(item)?;
        Ok(Self {
            incarnation: Incarnation::from_bytes(map.required(0, cbor::parse_array)?),
            upto: map.required(1, cbor::parse_u64)?,
            bitmap: map.required(2, cbor::parse_bytes(RESUME_BITMAP_BYTES_MAX))?,
        })
    }

    /// Returns the highest seq that was received; 0 if there is none.
    #[must_use]
    pub fn highest(&self) -> u64 {
        let last = self.bitmap.iter().rposition(|byte| *byte != 0);
        let above = last.map_or(0, |at| {
            8 * at as u64 + 8 - u64::from(self.bitmap[at].trailing_zeros())
        });
        self.upto.saturating_add(above)
    }

    /// Whether the message with this seq was received.
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

/// Messages that were recalled, expired or deleted, and will not be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    /// The sender's incarnation to which the numbers belong.
    pub incarnation: Incarnation,
    /// The sequence numbers, up to 1,024.
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

/// A file whose blob can no longer be fetched and must be uploaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentRequest {
    /// The message that the file belongs to.
    pub message: MessageId,
    /// The blob that its descriptor names.
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

/// Outcome of an [`AttachmentRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentResponse {
    /// The message and the blob that the request named.
    pub request: AttachmentRequest,
    /// Whether the sender does not upload the file again. Otherwise its blob can be fetched.
    pub is_gone: bool,
}

impl AttachmentResponse {
    fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .bytes(0, self.request.message.as_bytes())
            .bytes(1, self.request.blob.as_bytes())
            .flag(2, self.is_gone)
            .finish()
    }

    fn parse(item: &[u8]) -> Result<Self, PayloadError> {
        Ok(Self {
            request: AttachmentRequest::parse(item)?,
            is_gone: Map::parse(item)?.flag(2)?,
        })
    }
}

/// Body of [`crate::plaintext::Kind::RESEND`]: any of the entries, usually one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resend {
    /// Messages of the sender without a receipt, up to 64, with the question whether they were
    /// stored.
    pub query: Vec<MessageId>,
    /// Which messages the sender of this body has received.
    pub resume: Option<Resume>,
    /// Messages that the sender will not send.
    pub void: Option<Void>,
    /// A file that the sender of this body cannot fetch.
    pub attachment: Option<AttachmentRequest>,
    /// Outcome of such a request of the peer.
    pub attachment_response: Option<AttachmentResponse>,
}

impl Resend {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .items(0, &encode_ids(&self.query))
            .optional_item(1, self.resume.as_ref().map(Resume::encode))
            .optional_item(2, self.void.as_ref().map(Void::encode))
            .optional_item(3, self.attachment.as_ref().map(AttachmentRequest::encode))
            .optional_item(
                4,
                self.attachment_response
                    .as_ref()
                    .map(AttachmentResponse::encode),
            )
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        Ok(Self {
            query: map.items(0, RECEIPT_IDS_MAX, parse_message_id)?,
            resume: map.optional(1, Resume::parse)?,
            void: map.optional(2, Void::parse)?,
            attachment: map.optional(3, AttachmentRequest::parse)?,
            attachment_response: map.optional(4, AttachmentResponse::parse)?,
        })
    }
}
