//! Points in time as they are sent on the wire.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Unix time in milliseconds.
///
/// Only the outermost layer reads the clock; everything else receives the time as an argument.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(example = 1_766_000_000_123_u64)
)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Creates a timestamp from Unix milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns Unix milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns Unix seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Returns the time since `earlier`, or zero if this is not later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns a later time; saturates at the maximum.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns an earlier time; saturates at zero.
    #[must_use]
    pub const fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

/// Returns the whole milliseconds of a duration; saturates at `u64::MAX`.
#[must_use]
pub const fn millis(duration: Duration) -> u64 {
    let millis = duration.as_millis();
    if millis > u64::MAX as u128 {
        u64::MAX
    } else {
        (duration.as_secs() * 1000) + duration.subsec_millis() as u64
    }
}
