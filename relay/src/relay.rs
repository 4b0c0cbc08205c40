//! What every part of the relay shares.

use crate::{
    blobs::Blobs,
    cache::AccountCache,
    door::Certificates,
    health::Health,
    rules::Rules,
    store::{AccountFacts, Store, StoreError},
    wakes::Wakes,
};
use arc_swap::ArcSwap;
use sealpost_proto::{
    AccountId, Origin, Timestamp,
    limits::{DELIVERY_MEMORY_BYTES_MAX, PARTS_IN_MEMORY_MAX, REQUEST_MEMORY_BYTES_MAX},
};
use sealpost_service::{Clock as _, SharedClock, Shutdown, http::ListenerCounts, supervisor::Pulse};
use sealpost_signatures::RelaySecret;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A relay at work.
pub(crate) struct Relay {
    /// What signatures name, and where it is found.
    pub(crate) origin: Origin,
    /// What the operator may change while it runs.
    pub(crate) rules: ArcSwap<Rules>,
    /// Tells the time.
    pub(crate) clock: SharedClock,
    /// What it keeps.
    pub(crate) store: Store,
    /// The parts of blobs.
    pub(crate) blobs: Blobs,
    /// What session keys are made from.
    pub(crate) secret: RelaySecret,
    /// Accounts that were heard of lately.
    pub(crate) cache: AccountCache,
    /// Who has to look again.
    pub(crate) wakes: Wakes,
    /// Whether it can do its work.
    pub(crate) health: Arc<Health>,
    /// What it holds in memory.
    pub(crate) memory: Memory,
    /// Whether it moves.
    pub(crate) pulses: Pulses,
    /// Who has been connected.
    pub(crate) connections: Arc<ListenerCounts>,
    /// Where the certificate comes from, when it speaks TLS itself.
    pub(crate) certificates: Option<Certificates>,
    /// The wish that it ends.
    pub(crate) shutdown: Shutdown,
}

impl Relay {
    /// The time now.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The rules that are in force now; whoever needs two of them asks once.
    #[must_use]
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Whether the store committed and the scheduler looked around within this time. A relay that stops does as it should.
    #[must_use]
    pub(crate) fn moves_within(&self, patience: Duration) -> bool {
        let Pulses { store, scheduler } = &self.pulses;
        self.shutdown.is_triggered() || (store.stalled() < patience && scheduler.stalled() < patience)
    }

    /// What is known of an account, from memory where possible.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn facts(&self, account: AccountId) -> Result<Option<AccountFacts>, StoreError> {
        if let Some(facts) = self.cache.find(account) {
            return Ok(Some(facts));
        }
        let epoch = self.cache.epoch();
        let facts = self.store.facts(account).await?;
        if let Some(facts) = facts {
            self.cache.keep(epoch, facts);
        }
        Ok(facts)
    }

    /// The account was heard of: a lane that backs off is woken.
    pub(crate) async fn hear(&self, facts: AccountFacts) {
        if !facts.heeds_contact {
            return;
        }
        self.cache.note_contact(facts.account, false);
        match self.store.contact(self.now(), facts.account).await {
            Ok(()) => self.wakes.wake(&[facts.account]),
            // The lane wakes by itself later; the request is not to blame.
            Err(error) => tracing::debug!(%error, "a lane was not woken"),
        }
    }
}

/// Signs of life of what must never stand still.
#[derive(Debug, Default)]
pub(crate) struct Pulses {
    /// The store commits, as the sweeper sees it.
    pub(crate) store: Pulse,
    /// The scheduler of deliveries looks around.
    pub(crate) scheduler: Pulse,
}

/// What the relay holds in memory, counted in KiB, so that it stays small whatever is asked.
pub(crate) struct Memory {
    requests: Arc<Semaphore>,
    parts: Arc<Semaphore>,
    deliveries: Arc<Semaphore>,
}

/// A share of the memory, given back when dropped.
pub(crate) type Share = OwnedSemaphorePermit;

impl Default for Memory {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(REQUEST_MEMORY_BYTES_MAX / 1024)),
            parts: Arc::new(Semaphore::new(PARTS_IN_MEMORY_MAX)),
            deliveries: Arc::new(Semaphore::new(DELIVERY_MEMORY_BYTES_MAX / 1024)),
        }
    }
}

impl Memory {
    /// Room for the body of a request, or nothing when there is none now.
    #[must_use]
    pub(crate) fn request(&self, bytes: u64) -> Option<Share> {
        Arc::clone(&self.requests).try_acquire_many_owned(kibibytes(bytes)).ok()
    }

    /// Room for a part of a blob; waits for it.
    pub(crate) async fn part(&self) -> Option<Share> {
        Arc::clone(&self.parts).acquire_owned().await.ok()
    }

    /// Room for a batch of envelopes; waits for it.
    pub(crate) async fn delivery(&self, bytes: u64) -> Option<Share> {
        let share = kibibytes(bytes).min(kibibytes(DELIVERY_MEMORY_BYTES_MAX as u64));
        Arc::clone(&self.deliveries).acquire_many_owned(share).await.ok()
    }
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_memory_are_turned_away() {
        let memory = Memory::default();
        let all = memory.request(REQUEST_MEMORY_BYTES_MAX as u64 - 1024);
        assert!(all.is_some() && memory.request(0).is_none());
        drop(all);
        assert!(memory.request(0).is_some());
    }
}
