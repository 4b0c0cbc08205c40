//! Identifiers: 16 raw bytes each, base64url without padding wherever they are text. One type for each noun, so that
//! two cannot be swapped.

use crate::{Timestamp, b64, origin::Origin};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Text that is not the 22 characters of a 16-byte id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected 22 characters of base64url")]
pub struct ParseIdError;

macro_rules! id {
    ($(#[doc = $doc:literal])* $name:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Takes 16 raw bytes as they are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&b64::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                b64::parse_array(text).map(Self).map_err(|_| ParseIdError)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;
            fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
                bytes.try_into().map(Self).map_err(|_| ParseIdError)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        crate::schema::schema_of_bytes!($name, 16, $($doc),*);
    };
}

id!(
    /// An account at a relay, made by the relay at registration.
    AccountId
);
id!(
    /// A mailbox: an inbound address at the recipient's relay, random, made by its owner.
    MailboxId
);
id!(
    /// An invite, random, made by its maker.
    InviteId
);
id!(
    /// A message, random, made by its sender; the same in every try and for every recipient.
    MessageId
);
id!(
    /// An envelope, made by the sealing node with [`EnvelopeId::new`]; a new one for each sealing.
    EnvelopeId
);

impl EnvelopeId {
    /// The id of an envelope that is sealed now: 48 bits of Unix milliseconds, then random ones, laid out as UUID version 7
    /// (RFC 9562, section 5.7). Ids that come together stand together in a relay's index.
    #[must_use]
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&now.as_millis().to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | bytes[6] & 0x0f;
        bytes[8] = 0x80 | bytes[8] & 0x3f;
        Self(bytes)
    }
}

id!(
    /// A blob, random, made by the uploading node.
    BlobId
);

/// One item of a delivery batch, an envelope or an event: the relay's own count, a number in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = 4_711))]
pub struct DeliveryId(pub u64);

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a mailbox is: no mailbox is named without its relay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MailboxRef {
    /// The relay that holds it.
    pub relay: Origin,
    /// Its id there.
    pub id: MailboxId,
}

/// Where a blob is: no blob is named without its relay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// The relay that holds it.
    pub relay: Origin,
    /// Its id there.
    pub id: BlobId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_22_characters_both_ways() {
        let id = MailboxId::from_bytes([7; 16]);
        let text = id.to_string();
        assert_eq!(text.len(), 22);
        assert_eq!(text.parse::<MailboxId>().unwrap(), id);
        for bad in ["", "BwcHBwcHBwcHBwcHBwcHBwc", "BwcHBwcHBwcHBwcHBwcHBx"] {
            assert_eq!(bad.parse::<MailboxId>(), Err(ParseIdError), "{bad}");
        }
    }
    #[test]
    fn an_envelope_id_is_the_uuid_of_rfc_9562() {
        let random = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
        let expected = 0x017f_22e2_79b0_7cc3_98c4_dc0c_0c07_398f_u128.to_be_bytes();
        assert_eq!(
            EnvelopeId::new(Timestamp::from_millis(1_645_557_742_000), random).as_bytes(),
            &expected
        );
        let all_ones = EnvelopeId::new(Timestamp::from_millis(0), [0xff; 10]);
        assert_eq!(
            (all_ones.as_bytes()[6], all_ones.as_bytes()[8]),
            (0x7f, 0xbf),
            "version and variant are fixed"
        );
    }
}
