//! Rate limiters: one for each rate, with a state for each account or address that sent requests
//! recently.
//!
//! The states are in memory only, so that a restart resets them. Start reading at [`RateLimiters`].
//! `http` turns a refusal into a response and reports the collected [`RateLimitStatus`] in headers.

mod limiter;

use limiter::KeyedRateLimiter;
use sealpost_proto::{AccountId, limits::TRACKED_ADDRESSES_MAX};
use sealpost_relay_core::rates::{
    RateLimitStatus, RateOverrides, Rates, long_records, to_kibibytes,
};
use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

tokio::task_local! {
    static CHARGES: RefCell<Charges>;
}

/// What a request was charged to.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    /// Account that sent the request.
    pub(crate) account: Option<AccountId>,
    /// Whether the request was charged to an account or an address.
    pub(crate) is_charged: bool,
    /// Status of each rate limit that applied.
    pub(crate) statuses: Vec<RateLimitStatus>,
}

impl Charges {
    /// Changes the charges of the current request. Outside of [`collect_charges`] nobody reads
    /// them.
    fn record(change: impl FnOnce(&mut Self)) {
        let _ = CHARGES.try_with(|charges| change(&mut charges.borrow_mut()));
    }
}

/// The rate limit is exceeded; nothing was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimited {
    pub(crate) retry_after: Duration,
}

/// All rate limiters of a relay.
pub(crate) struct RateLimiters {
    rates: Rates,
    default: Arc<AccountRateLimiters>,
    /// Rate limiters of accounts with overrides. Accounts with equal overrides share them.
    overridden: Mutex<HashMap<RateOverrides, Arc<AccountRateLimiters>>>,
    addresses: Option<KeyedRateLimiter<Network>>,
}

/// Rate limiters of accounts with the same rates.
pub(crate) struct AccountRateLimiters {
    requests: Option<KeyedRateLimiter<AccountId>>,
    envelopes: Option<KeyedRateLimiter<AccountId>>,
    blob_kibibytes: Option<KeyedRateLimiter<AccountId>>,
    long_records: Option<KeyedRateLimiter<AccountId>>,
}

impl RateLimiters {
    #[must_use]
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            default: Arc::new(AccountRateLimiters::new(&rates)),
            overridden: Mutex::default(),
            addresses: rates.addresses().map(KeyedRateLimiter::new),
            rates,
        }
    }

    /// Returns the rates of accounts without overrides.
    #[must_use]
    pub(crate) const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Returns the rate limiters of accounts with these overrides.
    #[must_use]
    pub(crate) fn for_overrides(&self, overrides: RateOverrides) -> Arc<AccountRateLimiters> {
        if overrides == RateOverrides::default() {
            return Arc::clone(&self.default);
        }
        let mut overridden = self.overridden();
        let rate_limiters = overridden.entry(overrides).or_insert_with(|| {
            Arc::new(AccountRateLimiters::new(
                &self.rates.with_overrides(overrides),
            ))
        });
        Arc::clone(rate_limiters)
    }

    /// Charges a request without a session to its address. A request from an unknown address is not
    /// limited.
    pub(crate) fn check_ip_rate_limit(&self, address: Option<IpAddr>) -> Result<(), RateLimited> {
        Charges::record(|charges| charges.is_charged = true);
        let (Some(limiter), Some(address)) = (&self.addresses, address) else {
            return Ok(());
        };
        // This many addresses at once are an attack, so new ones share one state.
        let network = if limiter.len() >= TRACKED_ADDRESSES_MAX {
            Network::SHARED
        } else {
            Network::from_address(address)
        };
        charge(Some(limiter), &network, 1)
    }

    /// Removes the states of accounts and addresses whose rates are fully available again.
    pub(crate) fn remove_idle(&self) {
        self.default.remove_idle();
        self.overridden().retain(|_, rate_limiters| {
            rate_limiters.remove_idle();
            !rate_limiters.is_empty()
        });
        if let Some(limiter) = &self.addresses {
            limiter.remove_idle();
        }
    }

    fn overridden(&self) -> MutexGuard<'_, HashMap<RateOverrides, Arc<AccountRateLimiters>>> {
        self.overridden
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountRateLimiters {
    fn new(rates: &Rates) -> Self {
        Self {
            requests: rates.requests().map(KeyedRateLimiter::new),
            envelopes: rates.envelopes().map(KeyedRateLimiter::new),
            blob_kibibytes: rates.blob_kibibytes().map(KeyedRateLimiter::new),
            long_records: long_records().map(KeyedRateLimiter::new),
        }
    }

    pub(crate) fn charge_request(&self, account: AccountId) -> Result<(), RateLimited> {
        Charges::record(|charges| {
            charges.account = Some(account);
            charges.is_charged = true;
        });
        charge(self.requests.as_ref(), &account, 1)
    }

    pub(crate) fn charge_envelopes(
        &self,
        account: AccountId,
        envelopes: usize,
    ) -> Result<(), RateLimited> {
        let quantity = u32::try_from(envelopes).unwrap_or(u32::MAX);
        charge(self.envelopes.as_ref(), &account, quantity)
    }

    /// Charges an uploaded part of a blob, in KiB.
    pub(crate) fn charge_part(&self, account: AccountId, bytes: usize) -> Result<(), RateLimited> {
        charge(self.blob_kibibytes.as_ref(), &account, to_kibibytes(bytes))
    }

    /// Charges envelopes whose records are to be retained for long. Returns false if the account has
    /// exceeded the number of such envelopes.
    pub(crate) fn try_charge_long_records(&self, account: AccountId, envelopes: usize) -> bool {
        let quantity = u32::try_from(envelopes).unwrap_or(u32::MAX);
        let limiter = self.long_records.as_ref();
        limiter.is_some_and(|limiter| limiter.charge(&account, quantity).is_ok())
    }

    fn all(&self) -> impl Iterator<Item = &KeyedRateLimiter<AccountId>> {
        [
            &self.requests,
            &self.envelopes,
            &self.blob_kibibytes,
            &self.long_records,
        ]
        .into_iter()
        .flatten()
    }

    fn remove_idle(&self) {
        self.all().for_each(KeyedRateLimiter::remove_idle);
    }

    fn is_empty(&self) -> bool {
        self.all().all(|limiter| limiter.len() == 0)
    }
}

