//! Identity cards: the name that an identity gives itself, signed by that identity.

use crate::keys::{Identity, PeerIdentity};
use crate::primitive::{is_signature_valid, label, sign_record, split_signed};
use crate::record::{ParseRecordError, Reader};
use sealpost_proto::{Timestamp, limits::CARD_NAME_BYTES_MAX};

const CARD_VERSION: u8 = 1;

/// Content of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The name that the identity gives itself: 1 to 64 bytes of UTF-8 without control characters.
    /// Nothing verifies it.
    pub name: String,
    /// The two public keys and their fingerprint.
    pub identity: PeerIdentity,
    /// The time of issue. Of two cards of one identity, the later one takes precedence.
    pub created: Timestamp,
}

/// Card with a verified signature, and its bytes as received (docs/e2ee.md#the-signed-card).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCard {
    bytes: Vec<u8>,
    card: Card,
}

/// Error when a card is invalid or cannot be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Wrong layout or unknown version.
    #[error("malformed card")]
    Malformed,
    /// The name is empty, longer than 64 bytes, not UTF-8, or has control characters.
    #[error(
        "the name of a card must have 1 to {CARD_NAME_BYTES_MAX} bytes and no control characters"
    )]
    Name,
    /// The keys are weak, or the signature is not theirs.
    #[error("the signature of the card is invalid")]
    Signature,
}

impl From<ParseRecordError> for CardError {
    fn from(_: ParseRecordError) -> Self {
        Self::Malformed
    }
}

impl SignedCard {
    /// Parses a signed card and verifies it with the key that it contains.
    ///
    /// # Errors
    /// [`CardError`] for a wrong layout or version, an invalid name, or an invalid signature.
    pub fn parse_verified(bytes: &[u8]) -> Result<Self, CardError> {
        let (record, signature) = split_signed(bytes).ok_or(CardError::Malformed)?;
        let card = parse_record(record)?;
        if !is_signature_valid(card.identity.ik_ed(), label!("card"), record, signature) {
            return Err(CardError::Signature);
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            card,
        })
    }

    /// Returns the record and its signature in wire form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the content.
    #[must_use]
    pub const fn card(&self) -> &Card {
        &self.card
    }

    /// Returns the identity that issued the card.
    #[must_use]
    pub const fn identity(&self) -> &PeerIdentity {
        &self.card.identity
    }
}

impl Identity {
    /// Issues a card of this identity.
    ///
    /// # Errors
    /// [`CardError::Name`] if the name is empty, longer than 64 bytes, or has control characters.
    pub fn sign_card(&self, name: &str, created: Timestamp) -> Result<SignedCard, CardError> {
        let card = Card {
            name: parse_name(name.as_bytes())?,
            identity: *self.public(),
            created,
        };
        let record = encode_record(&card);
        Ok(SignedCard {
            bytes: sign_record(self.signing_key(), label!("card"), record),
            card,
        })
    }
}

fn encode_record(card: &Card) -> Vec<u8> {
    let mut record = Vec::with_capacity(74 + CARD_NAME_BYTES_MAX);
    record.push(CARD_VERSION);
    crate::record::push_lp(&mut record, card.name.as_bytes());
    record.extend_from_slice(card.identity.ik_ed());
    record.extend_from_slice(card.identity.ik_x());
    record.extend_from_slice(&card.created.as_millis().to_be_bytes());
    record
}

fn parse_record(record: &[u8]) -> Result<Card, CardError> {
    let mut reader = Reader::new(record);
    if reader.u8()? != CARD_VERSION {
        return Err(CardError::Malformed);
    }
    let name = parse_name(reader.lp()?)?;
    let identity =
        PeerIdentity::new(reader.array()?, reader.array()?).map_err(|_| CardError::Signature)?;
    let created = Timestamp::from_millis(reader.u64()?);
    reader.expect_end()?;
    Ok(Card {
        name,
        identity,
        created,
    })
}

fn parse_name(bytes: &[u8]) -> Result<String, CardError> {
    let name = std::str::from_utf8(bytes).map_err(|_| CardError::Name)?;
    let fits = !name.is_empty() && name.len() <= CARD_NAME_BYTES_MAX;
    if !fits || name.chars().any(char::is_control) {
        return Err(CardError::Name);
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> SignedCard {
        Identity::from_seeds(&[1; 32], &[2; 32])
            .sign_card("Acme", Timestamp::from_millis(7))
            .unwrap()
    }

    #[test]
    fn signed_card_round_trips() {
        let signed = card();
        assert_eq!(SignedCard::parse_verified(signed.as_bytes()), Ok(signed));
    }

    #[test]
    fn altered_card_is_refused() {
        let signed = card();
        for bit in 0..signed.as_bytes().len() * 8 {
            let mut bytes = signed.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SignedCard::parse_verified(&bytes).is_err(), "bit {bit}");
        }
        assert!(SignedCard::parse_verified(&[signed.as_bytes(), &[0]].concat()).is_err());
    }

    #[test]
    fn invalid_names_are_refused() {
        let identity = Identity::from_seeds(&[1; 32], &[2; 32]);
        let sign = |name: &str| identity.sign_card(name, Timestamp::default());
        for bad in ["", "a\nb", "\u{9b}", &"x".repeat(65)] {
            assert_eq!(sign(bad), Err(CardError::Name), "{bad:?}");
        }
        assert!(sign(&"x".repeat(64)).is_ok());
    }
}
