//! One lane at work: lease, call, write down what came of it, and again while something waits.

use super::{batch, webhook};
use crate::{
    admin::model::Throughput,
    relay::{Relay, Share},
    store::{CallEnd, Handed, LeasedBatch, StoreError},
};
use sealpost_proto::{
    AccountId,
    limits::{DELIVERY_ROOM_WAIT_MAX, LANE_BATCHES_MAX},
};
use sealpost_relay_core::{Standing, classify::Class};
use sealpost_service::{Shutdown, random_array};
use std::{sync::Arc, time::Duration};

/// How often the end of a call is written down again when the store is busy, and how long between.
const WRITE_TRIES: u32 = 5;
const WRITE_PAUSE: Duration = Duration::from_millis(200);

/// The turn of one lane.
pub(super) struct Turn {
    pub(super) relay: Arc<Relay>,
    pub(super) account: AccountId,
    pub(super) standing: Standing,
    /// How long each call may take.
    pub(super) time: Duration,
    pub(super) cut: Shutdown,
}

impl Turn {
    /// Delivers what waits, until nothing does, the turn is over or the relay stops. Says whether the last call was
    /// answered.
    pub(super) async fn take(self) -> bool {
        let mut next = match self.relay.store.lease_call(self.relay.now(), self.account).await {
            Ok(leased) => leased,
            Err(error) => {
                tracing::debug!(%error, "a lane was not leased");
                tokio::time::sleep(WRITE_PAUSE).await;
                return false;
            }
        };
        // A try that passed makes a living lane, which has its place among those.
        let batches_max = if self.standing == Standing::Failing { 1 } else { LANE_BATCHES_MAX };
        let (mut batches, mut passed) = (0, true);
        while let Some(leased) = next {
            batches += 1;
            let go_on = batches < batches_max && !self.relay.shutdown.is_triggered();
            match self.deliver(leased, go_on).await {
                Ok(delivered) => (passed, next) = delivered,
                Err(error) => {
                    // The lease ends by itself, and what was stored is answered so again.
                    tracing::warn!(%error, "the end of a call was not written down");
                    return false;
                }
            }
        }
        passed
    }

    async fn deliver(&self, leased: LeasedBatch, go_on: bool) -> Result<(bool, Option<LeasedBatch>), StoreError> {
        let (relay, account, fence) = (&*self.relay, leased.account, leased.fence);
        let items = leased.items();
        let sent: Vec<_> = leased.envelopes.iter().map(|envelope| (envelope.id, envelope.accepted_at)).collect();
        let called = tokio::select! {
            called = self.call(leased) => called?,
            () = self.cut.triggered() => None,
        };
        let Some(called) = called else {
            relay.store.return_lease(relay.now(), account, fence).await?;
            return Ok((false, None));
        };
        let write = || CallEnd {
            account,
            fence,
            items: items.clone(),
            class: called.class,
            results: called.results.clone(),
            reason: called.reason.clone(),
            random: u64::from_le_bytes(random_array()),
        };
        let handed = finish(relay, write, go_on).await?;
        relay.metrics.called(relay.now(), called.class, &called.results, &sent);
        if handed.switched_off {
            tracing::info!("a webhook was switched off");
        }
        let failed_calls = u64::from(called.class != Class::Answered);
        let throughput = Throughput { delivered: handed.stored, failed_calls, ..Throughput::default() };
        relay.throughput.add(relay.now(), throughput);
        relay.cache.note_contact(account, handed.heeds_contact);
        relay.wakes.wake(&handed.woken);
        Ok((called.class == Class::Answered, handed.next))
    }

    /// Calls with a batch; none when there was no room for it in memory in time.
    async fn call(&self, leased: LeasedBatch) -> Result<Option<webhook::Called>, StoreError> {
        let Some(target) = leased.webhook.clone() else { return Ok(Some(webhook::Called::without_webhook())) };
        let id = format!("{}-{}", leased.account, leased.fence);
        let Some(_share) = self.room(&leased).await else { return Ok(None) };
        let data = batch::fill(&self.relay.store, leased).await?;
        Ok(Some(webhook::deliver(&self.relay, &target, &id, data, self.time).await))
    }

    async fn room(&self, leased: &LeasedBatch) -> Option<Share> {
        let memory = &self.relay.memory;
        let room = async {
            if leased.was_failing {
                memory.failing_delivery(leased.size_bytes()).await
            } else {
                memory.delivery(leased.size_bytes()).await
            }
        };
        tokio::time::timeout(DELIVERY_ROOM_WAIT_MAX, room).await.ok().flatten()
    }
}

async fn finish(relay: &Relay, end: impl Fn() -> CallEnd, go_on: bool) -> Result<Handed, StoreError> {
    let mut tries = 1;
    loop {
        match relay.store.finish_call(relay.now(), end(), go_on).await {
            Err(error) if tries < WRITE_TRIES && error != StoreError::Closed => {
                tracing::debug!(%error, "the end of a call is written down again");
                tries += 1;
                tokio::time::sleep(WRITE_PAUSE).await;
            }
            handed => return handed,
        }
    }
}
