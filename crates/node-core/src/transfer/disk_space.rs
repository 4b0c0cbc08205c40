//! Check of free disk space for files.

use sealpost_proto::limits::{FILES_RESERVE_BYTES, FILES_RESERVE_PERCENT};

/// Whether the disk has space for `needed_bytes` besides the reserve for the database, so that
/// messages can be stored even when files cannot.
#[must_use]
pub fn has_disk_space(free_bytes: u64, disk_bytes: u64, needed_bytes: u64) -> bool {
    let reserve_bytes =
        FILES_RESERVE_BYTES.min(disk_bytes / 100 * u64::from(FILES_RESERVE_PERCENT));
    needed_bytes
        .checked_add(reserve_bytes)
        .is_some_and(|bytes| bytes <= free_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_leave_the_database_reserve() {
        const GIB: u64 = 1 << 30;
        const MIB: u64 = 1 << 20;
        for (free, disk, needed, fits) in [
            (GIB, 100 * GIB, GIB - 64 * MIB, true),
            (GIB, 100 * GIB, GIB - 64 * MIB + 1, false),
            (GIB, 100 * GIB, 0, true),
            (64 * MIB - 1, 100 * GIB, 0, false),
            (10_000, 100_000, 5_000, true),
            (10_000, 100_000, 5_001, false),
            (0, 0, 0, true),
            (u64::MAX, u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(
                has_disk_space(free, disk, needed),
                fits,
                "{free} of {disk} are free, {needed} needed"
            );
        }
    }
}
