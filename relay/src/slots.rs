//! Slots for slow operations: a limit for all accounts and one for each, so that a few slow clients
//! block nobody else.

use sealpost_proto::AccountId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Slots for one kind of operation.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    used: Arc<Mutex<Used>>,
    total_max: usize,
    per_account_max: usize,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_account: HashMap<AccountId, usize>,
}

/// Reserved slot, released when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    used: Arc<Mutex<Used>>,
    account: AccountId,
}

impl Slots {
    #[must_use]
    pub(crate) fn new(total_max: usize, per_account_max: usize) -> Self {
        Self {
            used: Arc::default(),
            total_max,
            per_account_max,
        }
    }

    /// Reserves a slot, if one is free.
    #[must_use]
    pub(crate) fn try_reserve(&self, account: AccountId) -> Option<Slot> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let by_account = used.by_account.get(&account).copied().unwrap_or_default();
        if used.total >= self.total_max || by_account >= self.per_account_max {
            return None;
        }
        used.total += 1;
        used.by_account.insert(account, by_account + 1);
        Some(Slot {
            used: Arc::clone(&self.used),
            account,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.total = used.total.saturating_sub(1);
        if let Some(by_account) = used.by_account.get_mut(&self.account) {
            *by_account -= 1;
            if *by_account == 0 {
                used.by_account.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_limited_per_account_and_released() {
        let slots = Slots::new(3, 2);
        let account = |number| AccountId::from_bytes([number; 16]);
        let first = [slots.try_reserve(account(1)), slots.try_reserve(account(1))];
        assert!(first.iter().all(Option::is_some) && slots.try_reserve(account(1)).is_none());
        let second = slots.try_reserve(account(2));
        assert!(
            second.is_some() && slots.try_reserve(account(3)).is_none(),
            "all slots are reserved"
        );
        drop(first);
        assert!(slots.try_reserve(account(3)).is_some());
        drop(second);
        assert_eq!(slots.used.lock().unwrap().by_account.len(), 0);
    }
}
