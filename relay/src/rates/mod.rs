//! Rate limits: one meter for each rate, which counts for each account or address that sent
//! requests recently.
//!
//! The counts are in memory only, so that a restart resets them. Start reading at [`Meters`].
//! `http` turns a refusal into a response and reports the collected [`RateLimitStatus`] in headers.

mod meter;

use meter::Meter;
use sealpost_proto::{AccountId, limits::TRACKED_ADDRESSES_MAX};
use sealpost_relay_core::rates::{RateLimitStatus, RateOverrides, Rates, kibibytes_of};
use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

tokio::task_local! {
    static STATUSES: RefCell<Vec<RateLimitStatus>>;
}

/// The rate is exhausted; nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimited {
    pub(crate) retry_after: Duration,
}

/// Meters of a relay.
pub(crate) struct Meters {
    rates: Rates,
    default: Arc<AccountMeters>,
    /// Meters of accounts with overrides. Accounts with equal overrides share them.
    overridden: Mutex<HashMap<RateOverrides, Arc<AccountMeters>>>,
    addresses: Option<Meter<Network>>,
}

/// Meters of accounts with the same rates.
pub(crate) struct AccountMeters {
    requests: Option<Meter<AccountId>>,
    envelopes: Option<Meter<AccountId>>,
    blob_kibibytes: Option<Meter<AccountId>>,
}

impl Meters {
    #[must_use]
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            default: Arc::new(AccountMeters::new(&rates)),
            overridden: Mutex::default(),
            addresses: rates.addresses().map(Meter::new),
            rates,
        }
    }

    /// Returns the rates of accounts without overrides.
    #[must_use]
    pub(crate) const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Returns the meters of accounts with these overrides.
    #[must_use]
    pub(crate) fn for_overrides(&self, overrides: RateOverrides) -> Arc<AccountMeters> {
        if overrides == RateOverrides::default() {
            return Arc::clone(&self.default);
        }
        let mut overridden = self.overridden();
        let meters = overridden
            .entry(overrides)
            .or_insert_with(|| Arc::new(AccountMeters::new(&self.rates.with_overrides(overrides))));
        Arc::clone(meters)
    }

    /// Counts a request without a session. A request from an unknown address is not counted.
    pub(crate) fn check_ip_rate_limit(&self, address: Option<IpAddr>) -> Result<(), RateLimited> {
        let (Some(meter), Some(address)) = (&self.addresses, address) else {
            return Ok(());
        };
        // So many addresses at once are an attack: new ones share one count.
        let network = if meter.len() >= TRACKED_ADDRESSES_MAX {
            Network::SHARED
        } else {
            Network::of(address)
        };
        count(Some(meter), &network, 1)
    }

    /// Removes the counts of accounts and addresses whose rates are fully available again.
    pub(crate) fn remove_idle(&self) {
        self.default.remove_idle();
        self.overridden().retain(|_, meters| {
            meters.remove_idle();
            !meters.is_empty()
        });
        if let Some(meter) = &self.addresses {
            meter.remove_idle();
        }
    }

    fn overridden(&self) -> MutexGuard<'_, HashMap<RateOverrides, Arc<AccountMeters>>> {
        self.overridden
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountMeters {
    fn new(rates: &Rates) -> Self {
        Self {
            requests: rates.requests().map(Meter::new),
            envelopes: rates.envelopes().map(Meter::new),
            blob_kibibytes: rates.blob_kibibytes().map(Meter::new),
        }
    }

    pub(crate) fn count_request(&self, account: AccountId) -> Result<(), RateLimited> {
        count(self.requests.as_ref(), &account, 1)
    }

    pub(crate) fn count_envelopes(
        &self,
        account: AccountId,
        envelopes: usize,
    ) -> Result<(), RateLimited> {
        let quantity = u32::try_from(envelopes).unwrap_or(u32::MAX);
        count(self.envelopes.as_ref(), &account, quantity)
    }

    /// Counts an uploaded part of a blob.
    pub(crate) fn count_part(&self, account: AccountId, bytes: usize) -> Result<(), RateLimited> {
        count(self.blob_kibibytes.as_ref(), &account, kibibytes_of(bytes))
    }

    fn all(&self) -> impl Iterator<Item = &Meter<AccountId>> {
        [&self.requests, &self.envelopes, &self.blob_kibibytes]
            .into_iter()
            .flatten()
    }

    fn remove_idle(&self) {
        self.all().for_each(Meter::remove_idle);
    }

    fn is_empty(&self) -> bool {
        self.all().all(|meter| meter.len() == 0)
    }
}

fn count<K: meter::Key>(
    meter: Option<&Meter<K>>,
    key: &K,
    quantity: u32,
) -> Result<(), RateLimited> {
    let Some(meter) = meter else { return Ok(()) };
    let counted = meter.count(key, quantity);
    let status = counted.unwrap_or_else(|_| meter.exhausted());
    // Outside of `collect_statuses` nobody reports the status.
    let _ = STATUSES.try_with(|statuses| statuses.borrow_mut().push(status));
    counted
        .map(|_| ())
        .map_err(|retry_after| RateLimited { retry_after })
}

/// Runs `request` and returns the status of each rate limit that was counted in it.
pub(crate) async fn collect_statuses<T>(
    request: impl Future<Output = T>,
) -> (T, Vec<RateLimitStatus>) {
    let collected = async {
        let output = request.await;
        (output, STATUSES.with(RefCell::take))
    };
    STATUSES.scope(RefCell::default(), collected).await
}

/// IPv4 address, or the network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Network(IpAddr);

impl Network {
    const SHARED: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    /// Providers assign at least this prefix to a customer.
    const IPV6_HOST_BITS: u32 = 64;

    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = address.to_bits() >> Self::IPV6_HOST_BITS << Self::IPV6_HOST_BITS;
                Self(Ipv6Addr::from_bits(prefix).into())
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: AccountId = AccountId::from_bytes([1; 16]);
    const BOLT: AccountId = AccountId::from_bytes([2; 16]);

    #[test]
    fn accounts_with_equal_overrides_share_meters() {
        let meters = Meters::new(Rates {
            requests_per_second: 0,
            ..Rates::default()
        });
        // Slow enough that no test machine waits for the next permit.
        let slow = RateOverrides {
            requests_per_second: Some(1),
            requests_burst: Some(1_000),
            ..RateOverrides::default()
        };
        let fast = RateOverrides {
            requests_per_second: Some(1_000_000),
            ..RateOverrides::default()
        };
        let slow = || meters.for_overrides(slow);
        assert!(Arc::ptr_eq(&slow(), &slow()));
        assert!(
            (0..1_000)
                .all(|_| slow().count_request(ACME).is_ok() && slow().count_request(BOLT).is_ok())
        );
        assert!(slow().count_request(ACME).is_err() && slow().count_request(BOLT).is_err());
        let default = meters.for_overrides(RateOverrides::default());
        assert!(
            default.count_request(ACME).is_ok(),
            "the default is no limit"
        );
        let fast = meters.for_overrides(fast).count_request(ACME);
        assert!(fast.is_ok());
        while meters.overridden().len() > 1 {
            meters.remove_idle();
        }
        assert!(
            slow().count_request(ACME).is_err(),
            "an exhausted count is not removed"
        );
    }

    #[test]
    fn ipv6_addresses_are_counted_by_network() {
        for (address, network) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
            ("2001:db8::4", "2001:db8::"),
        ] {
            let Network(found) = Network::of(address.parse().unwrap());
            assert_eq!(found.to_string(), network);
        }
    }
}
