//! Handing envelopes over: one scheduler that finds lanes that are due, and a bounded number of calls at a time.
//!
//! What is due, and when, stands in the database; memory holds only the calls that are under way. Start reading at
//! [`run`], then `lane` for what happens to one of them.

pub(crate) mod batch;
pub(crate) mod challenge;
mod lane;
pub(crate) mod webhook;

use crate::{relay::Relay, store::StoreError};
use sealpost_proto::{
    AccountId,
    limits::{WEBHOOK_CALLS_MAX, WEBHOOK_DRAIN},
};
use sealpost_service::Shutdown;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// The scheduler looks at the clock at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Calls webhooks until the relay's shutdown, then finishes what is under way or gives it back.
pub(crate) async fn run(relay: Arc<Relay>) {
    let mut scheduler = Scheduler { relay, busy: BTreeSet::new(), calls: JoinSet::new(), cut: Shutdown::new() };
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
    busy: BTreeSet<AccountId>,
    calls: JoinSet<AccountId>,
    /// Cuts calls off that take too long at the shutdown.
    cut: Shutdown,
}

impl Scheduler {
    /// Starts what is due, as far as there is room; gives the time until it has to look again.
    async fn start_due(&mut self) -> Result<Duration, StoreError> {
        let free = WEBHOOK_CALLS_MAX.saturating_sub(self.calls.len());
        if free == 0 {
            return Ok(LOOK_AGAIN);
        }
        let now = self.relay.now();
        let due = self.relay.store.due(now, free + self.busy.len()).await?;
        for account in due.into_iter().filter(|account| !self.busy.contains(account)).take(free).collect::<Vec<_>>() {
            self.busy.insert(account);
            let (relay, cut) = (Arc::clone(&self.relay), self.cut.clone());
            self.calls.spawn(async move {
                lane::drain(&relay, account, &cut).await;
                account
            });
        }
        let next = self.relay.store.next_due(now).await?;
        Ok(next.map_or(LOOK_AGAIN, |at| at.since(now)).min(LOOK_AGAIN))
    }

    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            Some(ended) = self.calls.join_next() => self.note_end(ended),
            () = self.relay.wakes.calls.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = self.relay.shutdown.triggered() => {}
        }
    }

    fn note_end(&mut self, ended: Result<AccountId, tokio::task::JoinError>) {
        match ended {
            Ok(account) => {
                self.busy.remove(&account);
            }
            Err(error) => {
                tracing::error!(%error, "a delivery ended badly");
                // Which lane it was is lost with it; those that are not under way are found again.
                if self.calls.is_empty() {
                    self.busy.clear();
                }
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
