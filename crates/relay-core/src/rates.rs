//! Rate limits, and their form in the headers `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers, structured fields).

use sealpost_proto::{limits, wire::AnnouncedRates};
use std::{fmt, time::Duration};

/// Rate limits of a relay; 0 means no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// Sustained requests per second of one account.
    pub requests_per_second: u32,
    /// Burst of requests of one account.
    pub requests_burst: u32,
    /// Envelopes per minute of one account.
    pub envelopes_per_minute: u32,
    /// Bytes of blob parts that one account uploads per day.
    pub blob_bytes_per_day: u64,
    /// Requests per minute without a session from one IP address: to register, to sign in, to read
    /// the public pages.
    pub address_requests_per_minute: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            requests_per_second: limits::REQUESTS_PER_SECOND_MAX,
            requests_burst: limits::REQUESTS_BURST_MAX,
            envelopes_per_minute: limits::ENVELOPES_PER_MINUTE_MAX,
            blob_bytes_per_day: limits::BLOB_BYTES_PER_DAY_MAX,
            address_requests_per_minute: limits::ADDRESS_REQUESTS_PER_MINUTE_MAX,
        }
    }
}

/// Rate limits that the operator set for one account; the defaults apply to absent ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RateOverrides {
    /// Sustained requests per second.
    pub requests_per_second: Option<u32>,
    /// Burst of requests.
    pub requests_burst: Option<u32>,
    /// Envelopes per minute.
    pub envelopes_per_minute: Option<u32>,
    /// Bytes of blob parts uploaded per day.
    pub blob_bytes_per_day: Option<u64>,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

impl Rates {
    /// Returns the rate limits of an account with overrides.
    #[must_use]
    pub fn with_overrides(&self, overrides: RateOverrides) -> Self {
        Self {
            requests_per_second: overrides
                .requests_per_second
                .unwrap_or(self.requests_per_second),
            requests_burst: overrides.requests_burst.unwrap_or(self.requests_burst),
            envelopes_per_minute: overrides
                .envelopes_per_minute
                .unwrap_or(self.envelopes_per_minute),
            blob_bytes_per_day: overrides
                .blob_bytes_per_day
                .unwrap_or(self.blob_bytes_per_day),
            address_requests_per_minute: self.address_requests_per_minute,
        }
    }

    /// Returns the limit for an account's requests.
    #[must_use]
    pub fn requests(&self) -> Option<Rate> {
        let burst = self.requests_burst.max(self.requests_per_second);
        let window = SECOND
            .checked_mul(burst)?
            .checked_div(self.requests_per_second)?;
        Rate::new("requests", burst, window)
    }

    /// Returns the limit for an account's envelopes. One request of maximum size always fits.
    #[must_use]
    pub fn envelopes(&self) -> Option<Rate> {
        rate_with_minimum(
            "envelopes",
            self.envelopes_per_minute,
            limits::ENVELOPES_PER_REQUEST_MAX,
            MINUTE,
        )
    }

    /// Returns the limit for the KiB that an account uploads. One part always fits.
    #[must_use]
    pub fn blob_kibibytes(&self) -> Option<Rate> {
        let kibibytes = u32::try_from(self.blob_bytes_per_day.div_ceil(1024)).unwrap_or(u32::MAX);
        rate_with_minimum(
            "blob-kib",
            kibibytes,
            to_kibibytes(limits::PART_BYTES_MAX) as usize,
            DAY,
        )
    }

    /// Returns the limit for requests without a session from one IP address.
    #[must_use]
    pub fn addresses(&self) -> Option<Rate> {
        rate_with_minimum("addresses", self.address_requests_per_minute, 1, MINUTE)
    }

    /// Returns the rate limits for `/.well-known/sealpost`.
    #[must_use]
    pub fn announced(&self) -> AnnouncedRates {
        let some = |rate: u64| (rate > 0).then_some(rate);
        AnnouncedRates {
            requests_per_second: some(self.requests_per_second.into()),
            requests_burst: self.requests().map(|rate| rate.quantity.into()),
            envelopes_per_minute: some(self.envelopes_per_minute.into()),
            blob_bytes_per_day: some(self.blob_bytes_per_day),
            address_requests_per_minute: some(self.address_requests_per_minute.into()),
        }
    }
}

/// Returns the limit for an account's envelopes whose records are retained for long. It is not
/// configurable, and no request is refused because of it.
#[must_use]
pub fn long_records() -> Option<Rate> {
    Rate::new("records", limits::LONG_RECORDS_PER_DAY_MAX, DAY)
}

