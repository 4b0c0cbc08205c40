//! Handing envelopes over: one scheduler that finds lanes that are due, and a bounded number of calls at a time.
//!
//! What is due, and when, stands in the database; memory holds only the calls that are under way and the next few lanes.
//! How many calls there may be is decided by `relay-core`'s budget. Start reading at [`run`], then `lane` for what happens
//! to one of them.

pub(crate) mod batch;
pub(crate) mod challenge;
mod lane;
pub(crate) mod webhook;

use crate::{
    relay::Relay,
    store::{Due, StoreError},
    wakes::News,
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
    /// Lanes that are due and have not begun, the longest waiting first.
    living: VecDeque<AccountId>,
    failing: VecDeque<AccountId>,
    busy: HashSet<AccountId>,
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
            living: VecDeque::new(),
            failing: VecDeque::new(),
            busy: HashSet::new(),
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
        Ok(self.look_at.saturating_duration_since(Instant::now()))
    }

    /// Most lanes that become due have just been woken, and are called without asking the database which those are; unless
    /// others wait for room, which have waited longer.
    fn hear_news(&mut self, now: Timestamp) {
        let News { callable, others } = self.relay.wakes.news();
        let mut look = others;
        for account in callable {
            if self.busy.contains(&account) {
                self.again.insert(account);
            } else if self.more || self.budget.room(now, Standing::Living) <= self.living.len() {
                look = true;
            } else if !self.living.contains(&account) {
                self.living.push_back(account);
            }
        }
        if look {
            self.look_at = Instant::now();
        }
    }

    /// Asks the database what is due, of the lanes for which there is room.
    async fn look(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let looks =
            Standing::ALL.map(|standing| self.found(standing).is_empty() && self.budget.room(now, standing) > 0);
        self.more = looks.contains(&false);
        let mut pause = LOOK_AGAIN;
        if looks.contains(&true) {
            // A lane that has just begun is due until its lease is written.
            let due = self.relay.store.due(now, DUE_LANES_AT_A_TIME + self.busy.len()).await?;
            for ((standing, look), Due { lanes, next_at }) in Standing::ALL.into_iter().zip(looks).zip(due) {
                if look {
                    let idle = lanes.into_iter().filter(|account| !self.busy.contains(account));
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

    fn start_found(&mut self, now: Timestamp) {
        Standing::ALL.into_iter().for_each(|standing| self.start_of(now, standing));
    }

    fn start_of(&mut self, now: Timestamp, standing: Standing) {
        while let Some(&account) = self.found(standing).front() {
            let Some(time) = self.budget.begin(now, standing) else { return };
            self.found(standing).pop_front();
            let turn = lane::Turn { relay: Arc::clone(&self.relay), account, standing, time, cut: self.cut.clone() };
            let handle = self.calls.spawn(turn.take());
            self.busy.insert(account);
            self.whose.insert(handle.id(), (account, standing));
        }
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
            self.busy.remove(&account);
            self.budget.end(standing, passed);
            if self.again.remove(&account) || !passed {
                self.look_at = Instant::now();
            }
        }
    }

    async fn drain(mut self) {
        let ending = async { while self.calls.join_next().await.is_some() {} };
        if tokio::time::timeout(WEBHOOK_DRAIN, ending).await.is_ok() {
            return;
        }
        self.cut.trigger();
        while self.calls.join_next().await.is_some() {}
    }
}
