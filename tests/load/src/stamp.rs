//! The mark in the first bytes of an envelope: when it was due to be sent and in which round, so that the receiver can
//! tell how long it was on its way without asking anybody.

use sealpost_proto::b64;
use std::time::{SystemTime, UNIX_EPOCH};

const BYTES: usize = 12;
/// Twelve bytes are exactly these characters of base64url.
const CHARS: usize = 16;

/// When an envelope was due, and in which round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Unix nanoseconds.
    pub(crate) due_ns: u64,
    /// Counted up by the program that measures.
    pub(crate) round: u32,
}

impl Stamp {
    /// Writes it over the first bytes of an envelope.
    pub(crate) fn put(self, envelope: &mut [u8]) {
        let (due, rest) = envelope.split_at_mut(8);
        due.copy_from_slice(&self.due_ns.to_be_bytes());
        rest[..4].copy_from_slice(&self.round.to_be_bytes());
    }

    /// Reads it from an envelope in base64url.
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

/// Unix nanoseconds now.
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
    fn a_stamp_survives_the_wire() {
        let stamp = Stamp {
            due_ns: now_ns(),
            round: 7,
        };
        let mut envelope = vec![0xff; 2_048];
        stamp.put(&mut envelope);
        assert_eq!(Stamp::read(&b64::encode(&envelope)), Some(stamp));
        assert_eq!(Stamp::read("short"), None);
    }
}
