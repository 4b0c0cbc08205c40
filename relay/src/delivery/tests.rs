use super::{
    bench::{BOLT, Bench, endpoint},
    *,
};
use sealpost_proto::limits::{DELIVERY_BATCH_BYTES_MAX, WEBHOOK_CALLS_MAX};
use sealpost_service::Clock as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What waits, with the lease for its call.
async fn submit_leased(bench: &Bench, number: u8) {
    bench.relay.wakes.offer(Offer {
        places: 1,
        bytes_max: DELIVERY_BATCH_BYTES_MAX,
    });
    bench.submit(number, 2_048).await;
}

#[tokio::test]
async fn what_came_with_its_lease_is_called_when_there_is_a_place() {
    let calls = Arc::new(AtomicUsize::new(0));
    let bench = Bench::new(&endpoint(&calls).await).await;
    let mut scheduler = Scheduler::new(Arc::clone(&bench.relay));
    let now = bench.clock.now();
    while scheduler.budget.begin(now, Standing::Living).is_some() {}
    submit_leased(&bench, 1).await;
    scheduler.start_due().await.unwrap();
    assert_eq!(
        (scheduler.leased.len(), scheduler.calls.len()),
        (1, 0),
        "all places are taken"
    );
    assert_eq!(bench.relay.wakes.take_place(), None, "others wait");
    scheduler.budget.end(Standing::Living, true);
    scheduler.start_due().await.unwrap();
    assert!(scheduler.leased.is_empty());
    assert!(scheduler.calls.join_next().await.unwrap().unwrap());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(!bench.relay.store.has_waiting(BOLT).await.unwrap());
}

#[tokio::test]
async fn places_are_offered_while_nobody_waits_for_one() {
    let bench = Bench::new("https://node.example/").await;
    let mut scheduler = Scheduler::new(Arc::clone(&bench.relay));
    scheduler.start_due().await.unwrap();
    let offered = std::iter::from_fn(|| bench.relay.wakes.take_place())
        .take(2 * WEBHOOK_CALLS_MAX)
        .count();
    assert_eq!(offered, WEBHOOK_CALLS_MAX);
    scheduler.start_due().await.unwrap();
    scheduler.drain().await;
    assert_eq!(
        bench.relay.wakes.take_place(),
        None,
        "nobody calls any more"
    );
}

#[tokio::test]
async fn a_lease_that_nobody_called_with_is_given_back_at_the_end() {
    let bench = Bench::new("https://node.example/").await;
    let mut scheduler = Scheduler::new(Arc::clone(&bench.relay));
    submit_leased(&bench, 1).await;
    scheduler.hear_news(bench.clock.now());
    assert_eq!(scheduler.leased.len(), 1);
    scheduler.drain().await;
    let [living, _] = bench.relay.store.due(bench.clock.now(), 9).await.unwrap();
    assert_eq!(living.lanes, [BOLT]);
}

#[tokio::test]
async fn a_turn_that_ends_late_does_not_end_the_next_one_of_its_lane() {
    let calls = Arc::new(AtomicUsize::new(0));
    let bench = Bench::new(&endpoint(&calls).await).await;
    let mut scheduler = Scheduler::new(Arc::clone(&bench.relay));
    let mut turns = Vec::new();
    for number in [1, 2] {
        submit_leased(&bench, number).await;
        scheduler.start_due().await.unwrap();
        turns.push(scheduler.calls.join_next_with_id().await.unwrap());
    }
    let [first, second] = turns.try_into().unwrap();
    scheduler.note_end(first);
    assert!(scheduler.busy.contains_key(&BOLT));
    scheduler.note_end(second);
    assert!(scheduler.busy.is_empty() && scheduler.whose.is_empty());
}
