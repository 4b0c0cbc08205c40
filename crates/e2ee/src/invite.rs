//! Invites and contact addresses: the text that one business gives to another outside Sealpost, so
//! that their nodes can pair (docs/e2ee-files-invites-vault.md#invite).
//!
//! An [`Invite`] names a mailbox, authenticates its owner by fingerprint, and carries the secret
//! from which the mailbox's keys derive. Whoever has the text can use the invite, so it must be
//! treated like a password. [`Invite::parse`] decides whether a text is an invite,
//! [`Invite::parse_pasted`] finds it in what a person pasted, and [`Invite::check`] decides whether
//! it may be used now.

mod pasted;

use crate::keys::{Fingerprint, InviteSecret};
use crate::primitive::{hash, kdf_key, label, random_array};
use crate::record::{ParseRecordError, Reader, Writer};
use rand_core::CryptoRng;
use sealpost_proto::limits::ORIGIN_BYTES_MAX;
use sealpost_proto::{InviteId, MailboxId, MailboxRef, Origin, SendKey, Timestamp, b64};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KIND_SINGLE_USE: u8 = 1;
const KIND_CONTACT_ADDRESS: u8 = 2;
const CHECKSUM_BYTES: usize = 4;
/// Size of a record without the origin.
const FIXED_BYTES: usize = 1 + 1 + 4 + 16 + 16 + 32 + 32 + 8 + CHECKSUM_BYTES;

const MARKER: &str = "sp1.";
const SCHEME: &str = "sealpost:";
const PAGE: &str = "/i";

/// Maximum length of an invite's text: an origin, `/i#sp1.`, and the largest record as base64url.
pub const INVITE_TEXT_BYTES_MAX: usize = ORIGIN_BYTES_MAX
    + PAGE.len()
    + 1
    + MARKER.len()
    + ((FIXED_BYTES + ORIGIN_BYTES_MAX) * 4).div_ceil(3);

/// How often an invite may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteKind {
    /// Once, until it expires.
    SingleUse {
        /// The invite is refused from this moment on.
        expires: Timestamp,
    },
    /// Any number of times, until the issuer revokes it.
    ContactAddress,
}

/// Error when a text is not a valid invite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// The text is not an invite.
    #[error("not an invite: expected https://<relay>/i#sp1.… or sealpost:sp1.…")]
    NotAnInvite,
    /// The checksum is wrong: part of the text is missing or mistyped.
    #[error("the invite is damaged: part of it is missing or mistyped")]
    Damaged,
    /// The version is unknown.
    #[error("the invite has version {version}, which this program does not know")]
    UnknownVersion {
        /// The version in the invite.
        version: u16,
    },
    /// The kind is unknown.
    #[error("the invite is of kind {kind}, which this program does not know")]
    UnknownKind {
        /// The kind in the invite.
        kind: u8,
    },
    /// The checksum is right, but the content is invalid.
    #[error("the invite is invalid")]
    Malformed,
    /// The link points to another relay than the record inside it.
    #[error("the link leads to {link}, but the invite in it belongs to {invite}")]
    ForeignOrigin {
        /// The relay of the link.
        link: Origin,
        /// The relay of the invite's mailbox.
        invite: Origin,
    },
}

/// Why a well-formed invite may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteRefusal {
    /// The invite has expired.
    #[error("the invite has expired")]
    Expired {
        /// When the invite expires.
        at: Timestamp,
    },
    /// The invite carries the reader's own fingerprint.
    #[error("this is your own invite")]
    Own,
}

/// A well-formed invite.
#[derive(Clone)]
pub struct Invite {
    kind: InviteKind,
    mailbox: MailboxRef,
    id: InviteId,
    secret: InviteSecret,
    fingerprint: Fingerprint,
}

impl Invite {
    /// Creates an invite to `mailbox` issued by `fingerprint`, with a new id and secret.
    #[must_use]
    pub fn generate(
        kind: InviteKind,
        mailbox: MailboxRef,
        fingerprint: Fingerprint,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let id = InviteId::from_bytes(random_array(rng));
        Self {
            kind,
            mailbox,
            id,
            secret: InviteSecret::generate(rng),
            fingerprint,
        }
    }

