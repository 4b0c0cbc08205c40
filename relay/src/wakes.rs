//! Who has to look again: the scheduler of calls, long polls, the sweeper. A wake is a hint and may come for nothing; what
//! is to be done stands in the database.
//!
//! Whoever accepts envelopes takes the lease for their call in the same commit, as long as the scheduler offers places for
//! calls ([`Wakes::offer`]): an envelope that comes alone waits for one commit on its way, not for two.

use crate::store::{LeasedBatch, Woken};
use sealpost_proto::{
    AccountId, Timestamp,
    limits::{DUE_LANES_AT_A_TIME, LONG_POLLS_PER_ACCOUNT_MAX},
};
use std::{
    collections::HashMap,
    mem,
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
    offer: Mutex<Offer>,
    news: Mutex<News>,
    polls: Mutex<HashMap<AccountId, Poll>>,
}

/// What whoever accepts envelopes may lease at once.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Offer {
    /// For so many calls.
    pub(crate) places: usize,
    /// Bytes of envelopes for each.
    pub(crate) bytes_max: usize,
}

/// What the scheduler has not heard yet.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Batches that are leased for a call.
    pub(crate) leased: Vec<LeasedBatch>,
    /// Lanes that can be called at once.
    pub(crate) callable: Vec<AccountId>,
    /// When other lanes may be due: then the database has to be asked.
    pub(crate) due_at: Option<Timestamp>,
}

impl News {
    fn others(&mut self, due_at: Timestamp) {
        self.due_at = Some(self.due_at.map_or(due_at, |known| known.min(due_at)));
    }
}

/// Before any time that a clock shows.
const AT_ONCE: Timestamp = Timestamp::from_millis(0);

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
        lock(&self.news).others(AT_ONCE);
        self.calls.notify_one();
        self.wake_polls(accounts.iter());
    }

    /// The same, where it is known when they are due; and these batches are leased already.
    pub(crate) fn wake_lanes(&self, lanes: &[Woken], leased: Vec<LeasedBatch>) {
        if lanes.is_empty() && leased.is_empty() {
            return;
        }
        let mut news = lock(&self.news);
        news.leased.extend(leased);
        for Woken {
            account,
            due_at,
            is_callable,
        } in lanes
        {
            if *is_callable && news.callable.len() < DUE_LANES_AT_A_TIME {
                news.callable.push(*account);
            } else if let Some(due_at) = due_at {
                news.others(*due_at);
            }
        }
        drop(news);
        self.calls.notify_one();
        self.wake_polls(lanes.iter().map(|lane| &lane.account));
    }

    /// Replaces what was offered before.
    pub(crate) fn offer(&self, offer: Offer) {
        *lock(&self.offer) = offer;
    }

    /// Takes one of the places that are offered; gives the bytes for it.
    pub(crate) fn take_place(&self) -> Option<usize> {
        let mut offer = lock(&self.offer);
        offer.places = offer.places.checked_sub(1)?;
        Some(offer.bytes_max)
    }

    /// What the scheduler has not heard yet.
    pub(crate) fn news(&self) -> News {
        mem::take(&mut lock(&self.news))
    }

    fn wake_polls<'a>(&self, accounts: impl Iterator<Item = &'a AccountId>) {
        let polls = lock(&self.polls);
        for poll in accounts.filter_map(|account| polls.get(account)) {
            poll.notify.notify_waiters();
        }
    }

    /// Waits for an account, unless polls of `polls_max` accounts or [`LONG_POLLS_PER_ACCOUNT_MAX`] of its own wait already.
    #[must_use]
    pub(crate) fn wait_for(&self, account: AccountId, polls_max: usize) -> Option<Waiting<'_>> {
        let mut polls = lock(&self.polls);
        if polls.len() >= polls_max && !polls.contains_key(&account) {
            return None;
        }
        let poll = polls.entry(account).or_insert_with(|| Poll {
            notify: Arc::default(),
            waiting: 0,
        });
        if poll.waiting >= LONG_POLLS_PER_ACCOUNT_MAX {
            return None;
        }
        poll.waiting += 1;
        Some(Waiting {
            wakes: self,
            account,
            notify: Arc::clone(&poll.notify),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting<'_> {
    /// The next wake. Take it before looking, so that what comes meanwhile is not missed.
    pub(crate) fn next(&self) -> impl Future<Output = ()> + '_ {
        self.notify.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut polls = lock(&self.wakes.polls);
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
        tokio::time::timeout(std::time::Duration::from_secs(60), next)
            .await
            .unwrap();
    }

    #[test]
    fn polls_are_bounded_and_leave_nothing_behind() {
        let wakes = Wakes::default();
        let first = wakes.wait_for(ACCOUNT, 1).unwrap();
        assert!(wakes.wait_for(AccountId::from_bytes([2; 16]), 1).is_none());
        let more: Vec<_> = (1..LONG_POLLS_PER_ACCOUNT_MAX)
            .filter_map(|_| wakes.wait_for(ACCOUNT, 1))
            .collect();
        assert_eq!(more.len(), LONG_POLLS_PER_ACCOUNT_MAX - 1);
        assert!(
            wakes.wait_for(ACCOUNT, 1).is_none(),
            "one account does not wait without end"
        );
        drop((first, more));
        assert!(lock(&wakes.polls).is_empty());
    }
}
