//! Handing envelopes over: one scheduler that finds lanes that are due, and a bounded number of calls at a time.
//!
//! What is due, and when, stands in the database; memory holds only the calls that are under way and the next few lanes.
//! How many calls there may be is decided by `relay-core`'s budget. Start reading at [`run`], then `lane` for what happens
//! to one of them.

pub(crate) mod batch;
#[cfg(test)]
mod bench;
pub(crate) mod challenge;
mod lane;
#[cfg(test)]
mod tests;
pub(crate) mod webhook;

use crate::{
    relay::Relay,
    store::{Due, LeasedBatch, StoreError},
    wakes::{News, Offer},
};
use sealpost_proto::{
    AccountId, Timestamp,
    limits::{DUE_LANES_AT_A_TIME, WEBHOOK_DRAIN},
};
use sealpost_relay_core::{Budget, Standing};
use sealpost_service::Shutdown;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::{Id, JoinError, JoinSet};

/// The scheduler looks at the clock at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Calls webhooks until the relay's shutdown, then finishes what is under way or gives it back.
pub(crate) async fn run(relay: Arc<Relay>) {
    let mut scheduler = Scheduler::new(relay);
    while !scheduler.relay.shutdown.is_triggered() {
        scheduler.relay.pulses.scheduler.beat();
        let pause = match scheduler.start_due().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the lanes that are due could not be read");
                LOOK_AGAIN
            }
        };
        scheduler.wait(pause).await;
    }
    scheduler.drain().await;
}

struct Scheduler {
    relay: Arc<Relay>,
    budget: Budget,
    /// Batches that were leased with what came.
    leased: VecDeque<LeasedBatch>,
    /// Lanes that are due and have not begun, the longest waiting first.
    living: VecDeque<AccountId>,
    failing: VecDeque<AccountId>,
    /// Lanes that have begun, with the last of their turns: the one before may still be ending.
    busy: HashMap<AccountId, Id>,
    /// Busy lanes for which something came: whether their turn takes it is seen when it ends.
    again: HashSet<AccountId>,
    calls: JoinSet<bool>,
    whose: HashMap<Id, (AccountId, Standing)>,
    /// When the database is asked again, if nothing speaks for an earlier time.
    look_at: Instant,
    /// Whether lanes may be due in the database that were not read for want of room.
    more: bool,
    /// Cuts calls off that take too long at the shutdown.
    cut: Shutdown,
}

impl Scheduler {
    fn new(relay: Arc<Relay>) -> Self {
        let budget = Budget::new(relay.now());
        Self {
            relay,
            budget,
            leased: VecDeque::new(),
            living: VecDeque::new(),
            failing: VecDeque::new(),
            busy: HashMap::new(),
            again: HashSet::new(),
            calls: JoinSet::new(),
            whose: HashMap::new(),
            look_at: Instant::now(),
            more: true,
            cut: Shutdown::new(),
        }
    }

    /// Starts what is due, as far as there is room; gives the time until it has to look again.
    async fn start_due(&mut self) -> Result<Duration, StoreError> {
        let now = self.relay.now();
        self.hear_news(now);
        self.start_found(now);
        if self.more || Instant::now() >= self.look_at {
            self.look(now).await?;
            self.start_found(now);
        }
        let places = if self.is_awaited() {
            0
        } else {
            self.budget.room(now, Standing::Living)
        };
        self.relay.wakes.offer(Offer {
            places,
            bytes_max: self.relay.memory.portion().bytes,
        });
        Ok(self.look_at.saturating_duration_since(Instant::now()))
    }

    /// Most lanes that become due have just been woken, and are called without asking the database which those are; unless
    /// others wait for room, which have waited longer.
    fn hear_news(&mut self, now: Timestamp) {
        let News {
            leased,
            callable,
            due_at,
        } = self.relay.wakes.news();
        self.leased.extend(leased);
        if let Some(at) = due_at {
            self.look_in(at.since(now).min(LOOK_AGAIN));
        }
        for account in callable {
            if self.busy.contains_key(&account) {
                self.again.insert(account);
            } else if self.more || self.budget.room(now, Standing::Living) <= self.living.len() {
                self.look_in(Duration::ZERO);
            } else if !self.living.contains(&account) {
                self.living.push_back(account);
            }
        }
    }

