//! Memory and slots, which bound what the relay holds in memory under any load.
//!
//! Clients can make the relay hold memory by sending a body slowly, or by not reading a response.
//! Such memory comes from a [`FairPool`]. Memory for webhook calls depends on the endpoints instead;
//! `relay-core::budget` limits each call.

use axum::response::Response;
use sealpost_proto::{
    AccountId,
    limits::{
        DELIVERY_MEMORY_PER_CALL_BYTES, DELIVERY_MEMORY_SHARED_BYTES, FAILING_MEMORY_BYTES_MAX,
        LONG_CALL_BYTES_MIN, LONG_CALLS_MEMORY_BYTES_MAX, PART_TRANSFERS_MAX,
        PART_TRANSFERS_PER_ACCOUNT_MAX, REGISTRATION_MEMORY_BYTES_MAX,
        REGISTRATION_MEMORY_PER_ADDRESS_BYTES_MAX, REQUEST_MEMORY_BYTES_MAX,
        REQUEST_MEMORY_PER_ACCOUNT_BYTES_MAX, REQUEST_MEMORY_PER_ADDRESS_BYTES_MAX,
        RESPONSE_MEMORY_BYTES_MAX, RESPONSE_MEMORY_PER_ACCOUNT_BYTES_MAX,
    },
};
use sealpost_relay_core::budget::{CallLimits, call_limits};
use sealpost_service::{
    fair_pool::{FairPool, Owner, Permit},
    http::hold_response_memory,
};
use std::{net::IpAddr, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory that is reserved until this is dropped.
pub(crate) type MemoryPermit = OwnedSemaphorePermit;

/// Memory for the bodies of requests.
#[derive(Clone)]
pub(crate) struct RequestMemory {
    accounts: FairPool,
    /// Limits the share of an address in the memory for accounts. Its total is unlimited.
    addresses: FairPool,
    registrations: FairPool,
}

impl Default for RequestMemory {
    fn default() -> Self {
        Self {
            accounts: FairPool::of_memory(
                REQUEST_MEMORY_BYTES_MAX,
                REQUEST_MEMORY_PER_ACCOUNT_BYTES_MAX,
            ),
            addresses: FairPool::of_memory(usize::MAX, REQUEST_MEMORY_PER_ADDRESS_BYTES_MAX),
            registrations: FairPool::of_memory(
                REGISTRATION_MEMORY_BYTES_MAX,
                REGISTRATION_MEMORY_PER_ADDRESS_BYTES_MAX,
            ),
        }
    }
}

impl RequestMemory {
    /// Reserves memory for the body of a request from an account.
    pub(crate) async fn reserve(
        &self,
        account: AccountId,
        address: Option<IpAddr>,
        bytes: usize,
    ) -> Option<Vec<Permit>> {
        let network = address.map(Owner::network_of);
        let address_permit = self.addresses.reserve_bytes(network, bytes).await?;
        let permit = self
            .accounts
            .reserve_bytes(Some(account.into()), bytes)
            .await?;
        Some(vec![permit, address_permit])
    }

    /// Reserves memory for the body of a registration.
    pub(crate) async fn reserve_registration(
        &self,
        address: Option<IpAddr>,
        bytes: usize,
    ) -> Option<Vec<Permit>> {
        let network = address.map(Owner::network_of);
        let permit = self.registrations.reserve_bytes(network, bytes).await?;
        Some(vec![permit])
    }
}

/// Memory for responses to accounts, until they are sent.
#[derive(Clone)]
pub(crate) struct ResponseMemory(FairPool);

impl Default for ResponseMemory {
    fn default() -> Self {
        Self(FairPool::of_memory(
            RESPONSE_MEMORY_BYTES_MAX,
            RESPONSE_MEMORY_PER_ACCOUNT_BYTES_MAX,
        ))
    }
}

impl ResponseMemory {
    /// Reserves memory for a response.
    pub(crate) async fn reserve(&self, account: AccountId, bytes: usize) -> Option<Permit> {
        self.0.reserve_bytes(Some(account.into()), bytes).await
    }

    /// Reserves memory for a response that its handler has built, until it is sent.
    pub(crate) async fn hold(&self, account: AccountId, response: Response) -> Option<Response> {
        hold_response_memory(&self.0, Some(account.into()), response).await
    }

    /// Returns how many bytes of envelopes a pull that starts now can return.
    pub(crate) fn pull_bytes_max(&self) -> usize {
        call_limits(self.0.available() as usize * 1024).bytes
    }
}

/// Memory for the batches of webhook calls.
#[derive(Clone)]
pub(crate) struct DeliveryMemory {
    shared: Arc<Semaphore>,
    failing: Arc<Semaphore>,
    long_calls: Arc<Semaphore>,
}

impl Default for DeliveryMemory {
    fn default() -> Self {
        Self {
            shared: Arc::new(Semaphore::new(DELIVERY_MEMORY_SHARED_BYTES / 1024)),
            failing: Arc::new(Semaphore::new(FAILING_MEMORY_BYTES_MAX / 1024)),
            long_calls: Arc::new(Semaphore::new(LONG_CALLS_MEMORY_BYTES_MAX / 1024)),
        }
    }
}

impl DeliveryMemory {
    /// Returns the limits of a call that starts now.
    pub(crate) fn call_limits(&self) -> CallLimits {
        call_limits(self.shared.available_permits() * 1024)
    }

    /// Reserves memory for the batch of a call; waits only for what exceeds the memory
    /// that is set apart for each call.
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

    /// Reserves memory for a long call, if other long calls leave enough.
    pub(crate) fn try_reserve_long_call(&self, bytes: u64) -> Option<MemoryPermit> {
        let permits = bytes.max(LONG_CALL_BYTES_MIN as u64).div_ceil(1024);
        let permits = u32::try_from(permits).ok()?;
        Arc::clone(&self.long_calls)
            .try_acquire_many_owned(permits)
            .ok()
    }
}

/// Slots for transfers of parts, each of which holds one segment in memory.
#[derive(Clone)]
pub(crate) struct TransferSlots {
    pub(crate) uploads: FairPool,
    pub(crate) downloads: FairPool,
}

impl Default for TransferSlots {
    fn default() -> Self {
        Self {
            uploads: FairPool::new(PART_TRANSFERS_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX),
            downloads: FairPool::new(PART_TRANSFERS_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX),
        }
    }
}

async fn reserve(memory: &Arc<Semaphore>, bytes: u64, bytes_max: usize) -> Option<MemoryPermit> {
    let permits = to_kibibytes(bytes).min(to_kibibytes(bytes_max as u64) - 1);
    Arc::clone(memory).acquire_many_owned(permits).await.ok()
}

fn to_kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: AccountId = AccountId::from_bytes([1; 16]);
    const BOLT: AccountId = AccountId::from_bytes([2; 16]);

    #[tokio::test(start_paused = true)]
    async fn accounts_and_addresses_have_a_share_of_request_memory() {
        let memory = RequestMemory::default();
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let largest = REQUEST_MEMORY_PER_ACCOUNT_BYTES_MAX;
        let held = memory.reserve(ACME, None, largest).await;
        assert!(held.is_some() && memory.reserve(ACME, None, 1024).await.is_none());
        assert!(memory.reserve(BOLT, None, largest).await.is_some());
        drop(held);
        let mut held = Vec::new();
        for account in 0..2 {
            let account = AccountId::from_bytes([account; 16]);
            held.push(
                memory
                    .reserve(account, address, 4 * 1024 * 1024)
                    .await
                    .unwrap(),
            );
        }
        assert!(memory.reserve(BOLT, address, 1024).await.is_none());
        assert!(memory.reserve(BOLT, None, 1024).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_use_no_memory_of_accounts() {
        let memory = RequestMemory::default();
        let mut held = Vec::new();
        for address in 0..=255 {
            let address = Some(IpAddr::from([192, 0, 2, address]));
            held.extend(memory.reserve_registration(address, 4 * 1024).await);
        }
        assert_eq!(held.len(), REGISTRATION_MEMORY_BYTES_MAX / (4 * 1024));
        let all = REQUEST_MEMORY_PER_ACCOUNT_BYTES_MAX;
        assert!(memory.reserve(ACME, None, all).await.is_some());
    }
}
