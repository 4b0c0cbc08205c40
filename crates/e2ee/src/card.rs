//! Identity cards: the name an identity gives itself, signed by that identity.

use crate::keys::{Identity, PeerIdentity};
use crate::primitive::{is_signature_valid, label, sign_record, split_signed};
use crate::record::{ParseRecordError, Reader};
use sealpost_proto::{Timestamp, limits::CARD_NAME_BYTES_MAX};

const CARD_VERSION: u8 = 1;

/// What a card says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The name the identity gives itself: 1 to 64 bytes of UTF-8 without control characters. A claim, not a fact.
    pub name: String,
    /// The two public keys and their fingerprint.
    pub identity: PeerIdentity,
    /// When the card was made: of two cards of one identity the later counts.
    pub created: Timestamp,
}

/// A card whose signature holds, with its bytes as they came (docs/e2ee.md#the-signed-card).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCard {
    bytes: Vec<u8>,
    card: Card,
}

/// Why bytes are no card, or a card cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Not the layout of a card, or an unknown version.
    #[error("malformed card")]
    Malformed,
    /// Empty, over 64 bytes, not UTF-8, or with control characters.
    #[error("name of a card must have 1 to {CARD_NAME_BYTES_MAX} bytes and no control characters")]
    Name,
    /// The keys are weak or the signature is not theirs.
    #[error("signature of the card does not hold")]
    Signature,
}

impl From<ParseRecordError> for CardError {
    fn from(_: ParseRecordError) -> Self {
        Self::Malformed
    }
}

impl SignedCard {
    /// Reads a signed card and verifies it under the key it names.
    ///
    /// # Errors
    /// [`CardError`] for another layout or version, an unusable name, or a signature that does not hold.
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

    /// Record and signature, as they travel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the card says.
    #[must_use]
    pub const fn card(&self) -> &Card {
        &self.card
    }

    /// The identity the card is of.
    #[must_use]
    pub const fn identity(&self) -> &PeerIdentity {
        &self.card.identity
    }
}

impl Identity {
    /// Makes a card of this identity.
    ///
    /// # Errors
    /// [`CardError::Name`] when the name is empty, over 64 bytes, or has control characters.
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
    fn a_card_is_read_as_it_was_signed() {
        let signed = card();
        assert_eq!(SignedCard::parse_verified(signed.as_bytes()), Ok(signed));
    }

    #[test]
    fn no_bit_of_a_card_can_change() {
        let signed = card();
        for bit in 0..signed.as_bytes().len() * 8 {
            let mut bytes = signed.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SignedCard::parse_verified(&bytes).is_err(), "bit {bit}");
        }
        assert!(SignedCard::parse_verified(&[signed.as_bytes(), &[0]].concat()).is_err());
    }

    #[test]
    fn names_have_bounds() {
        let identity = Identity::from_seeds(&[1; 32], &[2; 32]);
        let sign = |name: &str| identity.sign_card(name, Timestamp::default());
        for bad in ["", "a\nb", "\u{9b}", &"x".repeat(65)] {
            assert_eq!(sign(bad), Err(CardError::Name), "{bad:?}");
        }
        assert!(sign(&"x".repeat(64)).is_ok());
    }
}
