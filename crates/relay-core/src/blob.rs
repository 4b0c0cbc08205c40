//! How a blob divides into parts, how long it lives, and which bytes of a part a `Range` asks for
//! (`docs/protocol.md`, *Blobs*).

use sealpost_proto::{Timestamp, limits::BLOB_LIFE_MAX};
use std::ops::Range;

pub use sealpost_proto::BlobSize;

/// When a blob's life ends: as asked, at most [`BLOB_LIFE_MAX`] from now.
#[must_use]
pub fn expiry(now: Timestamp, asked: Timestamp) -> Timestamp {
    asked.min(now.plus(BLOB_LIFE_MAX))
}

/// The new end of a blob's life: only ever later.
#[must_use]
pub fn extended(now: Timestamp, current: Timestamp, asked: Timestamp) -> Timestamp {
    expiry(now, asked).max(current)
}

/// What a `Range` header asks of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of it: no header, or one that is not understood (RFC 9110, section 14.2 lets a server ignore it).
    Whole,
    /// One stretch, within the object.
    Stretch(Range<u64>),
    /// Beyond its end.
    Unsatisfiable,
}

/// Reads a `Range` header with one range of bytes (RFC 9110, section 14.1.2) for an object of `length` bytes.
#[must_use]
pub fn range(header: Option<&str>, length: u64) -> Asked {
    let ends = header
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|set| set.split_once('-'));
    match ends.and_then(|(first, last)| Some((position(first)?, position(last)?))) {
        None | Some((None, None)) => Asked::Whole,
        Some((None, Some(suffix))) => within(length.saturating_sub(suffix)..length),
        Some((Some(first), None)) => within(first..length),
        Some((Some(first), Some(last))) if last < first => Asked::Whole,
        Some((Some(first), Some(last))) => within(first..last.saturating_add(1).min(length)),
    }
}

fn within(stretch: Range<u64>) -> Asked {
    if stretch.is_empty() {
        Asked::Unsatisfiable
    } else {
        Asked::Stretch(stretch)
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
            if let Asked::Stretch(stretch) = range(Some(&header), length) {
                prop_assert!(stretch.start < stretch.end && stretch.end <= length);
            }
        }
    }

    #[test]
    fn ranges() {
        for (header, expected) in [
            (None, Asked::Whole),
            (Some("bytes=0-9"), Asked::Stretch(0..10)),
            (Some("bytes=90-"), Asked::Stretch(90..100)),
            (Some("bytes=90-500"), Asked::Stretch(90..100)),
            (Some("bytes=-10"), Asked::Stretch(90..100)),
            (Some("bytes=-500"), Asked::Stretch(0..100)),
            (Some("bytes=100-"), Asked::Unsatisfiable),
            (Some("bytes=-0"), Asked::Unsatisfiable),
            (Some("bytes=9-3"), Asked::Whole),
            (Some("bytes=0-1,5-6"), Asked::Whole),
            (Some("bytes=-"), Asked::Whole),
            (Some("lines=1-2"), Asked::Whole),
            (Some("bytes=+1-2"), Asked::Whole),
        ] {
            assert_eq!(range(header, 100), expected, "{header:?}");
        }
    }

    #[test]
    fn a_life_only_grows_and_ends_in_37_days() {
        let now = Timestamp::from_millis(1_000);
        let end = now.plus(BLOB_LIFE_MAX);
        assert_eq!(expiry(now, Timestamp::from_millis(u64::MAX)), end);
        assert_eq!(
            extended(
                now,
                Timestamp::from_millis(9_000),
                Timestamp::from_millis(8_000)
            )
            .as_millis(),
            9_000
        );
        assert_eq!(
            extended(now, now, now.plus(Duration::from_secs(9))),
            now.plus(Duration::from_secs(9))
        );
    }
}
