//! Reserve of disk space. Below it a relay refuses new work, so that accepted work can still be
//! delivered, acknowledged and deleted. It accepts new work again once clearly more than the
//! reserve is free.
//!
//! | space | free | next space |
//! |---|---|---|
//! | sufficient | less than the reserve | low |
//! | sufficient | the reserve or more | sufficient |
//! | low | less than 9/8 of the reserve | low |
//! | low | 9/8 of the reserve or more | sufficient |

use sealpost_proto::limits;

/// Disk space reserved for completing accepted work: a number of bytes, limited to a percentage of
/// the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// Reserved bytes, unless [`Self::percent`] allows fewer.
    pub bytes: u64,
    /// Upper bound as a percentage of the disk.
    pub percent: u8,
}

impl Default for Reserve {
    fn default() -> Self {
        Self {
            bytes: limits::STORAGE_RESERVE_BYTES,
            percent: limits::STORAGE_RESERVE_PERCENT,
        }
    }
}

impl Reserve {
    /// Returns the reserve on a disk of `total_bytes`.
    #[must_use]
    pub fn bytes_on(self, total_bytes: u64) -> u64 {
        let percent = u64::from(self.percent.min(100));
        self.bytes.min(total_bytes / 100 * percent)
    }

    /// Returns the size of the file that holds part of the reserve. The relay deletes the file when
    /// other programs use up even the reserve.
    #[must_use]
    pub const fn file_bytes(reserve_bytes: u64) -> u64 {
        reserve_bytes / 4
    }
}

/// Disk space of the relay, compared with the reserve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiskSpace {
    /// The disk has space for new work.
    #[default]
    Sufficient,
    /// Less than the reserve is free, so new work is refused.
    Low,
}

impl DiskSpace {
    /// Returns the next state; `free_bytes` includes the reserve's file.
    #[must_use]
    pub const fn step(self, free_bytes: u64, reserve_bytes: u64) -> Self {
        let required = match self {
            Self::Sufficient => reserve_bytes,
            Self::Low => reserve_bytes.saturating_add(reserve_bytes / 8),
        };
        if free_bytes < required {
            Self::Low
        } else {
            Self::Sufficient
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DiskSpace::{Low, Sufficient};

    #[test]
    fn disk_space_follows_the_table() {
        for (space, free, next) in [
            (Sufficient, 0, Low),
            (Sufficient, 799, Low),
            (Sufficient, 800, Sufficient),
            (Sufficient, 900, Sufficient),
            (Low, 0, Low),
            (Low, 800, Low),
            (Low, 899, Low),
            (Low, 900, Sufficient),
        ] {
            assert_eq!(space.step(free, 800), next, "{space:?} {free}");
        }
        assert_eq!(
            Sufficient.step(0, 0),
            Sufficient,
            "without a reserve nothing is refused"
        );
    }

    #[test]
    fn small_disk_has_small_reserve() {
        let reserve = Reserve {
            bytes: 1_000,
            percent: 10,
        };
        assert_eq!(
            (
                reserve.bytes_on(100_000),
                reserve.bytes_on(5_000),
                reserve.bytes_on(0)
            ),
            (1_000, 500, 0)
        );
        assert_eq!(
            Reserve {
                percent: 255,
                ..reserve
            }
            .bytes_on(500),
            500
        );
    }
}
