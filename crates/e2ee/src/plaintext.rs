//! The record that a MSG carries: kind, sequence number and body.

use crate::keys::Incarnation;
use crate::record::{ParseRecordError, Reader, Writer};
use sealpost_proto::limits::PLAINTEXT_BODY_BYTES_MAX;
use sealpost_proto::{MessageId, Timestamp};
use std::fmt;
use zeroize::Zeroizing;

const PLAINTEXT_VERSION: u8 = 1;
/// Size of everything before the body.
pub(crate) const HEAD_BYTES: usize = 1 + 2 + 16 + 8 + 8 + 8 + 4;

/// Kind of a body. Any number is valid; a node stores an unknown one, sends a receipt
/// and otherwise ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// [`crate::payload::Message`].
    pub const MESSAGE: Self = Self(0x0001);
    /// [`crate::payload::Edit`].
    pub const EDIT: Self = Self(0x0002);
    /// [`crate::payload::Retract`].
    pub const RETRACT: Self = Self(0x0003);
    /// [`crate::payload::Reaction`].
    pub const REACTION: Self = Self(0x0004);
    /// [`crate::payload::Receipt`]; its seq is 0.
    pub const RECEIPT: Self = Self(0x0005);
    /// [`crate::payload::Chat`].
    pub const CHAT: Self = Self(0x0006);
    /// [`crate::payload::Profile`].
    pub const PROFILE: Self = Self(0x0007);
    /// [`crate::payload::ConnectionRequest`].
    pub const CONNECTION_REQUEST: Self = Self(0x0010);
    /// [`crate::payload::ConnectionAccept`].
    pub const CONNECTION_ACCEPT: Self = Self(0x0011);
    /// [`crate::payload::ConnectionReject`].
    pub const CONNECTION_REJECT: Self = Self(0x0012);
    /// [`crate::payload::ConnectionMoved`].
    pub const CONNECTION_MOVED: Self = Self(0x0013);
    /// [`crate::payload::Resend`]; its seq is 0.
    pub const RESEND: Self = Self(0x0020);
    /// [`crate::payload::Probe`].
    pub const PROBE: Self = Self(0x0021);
}

/// Decrypted record of one message between two nodes (docs/e2ee.md#plaintext).
#[derive(Clone, PartialEq, Eq)]
pub struct Plaintext {
    /// The kind of the body.
    pub kind: Kind,
    /// Chosen by the sender, the same in every attempt.
    pub message_id: MessageId,
    /// The sender's incarnation for this connection.
    pub incarnation: Incarnation,
    /// The sender's sequence number, from 1 in each incarnation; 0 for receipts and `resend`.
    pub seq: u64,
    /// When the sender first sealed it.
    pub sent_at: Timestamp,
    /// The payload, up to 240 KiB.
    pub body: Vec<u8>,
}

impl fmt::Debug for Plaintext {
    /// Omits the body, which contains private text and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, id, seq, body_bytes) = (self.kind, self.message_id, self.seq, self.body.len());
        write!(
            f,
            "Plaintext({kind:?}, {id}, seq {seq}, {body_bytes} bytes)"
        )
    }
}

/// Error when a body exceeds its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("body too large: {actual_bytes} bytes, limit {PLAINTEXT_BODY_BYTES_MAX}")]
pub struct BodyTooLarge {
    /// The size of the body.
    pub actual_bytes: usize,
}

/// Error when a record is malformed or of an unknown version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a plaintext of a known version")]
pub struct ParsePlaintextError;

impl From<ParseRecordError> for ParsePlaintextError {
    fn from(_: ParseRecordError) -> Self {
        Self
    }
}

impl Plaintext {
    /// Encodes the record.
    ///
    /// # Errors
    /// [`BodyTooLarge`] above 240 KiB.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, BodyTooLarge> {
        if self.body.len() > PLAINTEXT_BODY_BYTES_MAX {
            return Err(BodyTooLarge {
                actual_bytes: self.body.len(),
            });
        }
        let mut record = Writer::with_capacity(HEAD_BYTES + self.body.len());
        record
            .u8(PLAINTEXT_VERSION)
            .bytes(&self.kind.0.to_be_bytes())
            .bytes(self.message_id.as_bytes());
        record
            .bytes(self.incarnation.as_bytes())
            .u64(self.seq)
            .u64(self.sent_at.as_millis())
            .lp(&self.body);
        Ok(record.finish())
    }

    /// Parses a record of any kind.
    ///
    /// # Errors
    /// [`ParsePlaintextError`] for a wrong layout, an unknown version or a body above 240 KiB.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParsePlaintextError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != PLAINTEXT_VERSION {
            return Err(ParsePlaintextError);
        }
        let kind = Kind(reader.u16()?);
        let message_id = MessageId::from_bytes(reader.array()?);
        let incarnation = Incarnation::from_bytes(reader.array()?);
        let (seq, sent_at) = (reader.u64()?, Timestamp::from_millis(reader.u64()?));
        let body = reader.lp()?.to_vec();
        reader.expect_end()?;
        if body.len() > PLAINTEXT_BODY_BYTES_MAX {
            return Err(ParsePlaintextError);
        }
        Ok(Self {
            kind,
            message_id,
            incarnation,
            seq,
            sent_at,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plaintext(body: Vec<u8>) -> Plaintext {
        Plaintext {
            kind: Kind(0xfffe),
            message_id: MessageId::from_bytes([1; 16]),
            incarnation: Incarnation::from_bytes([2; 8]),
            seq: 3,
            sent_at: Timestamp::from_millis(4),
            body,
        }
    }

    #[test]
    fn unknown_kind_round_trips() {
        let plaintext = plaintext(b"body".to_vec());
        assert_eq!(
            Plaintext::parse(&plaintext.encode().unwrap()),
            Ok(plaintext)
        );
    }

    #[test]
    fn malformed_plaintexts_are_refused() {
        let bytes = plaintext(b"body".to_vec()).encode().unwrap();
        let mut other_version = bytes.to_vec();
        other_version[0] = 2;
        assert_eq!(Plaintext::parse(&other_version), Err(ParsePlaintextError));
        assert_eq!(
            Plaintext::parse(&bytes[..bytes.len() - 1]),
            Err(ParsePlaintextError)
        );
        assert_eq!(
            Plaintext::parse(&[&bytes[..], &[0]].concat()),
            Err(ParsePlaintextError)
        );
    }

    #[test]
    fn oversized_body_is_refused() {
        assert!(
            plaintext(vec![0; PLAINTEXT_BODY_BYTES_MAX])
                .encode()
                .is_ok()
        );
        let actual_bytes = PLAINTEXT_BODY_BYTES_MAX + 1;
        assert_eq!(
            plaintext(vec![0; actual_bytes]).encode(),
            Err(BodyTooLarge { actual_bytes })
        );
    }
}