    /// Whether a living lane waits for a place.
    fn is_awaited(&self) -> bool {
        self.more || !self.living.is_empty() || !self.leased.is_empty()
    }

    fn look_in(&mut self, pause: Duration) {
        self.look_at = self.look_at.min(Instant::now() + pause);
    }

    /// Asks the database what is due, of the lanes for which there is room.
    async fn look(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let looks = Standing::ALL
            .map(|standing| self.found(standing).is_empty() && self.budget.room(now, standing) > 0);
        self.more = looks.contains(&false);
        let mut pause = LOOK_AGAIN;
        if looks.contains(&true) {
            // A lane that has just begun is due until its lease is written.
            let due = self
                .relay
                .store
                .due(now, DUE_LANES_AT_A_TIME + self.busy.len())
                .await?;
            for ((standing, look), Due { lanes, next_at }) in
                Standing::ALL.into_iter().zip(looks).zip(due)
            {
                if look {
                    let idle = lanes
                        .into_iter()
                        .filter(|account| !self.busy.contains_key(account));
                    let idle: Vec<_> = idle.take(DUE_LANES_AT_A_TIME).collect();
                    self.more |= idle.len() == DUE_LANES_AT_A_TIME;
                    self.found(standing).extend(idle);
                    pause = pause.min(next_at.map_or(LOOK_AGAIN, |at| at.since(now)));
                }
            }
        }
        self.look_at = Instant::now() + pause;
        Ok(())
    }

    const fn found(&mut self, standing: Standing) -> &mut VecDeque<AccountId> {
        match standing {
            Standing::Living => &mut self.living,
            Standing::Failing => &mut self.failing,
        }
    }

    /// What is leased goes first: its time runs.
    fn start_found(&mut self, now: Timestamp) {
        while !self.leased.is_empty()
            && let Some(time) = self.budget.begin(now, Standing::Living)
            && let Some(batch) = self.leased.pop_front()
        {
            self.start(batch.account, Standing::Living, time, Some(batch));
        }
        Standing::ALL
            .into_iter()
            .for_each(|standing| self.start_of(now, standing));
    }

    fn start_of(&mut self, now: Timestamp, standing: Standing) {
        while let Some(&account) = self.found(standing).front() {
            let Some(time) = self.budget.begin(now, standing) else {
                return;
            };
            self.found(standing).pop_front();
            self.start(account, standing, time, None);
        }
    }

    fn start(
        &mut self,
        account: AccountId,
        standing: Standing,
        time: Duration,
        leased: Option<LeasedBatch>,
    ) {
        let turn = lane::Turn {
            relay: Arc::clone(&self.relay),
            account,
            standing,
            time,
            cut: self.cut.clone(),
        };
        let handle = self.calls.spawn(turn.take(leased));
        self.busy.insert(account, handle.id());
        self.whose.insert(handle.id(), (account, standing));
    }

    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            Some(ended) = self.calls.join_next_with_id() => self.note_end(ended),
            () = self.relay.wakes.calls.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = self.relay.shutdown.triggered() => {}
        }
        while let Some(ended) = self.calls.try_join_next_with_id() {
            self.note_end(ended);
        }
    }

    fn note_end(&mut self, ended: Result<(Id, bool), JoinError>) {
        let (id, passed) = ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a delivery ended badly");
            (error.id(), false)
        });
        if let Some((account, standing)) = self.whose.remove(&id) {
            if self.busy.get(&account) == Some(&id) {
                self.busy.remove(&account);
            }
            self.budget.end(standing, passed);
            if self.again.remove(&account) || !passed {
                self.look_at = Instant::now();
            }
        }
    }

    async fn drain(mut self) {
        self.relay.wakes.offer(Offer::default());
        self.leased.extend(self.relay.wakes.news().leased);
        for LeasedBatch { account, fence, .. } in self.leased {
            if let Err(error) = self
                .relay
                .store
                .return_lease(self.relay.now(), account, fence)
                .await
            {
                tracing::debug!(%error, "a lease was not given back; the next start does it");
            }
        }
        let ending = async { while self.calls.join_next().await.is_some() {} };
        if tokio::time::timeout(WEBHOOK_DRAIN, ending).await.is_ok() {
            return;
        }
        self.cut.trigger();
        while self.calls.join_next().await.is_some() {}
    }
}
