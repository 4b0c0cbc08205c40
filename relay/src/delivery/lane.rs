//! Delivery of one lane: lease a batch, call the webhook, record the outcome, and repeat while the
//! lane has waiting items.

use super::{batch, webhook::WebhookClient};
use crate::{
    accounts::Accounts,
    activity::Activity,
    lease::LeasedBatch,
    memory::{DeliveryMemory, MemoryPermit},
    notifier::Notifier,
    store::{BatchOutcome, CallOutcome, CallReport, Store, StoreError},
};
use sealpost_proto::{
    AccountId, Timestamp,
    limits::{DELIVERY_BATCH_BYTES_MAX, DELIVERY_MEMORY_WAIT_MAX, LANE_BATCHES_MAX},
};
use sealpost_relay_core::{EndpointHealth, budget::long_call_timeout, classify::Class};
use sealpost_service::{Clock as _, SharedClock, Shutdown, random_array};
use std::{sync::Arc, time::Duration};

/// Number of attempts to record the outcome of a call.
const WRITE_ATTEMPTS: u32 = 5;

/// Time between two attempts to access the store.
const WRITE_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Dependencies of the delivery tasks.
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

/// Task that delivers batches of one lane until the lane is empty or [`LANE_BATCHES_MAX`] batches
/// have been delivered.
pub(super) struct LaneRun {
    pub(super) context: Arc<DeliveryContext>,
    pub(super) account: AccountId,
    pub(super) health: EndpointHealth,
    /// Timeout of each call.
    pub(super) timeout: Duration,
    /// Aborts the calls that are still in progress when the time for a graceful shutdown is over.
    pub(super) hard_shutdown: Shutdown,
}

/// Outcome of a [`LaneRun`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunOutcome {
    /// The last call succeeded.
    Succeeded,
    /// Nothing could be leased, for example because a pull has the lease.
    Idle,
    /// The last call failed, was not made, or was not recorded.
    Failed,
}

/// Result of delivering one batch.
struct BatchDelivery {
    has_succeeded: bool,
    /// Next batch, which is already leased.
    next: Option<LeasedBatch>,
}

impl LaneRun {
    /// Delivers batches, starting with `leased`, until the lane is empty, [`LANE_BATCHES_MAX`]
    /// batches have been delivered, or the relay shuts down. A failing lane gets one batch.
    pub(super) async fn run(self, leased: Option<LeasedBatch>) -> RunOutcome {
        let first = match leased {
            Some(leased) => Ok(Some(leased)),
            None => {
                let (now, bytes_max) = (self.context.now(), self.next_batch_bytes());
                let store = &self.context.store;
                store.lease_batch(now, self.account, bytes_max).await
            }
        };
        let mut next = match first {
            Ok(first) => first,
            Err(error) => {
                tracing::debug!(%error, "failed to lease a batch");
                tokio::time::sleep(WRITE_RETRY_INTERVAL).await;
                return RunOutcome::Failed;
            }
        };
        // After a successful retry the lane is healthy and continues with the budget of healthy
        // lanes.
        let batches_max = if self.health == EndpointHealth::Failing {
            1
        } else {
            LANE_BATCHES_MAX
        };
        let (mut batches, mut outcome) = (0, RunOutcome::Idle);
        while let Some(leased) = next {
            batches += 1;
            let has_next = batches < batches_max && !self.context.shutdown.is_triggered();
            let next_batch_bytes = has_next.then(|| self.next_batch_bytes());
            match self.deliver(leased, next_batch_bytes).await {
                Ok(delivery) => {
                    outcome = if delivery.has_succeeded {
                        RunOutcome::Succeeded
                    } else {
                        RunOutcome::Failed
                    };
                    next = delivery.next;
                }
                Err(error) => {
                    // The lease expires, and the node reports the same results for a repeated
                    // delivery.
                    tracing::warn!(%error, "failed to record a webhook call");
                    return RunOutcome::Failed;
                }
            }
        }
        outcome
    }