/// Returns the KiB that an upload of this size counts for, rounded up.
#[must_use]
pub fn to_kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Creates a rate whose quantity is at least what one request may need; the window grows with it.
fn rate_with_minimum(
    name: &'static str,
    quantity: u32,
    quantity_min: usize,
    window: Duration,
) -> Option<Rate> {
    let quantity_min = u32::try_from(quantity_min).unwrap_or(u32::MAX);
    let raised = quantity_min.max(quantity);
    Rate::new(
        name,
        raised,
        window.checked_mul(raised)?.checked_div(quantity)?,
    )
}

/// Rate limit: a quantity that is available at once and is replenished evenly over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    name: &'static str,
    quantity: u32,
    window: Duration,
}

impl Rate {
    fn new(name: &'static str, quantity: u32, window: Duration) -> Option<Self> {
        (quantity > 0).then_some(Self {
            name,
            quantity,
            window,
        })
    }

    /// Returns the quantity that is available at once.
    #[must_use]
    pub const fn quantity(self) -> u32 {
        self.quantity
    }

    /// Returns the time in which one unit is replenished.
    #[must_use]
    pub fn period(self) -> Duration {
        (self.window / self.quantity).max(Duration::from_nanos(1))
    }
}

/// Formats an item of `RateLimit-Policy`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            quantity,
            window,
        } = self;
        write!(
            f,
            "\"{name}\";q={quantity};w={}",
            seconds_rounded_up(*window)
        )
    }
}

/// Remaining quantity of a rate limit. It is displayed as an item of `RateLimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// The rate limit.
    pub rate: Rate,
    /// Quantity that is available now.
    pub remaining: u32,
}

impl fmt::Display for RateLimitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, remaining } = self;
        let used = rate.quantity.saturating_sub(*remaining);
        let full_after = rate.period().saturating_mul(used);
        write!(
            f,
            "\"{}\";r={remaining};t={}",
            rate.name,
            seconds_rounded_up(full_after)
        )
    }
}

fn seconds_rounded_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_follow_the_draft() {
        let rates = Rates {
            requests_per_second: 200,
            requests_burst: 1_000,
            ..Rates::default()
        };
        let rate = rates.requests().unwrap();
        assert_eq!(rate.to_string(), r#""requests";q=1000;w=5"#);
        assert_eq!(rate.period(), Duration::from_millis(5));
        assert_eq!(
            RateLimitStatus {
                rate,
                remaining: 1_000
            }
            .to_string(),
            r#""requests";r=1000;t=0"#
        );
        assert_eq!(
            RateLimitStatus {
                rate,
                remaining: 999
            }
            .to_string(),
            r#""requests";r=999;t=1"#
        );
        assert_eq!(
            RateLimitStatus { rate, remaining: 0 }.to_string(),
            r#""requests";r=0;t=5"#
        );
    }

    #[test]
    fn overrides_replace_defaults() {
        let overrides = RateOverrides {
            requests_per_second: Some(0),
            blob_bytes_per_day: Some(7),
            ..RateOverrides::default()
        };
        let expected = Rates {
            requests_per_second: 0,
            blob_bytes_per_day: 7,
            ..Rates::default()
        };
        assert_eq!(Rates::default().with_overrides(overrides), expected);
        assert_eq!(
            Rates::default().with_overrides(RateOverrides::default()),
            Rates::default()
        );
    }

    #[test]
    fn zero_means_no_limit() {
        let none = Rates {
            requests_per_second: 0,
            envelopes_per_minute: 0,
            blob_bytes_per_day: 0,
            address_requests_per_minute: 0,
            ..Rates::default()
        };
        assert_eq!(
            (
                none.requests(),
                none.envelopes(),
                none.blob_kibibytes(),
                none.addresses()
            ),
            (None, None, None, None)
        );
        assert_eq!(none.announced(), AnnouncedRates::default());
    }

    #[test]
    fn one_request_always_fits() {
        let small = Rates {
            envelopes_per_minute: 10,
            blob_bytes_per_day: 1,
            requests_burst: 0,
            ..Rates::default()
        };
        let envelopes = small.envelopes().unwrap();
        assert_eq!(
            (envelopes.quantity(), envelopes.period()),
            (100, Duration::from_secs(6))
        );
        assert!(small.blob_kibibytes().unwrap().quantity() >= to_kibibytes(limits::PART_BYTES_MAX));
        assert_eq!(
            small.requests().unwrap().quantity(),
            small.requests_per_second
        );
    }
}
