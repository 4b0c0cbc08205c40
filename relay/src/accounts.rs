//! Lookup of accounts through a cache, so that a request with a session does not read the database.

use crate::{
    notifier::Notifier,
    store::{AccountState, Store, StoreError},
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

    pub(crate) async fn load(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountState>, StoreError> {
        if let Some(state) = self.cache.get(account) {
            return Ok(Some(state));
        }
        let epoch = self.cache.epoch();
        let state = self.store.load_account_state(account).await?;
        if let Some(state) = state {
            self.cache.insert(epoch, state);
        }
        Ok(state)
    }

    /// Removes an account from the cache after a change of it.
    pub(crate) fn invalidate(&self, account: AccountId) {
        self.cache.invalidate(account);
    }

    /// Records whether the next contact of the account makes its lane due.
    pub(crate) fn set_contact_ends_backoff(&self, account: AccountId, ends_backoff: bool) {
        self.cache.set_contact_ends_backoff(account, ends_backoff);
    }

    /// Returns [`Self::set_contact_ends_backoff`] as a callback for the writer of the store. It
    /// does not hold the store, which must not be closed by its own writer.
    pub(crate) fn on_backoff_change(
        &self,
        account: AccountId,
    ) -> impl Fn(bool) + Clone + Send + use<> {
        let cache = Arc::clone(&self.cache);
        move |ends_backoff| cache.set_contact_ends_backoff(account, ends_backoff)
    }

    /// Records a contact of an account, which is any authenticated request of its node. If its lane
    /// backs off, the lane becomes due.
    pub(crate) async fn record_contact(&self, state: AccountState) {
        if !state.contact_ends_backoff {
            return;
        }
        let account = state.id;
        self.set_contact_ends_backoff(account, false);
        match self.store.record_contact(self.clock.now(), account).await {
            Ok(()) => self.notifier.notify_accounts(&[account]),
            // The lane becomes due later by itself, or with the next request. This request must not
            // fail because of it.
            Err(error) => {
                self.set_contact_ends_backoff(account, true);
                tracing::debug!(%error, "failed to record the contact of an account");
            }
        }
    }
}

/// Bounded cache of account states.
struct AccountCache(Mutex<Cached>);

struct Cached {
    states: Cache<AccountId, AccountState>,
    /// Incremented with every change, so that a state that was read before a change is not inserted
    /// after it.
    epoch: u64,
}

/// Value of the change counter before a state is read from the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch(u64);

impl AccountCache {
    fn new(entries_max: usize) -> Self {
        Self(Mutex::new(Cached {
            states: Cache::new(entries_max),
            epoch: 0,
        }))
    }

    fn get(&self, account: AccountId) -> Option<AccountState> {
        self.lock().states.get(&account).copied()
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.lock().epoch)
    }

    /// Inserts a state, unless something changed since it was read.
    fn insert(&self, read_at: Epoch, state: AccountState) {
        let mut cached = self.lock();
        if cached.epoch == read_at.0 {
            cached.states.insert(state.id, state);
        }
    }

    fn invalidate(&self, account: AccountId) {
        let mut cached = self.lock();
        cached.epoch += 1;
        cached.states.remove(&account);
    }

    fn set_contact_ends_backoff(&self, account: AccountId, ends_backoff: bool) {
        let mut cached = self.lock();
        let Cached { states, epoch } = &mut *cached;
        match states.get_mut(&account) {
            Some(mut state) => state.contact_ends_backoff = ends_backoff,
            // A reader may be about to insert the previous state.
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
    use sealpost_proto::wire::WebhookState;
    use sealpost_relay_core::rates::RateOverrides;

    fn state(account: u8) -> AccountState {
        AccountState {
            id: AccountId::from_bytes([account; 16]),
            key_generation: 1,
            is_suspended: false,
            contact_ends_backoff: false,
            webhook: WebhookState::None,
            rate_overrides: RateOverrides::default(),
        }
    }

    #[test]
    fn cache_is_bounded() {
        let cache = AccountCache::new(4);
        for account in 0..100 {
            cache.insert(cache.epoch(), state(account));
        }
        assert!(cache.lock().states.len() <= 4);
    }

    #[test]
    fn state_read_before_a_change_is_not_cached() {
        let cache = AccountCache::new(4);
        let before = cache.epoch();
        cache.invalidate(state(1).id);
        cache.insert(before, state(1));
        assert_eq!(cache.get(state(1).id), None);
        let before = cache.epoch();
        cache.set_contact_ends_backoff(state(1).id, true);
        cache.insert(before, state(1));
        assert_eq!(cache.get(state(1).id), None);
    }

    #[test]
    fn backoff_is_updated_in_the_cache() {
        let cache = AccountCache::new(4);
        cache.insert(cache.epoch(), state(1));
        cache.set_contact_ends_backoff(state(1).id, true);
        assert!(cache.get(state(1).id).unwrap().contact_ends_backoff);
    }
}