fn charge<K: limiter::Key>(
    limiter: Option<&KeyedRateLimiter<K>>,
    key: &K,
    quantity: u32,
) -> Result<(), RateLimited> {
    let Some(limiter) = limiter else {
        return Ok(());
    };
    let charged = limiter.charge(key, quantity);
    let status = charged.unwrap_or_else(|_| limiter.exhausted_status());
    Charges::record(|charges| charges.statuses.push(status));
    charged
        .map(|_| ())
        .map_err(|retry_after| RateLimited { retry_after })
}

/// Runs `request` and returns what it was charged to.
pub(crate) async fn collect_charges<T>(request: impl Future<Output = T>) -> (T, Charges) {
    let collected = async {
        let output = request.await;
        (output, CHARGES.with(RefCell::take))
    };
    CHARGES.scope(RefCell::default(), collected).await
}

/// Returns whether the current request was charged to an account or an address.
pub(crate) fn is_charged() -> bool {
    CHARGES.try_with(|charges| charges.borrow().is_charged) == Ok(true)
}

/// IPv4 address, or the network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Network(IpAddr);

impl Network {
    const SHARED: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    /// Providers assign at least this prefix to a customer.
    const IPV6_HOST_BITS: u32 = 64;

    fn from_address(address: IpAddr) -> Self {
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
    fn accounts_with_equal_overrides_share_limiters() {
        let rate_limiters = RateLimiters::new(Rates {
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
        let slow = || rate_limiters.for_overrides(slow);
        assert!(Arc::ptr_eq(&slow(), &slow()));
        assert!(
            (0..1_000)
                .all(|_| slow().charge_request(ACME).is_ok() && slow().charge_request(BOLT).is_ok())
        );
        assert!(slow().charge_request(ACME).is_err() && slow().charge_request(BOLT).is_err());
        let default = rate_limiters.for_overrides(RateOverrides::default());
        assert!(
            default.charge_request(ACME).is_ok(),
            "the default rate is unlimited"
        );
        let fast = rate_limiters.for_overrides(fast).charge_request(ACME);
        assert!(fast.is_ok());
        while rate_limiters.overridden().len() > 1 {
            rate_limiters.remove_idle();
        }
        assert!(
            slow().charge_request(ACME).is_err(),
            "an exhausted state is not removed"
        );
    }

    #[test]
    fn ipv6_addresses_are_limited_by_network() {
        for (address, network) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
            ("2001:db8::4", "2001:db8::"),
        ] {
            let Network(found) = Network::from_address(address.parse().unwrap());
            assert_eq!(found.to_string(), network);
        }
    }
}