    /// Returns the byte limit of the next batch. Calls to failing endpoints have their own memory
    /// budget, and their batches are small.
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
    ) -> Result<BatchDelivery, StoreError> {
        let (context, account, fence) = (&*self.context, leased.account, leased.fence);
        let (item_ids, bytes) = (leased.item_ids(), leased.batch_bytes());
        let sent: Vec<_> = leased
            .envelopes
            .iter()
            .map(|envelope| (envelope.id, envelope.accepted_at))
            .collect();
        let call_outcome = tokio::select! {
            call_outcome = self.call(leased) => call_outcome?,
            () = self.hard_shutdown.triggered() => None,
        };
        let Some(call_outcome) = call_outcome else {
            let now = context.now();
            context.store.release_lease(now, account, fence).await?;
            return Ok(BatchDelivery {
                has_succeeded: false,
                next: None,
            });
        };
        let report = CallReport {
            account,
            fence,
            item_ids,
            bytes,
            outcome: call_outcome.clone(),
            random: u64::from_le_bytes(random_array()),
        };
        let recorded = record_call(context, report, next_batch_bytes).await?;
        if recorded.is_turned_off {
            tracing::info!("a webhook was turned off");
            context.accounts.invalidate(account);
        }
        let CallOutcome { class, results, .. } = &call_outcome;
        let (now, stored) = (context.now(), recorded.stored_count);
        let activity = &context.activity;
        activity.record_call(now, *class, results, &sent, stored);
        // `finish_call` updated the cache before the commit. Update it again: in between, a reader
        // may have cached a value that it read before the commit.
        let ends_backoff = recorded.contact_ends_backoff;
        context
            .accounts
            .set_contact_ends_backoff(account, ends_backoff);
        context
            .notifier
            .notify_accounts(&recorded.accounts_to_notify);
        Ok(BatchDelivery {
            has_succeeded: *class == Class::Succeeded,
            next: recorded.next,
        })
    }

    /// Calls the webhook with a batch. Returns `None` if there was not enough memory in time.
    async fn call(&self, leased: LeasedBatch) -> Result<Option<CallOutcome>, StoreError> {
        let Some(webhook) = leased.webhook.clone() else {
            return Ok(Some(CallOutcome {
                class: Class::Unreachable,
                results: Vec::new(),
                reason: Some("there is no endpoint".to_owned()),
                elapsed: Duration::ZERO,
            }));
        };
        let id = format!("{}-{}", leased.account, leased.fence);
        let Some((_permit, timeout)) = self.reserve_call(&leased).await else {
            return Ok(None);
        };
        let data = batch::load(&self.context.store, leased).await?;
        let webhooks = &self.context.webhooks;
        Ok(Some(webhooks.deliver(&webhook, &id, data, timeout).await))
    }

    /// Reserves memory and returns the timeout of a call.
    async fn reserve_call(&self, leased: &LeasedBatch) -> Option<(MemoryPermit, Duration)> {
        let timeout = match self.health {
            EndpointHealth::Healthy => {
                let limits = self.context.memory.call_limits();
                self.timeout.min(limits.timeout)
            }
            EndpointHealth::Failing => {
                let long = self.try_reserve_long_call(leased);
                if long.is_some() {
                    return long;
                }
                self.timeout
            }
        };
        Some((self.reserve_memory(leased).await?, timeout))
    }

    /// Reserves memory for a single envelope that needs more than the usual timeout on a slow link,
    /// unless other such calls use all of it.
    fn try_reserve_long_call(&self, leased: &LeasedBatch) -> Option<(MemoryPermit, Duration)> {
        let items = leased.envelopes.len() + leased.events.len();
        let timeout = long_call_timeout(items, leased.batch_bytes(), self.timeout)?;
        let permit = self
            .context
            .memory
            .try_reserve_long_call(leased.size_bytes())?;
        Some((permit, timeout))
    }

    async fn reserve_memory(&self, leased: &LeasedBatch) -> Option<MemoryPermit> {
        let memory = &self.context.memory;
        let reservation = async {
            if leased.uses_failing_slot {
                memory.reserve_failing_call(leased.size_bytes()).await
            } else {
                memory.reserve_call(leased.size_bytes()).await
            }
        };
        let permit = tokio::time::timeout(DELIVERY_MEMORY_WAIT_MAX, reservation).await;
        permit.ok().flatten()
    }
}