    /// Parses an invite in either form. White space around it is ignored.
    ///
    /// # Errors
    /// [`InviteError`] with a message for the person who pasted the text.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        if text.len() > INVITE_TEXT_BYTES_MAX {
            return Err(InviteError::NotAnInvite);
        }
        let (link, token) = split_text(text)?;
        let invite = Self::parse_record(&parse_token(token)?)?;
        match link {
            Some(link) if link != invite.mailbox.relay => Err(InviteError::ForeignOrigin {
                link,
                invite: invite.mailbox.relay,
            }),
            _ => Ok(invite),
        }
    }

    /// Parses an invite in a text that a person pasted. White space, line breaks and encodings of
    /// mail programs inside it, and all text around it, make no difference.
    ///
    /// # Errors
    /// [`InviteError`] with a message for the person who pasted the text.
    pub fn parse_pasted(text: &str) -> Result<Self, InviteError> {
        pasted::parse(text)
    }

    /// Checks that the identity `own` may use this invite at `now`.
    ///
    /// # Errors
    /// [`InviteRefusal`] if the invite has expired or is `own`'s.
    pub fn check(&self, now: Timestamp, own: &Fingerprint) -> Result<(), InviteRefusal> {
        if self.fingerprint == *own {
            return Err(InviteRefusal::Own);
        }
        match self.kind {
            InviteKind::SingleUse { expires } if expires <= now => {
                Err(InviteRefusal::Expired { at: expires })
            }
            InviteKind::SingleUse { .. } | InviteKind::ContactAddress => Ok(()),
        }
    }

    /// Returns the link for people: `<relay>/i#sp1.<base64url>`. Whoever reads it can use the
    /// invite.
    #[must_use]
    pub fn encode_link(&self) -> Zeroizing<String> {
        let token = self.encode_token();
        Zeroizing::new(format!("{}{PAGE}#{}", self.mailbox.relay, token.as_str()))
    }

    /// Returns the URI for programs: `sealpost:sp1.<base64url>`.
    #[must_use]
    pub fn encode_uri(&self) -> Zeroizing<String> {
        let token = self.encode_token();
        Zeroizing::new(format!("{SCHEME}{}", token.as_str()))
    }

    /// Returns how often the invite may be used, and until when.
    #[must_use]
    pub const fn kind(&self) -> InviteKind {
        self.kind
    }

    /// Returns the mailbox that receives the request.
    #[must_use]
    pub const fn mailbox(&self) -> &MailboxRef {
        &self.mailbox
    }

    /// Returns the invite's id, from which the connection's id derives.
    #[must_use]
    pub const fn id(&self) -> InviteId {
        self.id
    }

    /// Returns the issuer's fingerprint, which the card in the mailbox must have.
    #[must_use]
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Returns `invite_secret`, from which the outer key and the prekeys key of the mailbox derive.
    #[must_use]
    pub const fn secret(&self) -> &InviteSecret {
        &self.secret
    }

    /// Derives the mailbox's send key, which also authorises reading its prekeys.
    #[must_use]
    pub fn send_key(&self) -> SendKey {
        SendKey::from_bytes(kdf_key(self.secret.expose(), &[label!("invite-send")]).0)
    }

    fn encode_token(&self) -> Zeroizing<String> {
        let record = self.encode_record();
        let base64 = Zeroizing::new(b64::encode(&record));
        Zeroizing::new(format!("{MARKER}{}", base64.as_str()))
    }

    fn encode_record(&self) -> Zeroizing<Vec<u8>> {
        let origin = self.mailbox.relay.as_str().as_bytes();
        let (kind, expiry) = match self.kind {
            InviteKind::SingleUse { expires } => (KIND_SINGLE_USE, expires.as_millis()),
            InviteKind::ContactAddress => (KIND_CONTACT_ADDRESS, 0),
        };
        let mut record = Writer::with_capacity(FIXED_BYTES + origin.len());
        record.u8(VERSION).u8(kind).lp(origin);
        record
            .bytes(self.mailbox.id.as_bytes())
            .bytes(self.id.as_bytes());
        record
            .bytes(self.secret.expose())
            .bytes(self.fingerprint.as_bytes())
            .u64(expiry);
        let mut record = record.finish();
        let checksum = compute_checksum(&record);
        record.extend_from_slice(&checksum);
        record
    }

    fn parse_record(record: &[u8]) -> Result<Self, InviteError> {
        let (body, sum) = record
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(InviteError::Damaged)?;
        if compute_checksum(body) != *sum {
            return Err(InviteError::Damaged);
        }
        let mut reader = Reader::new(body);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(InviteError::UnknownVersion {
                version: version.into(),
            });
        }
        let kind = reader.u8()?;
        if !matches!(kind, KIND_SINGLE_USE | KIND_CONTACT_ADDRESS) {
            return Err(InviteError::UnknownKind { kind });
        }
        let relay = parse_origin(reader.lp()?)?;
        let mailbox = MailboxRef {
            relay,
            id: MailboxId::from_bytes(reader.array()?),
        };
        let id = InviteId::from_bytes(reader.array()?);
        let secret = InviteSecret::from_bytes(reader.array()?);
        let fingerprint = Fingerprint::from_bytes(reader.array()?);
        let kind = parse_kind(kind, reader.u64()?)?;
        reader.expect_end()?;
        Ok(Self {
            kind,
            mailbox,
            id,
            secret,
            fingerprint,
        })
    }
}

