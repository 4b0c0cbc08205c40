//! The facts of accounts that were heard of lately, so that a request with a session costs no look into the database.

use crate::store::AccountFacts;
use sealpost_proto::AccountId;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A bounded cache in two generations: when the young one is full it becomes the old one, and the old one is forgotten.
#[derive(Debug)]
pub(crate) struct AccountCache {
    generations: Mutex<Generations>,
    half: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<AccountId, AccountFacts>,
    old: HashMap<AccountId, AccountFacts>,
    /// Rises with every change, so that facts read before a change are not kept after it.
    epoch: u64,
}

/// The moment before facts were read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch(u64);

impl AccountCache {
    /// A cache for so many accounts.
    #[must_use]
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            generations: Mutex::default(),
            half: (entries_max / 2).max(1),
        }
    }

    /// What is known of an account.
    #[must_use]
    pub(crate) fn find(&self, account: AccountId) -> Option<AccountFacts> {
        let mut generations = self.lock();
        if let Some(facts) = generations.young.get(&account) {
            return Some(*facts);
        }
        let facts = generations.old.remove(&account)?;
        self.insert(&mut generations, facts);
        Some(facts)
    }

    /// To be taken before facts are read from the database.
    #[must_use]
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.lock().epoch)
    }

    /// Keeps facts, unless something changed since they were read.
    pub(crate) fn keep(&self, read_at: Epoch, facts: AccountFacts) {
        let mut generations = self.lock();
        if generations.epoch == read_at.0 {
            self.insert(&mut generations, facts);
        }
    }

    /// The account changed.
    pub(crate) fn forget(&self, account: AccountId) {
        let mut generations = self.lock();
        generations.epoch += 1;
        generations.young.remove(&account);
        generations.old.remove(&account);
    }

    /// Whether hearing of the account changes something from now on.
    pub(crate) fn note_contact(&self, account: AccountId, heeds_contact: bool) {
        let mut generations = self.lock();
        let Generations { young, old, epoch } = &mut *generations;
        match young.get_mut(&account).or_else(|| old.get_mut(&account)) {
            Some(facts) => facts.heeds_contact = heeds_contact,
            None => *epoch += 1,
        }
    }

    fn insert(&self, generations: &mut Generations, facts: AccountFacts) {
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(facts.account, facts);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_relay_core::rates::OwnRates;

    fn facts(account: u8) -> AccountFacts {
        AccountFacts {
            account: AccountId::from_bytes([account; 16]),
            generation: 1,
            suspended: false,
            heeds_contact: false,
            own_rates: OwnRates::default(),
        }
    }

    #[test]
    fn it_stays_small_and_keeps_what_is_used() {
        let cache = AccountCache::new(4);
        for account in 0..100 {
            cache.keep(cache.epoch(), facts(account));
            assert!(cache.find(facts(0).account).is_some() || account > 0);
        }
        let generations = cache.lock();
        assert!(generations.young.len() + generations.old.len() <= 4);
    }

    #[test]
    fn facts_read_before_a_change_are_not_kept() {
        let cache = AccountCache::new(4);
        let before = cache.epoch();
        cache.forget(facts(1).account);
        cache.keep(before, facts(1));
        assert_eq!(cache.find(facts(1).account), None);
        let before = cache.epoch();
        cache.note_contact(facts(1).account, true);
        cache.keep(before, facts(1));
        assert_eq!(cache.find(facts(1).account), None);
    }

    #[test]
    fn contact_is_noted_on_what_is_kept() {
        let cache = AccountCache::new(4);
        cache.keep(cache.epoch(), facts(1));
        cache.note_contact(facts(1).account, true);
        assert!(cache.find(facts(1).account).unwrap().heeds_contact);
    }
}
