use super::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const ACME: Option<Owner> = Some(Owner([1; 16]));
const BOLT: Option<Owner> = Some(Owner([2; 16]));
const CORE: Option<Owner> = Some(Owner([3; 16]));

/// Holder that releases its units as soon as it is evicted.
struct ObedientHolder(Arc<Mutex<Option<Permit>>>);

impl ObedientHolder {
    fn new(permit: Permit) -> Self {
        let held = Arc::new(Mutex::new(None));
        let released = Arc::clone(&held);
        permit.on_eviction(move || drop(released.lock().unwrap().take()));
        *held.lock().unwrap() = Some(permit);
        Self(held)
    }

    fn is_evicted(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }

    fn record_progress(&self, bytes: usize) {
        self.0
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .record_progress(bytes);
    }
}

async fn hold(pool: &FairPool, owner: Option<Owner>, units: u32) -> ObedientHolder {
    ObedientHolder::new(pool.reserve(owner, units).await.expect("units are free"))
}

#[tokio::test(start_paused = true)]
async fn owners_are_limited_to_their_share() {
    let pool = FairPool::new(10, 4);
    let held = pool.reserve(ACME, 3).await.unwrap();
    assert!(pool.reserve(ACME, 2).await.is_none());
    assert!(pool.reserve(BOLT, 5).await.is_none(), "more than a share");
    assert!(pool.reserve(BOLT, 4).await.is_some());
    held.clone().shrink_to(2 * 1024);
    assert!(pool.reserve(ACME, 2).await.is_some());
    drop(held);
    assert_eq!(
        (pool.available(), pool.0.lock().used_by_owner.len()),
        (10, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn newcomers_evict_the_longest_stalled_holder() {
    let pool = FairPool::new(3, 3);
    let first = hold(&pool, ACME, 1).await;
    tokio::time::advance(POOL_STALL_TIMEOUT / 2).await;
    let (second, third) = (hold(&pool, BOLT, 1).await, hold(&pool, CORE, 1).await);
    assert!(
        pool.reserve(None, 1).await.is_none(),
        "nobody is stalled yet"
    );
    tokio::time::advance(POOL_STALL_TIMEOUT).await;
    third.record_progress(1024 * 1024);
    assert!(pool.reserve(None, 1).await.is_some());
    assert!(first.is_evicted() && !second.is_evicted() && !third.is_evicted());
}

#[tokio::test(start_paused = true)]
async fn single_bytes_are_no_progress() {
    let pool = FairPool::new(1, 1);
    let holder = hold(&pool, ACME, 1).await;
    for _ in 0..10 {
        tokio::time::advance(POOL_STALL_TIMEOUT / 2).await;
        holder.record_progress(1);
    }
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(pool.reserve(BOLT, 1).await.is_some() && holder.is_evicted());
}

#[tokio::test(start_paused = true)]
async fn full_pool_is_divided_equally() {
    let pool = FairPool::new(4, 4);
    let mut greedy = Vec::new();
    for _ in 0..4 {
        greedy.push(hold(&pool, ACME, 1).await);
    }
    let modest = [hold(&pool, BOLT, 1).await, hold(&pool, BOLT, 1).await];
    assert_eq!(
        greedy.iter().filter(|holder| holder.is_evicted()).count(),
        2
    );
    assert!(pool.reserve(BOLT, 1).await.is_none(), "it would hold more");
    assert!(pool.reserve(ACME, 1).await.is_none());
    assert!(modest.iter().all(|holder| !holder.is_evicted()));
}

#[tokio::test(start_paused = true)]
async fn owners_evict_their_own_stalled_holders() {
    let pool = FairPool::new(4, 1);
    let (own, other) = (hold(&pool, ACME, 1).await, hold(&pool, BOLT, 1).await);
    assert!(pool.reserve(ACME, 1).await.is_none());
    tokio::time::advance(POOL_STALL_TIMEOUT).await;
    assert!(pool.reserve(ACME, 1).await.is_some());
    assert!(own.is_evicted() && !other.is_evicted());
}

#[tokio::test(start_paused = true)]
async fn evicted_units_are_reserved_after_their_release() {
    let pool = FairPool::new(1, 1);
    let permit = pool.reserve(ACME, 1).await.unwrap();
    tokio::time::advance(POOL_STALL_TIMEOUT).await;
    let is_evicted = Arc::new(AtomicBool::new(false));
    let evicted = Arc::clone(&is_evicted);
    permit.on_eviction(move || evicted.store(true, Relaxed));
    assert!(
        pool.reserve(BOLT, 1).await.is_none(),
        "the holder does not release its units in time"
    );
    assert!(is_evicted.load(Relaxed));
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.reserve(BOLT, 1).await.is_some() }
    });
    tokio::task::yield_now().await;
    drop(permit);
    assert!(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn own_evicted_units_count_until_their_release() {
    let pool = FairPool::new(4, 1);
    let permit = pool.reserve(ACME, 1).await.unwrap();
    tokio::time::advance(POOL_STALL_TIMEOUT).await;
    assert!(pool.reserve(ACME, 1).await.is_none());
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.reserve(ACME, 1).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished() && pool.reserve(BOLT, 1).await.is_some());
    drop(permit);
    let second = waiting.await.unwrap();
    assert!(second.is_some());
    drop(second);
    let table = pool.0.lock();
    assert!(table.used_by_owner.is_empty() && table.evicted_by_owner.is_empty());
}

#[test]
fn addresses_of_a_network_are_one_owner() {
    let owner = |address: &str| Owner::network_of(address.parse().unwrap());
    assert_eq!(owner("192.0.2.1"), owner("::ffff:192.0.2.1"));
    assert_ne!(owner("192.0.2.1"), owner("192.0.2.2"));
    assert_eq!(owner("2001:db8:1:2:3::4"), owner("2001:db8:1:2::5"));
    assert_ne!(owner("2001:db8:1:2::"), owner("2001:db8:1:3::"));
}
