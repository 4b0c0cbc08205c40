//! Secrets that both sides of the wire hold. They are zeroised when dropped, compared in constant time, and never
//! printed.

use crate::b64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

macro_rules! secret {
    ($(#[doc = $doc:literal])* $name:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes 32 raw bytes as they are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 raw bytes.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&b64::encode(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                b64::parse_array(&text).map(Self).map_err(de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        crate::schema::schema_of_bytes!($name, 32, $($doc),*);
    };
}

secret!(
    /// The key of a mailbox: who holds it may post there. Made by the mailbox's owner, known to the owner, its relay
    /// and the one peer.
    SendKey
);
secret!(
    /// What lets its holder fetch a blob; the relay stores only its SHA-256.
    FetchToken
);
secret!(
    /// The key of a signed-in session between a node and its relay.
    SessionKey
);
secret!(
    /// The secret under which a relay signs its calls of one account's webhook.
    WebhookSecret
);
