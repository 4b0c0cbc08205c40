//! Delivery of envelopes to webhooks: one scheduler that finds due lanes, and a bounded number of
//! concurrent calls.
//!
//! The database holds what is due and when. Memory holds only the calls in progress and the next
//! few lanes. The budget of `relay-core` decides how many calls are made. Start reading at [`run`],
//! then `lane` for the delivery of one lane.

pub(crate) mod batch;
pub(crate) mod challenge;
#[cfg(test)]
mod fixture;
mod lane;
pub(crate) mod test_slots;
#[cfg(test)]
mod tests;
pub(crate) mod webhook;

pub(crate) use lane::DeliveryContext;

use crate::{
    lease::LeasedBatch,
    notifier::{CallSlots, PendingWork},
    store::{DueLanes, StoreError},
};
use lane::{LaneRun, RunOutcome};
use sealpost_proto::{
    AccountId, Timestamp,
    limits::{DUE_LANES_MAX, WEBHOOK_DRAIN_TIMEOUT},
};
use sealpost_relay_core::{CallBudget, EndpointHealth};
use sealpost_service::{Shutdown, supervisor::Heartbeat};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::{Id, JoinError, JoinSet};

/// The scheduler runs at least this often.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Calls webhooks until the relay's shutdown, then finishes the calls in progress or releases their
/// leases.
pub(crate) async fn run(context: Arc<DeliveryContext>, heartbeat: Arc<Heartbeat>) {
    let mut scheduler = Scheduler::new(context);
    while !scheduler.context.shutdown.is_triggered() {
        heartbeat.record_beat();
        let pause = match scheduler.start_due().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "failed to query the due lanes");
                CHECK_INTERVAL
            }
        };
        scheduler.wait(pause).await;
    }
    scheduler.drain().await;
}

struct Scheduler {
    context: Arc<DeliveryContext>,
    budget: CallBudget,
    /// Batches that were leased when their envelopes were accepted.
    leased: VecDeque<LeasedBatch>,
    /// Due lanes that have not started, the longest waiting first.
    healthy: VecDeque<AccountId>,
    failing: VecDeque<AccountId>,
    /// Running lanes, with the task of their last run. The task of the previous run may not have
    /// been joined yet.
    running: HashMap<AccountId, Id>,
    /// Running lanes that received new items, which the run may or may not deliver. They are
    /// checked when the run ends.
    rerun: HashSet<AccountId>,
    tasks: JoinSet<RunOutcome>,
    lanes_by_task: HashMap<Id, (AccountId, EndpointHealth)>,
    /// When the database is queried again, unless a notification makes it earlier.
    query_at: Instant,
    /// Whether the database may have due lanes that were not loaded, because no call could start or
    /// the limit of a query was reached.
    has_more: bool,
    /// Aborts the calls that are still in progress when the time for a graceful shutdown is over.
    hard_shutdown: Shutdown,
}

impl Scheduler {
    fn new(context: Arc<DeliveryContext>) -> Self {
        let budget = CallBudget::new(context.now());
        Self {
            context,
            budget,
            leased: VecDeque::new(),
            healthy: VecDeque::new(),
            failing: VecDeque::new(),
            running: HashMap::new(),
            rerun: HashSet::new(),
            tasks: JoinSet::new(),
            lanes_by_task: HashMap::new(),
            query_at: Instant::now(),
            has_more: true,
            hard_shutdown: Shutdown::new(),
        }
    }

    /// Starts as many due lanes as the budget allows. Returns the time until the next check.
    async fn start_due(&mut self) -> Result<Duration, StoreError> {
        let now = self.context.now();
        self.take_pending_work(now);
        self.start_loaded(now);
        if self.has_more || Instant::now() >= self.query_at {
            self.query_due_lanes(now).await?;
            self.start_loaded(now);
        }
        let free = if self.may_have_waiting_healthy() {
            0
        } else {
            self.budget.available_calls(now, EndpointHealth::Healthy)
        };
        self.context.notifier.offer_call_slots(CallSlots {
            free,
            bytes_max: self.context.memory.call_limits().bytes,
        });
        Ok(self.query_at.saturating_duration_since(Instant::now()))
    }

    /// Takes the lanes that were just reported as callable, which saves a query: most due lanes
    /// are among them. If other lanes already wait for the budget, these lanes must not overtake
    /// them, so the scheduler queries the database for the order.
    fn take_pending_work(&mut self, now: Timestamp) {
        let PendingWork {
            leased,
            callable,
            due_at,
        } = self.context.notifier.take_pending_work();
        self.leased.extend(leased);
        if let Some(at) = due_at {
            self.query_within(at.since(now).min(CHECK_INTERVAL));
        }
        for account in callable {
            let available = self.budget.available_calls(now, EndpointHealth::Healthy);
            if self.running.contains_key(&account) {
                self.rerun.insert(account);
            } else if self.has_more || available <= self.healthy.len() {
                self.query_within(Duration::ZERO);
            } else if !self.healthy.contains(&account) {
                self.healthy.push_back(account);
            }
        }
    }