impl std::fmt::Debug for Invite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invite")
            .field("kind", &self.kind)
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

impl From<ParseRecordError> for InviteError {
    fn from(_: ParseRecordError) -> Self {
        Self::Malformed
    }
}

/// Splits a text into the origin of a link, if it is one, and the token.
fn split_text(text: &str) -> Result<(Option<Origin>, &str), InviteError> {
    if let Some(token) = text.strip_prefix(SCHEME) {
        return Ok((None, token));
    }
    let (page, token) = text.split_once('#').unwrap_or((text, ""));
    let origin = page.strip_suffix(PAGE).ok_or(InviteError::NotAnInvite)?;
    let origin = Origin::parse(origin).map_err(|_| InviteError::NotAnInvite)?;
    Ok((Some(origin), token))
}

fn parse_token(token: &str) -> Result<Zeroizing<Vec<u8>>, InviteError> {
    if let Some(base64) = token.strip_prefix(MARKER) {
        return b64::parse(base64)
            .map(Zeroizing::new)
            .map_err(|_| InviteError::Damaged);
    }
    // A link with a missing or shortened fragment is damaged; any other fragment is not an invite.
    if MARKER.starts_with(token) {
        return Err(InviteError::Damaged);
    }
    let version = token
        .strip_prefix("sp")
        .and_then(|rest| rest.split_once('.'))
        .map(|(version, _)| version);
    match version.and_then(|version| version.parse().ok()) {
        Some(version) => Err(InviteError::UnknownVersion { version }),
        None => Err(InviteError::NotAnInvite),
    }
}

fn parse_origin(text: &[u8]) -> Result<Origin, InviteError> {
    let text = std::str::from_utf8(text).map_err(|_| InviteError::Malformed)?;
    Origin::parse(text)
        .ok()
        .filter(|origin| origin.as_str() == text)
        .ok_or(InviteError::Malformed)
}

fn parse_kind(kind: u8, expiry: u64) -> Result<InviteKind, InviteError> {
    match (kind, expiry) {
        (KIND_SINGLE_USE, 1..) => Ok(InviteKind::SingleUse {
            expires: Timestamp::from_millis(expiry),
        }),
        (KIND_CONTACT_ADDRESS, 0) => Ok(InviteKind::ContactAddress),
        _ => Err(InviteError::Malformed),
    }
}

fn compute_checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = hash(&[body]);
    [a, b, c, d]
}
