//! One lane at work: lease, call, write down what came of it, and again while something waits.

use super::{batch, webhook};
use crate::{
    admin::model::Throughput,
    relay::{Relay, Share},
    store::{CallEnd, Handed, LeasedBatch, StoreError},
};
use sealpost_proto::{
    AccountId,
    limits::{DELIVERY_BATCH_BYTES_MAX, DELIVERY_ROOM_WAIT_MAX, LANE_BATCHES_MAX},
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
    /// Delivers what waits, beginning with what is leased already, until nothing does, the turn is over or the relay stops.
    /// Says whether the last call was answered.
    pub(super) async fn take(self, leased: Option<LeasedBatch>) -> bool {
        let first = match leased {
            Some(leased) => Ok(Some(leased)),
            None => {
                self.relay
                    .store
                    .lease_call(self.relay.now(), self.account, self.bytes_max())
                    .await
            }
        };
        let mut next = match first {
            Ok(first) => first,
            Err(error) => {
                tracing::debug!(%error, "a lane was not leased");
                tokio::time::sleep(WRITE_PAUSE).await;
                return false;
            }
        };
        // A try that passed makes a living lane, which has its place among those.
        let batches_max = if self.standing == Standing::Failing {
            1
        } else {
            LANE_BATCHES_MAX
        };
        let (mut batches, mut passed) = (0, true);
        while let Some(leased) = next {
            batches += 1;
            let goes_on = batches < batches_max && !self.relay.shutdown.is_triggered();
            let go_on = goes_on.then(|| self.bytes_max());
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

    /// How much the next batch may hold. What failing lanes are called with is little anyway, and they have memory of their own.
    fn bytes_max(&self) -> usize {
        match self.standing {
            Standing::Living => self.relay.memory.portion().bytes,
            Standing::Failing => DELIVERY_BATCH_BYTES_MAX,
        }
    }

    async fn deliver(
        &self,
        leased: LeasedBatch,
        go_on: Option<usize>,
    ) -> Result<(bool, Option<LeasedBatch>), StoreError> {
        let (relay, account, fence) = (&*self.relay, leased.account, leased.fence);
        let items = leased.items();
        let sent: Vec<_> = leased
            .envelopes
            .iter()
            .map(|envelope| (envelope.id, envelope.accepted_at))
            .collect();
        let called = tokio::select! {
            called = self.call(leased) => called?,
            () = self.cut.triggered() => None,
        };
        let Some(called) = called else {
            relay
                .store
                .return_lease(relay.now(), account, fence)
                .await?;
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
        relay
            .metrics
            .called(relay.now(), called.class, &called.results, &sent);
        if handed.switched_off {
            tracing::info!("a webhook was switched off");
        }
        let failed_calls = u64::from(called.class != Class::Answered);
        let throughput = Throughput {
            delivered: handed.stored,
            failed_calls,
            ..Throughput::default()
        };
        relay.throughput.add(relay.now(), throughput);
        // Again, for facts that were read before the end was committed and kept after it was noted.
        relay.cache.note_contact(account, handed.heeds_contact);
        relay.wakes.wake(&handed.woken);
        Ok((called.class == Class::Answered, handed.next))
    }

    /// Calls with a batch; none when there was no room for it in memory in time.
    async fn call(&self, leased: LeasedBatch) -> Result<Option<webhook::Called>, StoreError> {
        let Some(target) = leased.webhook.clone() else {
            return Ok(Some(webhook::Called::without_webhook()));
        };
        let id = format!("{}-{}", leased.account, leased.fence);
        let time = match self.standing {
            Standing::Living => self.time.min(self.relay.memory.portion().time),
            Standing::Failing => self.time,
        };
        let Some(_share) = self.room(&leased).await else {
            return Ok(None);
        };
        let data = batch::fill(&self.relay.store, leased).await?;
        Ok(Some(
            webhook::deliver(&self.relay, &target, &id, data, time).await,
        ))
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
        tokio::time::timeout(DELIVERY_ROOM_WAIT_MAX, room)
            .await
            .ok()
            .flatten()
    }
}

async fn finish(
    relay: &Relay,
    end: impl Fn() -> CallEnd,
    go_on: Option<usize>,
) -> Result<Handed, StoreError> {
    let mut tries = 1;
    loop {
        let (end, cache) = (end(), Arc::clone(&relay.cache));
        let account = end.account;
        let heeds = move |heeds_contact| cache.note_contact(account, heeds_contact);
        match relay
            .store
            .finish_call(relay.now(), end, go_on, heeds)
            .await
        {
            Err(error) if tries < WRITE_TRIES && error != StoreError::Closed => {
                tracing::debug!(%error, "the end of a call is written down again");
                tries += 1;
                tokio::time::sleep(WRITE_PAUSE).await;
            }
            handed => return handed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{BOLT, Bench, endpoint},
        *,
    };
    use sealpost_proto::limits::{CONTACT_SPACING, DELIVERY_MEMORY_OF_CALL_BYTES};
    use sealpost_service::Clock as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn whatever_others_hold_in_memory_a_living_lane_is_called() {
        let calls = Arc::new(AtomicUsize::new(0));
        let bench = Bench::new(&endpoint(&calls).await).await;
        for number in 0..8 {
            bench.submit(number, 4_096).await;
        }
        // Endpoints that hang: each holds as much as a call may.
        let mut hanging = Vec::new();
        while bench.relay.memory.portion().bytes > DELIVERY_MEMORY_OF_CALL_BYTES {
            let bytes = bench.relay.memory.portion().bytes as u64;
            let share =
                tokio::time::timeout(Duration::from_secs(60), bench.relay.memory.delivery(bytes))
                    .await;
            hanging.push(share.expect("a portion is never more than there is"));
        }
        assert!(hanging.len() > 8);
        assert!(bench.turn().take(None).await);
        assert_eq!(
            calls.load(Ordering::Relaxed),
            4,
            "two envelopes fit into what a call has of its own"
        );
        assert!(!bench.relay.store.has_waiting(BOLT).await.unwrap());
        bench.submit(8, 4_096).await;
        bench.submit(9, 4_096).await;
        bench.submit(10, 4_096).await;
        drop(hanging);
        assert!(bench.turn().take(None).await);
        assert_eq!(
            calls.load(Ordering::Relaxed),
            5,
            "all at once when there is room"
        );
    }

    #[tokio::test]
    async fn a_contact_right_after_the_end_of_a_call_is_heard() {
        let bench = Bench::new("https://node.example/").await;
        let Bench { relay, clock, .. } = &bench;
        bench.submit(1, 2_048).await;
        assert!(
            !relay.facts(BOLT).await.unwrap().unwrap().heeds_contact,
            "it is kept in memory from now on"
        );
        let leased = relay
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
        // What is done once the end of the call is written down has not begun.
        finish(relay, end, None).await.unwrap();
        clock.advance(CONTACT_SPACING);
        let facts = relay.facts(BOLT).await.unwrap().unwrap();
        assert!(facts.heeds_contact);
        relay.hear(facts).await;
        let [living, failing] = relay.store.due(clock.now(), 9).await.unwrap();
        assert_eq!(living.lanes, []);
        assert_eq!(failing.lanes, [BOLT], "its next call is due");
    }
}
