//! Delivery of one lane: lease a batch, call the webhook, record the outcome, and again while
//! something waits.

use super::{
    batch,
    webhook::{CallOutcome, WebhookClient},
};
use crate::{
    accounts::Accounts,
    activity::Activity,
    lease::LeasedBatch,
    memory::{DeliveryMemory, MemoryPermit},
    notifier::Notifier,
    store::{BatchOutcome, CallEnd, Store, StoreError},
};
use sealpost_proto::{
    AccountId, Timestamp,
    limits::{DELIVERY_BATCH_BYTES_MAX, DELIVERY_MEMORY_WAIT_MAX, LANE_BATCHES_MAX},
};
use sealpost_relay_core::{EndpointHealth, classify::Class};
use sealpost_service::{Clock as _, SharedClock, Shutdown, random_array};
use std::{sync::Arc, time::Duration};

/// Number of attempts to record the end of a call while the store is overloaded, and the time
/// between them.
const WRITE_ATTEMPTS: u32 = 5;
const WRITE_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Parts of the relay that deliveries use.
pub(crate) struct DeliveryContext {
    pub(crate) store: Store,
    pub(crate) accounts: Accounts,
    pub(crate) webhooks: WebhookClient,
    pub(crate) memory: DeliveryMemory,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) activity: Activity,
    pub(crate) clock: SharedClock,
    pub(crate) shutdown: Shutdown,
}

impl DeliveryContext {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Run of one lane.
pub(super) struct LaneRun {
    pub(super) context: Arc<DeliveryContext>,
    pub(super) account: AccountId,
    pub(super) health: EndpointHealth,
    /// Limit of each call.
    pub(super) timeout: Duration,
    /// Aborts calls that take too long during the shutdown.
    pub(super) abort: Shutdown,
}

impl LaneRun {
    /// Delivers batches, starting with `leased`, until nothing waits, the run has used its share,
    /// or the relay shuts down. Returns whether the last call succeeded.
    pub(super) async fn run(self, leased: Option<LeasedBatch>) -> bool {
        let first = match leased {
            Some(leased) => Ok(Some(leased)),
            None => {
                let (now, bytes_max) = (self.context.now(), self.next_batch_bytes());
                let store = &self.context.store;
                store.lease_call(now, self.account, bytes_max).await
            }
        };
        let mut next = match first {
            Ok(first) => first,
            Err(error) => {
                tracing::debug!(%error, "a lane was not leased");
                tokio::time::sleep(WRITE_RETRY_INTERVAL).await;
                return false;
            }
        };
        // After a successful retry the lane is healthy and continues with the budget of healthy
        // lanes.
        let batches_max = if self.health == EndpointHealth::Failing {
            1
        } else {
            LANE_BATCHES_MAX
        };
        let (mut batches, mut succeeded) = (0, true);
        while let Some(leased) = next {
            batches += 1;
            let continues = batches < batches_max && !self.context.shutdown.is_triggered();
            let next_batch_bytes = continues.then(|| self.next_batch_bytes());
            match self.deliver(leased, next_batch_bytes).await {
                Ok(delivered) => (succeeded, next) = delivered,
                Err(error) => {
                    // The lease expires, and the node reports the same results for a repeated
                    // delivery.
                    tracing::warn!(%error, "the end of a call was not recorded");
                    return false;
                }
            }
        }
        succeeded
    }

    /// Returns the byte limit of the next batch. Failing lanes have memory of their own and small
    /// batches anyway.
    fn next_batch_bytes(&self) -> usize {
        match self.health {
            EndpointHealth::Healthy => self.context.memory.call_limits().bytes,
            EndpointHealth::Failing => DELIVERY_BATCH_BYTES_MAX,
        }
    }

    async fn deliver(
        &self,
        leased: LeasedBatch,
        next_batch_bytes: Option<usize>,
    ) -> Result<(bool, Option<LeasedBatch>), StoreError> {
        let (context, account, fence) = (&*self.context, leased.account, leased.fence);
        let items = leased.items();
        let sent: Vec<_> = leased
            .envelopes
            .iter()
            .map(|envelope| (envelope.id, envelope.accepted_at))
            .collect();
        let called = tokio::select! {
            called = self.call(leased) => called?,
            () = self.abort.triggered() => None,
        };
        let Some(called) = called else {
            let now = context.now();
            context.store.return_lease(now, account, fence).await?;
            return Ok((false, None));
        };
        let end = || CallEnd {
            account,
            fence,
            items: items.clone(),
            class: called.class,
            results: called.results.clone(),
            reason: called.reason.clone(),
            random: u64::from_le_bytes(random_array()),
        };
        let outcome = record_end(context, end, next_batch_bytes).await?;
        if outcome.is_switched_off {
            tracing::info!("a webhook was switched off");
        }
        let CallOutcome { class, results, .. } = &called;
        let (now, stored) = (context.now(), outcome.stored);
        let activity = &context.activity;
        activity.record_call(now, *class, results, &sent, stored);
        // Again, for facts that were read before the commit and cached after the first update.
        let ends_backoff = outcome.contact_ends_backoff;
        context
            .accounts
            .set_contact_ends_backoff(account, ends_backoff);
        context.notifier.notify_accounts(&outcome.woken);
        Ok((*class == Class::Succeeded, outcome.next))
    }

