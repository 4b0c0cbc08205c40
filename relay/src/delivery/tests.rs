use super::{
    fixture::{BOLT, Fixture, start_endpoint},
    *,
};
use sealpost_proto::limits::{DELIVERY_BATCH_BYTES_MAX, WEBHOOK_CALLS_MAX};
use sealpost_service::Clock as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Submits an envelope and leases the batch for its call.
async fn submit_leased(fixture: &Fixture, number: u8) {
    fixture.context.notifier.offer_call_slots(CallSlots {
        free: 1,
        bytes_max: DELIVERY_BATCH_BYTES_MAX,
    });
    fixture.submit(number, 2_048).await;
}

#[tokio::test]
async fn leased_batch_waits_for_the_call_budget() {
    let calls = Arc::new(AtomicUsize::new(0));
    let fixture = Fixture::new(&start_endpoint(&calls).await).await;
    let mut scheduler = Scheduler::new(Arc::clone(&fixture.context));
    let now = fixture.clock.now();
    while scheduler
        .budget
        .try_start(now, EndpointHealth::Healthy)
        .is_some()
    {}
    submit_leased(&fixture, 1).await;
    scheduler.start_due().await.unwrap();
    assert_eq!(
        (scheduler.leased.len(), scheduler.tasks.len()),
        (1, 0),
        "no call can start"
    );
    assert_eq!(
        fixture.context.notifier.try_reserve_slot(),
        None,
        "no slot is offered while a batch waits"
    );
    scheduler.budget.finish(EndpointHealth::Healthy, true);
    scheduler.start_due().await.unwrap();
    assert!(scheduler.leased.is_empty());
    let outcome = scheduler.tasks.join_next().await.unwrap().unwrap();
    assert_eq!(outcome, RunOutcome::Succeeded);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(!fixture.context.store.has_waiting(BOLT).await.unwrap());
}

#[tokio::test]
async fn all_slots_are_offered_until_the_shutdown() {
    let fixture = Fixture::new("https://node.example/").await;
    let mut scheduler = Scheduler::new(Arc::clone(&fixture.context));
    scheduler.start_due().await.unwrap();
    let offered = std::iter::from_fn(|| fixture.context.notifier.try_reserve_slot())
        .take(2 * WEBHOOK_CALLS_MAX)
        .count();
    assert_eq!(offered, WEBHOOK_CALLS_MAX);
    scheduler.start_due().await.unwrap();
    scheduler.drain().await;
    assert_eq!(
        fixture.context.notifier.try_reserve_slot(),
        None,
        "no slot is offered after the shutdown"
    );
}

#[tokio::test]
async fn unused_lease_is_released_at_shutdown() {
    let fixture = Fixture::new("https://node.example/").await;
    let mut scheduler = Scheduler::new(Arc::clone(&fixture.context));
    submit_leased(&fixture, 1).await;
    scheduler.take_pending_work(fixture.clock.now());
    assert_eq!(scheduler.leased.len(), 1);
    scheduler.drain().await;
    let [healthy, _] = fixture
        .context
        .store
        .find_due_lanes(fixture.clock.now(), 9)
        .await
        .unwrap();
    assert_eq!(healthy.lanes, [BOLT]);
}

#[tokio::test]
async fn late_end_of_a_run_keeps_the_next() {
    let calls = Arc::new(AtomicUsize::new(0));
    let fixture = Fixture::new(&start_endpoint(&calls).await).await;
    let mut scheduler = Scheduler::new(Arc::clone(&fixture.context));
    let mut runs = Vec::new();
    for number in [1, 2] {
        submit_leased(&fixture, number).await;
        scheduler.start_due().await.unwrap();
        runs.push(scheduler.tasks.join_next_with_id().await.unwrap());
    }
    let [first, second] = runs.try_into().unwrap();
    scheduler.finish_run(first);
    assert!(scheduler.running.contains_key(&BOLT));
    scheduler.finish_run(second);
    assert!(scheduler.running.is_empty() && scheduler.lanes_by_task.is_empty());
}
