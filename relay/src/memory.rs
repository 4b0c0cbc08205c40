//! Memory budgets, which bound what the relay holds in memory under any load. They are counted in
//! KiB.

use crate::slots::Slots;
use sealpost_proto::limits::{
    DELIVERY_MEMORY_PER_CALL_BYTES, DELIVERY_MEMORY_SHARED_BYTES, FAILING_MEMORY_BYTES_MAX,
    PART_TRANSFERS_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX, REQUEST_MEMORY_BYTES_MAX,
};
use sealpost_relay_core::budget::{CallLimits, call_limits};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory that is reserved until this is dropped.
pub(crate) type MemoryPermit = OwnedSemaphorePermit;

/// Memory for the bodies of requests.
#[derive(Clone)]
pub(crate) struct RequestMemory(Arc<Semaphore>);

/// Memory for the body of one request. It grows with the received bytes: a client that announces
/// much and sends little reserves little.
pub(crate) struct BodyBudget {
    memory: Arc<Semaphore>,
    permit: Option<MemoryPermit>,
}

impl Default for RequestMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REQUEST_MEMORY_BYTES_MAX / 1024)))
    }
}

impl RequestMemory {
    /// Returns a budget for a body of `bytes`, unless less memory is free now.
    #[must_use]
    pub(crate) fn body_budget(&self, bytes: u64) -> Option<BodyBudget> {
        let is_enough = self.0.available_permits() >= kibibytes(bytes) as usize;
        is_enough.then(|| BodyBudget {
            memory: Arc::clone(&self.0),
            permit: None,
        })
    }
}

impl BodyBudget {
    /// Reserves memory for more bytes. Returns false if there is none.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let Ok(more) = Arc::clone(&self.memory).try_acquire_many_owned(kibibytes(bytes as u64))
        else {
            return false;
        };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

/// Memory for the batches of calls and pulls.
#[derive(Clone)]
pub(crate) struct DeliveryMemory {
    shared: Arc<Semaphore>,
    failing: Arc<Semaphore>,
}

impl Default for DeliveryMemory {
    fn default() -> Self {
        Self {
            shared: Arc::new(Semaphore::new(DELIVERY_MEMORY_SHARED_BYTES / 1024)),
            failing: Arc::new(Semaphore::new(FAILING_MEMORY_BYTES_MAX / 1024)),
        }
    }
}

impl DeliveryMemory {
    /// Returns the limits of a call or pull that starts now.
    pub(crate) fn call_limits(&self) -> CallLimits {
        call_limits(self.shared.available_permits() * 1024)
    }

    /// Reserves memory for the batch of a pull; waits for it.
    pub(crate) async fn reserve_pull(&self, bytes: u64) -> Option<MemoryPermit> {
        reserve(&self.shared, bytes, DELIVERY_MEMORY_SHARED_BYTES).await
    }

    /// Reserves memory for the batch of a call; waits for what exceeds the memory that each call
    /// owns.
    pub(crate) async fn reserve_call(&self, bytes: u64) -> Option<MemoryPermit> {
        match bytes.saturating_sub(DELIVERY_MEMORY_PER_CALL_BYTES as u64) {
            0 => Arc::clone(&self.shared).try_acquire_many_owned(0).ok(),
            excess => reserve(&self.shared, excess, DELIVERY_MEMORY_SHARED_BYTES).await,
        }
    }

    /// Reserves memory for the batch of a call to a failing endpoint; waits for it.
    pub(crate) async fn reserve_failing_call(&self, bytes: u64) -> Option<MemoryPermit> {
        reserve(&self.failing, bytes, FAILING_MEMORY_BYTES_MAX).await
    }
}

/// Slots for transfers of parts, each of which holds one segment in memory.
#[derive(Clone)]
pub(crate) struct TransferSlots {
    pub(crate) uploads: Slots,
    pub(crate) downloads: Slots,
}

impl Default for TransferSlots {
    fn default() -> Self {
        Self {
            uploads: Slots::new(PART_TRANSFERS_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX),
            downloads: Slots::new(PART_TRANSFERS_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX),
        }
    }
}

async fn reserve(memory: &Arc<Semaphore>, bytes: u64, bytes_max: usize) -> Option<MemoryPermit> {
    let permits = kibibytes(bytes).min(kibibytes(bytes_max as u64) - 1);
    Arc::clone(memory).acquire_many_owned(permits).await.ok()
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_beyond_the_memory_are_refused() {
        let memory = RequestMemory::default();
        let mut idle = memory.body_budget(4_000_000).unwrap();
        let mut all = memory
            .body_budget(REQUEST_MEMORY_BYTES_MAX as u64 - 1024)
            .unwrap();
        assert!(
            all.grow(REQUEST_MEMORY_BYTES_MAX - 1024),
            "an announced body reserves nothing"
        );
        assert!(memory.body_budget(0).is_none() && !idle.grow(1));
        drop(all);
        assert!(memory.body_budget(0).is_some() && idle.grow(1));
    }
}
