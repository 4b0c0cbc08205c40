//! How often somebody may ask: one meter for each rate, one count in it for each account or address that asked lately.
//!
//! A refusal is a 429 `rate_limited` with `Retry-After`. Whoever is counted sees in the headers `RateLimit` and
//! `RateLimit-Policy` of every answer where it stands. The counts are in memory only: a restart forgives everybody.
//! Start reading at [`Meters`]; which address a request came from is in `address.rs`.

mod address;
mod meter;

pub(crate) use address::{Asker, TrustedProxies};

use address::Network;
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use meter::Meter;
use sealpost_proto::{AccountId, ErrorCode, Problem, limits::METERED_ADDRESSES_MAX, time::millis};
use sealpost_relay_core::rates::{OwnRates, Rates, Standing, kibibytes_of};
use sealpost_service::http::ProblemResponse;
use std::{
    cell::RefCell,
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

tokio::task_local! {
    /// Where whoever asks stands, for the headers of the answer.
    static STANDINGS: RefCell<Vec<Standing>>;
}

/// The meters of a relay.
pub(crate) struct Meters {
    rates: Rates,
    for_all: Arc<AccountMeters>,
    /// Of accounts that have rates of their own: one set of meters for all that have the same.
    own: Mutex<HashMap<OwnRates, Arc<AccountMeters>>>,
    addresses: Option<Meter<Network>>,
}

/// The meters of accounts.
pub(crate) struct AccountMeters {
    requests: Option<Meter<AccountId>>,
    envelopes: Option<Meter<AccountId>>,
    blob_kibibytes: Option<Meter<AccountId>>,
}

impl Meters {
    /// Meters at rest.
    #[must_use]
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            for_all: Arc::new(AccountMeters::new(&rates)),
            own: Mutex::default(),
            addresses: rates.addresses().map(Meter::new),
            rates,
        }
    }

    /// What is said for all.
    #[must_use]
    pub(crate) const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The meters of accounts of which the operator said this.
    #[must_use]
    pub(crate) fn of(&self, own: OwnRates) -> Arc<AccountMeters> {
        if own == OwnRates::default() {
            return Arc::clone(&self.for_all);
        }
        let mut known = self.own();
        Arc::clone(
            known
                .entry(own)
                .or_insert_with(|| Arc::new(AccountMeters::new(&self.rates.with(own)))),
        )
    }

    /// Counts a request that has no session yet. One whose address is not known is not counted.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn asker(&self, asker: Asker) -> Result<(), ProblemResponse> {
        let (Some(meter), Some(mut network)) = (&self.addresses, asker.network()) else {
            return Ok(());
        };
        if meter.len() >= METERED_ADDRESSES_MAX {
            // So many at once are not people: whoever is new shares one count.
            network = Network::EVERYBODY;
        }
        count(Some(meter), &network, 1)
    }

    /// Forgets those who have not asked for so long that nothing is counted of them any more.
    pub(crate) fn forget(&self) {
        self.for_all.forget();
        self.own().retain(|_, meters| {
            meters.forget();
            !meters.is_empty()
        });
        if let Some(meter) = &self.addresses {
            meter.forget();
        }
    }

    fn own(&self) -> MutexGuard<'_, HashMap<OwnRates, Arc<AccountMeters>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Counts a request of an account.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn request(&self, account: AccountId) -> Result<(), ProblemResponse> {
        count(self.requests.as_ref(), &account, 1)
    }

    /// Counts envelopes that an account submits.
    ///
    /// # Errors
    /// `rate_limited`; then none was counted.
    pub(crate) fn envelopes(
        &self,
        account: AccountId,
        envelopes: usize,
    ) -> Result<(), ProblemResponse> {
        count(
            self.envelopes.as_ref(),
            &account,
            u32::try_from(envelopes).unwrap_or(u32::MAX),
        )
    }

    /// Counts a part of a blob that an account uploads.
    ///
    /// # Errors
    /// `rate_limited`; then it was not counted.
    pub(crate) fn part(&self, account: AccountId, bytes: usize) -> Result<(), ProblemResponse> {
        count(self.blob_kibibytes.as_ref(), &account, kibibytes_of(bytes))
    }

    fn all(&self) -> impl Iterator<Item = &Meter<AccountId>> {
        [&self.requests, &self.envelopes, &self.blob_kibibytes]
            .into_iter()
            .flatten()
    }

    fn forget(&self) {
        self.all().for_each(Meter::forget);
    }

    fn is_empty(&self) -> bool {
        self.all().all(|meter| meter.len() == 0)
    }
}

fn count<K: meter::Key>(
    meter: Option<&Meter<K>>,
    key: &K,
    quantity: u32,
) -> Result<(), ProblemResponse> {
    let Some(meter) = meter else { return Ok(()) };
    match meter.take(key, quantity) {
        Ok(standing) => {
            note(standing);
            Ok(())
        }
        Err(wait) => {
            note(meter.nothing_left());
            Err(Problem::from(ErrorCode::RateLimited)
                .retry_after_ms(millis(wait).max(1))
                .into())
        }
    }
}

fn note(standing: Standing) {
    // Outside of a request nobody asks where they stand.
    let _ = STANDINGS.try_with(|standings| standings.borrow_mut().push(standing));
}

/// Says in the headers of each answer where whoever asked stands.
pub(crate) async fn say(request: Request, next: Next) -> Response {
    STANDINGS
        .scope(RefCell::default(), async {
            let mut response = next.run(request).await;
            let standings = STANDINGS.with(RefCell::take);
            if !standings.is_empty() {
                let headers = response.headers_mut();
                headers.extend(list(standings.iter()).map(|value| (RATE_LIMIT, value)));
                headers.extend(
                    list(standings.iter().map(|standing| standing.rate))
                        .map(|value| (RATE_LIMIT_POLICY, value)),
                );
            }
            response
        })
        .await
}

/// A list of structured fields (RFC 9651, section 3.1).
fn list(items: impl Iterator<Item = impl std::fmt::Display>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(64);
    for item in items {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{item}").ok()?;
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: AccountId = AccountId::from_bytes([1; 16]);
    const BOLT: AccountId = AccountId::from_bytes([2; 16]);

    #[test]
    fn accounts_with_the_same_rates_share_meters_and_no_count_and_nothing_is_kept_of_those_at_rest()
    {
        let meters = Meters::new(Rates {
            requests_per_second: 0,
            ..Rates::default()
        });
        // So slow that no machine waits for the next one.
        let slow = OwnRates {
            requests_per_second: Some(1),
            requests_burst: Some(1_000),
            ..OwnRates::default()
        };
        let quick = OwnRates {
            requests_per_second: Some(1_000_000),
            ..OwnRates::default()
        };
        assert!(Arc::ptr_eq(&meters.of(slow), &meters.of(slow)));
        assert!((0..1_000).all(
            |_| meters.of(slow).request(ACME).is_ok() && meters.of(slow).request(BOLT).is_ok()
        ));
        assert!(meters.of(slow).request(ACME).is_err() && meters.of(slow).request(BOLT).is_err());
        assert!(
            meters.of(OwnRates::default()).request(ACME).is_ok(),
            "for all there is none"
        );
        assert!(meters.of(quick).request(ACME).is_ok());
        while meters.own().len() > 1 {
            meters.forget();
        }
        assert!(
            meters.of(slow).request(ACME).is_err(),
            "whoever has to wait is not forgotten"
        );
    }
}
