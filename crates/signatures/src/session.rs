//! API sessions of a node at its relay. A session's key is derived from the relay's secret and the
//! session id, so that it survives restarts, works in every process of the relay and needs no
//! storage.

use crate::mac::compute_hmac;
use sealpost_proto::{AccountId, SessionKey, Timestamp, b64, secret};
use std::{fmt, str::FromStr};

const VERSION: u8 = 1;
const ID_BYTES: usize = 1 + 16 + 4 + 8 + 8;

secret! {
    /// Secret from which a relay derives session keys: 32 random bytes that never leave it.
    pub struct RelaySecret([u8; 32]);
}

impl RelaySecret {
    /// Derives the key of a session: HMAC-SHA256 over the 37 bytes of its id, the generation of the
    /// account's key and the expiry (`docs/protocol.md`, *Accounts*).
    #[must_use]
    pub fn session_key(&self, id: &SessionId) -> SessionKey {
        let generation = id.key_generation.to_be_bytes();
        let expiry = id.expires_at.as_millis().to_be_bytes();
        SessionKey::from_bytes(compute_hmac(
            self.expose(),
            &[&id.to_bytes(), &generation, &expiry],
        ))
    }
}

/// Session id: the account, the generation of the account's key, and the expiry.
///
/// | offset | width | value |
/// |---|---|---|
/// | 0 | 1 | version, 1 |
/// | 1 | 16 | account id |
/// | 17 | 4 | generation of the account's key, big-endian |
/// | 21 | 8 | expiry, Unix milliseconds, big-endian |
/// | 29 | 8 | random |
///
/// As text it is 50 characters of base64url, which a node treats as opaque. Parsing an id proves
/// nothing: only a request signed with its key shows that the relay created it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// Account of the session.
    pub account: AccountId,
    /// Generation of the account key; a new key invalidates all sessions of earlier generations.
    pub key_generation: u32,
    /// When the session expires.
    pub expires_at: Timestamp,
    /// Random bytes from the relay.
    pub random: [u8; 8],
}

/// Error for text that is not a session id of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a session id")]
pub struct ParseSessionIdError;

impl SessionId {
    fn to_bytes(self) -> [u8; ID_BYTES] {
        let mut bytes = [0; ID_BYTES];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(self.account.as_bytes());
        bytes[17..21].copy_from_slice(&self.key_generation.to_be_bytes());
        bytes[21..29].copy_from_slice(&self.expires_at.as_millis().to_be_bytes());
        bytes[29..].copy_from_slice(&self.random);
        bytes
    }

    fn from_bytes(bytes: &[u8; ID_BYTES]) -> Option<Self> {
        let (&[version], rest) = bytes.split_first_chunk()?;
        let (account, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (expiry, random) = rest.split_first_chunk()?;
        (version == VERSION).then_some(Self {
            account: AccountId::from_bytes(*account),
            key_generation: u32::from_be_bytes(*generation),
            expires_at: Timestamp::from_millis(u64::from_be_bytes(*expiry)),
            random: random.try_into().ok()?,
        })
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&b64::encode(&self.to_bytes()))
    }
}

impl FromStr for SessionId {
    type Err = ParseSessionIdError;
    fn from_str(text: &str) -> Result<Self, ParseSessionIdError> {
        b64::parse_array(text)
            .ok()
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or(ParseSessionIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId {
        account: AccountId::from_bytes([5; 16]),
        key_generation: 3,
        expires_at: Timestamp::from_millis(1_700_000_000_000),
        random: [9; 8],
    };

    #[test]
    fn session_id_round_trips() {
        let text = ID.to_string();
        assert_eq!(text.len(), 50);
        assert_eq!(text.parse(), Ok(ID));
        for bad in [
            "",
            &text[1..],
            &format!("{text}A"),
            &b64::encode(&[2; ID_BYTES]),
        ] {
            assert_eq!(bad.parse::<SessionId>(), Err(ParseSessionIdError), "{bad}");
        }
    }

    /// Computed with Python's `hmac` from the formula in `docs/protocol.md`.
    #[test]
    fn key_is_derived_as_documented() {
        let key = RelaySecret::from_bytes([1; 32]).session_key(&ID);
        assert_eq!(
            b64::encode(key.expose()),
            "aZwKPGRIeCLEd2zjjxCj60Qh44MN5FQyZ1pFkvbpS0Y"
        );
    }

    #[test]
    fn key_depends_on_every_field() {
        let secret = RelaySecret::from_bytes([1; 32]);
        let key = secret.session_key(&ID);
        assert!(key == secret.session_key(&ID));
        assert!(key != RelaySecret::from_bytes([2; 32]).session_key(&ID));
        for other in [
            SessionId {
                account: AccountId::from_bytes([6; 16]),
                ..ID
            },
            SessionId {
                key_generation: 4,
                ..ID
            },
            SessionId {
                expires_at: Timestamp::from_millis(1_700_000_000_001),
                ..ID
            },
            SessionId {
                random: [8; 8],
                ..ID
            },
        ] {
            assert!(key != secret.session_key(&other));
        }
    }
}
