//! Whether a disk has room for new work. Below a reserve the relay takes nothing new, so that what it has accepted can still
//! be handed over, acknowledged and deleted; it takes new work again when there is clearly more than the reserve.
//!
//! | space | free | next space |
//! |---|---|---|
//! | sufficient | less than the reserve | low |
//! | sufficient | the reserve or more | sufficient |
//! | low | less than 9/8 of the reserve | low |
//! | low | 9/8 of the reserve or more | sufficient |

use sealpost_proto::limits;

/// How much of a disk is kept for finishing what was accepted: so many bytes, and no more than so many percent of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// Bytes.
    pub bytes: u64,
    /// Percent of the disk.
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
    /// The reserve on a disk of `total_bytes`.
    #[must_use]
    pub fn bytes_on(self, total_bytes: u64) -> u64 {
        let percent = u64::from(self.percent.min(100));
        self.bytes.min(total_bytes / 100 * percent)
    }

    /// The part of a reserve that is a file: given away when even the reserve is taken by others.
    #[must_use]
    pub const fn file_bytes(reserve_bytes: u64) -> u64 {
        reserve_bytes / 4
    }
}

/// Whether there is room for new work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiskSpace {
    /// There is.
    #[default]
    Sufficient,
    /// There is not.
    Low,
}

impl DiskSpace {
    /// What follows when so much is free, the reserve's file counted as free.
    #[must_use]
    pub const fn step(self, free_bytes: u64, reserve_bytes: u64) -> Self {
        let enough = match self {
            Self::Sufficient => reserve_bytes,
            Self::Low => reserve_bytes.saturating_add(reserve_bytes / 8),
        };
        if free_bytes < enough {
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
    fn every_space_with_every_amount() {
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
        assert_eq!(Sufficient.step(0, 0), Sufficient, "no reserve, no refusal");
    }

    #[test]
    fn a_small_disk_keeps_a_small_reserve() {
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
