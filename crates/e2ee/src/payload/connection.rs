//! Bodies that request, accept, reject and move a connection.

use super::PayloadError;
use super::cbor::{self, Map, MapWriter};
use sealpost_proto::limits::{ORIGIN_BYTES_MAX, REQUEST_NOTE_BYTES_MAX};
use sealpost_proto::{MailboxId, MailboxRef, Origin, SendKey};

/// Permission for the peer to post into a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// The mailbox at its owner's relay.
    pub mailbox: MailboxRef,
    /// The mailbox's send key for this peer.
    pub send_key: SendKey,
}

impl Capability {
    fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .text(0, self.mailbox.relay.as_str())
            .bytes(1, self.mailbox.id.as_bytes())
            .bytes(2, self.send_key.expose())
            .finish()
    }

    fn parse(item: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(item)?;
        let relay = map.required(0, parse_origin)?;
        let id = MailboxId::from_bytes(map.required(1, cbor::parse_array)?);
        let send_key = SendKey::from_bytes(map.required(2, cbor::parse_array)?);
        Ok(Self {
            mailbox: MailboxRef { relay, id },
            send_key,
        })
    }
}

/// Parses an origin, which must be in canonical form.
fn parse_origin(item: &[u8]) -> Result<Origin, PayloadError> {
    let text = cbor::parse_text(ORIGIN_BYTES_MAX)(item)?;
    let origin = Origin::parse(&text).map_err(|_| PayloadError::Malformed)?;
    if origin.as_str() == text {
        Ok(origin)
    } else {
        Err(PayloadError::Malformed)
    }
}

/// Body of [`crate::plaintext::Kind::CONNECTION_REQUEST`], the invitee's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRequest {
    /// Where the inviter sends its response.
    pub capability: Capability,
    /// A note for people, up to 200 bytes.
    pub note: Option<String>,
}

impl ConnectionRequest {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .item(0, &self.capability.encode())
            .optional_text(1, self.note.as_deref())
            .finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        let capability = map.required(0, Capability::parse)?;
        Ok(Self {
            capability,
            note: map.optional(1, cbor::parse_text(REQUEST_NOTE_BYTES_MAX))?,
        })
    }
}

/// Body of [`crate::plaintext::Kind::CONNECTION_ACCEPT`], the inviter's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionAccept {
    /// Where the invitee sends all further messages.
    pub capability: Capability,
}

impl ConnectionAccept {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new().item(0, &self.capability.encode()).finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        Ok(Self {
            capability: Map::parse(body)?.required(0, Capability::parse)?,
        })
    }
}

/// Body of [`crate::plaintext::Kind::CONNECTION_REJECT`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionReject {
    /// A note for people, up to 200 bytes.
    pub note: Option<String>,
}

impl ConnectionReject {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.optional_text(0, self.note.as_deref()).finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        Ok(Self {
            note: Map::parse(body)?.optional(0, cbor::parse_text(REQUEST_NOTE_BYTES_MAX))?,
        })
    }
}

/// Body of [`crate::plaintext::Kind::CONNECTION_MOVED`]: the sender's mailbox has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionMoved {
    /// The new mailbox.
    pub capability: Capability,
}

impl ConnectionMoved {
    /// Encodes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new().item(0, &self.capability.encode()).finish()
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`PayloadError`] for the first problem found.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        Ok(Self {
            capability: Map::parse(body)?.required(0, Capability::parse)?,
        })
    }
}
