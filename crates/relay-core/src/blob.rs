//! Expiry of blobs, and the `Range` header of requests for their parts (`docs/protocol.md`,
//! *Blobs*).

use sealpost_proto::{Timestamp, limits::BLOB_LIFETIME_MAX};
use std::ops::Range;

pub use sealpost_proto::BlobSize;

/// Returns a blob's expiry: as requested, up to [`BLOB_LIFETIME_MAX`] from now.
#[must_use]
pub fn clamp_expiry(now: Timestamp, requested: Timestamp) -> Timestamp {
    requested.min(now.plus(BLOB_LIFETIME_MAX))
}

/// Returns the new expiry of a blob, which is never before the current one.
#[must_use]
pub fn extend_expiry(now: Timestamp, current: Timestamp, requested: Timestamp) -> Timestamp {
    clamp_expiry(now, requested).max(current)
}

/// Range of an object that a `Range` header requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedRange {
    /// The whole object: the header is missing or not understood, in which case a server may ignore
    /// it (RFC 9110, section 14.2).
    Full,
    /// One range within the object.
    Partial(Range<u64>),
    /// A range beyond the end.
    Unsatisfiable,
}

/// Parses a `Range` header with one range of bytes (RFC 9110, section 14.1.2) for an object of
/// `length` bytes.
#[must_use]
pub fn parse_range(header: Option<&str>, length: u64) -> RequestedRange {
    let ends = header
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|set| set.split_once('-'));
    match ends.and_then(|(first, last)| Some((parse_position(first)?, parse_position(last)?))) {
        None | Some((None, None)) => RequestedRange::Full,
        Some((None, Some(suffix))) => non_empty_range(length.saturating_sub(suffix)..length),
        Some((Some(first), None)) => non_empty_range(first..length),
        Some((Some(first), Some(last))) if last < first => RequestedRange::Full,
        Some((Some(first), Some(last))) => {
            non_empty_range(first..last.saturating_add(1).min(length))
        }
    }
}

fn non_empty_range(range: Range<u64>) -> RequestedRange {
    if range.is_empty() {
        RequestedRange::Unsatisfiable
    } else {
        RequestedRange::Partial(range)
    }
}

/// Parses a position: `Some(None)` for an empty text, `None` for anything else that is not a
/// number.
fn parse_position(text: &str) -> Option<Option<u64>> {
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
        fn ranges_stay_within_the_object(
            header in "bytes=[0-9]{0,4}-[0-9]{0,4}",
            length in 0..3_000_u64,
        ) {
            if let RequestedRange::Partial(range) = parse_range(Some(&header), length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }

    #[test]
    fn range_headers_are_parsed() {
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
    fn extended_expiry_stays_within_the_bounds() {
        let now = Timestamp::from_millis(1_000);
        let end = now.plus(BLOB_LIFETIME_MAX);
        assert_eq!(clamp_expiry(now, Timestamp::from_millis(u64::MAX)), end);
        assert_eq!(
            extend_expiry(
                now,
                Timestamp::from_millis(9_000),
                Timestamp::from_millis(8_000)
            )
            .as_millis(),
            9_000
        );
        assert_eq!(
            extend_expiry(now, now, now.plus(Duration::from_secs(9))),
            now.plus(Duration::from_secs(9))
        );
    }
}