    /// Returns whether a healthy lane may be waiting for the budget, loaded or not.
    fn may_have_waiting_healthy(&self) -> bool {
        self.has_more || !self.healthy.is_empty() || !self.leased.is_empty()
    }

    fn query_within(&mut self, pause: Duration) {
        self.query_at = self.query_at.min(Instant::now() + pause);
    }

    /// Loads the due lanes that the budget allows to start.
    async fn query_due_lanes(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let queried = EndpointHealth::ALL.map(|health| {
            self.due_lanes_mut(health).is_empty() && self.budget.available_calls(now, health) > 0
        });
        self.has_more = queried.contains(&false);
        let mut pause = CHECK_INTERVAL;
        if queried.contains(&true) {
            // A lane that has just started is due until its lease is recorded.
            let limit = DUE_LANES_MAX + self.running.len();
            let due = self.context.store.find_due_lanes(now, limit).await?;
            let by_health = EndpointHealth::ALL.into_iter().zip(queried).zip(due);
            for ((health, is_queried), DueLanes { lanes, next_at }) in by_health {
                if is_queried {
                    let idle = lanes
                        .into_iter()
                        .filter(|account| !self.running.contains_key(account));
                    let idle: Vec<_> = idle.take(DUE_LANES_MAX).collect();
                    self.has_more |= idle.len() == DUE_LANES_MAX;
                    self.due_lanes_mut(health).extend(idle);
                    pause = pause.min(next_at.map_or(CHECK_INTERVAL, |at| at.since(now)));
                }
            }
        }
        self.query_at = Instant::now() + pause;
        Ok(())
    }

    const fn due_lanes_mut(&mut self, health: EndpointHealth) -> &mut VecDeque<AccountId> {
        match health {
            EndpointHealth::Healthy => &mut self.healthy,
            EndpointHealth::Failing => &mut self.failing,
        }
    }

    /// Starts the loaded lanes. Leased batches are first, because their leases expire.
    fn start_loaded(&mut self, now: Timestamp) {
        while !self.leased.is_empty()
            && let Some(timeout) = self.budget.try_start(now, EndpointHealth::Healthy)
            && let Some(batch) = self.leased.pop_front()
        {
            self.start(batch.account, EndpointHealth::Healthy, timeout, Some(batch));
        }
        for health in EndpointHealth::ALL {
            self.start_lanes(now, health);
        }
    }

    fn start_lanes(&mut self, now: Timestamp, health: EndpointHealth) {
        while let Some(&account) = self.due_lanes_mut(health).front() {
            let Some(timeout) = self.budget.try_start(now, health) else {
                return;
            };
            self.due_lanes_mut(health).pop_front();
            self.start(account, health, timeout, None);
        }
    }

    fn start(
        &mut self,
        account: AccountId,
        health: EndpointHealth,
        timeout: Duration,
        leased: Option<LeasedBatch>,
    ) {
        let run = LaneRun {
            context: Arc::clone(&self.context),
            account,
            health,
            timeout,
            hard_shutdown: self.hard_shutdown.clone(),
        };
        let handle = self.tasks.spawn(run.run(leased));
        self.running.insert(account, handle.id());
        self.lanes_by_task.insert(handle.id(), (account, health));
    }

    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            Some(ended) = self.tasks.join_next_with_id() => self.finish_run(ended),
            () = self.context.notifier.scheduler.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = self.context.shutdown.triggered() => {}
        }
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.finish_run(ended);
        }
    }

    fn finish_run(&mut self, ended: Result<(Id, RunOutcome), JoinError>) {
        let (id, outcome) = ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a delivery task failed");
            (error.id(), RunOutcome::Failed)
        });
        if let Some((account, health)) = self.lanes_by_task.remove(&id) {
            if self.running.get(&account) == Some(&id) {
                self.running.remove(&account);
            }
            let has_failed = outcome == RunOutcome::Failed;
            self.budget.finish(health, !has_failed);
            if self.rerun.remove(&account) || has_failed {
                self.query_at = Instant::now();
            }
        }
    }

    async fn drain(mut self) {
        let Self {
            context,
            leased,
            tasks,
            hard_shutdown,
            ..
        } = &mut self;
        context.notifier.offer_call_slots(CallSlots::default());
        leased.extend(context.notifier.take_pending_work().leased);
        for LeasedBatch { account, fence, .. } in leased.drain(..) {
            let released = context.store.release_lease(context.now(), account, fence);
            if let Err(error) = released.await {
                tracing::debug!(%error, "failed to release a lease; the next start releases it");
            }
        }
        let ending = async { while tasks.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(WEBHOOK_DRAIN_TIMEOUT, ending).await;
        if ended.is_err() {
            hard_shutdown.trigger();
            while tasks.join_next().await.is_some() {}
        }
    }
}
