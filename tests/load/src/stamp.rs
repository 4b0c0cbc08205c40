//! The stamp in the first bytes of an envelope: its due time and its round, so that the receiver
//! can compute the delivery time.

use sealpost_proto::b64;
use std::time::{SystemTime, UNIX_EPOCH};

const BYTES: usize = 12;
/// Twelve bytes are exactly these characters of base64url.
const CHARS: usize = 16;

/// Due time and round of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Due time in Unix nanoseconds.
    pub(crate) due_ns: u64,
    /// Number of the round.
    pub(crate) round: u32,
}

impl Stamp {
    /// Overwrites the first bytes of an envelope.
    pub(crate) fn write(self, envelope: &mut [u8]) {
        let (due, rest) = envelope.split_at_mut(8);
        due.copy_from_slice(&self.due_ns.to_be_bytes());
        rest[..4].copy_from_slice(&self.round.to_be_bytes());
    }

    /// Reads the stamp from an envelope in base64url.
    #[must_use]
    pub(crate) fn read(envelope: &str) -> Option<Self> {
        let bytes: [u8; BYTES] = b64::parse_array(envelope.get(..CHARS)?).ok()?;
        let (due, round) = bytes.split_at(8);
        Some(Self {
            due_ns: u64::from_be_bytes(due.try_into().ok()?),
            round: u32::from_be_bytes(round.try_into().ok()?),
        })
    }
}

/// Returns the current time in Unix nanoseconds.
#[must_use]
pub(crate) fn now_ns() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_the_encoding() {
        let stamp = Stamp {
            due_ns: now_ns(),
            round: 7,
        };
        let mut envelope = vec![0xff; 2_048];
        stamp.write(&mut envelope);
        assert_eq!(Stamp::read(&b64::encode(&envelope)), Some(stamp));
        assert_eq!(Stamp::read("short"), None);
    }
}
