//! How a blob divides into parts, how long it lives, and which bytes of a part a `Range` asks for
//! (`docs/protocol.md`, *Blobs*).

use sealpost_proto::{Timestamp, limits::BLOB_LIFETIME_MAX};
use std::ops::Range;

pub use sealpost_proto::BlobSize;

/// When a blob's life ends: as requested, at most [`BLOB_LIFETIME_MAX`] from now.
#[must_use]
pub fn expiry(now: Timestamp, requested: Timestamp) -> Timestamp {
    requested.min(now.plus(BLOB_LIFETIME_MAX))
}

/// The new end of a blob's life: only ever later.
#[must_use]
pub fn extended_expiry(now: Timestamp, current: Timestamp, requested: Timestamp) -> Timestamp {
    expiry(now, requested).max(current)
}

/// What a `Range` header asks of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedRange {
    /// All of it: no header, or one that is not understood (RFC 9110, section 14.2 lets a server ignore it).
    Full,
    /// One range, within the object.
    Partial(Range<u64>),
    /// Beyond its end.
    Unsatisfiable,
}

/// Reads a `Range` header with one range of bytes (RFC 9110, section 14.1.2) for an object of `length` bytes.
#[must_use]
pub fn parse_range(header: Option<&str>, length: u64) -> RequestedRange {
    let ends = header
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|set| set.split_once('-'));
    match ends.and_then(|(first, last)| Some((position(first)?, position(last)?))) {
        None | Some((None, None)) => RequestedRange::Full,
        Some((None, Some(suffix))) => within(length.saturating_sub(suffix)..length),
        Some((Some(first), None)) => within(first..length),
        Some((Some(first), Some(last))) if last < first => RequestedRange::Full,
        Some((Some(first), Some(last))) => within(first..last.saturating_add(1).min(length)),
    }
}

fn within(range: Range<u64>) -> RequestedRange {
    if range.is_empty() {
        RequestedRange::Unsatisfiable
    } else {
        RequestedRange::Partial(range)
    }
}

/// `Some(None)` for no digits at all, `None` for anything else that is not a number.
fn position(text: &str) -> Option<Option<u64>> {
    match text {
        "" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn no_range_leaves_its_object(header in "bytes=[0-9]{0,4}-[0-9]{0,4}", length in 0..3_000_u64) {
            if let RequestedRange::Partial(range) = parse_range(Some(&header), length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }

    #[test]
    fn ranges() {
        for (header, expected) in [
            (None, RequestedRange::Full),
            (Some("bytes=0-9"), RequestedRange::Partial(0..10)),
            (Some("bytes=90-"), RequestedRange::Partial(90..100)),
            (Some("bytes=90-500"), RequestedRange::Partial(90..100)),
            (Some("bytes=-10"), RequestedRange::Partial(90..100)),
            (Some("bytes=-500"), RequestedRange::Partial(0..100)),
            (Some("bytes=100-"), RequestedRange::Unsatisfiable),
            (Some("bytes=-0"), RequestedRange::Unsatisfiable),
            (Some("bytes=9-3"), RequestedRange::Full),
            (Some("bytes=0-1,5-6"), RequestedRange::Full),
            (Some("bytes=-"), RequestedRange::Full),
            (Some("lines=1-2"), RequestedRange::Full),
            (Some("bytes=+1-2"), RequestedRange::Full),
        ] {
            assert_eq!(parse_range(header, 100), expected, "{header:?}");
        }
    }

    #[test]
    fn a_life_only_grows_and_ends_in_37_days() {
        let now = Timestamp::from_millis(1_000);
        let end = now.plus(BLOB_LIFETIME_MAX);
        assert_eq!(expiry(now, Timestamp::from_millis(u64::MAX)), end);
        assert_eq!(
            extended_expiry(
                now,
                Timestamp::from_millis(9_000),
                Timestamp::from_millis(8_000)
            )
            .as_millis(),
            9_000
        );
        assert_eq!(
            extended_expiry(now, now, now.plus(Duration::from_secs(9))),
            now.plus(Duration::from_secs(9))
        );
    }
}
