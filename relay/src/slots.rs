//! Places for what takes long: so many at a time, and of one account so many, so that a few slow ones hold up nobody else.

use sealpost_proto::AccountId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The places of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    taken: Arc<Mutex<Taken>>,
    all_max: usize,
    account_max: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of_account: HashMap<AccountId, usize>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    taken: Arc<Mutex<Taken>>,
    account: AccountId,
}

impl Slots {
    /// So many places, of one account so many.
    #[must_use]
    pub(crate) fn new(all_max: usize, account_max: usize) -> Self {
        Self {
            taken: Arc::default(),
            all_max,
            account_max,
        }
    }

    /// A place, or nothing when there is none now.
    #[must_use]
    pub(crate) fn take(&self, account: AccountId) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.of_account.get(&account).copied().unwrap_or_default();
        if taken.all >= self.all_max || own >= self.account_max {
            return None;
        }
        taken.all += 1;
        taken.of_account.insert(account, own + 1);
        Some(Slot {
            taken: Arc::clone(&self.taken),
            account,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.of_account.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                taken.of_account.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_takes_the_places_of_all_and_none_is_lost() {
        let slots = Slots::new(3, 2);
        let account = |number| AccountId::from_bytes([number; 16]);
        let first = [slots.take(account(1)), slots.take(account(1))];
        assert!(first.iter().all(Option::is_some) && slots.take(account(1)).is_none());
        let second = slots.take(account(2));
        assert!(
            second.is_some() && slots.take(account(3)).is_none(),
            "all are taken"
        );
        drop(first);
        assert!(slots.take(account(3)).is_some());
        drop(second);
        assert_eq!(slots.taken.lock().unwrap().of_account.len(), 0);
    }
}
