//! What every part of the relay shares.

use crate::{
    blobs::Blobs,
    cache::AccountCache,
    door::Certificates,
    health::Health,
    http::passing_problem,
    metrics::Metrics,
    rates::Asker,
    rules::Rules,
    slots::Slots,
    storage::Storage,
    store::{AccountFacts, Store, StoreError},
    throughput::Minutes,
    wakes::Wakes,
};
use arc_swap::ArcSwap;
use http::{Extensions, HeaderMap};
use sealpost_proto::{
    AccountId, ErrorCode, Origin, Timestamp,
    limits::{
        DELIVERY_MEMORY_OF_CALL_BYTES, DELIVERY_MEMORY_SHARED_BYTES, FAILING_MEMORY_BYTES_MAX,
        PARTS_MOVING_MAX, PARTS_MOVING_PER_ACCOUNT_MAX, REQUEST_MEMORY_BYTES_MAX,
    },
};
use sealpost_relay_core::budget::{Portion, portion};
use sealpost_service::{
    Clock as _, SharedClock, Shutdown,
    http::{ListenerCounts, ProblemResponse},
    supervisor::Pulse,
};
use sealpost_signatures::RelaySecret;
use std::{path::PathBuf, sync::Arc, time::Duration};
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
    pub(crate) cache: Arc<AccountCache>,
    /// Who has to look again.
    pub(crate) wakes: Arc<Wakes>,
    /// Whether it can do its work.
    pub(crate) health: Arc<Health>,
    /// The disk and the reserve on it.
    pub(crate) storage: Arc<Storage>,
    /// What it holds in memory.
    pub(crate) memory: Memory,
    /// What it counts.
    pub(crate) metrics: Metrics,
    /// Whether it moves.
    pub(crate) pulses: Pulses,
    /// What happened in the last hour.
    pub(crate) throughput: Minutes,
    /// Since when it runs.
    pub(crate) started_at: Timestamp,
    /// Where it keeps everything.
    pub(crate) folder: PathBuf,
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

    /// When the certificate expires; `None` when a proxy speaks TLS, or none was ordered yet.
    #[must_use]
    pub(crate) fn certificate_end(&self) -> Option<Timestamp> {
        self.certificates.as_ref().and_then(Certificates::not_after)
    }

    /// Whether the store committed and the scheduler looked around within this time. A relay that stops does as it should.
    #[must_use]
    pub(crate) fn moves_within(&self, patience: Duration) -> bool {
        let Pulses { store, scheduler } = &self.pulses;
        self.shutdown.is_triggered()
            || (store.stalled() < patience && scheduler.stalled() < patience)
    }

    /// Takes a request with so many bytes that makes the relay keep more.
    ///
    /// # Errors
    /// `storage_full` while the disk has too little room.
    pub(crate) fn admit(&self, bytes: usize) -> Result<(), ProblemResponse> {
        if self.storage.admit(bytes as u64) {
            Ok(())
        } else {
            Err(passing_problem(ErrorCode::StorageFull))
        }
    }

    /// Counts a request that has no session.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn meet(
        &self,
        extensions: &Extensions,
        headers: &HeaderMap,
    ) -> Result<(), ProblemResponse> {
        let rules = self.rules();
        rules
            .meters
            .asker(Asker::of(extensions, headers, &rules.proxies))
    }

    /// What is known of an account, from memory where possible.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn facts(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountFacts>, StoreError> {
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
            // The lane wakes by itself later, or with the next request; this one is not to blame.
            Err(error) => {
                self.cache.note_contact(facts.account, true);
                tracing::debug!(%error, "a lane was not woken");
            }
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
    /// Parts of blobs that come, a stretch of each.
    pub(crate) coming: Slots,
    /// Parts of blobs that go, a stretch of each.
    pub(crate) going: Slots,
    deliveries: Arc<Semaphore>,
    tries: Arc<Semaphore>,
}

/// A share of the memory, given back when dropped.
pub(crate) type Share = OwnedSemaphorePermit;

/// Room for the body of a request, which grows as it comes: who announces much and sends little takes little.
pub(crate) struct Room {
    memory: Arc<Semaphore>,
    share: Option<Share>,
}

impl Room {
    /// Takes room for so many more bytes; false when there is none.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let Ok(more) = Arc::clone(&self.memory).try_acquire_many_owned(kibibytes(bytes as u64))
        else {
            return false;
        };
        match &mut self.share {
            Some(share) => share.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(REQUEST_MEMORY_BYTES_MAX / 1024)),
            coming: Slots::new(PARTS_MOVING_MAX, PARTS_MOVING_PER_ACCOUNT_MAX),
            going: Slots::new(PARTS_MOVING_MAX, PARTS_MOVING_PER_ACCOUNT_MAX),
            deliveries: Arc::new(Semaphore::new(DELIVERY_MEMORY_SHARED_BYTES / 1024)),
            tries: Arc::new(Semaphore::new(FAILING_MEMORY_BYTES_MAX / 1024)),
        }
    }
}

impl Memory {
    /// Room for the body of a request, or nothing when there would be none now for so many bytes.
    #[must_use]
    pub(crate) fn request(&self, bytes: u64) -> Option<Room> {
        let enough = self.requests.available_permits() >= kibibytes(bytes) as usize;
        enough.then(|| Room {
            memory: Arc::clone(&self.requests),
            share: None,
        })
    }

    /// What a call or a pull may take now.
    pub(crate) fn portion(&self) -> Portion {
        portion(self.deliveries.available_permits() * 1024)
    }

    /// Room for the batch of a pull; waits for it.
    pub(crate) async fn pulled(&self, bytes: u64) -> Option<Share> {
        share(&self.deliveries, bytes, DELIVERY_MEMORY_SHARED_BYTES).await
    }

    /// Room for the batch of a call, which has some of its own; waits for the rest.
    pub(crate) async fn delivery(&self, bytes: u64) -> Option<Share> {
        match bytes.saturating_sub(DELIVERY_MEMORY_OF_CALL_BYTES as u64) {
            0 => Arc::clone(&self.deliveries).try_acquire_many_owned(0).ok(),
            beyond => share(&self.deliveries, beyond, DELIVERY_MEMORY_SHARED_BYTES).await,
        }
    }

    /// Room for the batch of a call after one that failed; waits for it.
    pub(crate) async fn failing_delivery(&self, bytes: u64) -> Option<Share> {
        share(&self.tries, bytes, FAILING_MEMORY_BYTES_MAX).await
    }
}

async fn share(room: &Arc<Semaphore>, bytes: u64, most: usize) -> Option<Share> {
    let share = kibibytes(bytes).min(kibibytes(most as u64) - 1);
    Arc::clone(room).acquire_many_owned(share).await.ok()
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
        let mut idle = memory.request(4_000_000).unwrap();
        let mut all = memory
            .request(REQUEST_MEMORY_BYTES_MAX as u64 - 1024)
            .unwrap();
        assert!(
            all.grow(REQUEST_MEMORY_BYTES_MAX - 1024),
            "what is only announced takes no room"
        );
        assert!(memory.request(0).is_none() && !idle.grow(1));
        drop(all);
        assert!(memory.request(0).is_some() && idle.grow(1));
    }
}