/// Records the outcome of a call. Retries after every error except a closed store, because
/// otherwise the items would be delivered again.
async fn record_call(
    context: &DeliveryContext,
    report: CallReport,
    next_batch_bytes: Option<usize>,
) -> Result<BatchOutcome, StoreError> {
    let mut attempts = 1;
    loop {
        let on_backoff_change = context.accounts.on_backoff_change(report.account);
        let recorded = context
            .store
            .finish_call(
                context.now(),
                report.clone(),
                next_batch_bytes,
                on_backoff_change,
            )
            .await;
        match recorded {
            Err(error) if attempts < WRITE_ATTEMPTS && error != StoreError::Closed => {
                tracing::debug!(%error, "failed to record a webhook call; retrying");
                attempts += 1;
                tokio::time::sleep(WRITE_RETRY_INTERVAL).await;
            }
            recorded => return recorded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{BOLT, Fixture, start_endpoint},
        *,
    };
    use sealpost_proto::{
        batch_size::transfer_time,
        limits::{
            CONTACT_RETRY_INTERVAL_MIN, DELIVERY_MEMORY_PER_CALL_BYTES, LEASE_DURATION,
            WEBHOOK_TIMEOUT,
        },
    };
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn batches_shrink_while_shared_memory_is_used() {
        let calls = Arc::new(AtomicUsize::new(0));
        let fixture = Fixture::new(&start_endpoint(&calls).await).await;
        for number in 0..8 {
            fixture.submit(number, 4_096).await;
        }
        // Endpoints that hang: each holds as much memory as a call may.
        let memory = &fixture.context.memory;
        let mut hanging = Vec::new();
        while memory.call_limits().bytes > DELIVERY_MEMORY_PER_CALL_BYTES {
            let bytes = memory.call_limits().bytes as u64;
            let permit =
                tokio::time::timeout(Duration::from_secs(60), memory.reserve_call(bytes)).await;
            hanging.push(permit.expect("the limit of a call is never more than the free memory"));
        }
        assert!(hanging.len() > 8);
        assert_eq!(fixture.lane_run().run(None).await, RunOutcome::Succeeded);
        assert_eq!(
            calls.load(Ordering::Relaxed),
            4,
            "two envelopes fit into the memory that is set apart for each call"
        );
        assert!(!fixture.context.store.has_waiting(BOLT).await.unwrap());
    }

    #[tokio::test]
    async fn free_memory_allows_one_large_batch() {
        let calls = Arc::new(AtomicUsize::new(0));
        let fixture = Fixture::new(&start_endpoint(&calls).await).await;
        for number in 0..8 {
            fixture.submit(number, 4_096).await;
        }
        assert_eq!(fixture.lane_run().run(None).await, RunOutcome::Succeeded);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn run_without_items_is_idle() {
        let fixture = Fixture::new("https://node.example/").await;
        assert_eq!(fixture.lane_run().run(None).await, RunOutcome::Idle);
    }

    #[tokio::test]
    async fn contact_after_a_failed_call_makes_it_due() {
        let fixture = Fixture::new("https://node.example/").await;
        let Fixture { context, clock, .. } = &fixture;
        fixture.submit(1, 2_048).await;
        let cached = context.accounts.load(BOLT).await.unwrap().unwrap();
        assert!(
            !cached.contact_ends_backoff,
            "the account is cached from now on"
        );
        let leased = context
            .store
            .lease_batch(clock.now(), BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .unwrap();
        let report = CallReport {
            account: BOLT,
            fence: leased.fence,
            item_ids: leased.item_ids(),
            bytes: leased.batch_bytes(),
            outcome: CallOutcome {
                class: Class::Unreachable,
                results: Vec::new(),
                reason: None,
                elapsed: Duration::ZERO,
            },
            random: 0,
        };
        // The steps after the commit have not started.
        record_call(context, report, None).await.unwrap();
        clock.advance(CONTACT_RETRY_INTERVAL_MIN);
        let cached = context.accounts.load(BOLT).await.unwrap().unwrap();
        assert!(cached.contact_ends_backoff);
        context.accounts.record_contact(cached).await;
        let [healthy, failing] = context.store.find_due_lanes(clock.now(), 9).await.unwrap();
        assert_eq!(healthy.lanes, []);
        assert_eq!(failing.lanes, [BOLT], "its next call is due");
    }

    #[tokio::test]
    async fn large_single_envelope_has_time_in_a_failing_slot() {
        let fixture = Fixture::new("https://node.example/").await;
        fixture.submit(1, 65_536).await;
        let store = &fixture.context.store;
        let now = fixture.clock.now();
        let leased = store.lease_batch(now, BOLT, DELIVERY_BATCH_BYTES_MAX).await;
        let leased = leased.unwrap().unwrap();
        let mut run = fixture.lane_run();
        let timeout = async |run: &LaneRun| run.reserve_call(&leased).await.unwrap().1;
        assert_eq!(timeout(&run).await, WEBHOOK_TIMEOUT, "a healthy slot");
        run.health = EndpointHealth::Failing;
        let long = timeout(&run).await;
        assert!(
            long > transfer_time(65_536) && long < LEASE_DURATION,
            "{long:?}"
        );
        let memory = &fixture.context.memory;
        let others = std::iter::from_fn(|| memory.try_reserve_long_call(1));
        let _others: Vec<_> = others.collect();
        assert_eq!(
            timeout(&run).await,
            WEBHOOK_TIMEOUT,
            "no room for long calls"
        );
    }
}
