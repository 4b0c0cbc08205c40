//! Who has to look again: the scheduler of calls, long polls, the sweeper. A wake is a hint and may come for nothing; what
//! is to be done stands in the database.

use sealpost_proto::{AccountId, limits::LONG_POLLS_PER_ACCOUNT_MAX};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Who has to look again.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// The scheduler of webhook calls.
    pub(crate) calls: Notify,
    /// The sweeper.
    pub(crate) sweeps: Notify,
    polls: Mutex<HashMap<AccountId, Poll>>,
}

#[derive(Debug)]
struct Poll {
    notify: Arc<Notify>,
    waiting: usize,
}

/// A long poll that waits; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    wakes: &'a Wakes,
    account: AccountId,
    notify: Arc<Notify>,
}

impl Wakes {
    /// Something waits for these accounts.
    pub(crate) fn wake(&self, accounts: &[AccountId]) {
        if accounts.is_empty() {
            return;
        }
        self.calls.notify_one();
        let polls = self.lock();
        for poll in accounts.iter().filter_map(|account| polls.get(account)) {
            poll.notify.notify_waiters();
        }
    }

    /// Waits for an account, unless polls of `polls_max` accounts or [`LONG_POLLS_PER_ACCOUNT_MAX`] of its own wait already.
    #[must_use]
    pub(crate) fn wait_for(&self, account: AccountId, polls_max: usize) -> Option<Waiting<'_>> {
        let mut polls = self.lock();
        if polls.len() >= polls_max && !polls.contains_key(&account) {
            return None;
        }
        let poll = polls.entry(account).or_insert_with(|| Poll { notify: Arc::default(), waiting: 0 });
        if poll.waiting >= LONG_POLLS_PER_ACCOUNT_MAX {
            return None;
        }
        poll.waiting += 1;
        Some(Waiting { wakes: self, account, notify: Arc::clone(&poll.notify) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, Poll>> {
        self.polls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// The next wake. Take it before looking, so that what comes meanwhile is not missed.
    pub(crate) fn next(&self) -> impl Future<Output = ()> + '_ {
        self.notify.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut polls = self.wakes.lock();
        if let Some(poll) = polls.get_mut(&self.account) {
            poll.waiting -= 1;
            if poll.waiting == 0 {
                polls.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: AccountId = AccountId::from_bytes([1; 16]);

    #[tokio::test]
    async fn a_wake_between_taking_and_waiting_is_not_missed() {
        let wakes = Wakes::default();
        let waiting = wakes.wait_for(ACCOUNT, 1).unwrap();
        let next = waiting.next();
        wakes.wake(&[ACCOUNT]);
        tokio::time::timeout(std::time::Duration::from_secs(60), next).await.unwrap();
    }

    #[test]
    fn polls_are_bounded_and_leave_nothing_behind() {
        let wakes = Wakes::default();
        let first = wakes.wait_for(ACCOUNT, 1).unwrap();
        assert!(wakes.wait_for(AccountId::from_bytes([2; 16]), 1).is_none());
        let more: Vec<_> = (1..LONG_POLLS_PER_ACCOUNT_MAX).filter_map(|_| wakes.wait_for(ACCOUNT, 1)).collect();
        assert_eq!(more.len(), LONG_POLLS_PER_ACCOUNT_MAX - 1);
        assert!(wakes.wait_for(ACCOUNT, 1).is_none(), "one account does not wait without end");
        drop((first, more));
        assert!(wakes.lock().is_empty());
    }
}