    /// Calls the webhook with a batch. Returns nothing if there was not enough memory in time.
    async fn call(&self, leased: LeasedBatch) -> Result<Option<CallOutcome>, StoreError> {
        let Some(webhook) = leased.webhook.clone() else {
            return Ok(Some(CallOutcome::without_webhook()));
        };
        let id = format!("{}-{}", leased.account, leased.fence);
        let timeout = match self.health {
            EndpointHealth::Healthy => {
                let limits = self.context.memory.call_limits();
                self.timeout.min(limits.timeout)
            }
            EndpointHealth::Failing => self.timeout,
        };
        let Some(_permit) = self.reserve_memory(&leased).await else {
            return Ok(None);
        };
        let data = batch::load(&self.context.store, leased).await?;
        let webhooks = &self.context.webhooks;
        Ok(Some(webhooks.deliver(&webhook, &id, data, timeout).await))
    }

    async fn reserve_memory(&self, leased: &LeasedBatch) -> Option<MemoryPermit> {
        let memory = &self.context.memory;
        let permit = async {
            if leased.was_failing {
                memory.reserve_failing_call(leased.size_bytes()).await
            } else {
                memory.reserve_call(leased.size_bytes()).await
            }
        };
        let permit = tokio::time::timeout(DELIVERY_MEMORY_WAIT_MAX, permit).await;
        permit.ok().flatten()
    }
}

/// Records the end of a call, with retries while the store is overloaded.
async fn record_end(
    context: &DeliveryContext,
    end: impl Fn() -> CallEnd,
    next_batch_bytes: Option<usize>,
) -> Result<BatchOutcome, StoreError> {
    let mut attempts = 1;
    loop {
        let end = end();
        let on_contact_change = context.accounts.on_contact_change(end.account);
        let recorded = context
            .store
            .finish_call(context.now(), end, next_batch_bytes, on_contact_change)
            .await;
        match recorded {
            Err(error) if attempts < WRITE_ATTEMPTS && error != StoreError::Closed => {
                tracing::debug!(%error, "recording the end of a call is retried");
                attempts += 1;
                tokio::time::sleep(WRITE_RETRY_INTERVAL).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{BOLT, Bench, endpoint},
        *,
    };
    use sealpost_proto::limits::{CONTACT_RETRY_INTERVAL_MIN, DELIVERY_MEMORY_PER_CALL_BYTES};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn healthy_lane_is_called_without_shared_memory() {
        let calls = Arc::new(AtomicUsize::new(0));
        let bench = Bench::new(&endpoint(&calls).await).await;
        for number in 0..8 {
            bench.submit(number, 4_096).await;
        }
        // Endpoints that hang: each holds as much memory as a call may.
        let memory = &bench.context.memory;
        let mut hanging = Vec::new();
        while memory.call_limits().bytes > DELIVERY_MEMORY_PER_CALL_BYTES {
            let bytes = memory.call_limits().bytes as u64;
            let permit =
                tokio::time::timeout(Duration::from_secs(60), memory.reserve_call(bytes)).await;
            hanging.push(permit.expect("the limit of a call is never more than the free memory"));
        }
        assert!(hanging.len() > 8);
        assert!(bench.lane_run().run(None).await);
        assert_eq!(
            calls.load(Ordering::Relaxed),
            4,
            "two envelopes fit into the memory that a call owns"
        );
        assert!(!bench.context.store.has_waiting(BOLT).await.unwrap());
        for number in 8..11 {
            bench.submit(number, 4_096).await;
        }
        drop(hanging);
        assert!(bench.lane_run().run(None).await);
        assert_eq!(
            calls.load(Ordering::Relaxed),
            5,
            "one call with all envelopes"
        );
    }

    #[tokio::test]
    async fn contact_right_after_a_failed_call_is_recorded() {
        let bench = Bench::new("https://node.example/").await;
        let Bench { context, clock, .. } = &bench;
        bench.submit(1, 2_048).await;
        let facts = context.accounts.facts(BOLT).await.unwrap().unwrap();
        assert!(
            !facts.contact_ends_backoff,
            "the facts are cached from now on"
        );
        let leased = context
            .store
            .lease_call(clock.now(), BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .unwrap();
        let end = || CallEnd {
            account: BOLT,
            fence: leased.fence,
            items: leased.items(),
            class: Class::Unreachable,
            results: Vec::new(),
            reason: None,
            random: 0,
        };
        // The steps after the commit have not started.
        record_end(context, end, None).await.unwrap();
        clock.advance(CONTACT_RETRY_INTERVAL_MIN);
        let facts = context.accounts.facts(BOLT).await.unwrap().unwrap();
        assert!(facts.contact_ends_backoff);
        context.accounts.record_contact(facts).await;
        let [healthy, failing] = context.store.due_lanes(clock.now(), 9).await.unwrap();
        assert_eq!(healthy.lanes, []);
        assert_eq!(failing.lanes, [BOLT], "its next call is due");
    }
}
