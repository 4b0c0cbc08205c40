//! Slots of webhook tests. A test puts load on the server that it calls, and a slow one occupies a
//! connection, so few run at a time: one of each account, a few of the same server, and a limited
//! number in total.

use crate::store::StoreError;
use sealpost_proto::{
    AccountId, WebhookUrl,
    limits::{WEBHOOK_TEST_WAIT_MAX, WEBHOOK_TESTS_MAX, WEBHOOK_TESTS_PER_SERVER_MAX},
};
use sealpost_service::fair_pool::{FairPool, Owner, Permit};

/// Bounds of the tests that run at a time.
#[derive(Clone)]
pub(crate) struct WebhookTestSlots {
    /// One test per account.
    accounts: FairPool,
    /// Calls to the server of each URL, and in all. A call that is slow makes room for another one.
    calls: FairPool,
}

/// Reason why there is no result of a test.
#[derive(Debug)]
pub(crate) enum WebhookTestError {
    /// Another test of the account is running.
    Running,
    /// The relay runs as many tests as it can, in all or of the same server.
    Busy,
    Store(StoreError),
}

impl From<StoreError> for WebhookTestError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl WebhookTestSlots {
    pub(crate) fn new() -> Self {
        Self {
            accounts: FairPool::new(u32::MAX, 1),
            calls: FairPool::new(WEBHOOK_TESTS_MAX, WEBHOOK_TESTS_PER_SERVER_MAX),
        }
    }

    pub(super) async fn reserve_account(
        &self,
        account: AccountId,
    ) -> Result<Permit, WebhookTestError> {
        let permit = self.accounts.reserve(Some(account.into()), 1).await;
        let permit = permit.ok_or(WebhookTestError::Running)?;
        permit.protect();
        Ok(permit)
    }

    pub(super) async fn reserve_call(&self, url: &WebhookUrl) -> Result<Permit, WebhookTestError> {
        let port = url.as_url().port_or_known_default().unwrap_or_default();
        let server = Owner::for_server(url.host(), port);
        let wait = WEBHOOK_TEST_WAIT_MAX;
        let permit = self.calls.reserve_within(Some(server), 1, wait);
        permit.await.ok_or(WebhookTestError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_proto::limits::{POOL_CHECK_INTERVAL, POOL_STALL_TIMEOUT};
    use std::time::Duration;
    use tokio::{
        sync::oneshot,
        time::{Instant, timeout},
    };

    fn url(text: &str) -> WebhookUrl {
        WebhookUrl::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_account_has_one_test() {
        let slots = WebhookTestSlots::new();
        let [acme, bolt] = [[1; 16], [2; 16]].map(AccountId::from_bytes);
        let running = slots.reserve_account(acme).await.unwrap();
        tokio::time::advance(POOL_STALL_TIMEOUT * 2).await;
        let second = slots.reserve_account(acme).await;
        assert!(
            matches!(second, Err(WebhookTestError::Running)),
            "{second:?}"
        );
        assert!(slots.reserve_account(bolt).await.is_ok());
        drop(running);
        assert!(slots.reserve_account(acme).await.is_ok());
    }

    /// Holds a slot until it is evicted.
    fn hold(slot: Permit) {
        let (evict, evicted) = oneshot::channel::<()>();
        slot.on_eviction(move || drop(evict));
        tokio::spawn(async move {
            let _ = evicted.await;
            drop(slot);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn each_server_has_few_tests() {
        let slots = WebhookTestSlots::new();
        let mut running = Vec::new();
        for number in 0..WEBHOOK_TESTS_PER_SERVER_MAX {
            let url = url(&format!("http://victim.example/{number}"));
            running.push(slots.reserve_call(&url).await.unwrap());
        }
        let started = Instant::now();
        let other = url("http://node.example/");
        assert!(slots.reserve_call(&other).await.is_ok());
        assert_eq!(started.elapsed(), Duration::ZERO);
        let victim = url("http://Victim.example:80/another");
        let fifth = timeout(POOL_STALL_TIMEOUT / 2, slots.reserve_call(&victim));
        assert!(fifth.await.is_err(), "it waits");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_make_room_for_others() {
        let slots = WebhookTestSlots::new();
        for number in 0..WEBHOOK_TESTS_MAX {
            let silent = url(&format!("http://silent-{number}.example/"));
            hold(slots.reserve_call(&silent).await.unwrap());
        }
        let started = Instant::now();
        let node = url("http://node.example/");
        assert!(slots.reserve_call(&node).await.is_ok());
        assert!(started.elapsed() <= POOL_STALL_TIMEOUT + POOL_CHECK_INTERVAL);
    }
}
