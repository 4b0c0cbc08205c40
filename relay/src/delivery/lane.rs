//! One lane at work: lease, call, write down what came of it, and again while something waits.

use super::{batch, webhook};
use crate::{
    admin::model::Throughput,
    relay::Relay,
    store::{CallEnd, Handed, LeasedBatch, StoreError},
};
use sealpost_proto::{AccountId, limits::LANE_BATCHES_MAX};
use sealpost_relay_core::classify::Class;
use sealpost_service::{Shutdown, random_array};
use std::time::Duration;

/// How often the end of a call is written down again when the store is busy, and how long between.
const WRITE_TRIES: u32 = 5;
const WRITE_PAUSE: Duration = Duration::from_millis(200);

/// Delivers what waits in a lane, until nothing does, its turn is over or the relay stops.
pub(super) async fn drain(relay: &Relay, account: AccountId, cut: &Shutdown) {
    let mut next = match relay.store.lease_call(relay.now(), account).await {
        Ok(leased) => leased,
        Err(error) => {
            tracing::debug!(%error, "a lane was not leased");
            tokio::time::sleep(WRITE_PAUSE).await;
            return;
        }
    };
    let mut batches = 0;
    while let Some(leased) = next {
        batches += 1;
        let go_on = batches < LANE_BATCHES_MAX && !relay.shutdown.is_triggered();
        next = match deliver(relay, leased, go_on, cut).await {
            Ok(next) => next,
            Err(error) => {
                // The lease ends by itself, and what was stored is answered so again.
                tracing::warn!(%error, "the end of a call was not written down");
                return;
            }
        };
    }
}

async fn deliver(
    relay: &Relay,
    leased: LeasedBatch,
    go_on: bool,
    cut: &Shutdown,
) -> Result<Option<LeasedBatch>, StoreError> {
    let (account, fence) = (leased.account, leased.fence);
    let items = leased.items();
    let called = tokio::select! {
        called = call(relay, leased) => called?,
        () = cut.triggered() => {
            relay.store.return_lease(relay.now(), account, fence).await?;
            return Ok(None);
        }
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
    if handed.switched_off {
        tracing::info!("a webhook was switched off");
    }
    let failed_calls = u64::from(called.class != Class::Answered);
    relay.throughput.add(relay.now(), Throughput { delivered: handed.stored, failed_calls, ..Throughput::default() });
    relay.cache.note_contact(account, handed.heeds_contact);
    relay.wakes.wake(&handed.woken);
    Ok(handed.next)
}

async fn call(relay: &Relay, leased: LeasedBatch) -> Result<webhook::Called, StoreError> {
    let Some(target) = leased.webhook.clone() else { return Ok(webhook::Called::without_webhook()) };
    let id = format!("{}-{}", leased.account, leased.fence);
    let _share = relay.memory.delivery(leased.size_bytes()).await;
    let data = batch::fill(&relay.store, leased).await?;
    Ok(webhook::deliver(relay, &target, &id, data).await)
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
