//! Notifications about new work for the scheduler of deliveries, for long polls and for the
//! sweeper. A notification is a hint and may be spurious: the database is authoritative.
//!
//! As long as the scheduler offers call slots ([`Notifier::offer_call_slots`]), the commit that
//! accepts envelopes also leases the batch for their call. An envelope that arrives alone is then
//! delivered after one commit, not after two.

use crate::lease::{LeasedBatch, WokenLane};
use sealpost_proto::{
    AccountId, Timestamp,
    limits::{DUE_LANES_MAX, LONG_POLLS_PER_ACCOUNT_MAX},
};
use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Notifications between the store, the tasks and long polls.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    /// Wakes the scheduler of deliveries.
    pub(crate) scheduler: Notify,
    /// Wakes the sweeper.
    pub(crate) sweeper: Notify,
    call_slots: Mutex<CallSlots>,
    pending: Mutex<PendingWork>,
    polls: Mutex<HashMap<AccountId, Poll>>,
}

/// Calls for which accepted envelopes may be leased at once.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct CallSlots {
    pub(crate) free: usize,
    /// Limit of each batch.
    pub(crate) bytes_max: usize,
}

/// Work that the scheduler has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct PendingWork {
    /// Batches that are already leased for a call.
    pub(crate) leased: Vec<LeasedBatch>,
    /// Lanes that can be called now.
    pub(crate) callable: Vec<AccountId>,
    /// When other lanes may be due; the scheduler then queries the database.
    pub(crate) due_at: Option<Timestamp>,
}

impl PendingWork {
    fn add_due_at(&mut self, due_at: Timestamp) {
        self.due_at = Some(self.due_at.map_or(due_at, |known| known.min(due_at)));
    }
}

/// Earlier than any time that a clock reports.
const IMMEDIATELY: Timestamp = Timestamp::from_millis(0);

#[derive(Debug)]
struct Poll {
    notify: Arc<Notify>,
    waiting: usize,
}

/// Registration of a waiting long poll; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription<'a> {
    notifier: &'a Notifier,
    account: AccountId,
    notify: Arc<Notify>,
}

impl Notifier {
    /// Reports that items wait for these accounts.
    pub(crate) fn notify_accounts(&self, accounts: &[AccountId]) {
        if accounts.is_empty() {
            return;
        }
        lock(&self.pending).add_due_at(IMMEDIATELY);
        self.scheduler.notify_one();
        self.notify_polls(accounts.iter());
    }

    /// Reports lanes whose due times are known, and batches that are already leased.
    pub(crate) fn notify_lanes(&self, lanes: &[WokenLane], leased: Vec<LeasedBatch>) {
        if lanes.is_empty() && leased.is_empty() {
            return;
        }
        let mut pending = lock(&self.pending);
        pending.leased.extend(leased);
        for WokenLane {
            account,
            due_at,
            is_callable,
        } in lanes
        {
            if *is_callable && pending.callable.len() < DUE_LANES_MAX {
                pending.callable.push(*account);
            } else if let Some(due_at) = due_at {
                pending.add_due_at(*due_at);
            }
        }
        drop(pending);
        self.scheduler.notify_one();
        self.notify_polls(lanes.iter().map(|lane| &lane.account));
    }

    /// Replaces the slots that were offered before.
    pub(crate) fn offer_call_slots(&self, slots: CallSlots) {
        *lock(&self.call_slots) = slots;
    }

    /// Reserves one of the offered slots and returns the byte limit of its batch.
    pub(crate) fn try_reserve_slot(&self) -> Option<usize> {
        let mut slots = lock(&self.call_slots);
        slots.free = slots.free.checked_sub(1)?;
        Some(slots.bytes_max)
    }

    pub(crate) fn take_pending_work(&self) -> PendingWork {
        mem::take(&mut lock(&self.pending))
    }

    fn notify_polls<'a>(&self, accounts: impl Iterator<Item = &'a AccountId>) {
        let polls = lock(&self.polls);
        for poll in accounts.filter_map(|account| polls.get(account)) {
            poll.notify.notify_waiters();
        }
    }

    /// Subscribes to an account, unless polls of `accounts_max` accounts or
    /// [`LONG_POLLS_PER_ACCOUNT_MAX`] polls of this account are already waiting.
    #[must_use]
    pub(crate) fn subscribe(
        &self,
        account: AccountId,
        accounts_max: usize,
    ) -> Option<Subscription<'_>> {
        let mut polls = lock(&self.polls);
        if polls.len() >= accounts_max && !polls.contains_key(&account) {
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
        Some(Subscription {
            notifier: self,
            account,
            notify: Arc::clone(&poll.notify),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscription<'_> {
    /// Returns a future of the next notification. Create it before querying the database, so that
    /// no notification in between is missed.
    pub(crate) fn notified(&self) -> impl Future<Output = ()> + '_ {
        self.notify.notified()
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        let mut polls = lock(&self.notifier.polls);
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
    async fn notification_before_the_wait_is_not_missed() {
        let notifier = Notifier::default();
        let subscription = notifier.subscribe(ACCOUNT, 1).unwrap();
        let notified = subscription.notified();
        notifier.notify_accounts(&[ACCOUNT]);
        tokio::time::timeout(std::time::Duration::from_secs(60), notified)
            .await
            .unwrap();
    }

    #[test]
    fn polls_are_bounded() {
        let notifier = Notifier::default();
        let first = notifier.subscribe(ACCOUNT, 1).unwrap();
        assert!(
            notifier
                .subscribe(AccountId::from_bytes([2; 16]), 1)
                .is_none()
        );
        let more: Vec<_> = (1..LONG_POLLS_PER_ACCOUNT_MAX)
            .filter_map(|_| notifier.subscribe(ACCOUNT, 1))
            .collect();
        assert_eq!(more.len(), LONG_POLLS_PER_ACCOUNT_MAX - 1);
        assert!(
            notifier.subscribe(ACCOUNT, 1).is_none(),
            "the polls of one account are bounded"
        );
        drop((first, more));
        assert!(lock(&notifier.polls).is_empty());
    }
}
