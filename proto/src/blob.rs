//! Division of a blob into parts (`docs/protocol.md`, *Blobs*).

use crate::{
    error::ErrorCode,
    limits::{BLOB_HEAD_BYTES, BLOB_PARTS_MAX, PART_BYTES},
};
use std::ops::Range;

/// Valid size of a blob in bytes, including its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobSize(u64);

impl BlobSize {
    /// Checks a size: more than the head, up to `limit_bytes`.
    ///
    /// # Errors
    /// `malformed` for a size without content, `too_large` above the limit.
    pub fn parse(size_bytes: u64, limit_bytes: u64) -> Result<Self, ErrorCode> {
        let size = Self(size_bytes);
        match size_bytes {
            0..=HEAD => Err(ErrorCode::Malformed),
            _ if size_bytes > limit_bytes || size.part_count() > u64::from(BLOB_PARTS_MAX) => {
                Err(ErrorCode::TooLarge)
            }
            _ => Ok(size),
        }
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the number of parts, at least one.
    #[must_use]
    pub fn parts(self) -> u32 {
        u32::try_from(self.part_count()).unwrap_or(u32::MAX)
    }

    /// Returns the length of part `number` in bytes. Part 0 also carries the head; the last part
    /// may be shorter.
    #[must_use]
    pub fn part_bytes(self, number: u32) -> Option<usize> {
        let range = self.part_range(number)?;
        usize::try_from(range.end - range.start).ok()
    }

    /// Returns the byte range of part `number` in the blob.
    #[must_use]
    pub fn part_range(self, number: u32) -> Option<Range<u64>> {
        if number >= self.parts() {
            return None;
        }
        let start = if number == 0 {
            0
        } else {
            HEAD + u64::from(number) * PART
        };
        Some(start..(HEAD + (u64::from(number) + 1) * PART).min(self.0))
    }

    const fn part_count(self) -> u64 {
        self.0.saturating_sub(HEAD).div_ceil(PART)
    }
}

const HEAD: u64 = BLOB_HEAD_BYTES as u64;
const PART: u64 = PART_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_contiguous() {
        for size in [HEAD + 1, HEAD + PART, HEAD + PART + 1, 100_687_920] {
            let blob = BlobSize::parse(size, 100_687_920).unwrap();
            let ranges: Vec<_> = (0..blob.parts())
                .filter_map(|part| blob.part_range(part))
                .collect();
            assert_eq!(ranges.first().unwrap().start, 0);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(ranges.last().unwrap().end, size);
            assert_eq!(blob.part_range(blob.parts()), None);
        }
    }

    #[test]
    fn sizes_are_checked_at_their_bounds() {
        use crate::limits::{BLOB_BYTES_MAX, PART_BYTES_MAX};
        let size = |bytes| BlobSize::parse(bytes, BLOB_BYTES_MAX);
        assert_eq!(size(48), Err(ErrorCode::Malformed));
        assert_eq!(size(BLOB_BYTES_MAX + 1), Err(ErrorCode::TooLarge));
        assert_eq!(BlobSize::parse(200, 199), Err(ErrorCode::TooLarge));
        assert_eq!(
            BlobSize::parse(u64::MAX, u64::MAX),
            Err(ErrorCode::TooLarge)
        );
        assert_eq!(size(49).unwrap().part_bytes(0), Some(49));
        let one = size(PART_BYTES_MAX as u64).unwrap();
        assert_eq!(
            (one.parts(), one.part_bytes(0), one.part_bytes(1)),
            (1, Some(PART_BYTES_MAX), None)
        );
        let two = size(PART_BYTES_MAX as u64 + 1).unwrap();
        assert_eq!((two.parts(), two.part_bytes(1)), (2, Some(1)));
        assert_eq!(size(BLOB_BYTES_MAX).unwrap().parts(), BLOB_PARTS_MAX);
    }
}
