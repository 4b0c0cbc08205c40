//! Secrets: bytes that are zeroised when dropped, compared in constant time and never printed. Every
//! type that holds one is declared with [`secret!`](crate::secret!).

use crate::b64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` secret bytes, zeroised when dropped. `==` takes constant time and `Debug` prints no content.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes<const N: usize>([u8; N]);

impl<const N: usize> SecretBytes<N> {
    /// Wraps raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// Returns the raw bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> PartialEq for SecretBytes<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl<const N: usize> Eq for SecretBytes<N> {}

impl<const N: usize> fmt::Debug for SecretBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// Declares a newtype for a secret of a fixed number of bytes, with `from_bytes` and `expose`. It is
/// zeroised when dropped, compared in constant time, and printed without its content.
///
/// ```
/// sealpost_proto::secret! {
///     /// Key of a vault.
///     pub struct VaultKey([u8; 32]);
/// }
///
/// let key = VaultKey::from_bytes([7; 32]);
/// assert_eq!(key.expose(), &[7; 32]);
/// assert_eq!(format!("{key:?}"), "VaultKey(..)");
/// ```
#[macro_export]
macro_rules! secret {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident([u8; $bytes:expr]);) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $visibility struct $name($crate::secret::SecretBytes<$bytes>);

        impl $name {
            /// Wraps raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self($crate::secret::SecretBytes::from_bytes(bytes))
            }

            /// Returns the raw bytes.
            #[must_use]
            pub const fn expose(&self) -> &[u8; $bytes] {
                self.0.expose()
            }
        }
    };
}

/// Declares a secret of 32 bytes that is base64url in JSON.
macro_rules! wire_secret {
    ($(#[doc = $doc:literal])* $name:ident) => {
        crate::secret! {
            $(#[doc = $doc])*
            pub struct $name([u8; 32]);
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&b64::encode(self.expose()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                let bytes = b64::parse_array(&text).map_err(de::Error::custom)?;
                Ok(Self::from_bytes(bytes))
            }
        }

        #[cfg(feature = "openapi")]
        crate::schema::schema_of_bytes!($name, 32, $($doc),*);
    };
}

wire_secret!(
    /// The key of a mailbox: who holds it may post there. Made by the mailbox's owner, known to the owner, its relay
    /// and the one peer.
    SendKey
);
wire_secret!(
    /// What lets its holder fetch a blob; the relay stores only its SHA-256.
    FetchToken
);
wire_secret!(
    /// The key of a signed-in session between a node and its relay.
    SessionKey
);
wire_secret!(
    /// The secret under which a relay signs its calls of one account's webhook.
    WebhookSecret
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_but_not_printed() {
        let key = SendKey::from_bytes([7; 32]);
        assert_eq!(key, SendKey::from_bytes([7; 32]));
        assert_ne!(key, SendKey::from_bytes([8; 32]));
        assert_eq!(format!("{key:?}"), "SendKey(..)");
    }
}
