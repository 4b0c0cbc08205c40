//! Lookup of accounts through a cache, so that a request with a session does not read the database.

use crate::{
    notifier::Notifier,
    store::{AccountFacts, Store, StoreError},
};
use quick_cache::unsync::Cache;
use sealpost_proto::{AccountId, limits::ACCOUNT_CACHE_ENTRIES_MAX};
use sealpost_service::{Clock as _, SharedClock};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Accounts of the store behind a cache.
#[derive(Clone)]
pub(crate) struct Accounts {
    store: Store,
    cache: Arc<AccountCache>,
    notifier: Arc<Notifier>,
    clock: SharedClock,
}

impl Accounts {
    #[must_use]
    pub(crate) fn new(store: Store, notifier: Arc<Notifier>, clock: SharedClock) -> Self {
        Self {
            store,
            cache: Arc::new(AccountCache::new(ACCOUNT_CACHE_ENTRIES_MAX)),
            notifier,
            clock,
        }
    }

    pub(crate) async fn facts(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountFacts>, StoreError> {
        if let Some(facts) = self.cache.get(account) {
            return Ok(Some(facts));
        }
        let epoch = self.cache.epoch();
        let facts = self.store.account_facts(account).await?;
        if let Some(facts) = facts {
            self.cache.insert(epoch, facts);
        }
        Ok(facts)
    }

    /// Removes an account from the cache after a change of it.
    pub(crate) fn invalidate(&self, account: AccountId) {
        self.cache.invalidate(account);
    }

    /// Records whether a contact of the account makes its lane due from now on.
    pub(crate) fn set_contact_ends_backoff(&self, account: AccountId, ends_backoff: bool) {
        self.cache.set_contact_ends_backoff(account, ends_backoff);
    }

    /// Returns [`Self::set_contact_ends_backoff`] as a callback for the writer of the store. It
    /// does not hold the store, which must not be closed by its own writer.
    pub(crate) fn on_contact_change(
        &self,
        account: AccountId,
    ) -> impl Fn(bool) + Clone + Send + use<> {
        let cache = Arc::clone(&self.cache);
        move |ends_backoff| cache.set_contact_ends_backoff(account, ends_backoff)
    }

    /// Records a contact of an account: if its lane backs off, it becomes due.
    pub(crate) async fn record_contact(&self, facts: AccountFacts) {
        if !facts.contact_ends_backoff {
            return;
        }
        let account = facts.account;
        self.set_contact_ends_backoff(account, false);
        match self.store.record_contact(self.clock.now(), account).await {
            Ok(()) => self.notifier.notify_accounts(&[account]),
            // The lane becomes due later by itself, or with the next request. This request must not
            // fail because of it.
            Err(error) => {
                self.set_contact_ends_backoff(account, true);
                tracing::debug!(%error, "the contact of an account was not recorded");
            }
        }
    }
}

/// Bounded cache of account facts.
struct AccountCache(Mutex<Cached>);

struct Cached {
    facts: Cache<AccountId, AccountFacts>,
    /// Incremented with every change, so that facts that were read before a change are not inserted
    /// after it.
    epoch: u64,
}

/// Point in time before facts are read from the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch(u64);

impl AccountCache {
    fn new(entries_max: usize) -> Self {
        Self(Mutex::new(Cached {
            facts: Cache::new(entries_max),
            epoch: 0,
        }))
    }

    fn get(&self, account: AccountId) -> Option<AccountFacts> {
        self.lock().facts.get(&account).copied()
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.lock().epoch)
    }

    /// Inserts facts, unless something changed since they were read.
    fn insert(&self, read_at: Epoch, facts: AccountFacts) {
        let mut cached = self.lock();
        if cached.epoch == read_at.0 {
            cached.facts.insert(facts.account, facts);
        }
    }

    fn invalidate(&self, account: AccountId) {
        let mut cached = self.lock();
        cached.epoch += 1;
        cached.facts.remove(&account);
    }

    fn set_contact_ends_backoff(&self, account: AccountId, ends_backoff: bool) {
        let mut cached = self.lock();
        let Cached { facts, epoch } = &mut *cached;
        match facts.get_mut(&account) {
            Some(mut facts) => facts.contact_ends_backoff = ends_backoff,
            // The facts may be on their way from the database.
            None => *epoch += 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_relay_core::rates::RateOverrides;

    fn facts(account: u8) -> AccountFacts {
        AccountFacts {
            account: AccountId::from_bytes([account; 16]),
            key_generation: 1,
            suspended: false,
            contact_ends_backoff: false,
            own_rates: RateOverrides::default(),
        }
    }

    #[test]
    fn cache_is_bounded() {
        let cache = AccountCache::new(4);
        for account in 0..100 {
            cache.insert(cache.epoch(), facts(account));
        }
        assert!(cache.lock().facts.len() <= 4);
    }

    #[test]
    fn facts_read_before_a_change_are_not_cached() {
        let cache = AccountCache::new(4);
        let before = cache.epoch();
        cache.invalidate(facts(1).account);
        cache.insert(before, facts(1));
        assert_eq!(cache.get(facts(1).account), None);
        let before = cache.epoch();
        cache.set_contact_ends_backoff(facts(1).account, true);
        cache.insert(before, facts(1));
        assert_eq!(cache.get(facts(1).account), None);
    }

    #[test]
    fn cached_facts_are_updated() {
        let cache = AccountCache::new(4);
        cache.insert(cache.epoch(), facts(1));
        cache.set_contact_ends_backoff(facts(1).account, true);
        assert!(cache.get(facts(1).account).unwrap().contact_ends_backoff);
    }
}
