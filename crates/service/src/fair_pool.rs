//! Pools of memory or slots that clients share fairly.
//!
//! Each owner has a share, so that one client cannot exhaust a pool. Many clients together can fill
//! it. Then a new reservation evicts a holder that is stalled, or else one of the owner that holds
//! most, if that is more than the new reservation's owner would hold. Holders that make progress
//! and hold no more than others are never evicted. Start reading at [`FairPool::reserve`].

use sealpost_proto::{
    AccountId,
    limits::{
        POOL_BYTES_PER_SECOND_MIN, POOL_CHECK_INTERVAL, POOL_EVICTION_WAIT_MAX, POOL_STALL_TIMEOUT,
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Pool of units, which are KiB of memory or slots.
#[derive(Clone)]
pub struct FairPool(Arc<Pool>);

/// Whoever shares a pool with others: an account, a network, or a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner([u8; 16]);

/// Units of a pool, released when the last clone is dropped.
#[derive(Clone)]
pub struct Permit(Arc<Hold>);

struct Pool {
    total_max: u32,
    per_owner_max: u32,
    table: Mutex<Table>,
    released: Notify,
}

struct Hold {
    pool: Arc<Pool>,
    id: u64,
}

#[derive(Default)]
struct Table {
    holders: HashMap<u64, Holder>,
    next_id: u64,
    used: u32,
    /// Units of evicted holders, which are about to be released.
    evicted: u32,
    /// Units of each owner, without those of evicted holders.
    used_by_owner: HashMap<Owner, u32>,
    /// Units of evicted holders of each owner.
    evicted_by_owner: HashMap<Owner, u32>,
}

struct Holder {
    owner: Option<Owner>,
    units: u32,
    /// When the holder counts as stalled unless it makes progress.
    stalled_at: Instant,
    is_protected: bool,
    is_evicted: bool,
    on_eviction: Option<Action>,
}

type Action = Box<dyn FnOnce() + Send>;

/// Result of an attempt to reserve units.
enum Attempt {
    Reserved(Permit),
    /// Evicted holders are about to release enough units.
    Evicting,
    Refused,
}

impl FairPool {
    /// Creates a pool of `total_max` units, of which each owner can hold `per_owner_max`.
    #[must_use]
    pub fn new(total_max: u32, per_owner_max: u32) -> Self {
        Self(Arc::new(Pool {
            total_max,
            per_owner_max,
            table: Mutex::default(),
            released: Notify::new(),
        }))
    }

    /// Creates a pool of memory, whose units are KiB.
    #[must_use]
    pub fn of_memory(bytes_max: usize, bytes_per_owner_max: usize) -> Self {
        Self::new(kibibytes(bytes_max), kibibytes(bytes_per_owner_max))
    }

    /// Reserves units; without an owner, only the total limits them. Returns `None` if the owner's
    /// share is used, or if the pool is full and nothing can be evicted.
    pub async fn reserve(&self, owner: Option<Owner>, units: u32) -> Option<Permit> {
        let deadline = Instant::now() + POOL_EVICTION_WAIT_MAX;
        loop {
            let released = self.0.released.notified();
            let mut actions = Vec::new();
            let attempt = self.0.try_reserve(owner, units, &mut actions);
            // Without the lock: an action can release other units.
            actions.into_iter().for_each(|action| action());
            match attempt {
                Attempt::Reserved(permit) => return Some(permit),
                Attempt::Evicting => timeout_at(deadline, released).await.ok()?,
                Attempt::Refused => return None,
            }
        }
    }

    /// Reserves units, like [`Self::reserve`], and waits up to the given time until they are free or
    /// holders of them are stalled.
    pub async fn reserve_within(
        &self,
        owner: Option<Owner>,
        units: u32,
        wait: Duration,
    ) -> Option<Permit> {
        let deadline = Instant::now() + wait;
        loop {
            let released = self.0.released.notified();
            if let Some(permit) = self.reserve(owner, units).await {
                return Some(permit);
            }
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            let _ = timeout_at(deadline.min(now + POOL_CHECK_INTERVAL), released).await;
        }
    }

    /// Reserves memory, like [`Self::reserve`].
    pub async fn reserve_bytes(&self, owner: Option<Owner>, bytes: usize) -> Option<Permit> {
        self.reserve(owner, kibibytes(bytes)).await
    }

    /// Returns the number of free units.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.0.total_max.saturating_sub(self.0.lock().used)
    }
}

impl Permit {
    /// Records that the holder sent or received bytes. A holder below
    /// [`POOL_BYTES_PER_SECOND_MIN`] counts as stalled after [`POOL_STALL_TIMEOUT`].
    pub fn record_progress(&self, bytes: usize) {
        let earned = Duration::from_secs(bytes as u64) / POOL_BYTES_PER_SECOND_MIN;
        let now = Instant::now();
        if let Some(holder) = self.0.pool.lock().holders.get_mut(&self.0.id) {
            let extended = holder.stalled_at.max(now) + earned;
            holder.stalled_at = extended.min(now + POOL_STALL_TIMEOUT);
        }
    }

    /// Excludes the holder from eviction, because it no longer waits for its client.
    pub fn protect(&self) {
        if let Some(holder) = self.0.pool.lock().holders.get_mut(&self.0.id) {
            holder.is_protected = true;
        }
    }

    /// Sets what ends the work for which the units are held. It is called once, when the holder is
    /// evicted, and must not hold this permit.
    pub fn on_eviction(&self, action: impl FnOnce() + Send + 'static) {
        let mut table = self.0.pool.lock();
        match table.holders.get_mut(&self.0.id) {
            Some(holder) if !holder.is_evicted => holder.on_eviction = Some(Box::new(action)),
            Some(_) | None => {
                drop(table);
                action();
            }
        }
    }

    /// Releases a part of the memory, so that `bytes` remain reserved.
    pub fn shrink_to(&self, bytes: usize) {
        self.0.pool.lock().shrink(self.0.id, kibibytes(bytes));
        self.0.pool.released.notify_waiters();
    }
}

impl Owner {
    /// Providers assign at least the other bits to a customer.
    const IPV6_HOST_BITS: u32 = 64;

    /// Returns an IPv4 address, or the /64 network of an IPv6 address, as an owner.
    #[must_use]
    pub fn network_of(address: IpAddr) -> Self {
        let bits = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => {
                address.to_bits() >> Self::IPV6_HOST_BITS << Self::IPV6_HOST_BITS
            }
        };
        Self(Ipv6Addr::from_bits(bits).octets())
    }
}

impl Owner {
    /// Returns the server of a URL as an owner.
    #[must_use]
    pub fn for_server(host: &str, port: u16) -> Self {
        let mut owner = [0; 16];
        let digest = Sha256::digest(format!("{host}:{port}"));
        owner.copy_from_slice(&digest[..16]);
        Self(owner)
    }
}

impl From<AccountId> for Owner {
    fn from(account: AccountId) -> Self {
        Self(*account.as_bytes())
    }
}

impl Pool {
    fn try_reserve(
        self: &Arc<Self>,
        owner: Option<Owner>,
        units: u32,
        actions: &mut Vec<Action>,
    ) -> Attempt {
        let now = Instant::now();
        let mut table = self.lock();
        while owner.is_some() && table.used_with(owner, units) > self.per_owner_max {
            let Some(id) = table.find_stalled(now, |holder| holder.owner == owner) else {
                return Attempt::Refused;
            };
            actions.extend(table.evict(id));
        }
        while table.used - table.evicted > self.total_max.saturating_sub(units) {
            let stalled = table.find_stalled(now, |_| true);
            let own_units = table.used_with(owner, units);
            let Some(id) = stalled.or_else(|| table.find_of_largest_owner(own_units)) else {
                return Attempt::Refused;
            };
            actions.extend(table.evict(id));
        }
        if table.used > self.total_max.saturating_sub(units)
            || owner.is_some() && table.held_with(owner, units) > self.per_owner_max
        {
            return Attempt::Evicting;
        }
        let id = table.insert(owner, units, now + POOL_STALL_TIMEOUT);
        Attempt::Reserved(Permit(Arc::new(Hold {
            pool: Arc::clone(self),
            id,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Returns the units that an owner would hold with `units` more.
    fn used_with(&self, owner: Option<Owner>, units: u32) -> u32 {
        units_of(owner, &self.used_by_owner).saturating_add(units)
    }

    /// Like [`Self::used_with`], with the units that evicted holders have not released.
    fn held_with(&self, owner: Option<Owner>, units: u32) -> u32 {
        let evicted = units_of(owner, &self.evicted_by_owner);
        self.used_with(owner, units).saturating_add(evicted)
    }

    fn insert(&mut self, owner: Option<Owner>, units: u32, stalled_at: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.used += units;
        add_units(&mut self.used_by_owner, owner, units);
        let holder = Holder {
            owner,
            units,
            stalled_at,
            is_protected: false,
            is_evicted: false,
            on_eviction: None,
        };
        self.holders.insert(id, holder);
        id
    }

    /// Finds the holder that is stalled longest.
    fn find_stalled(&self, now: Instant, filter: impl Fn(&Holder) -> bool) -> Option<u64> {
        let stalled = self
            .evictable()
            .filter(|(_, holder)| holder.stalled_at <= now && filter(holder));
        let longest = stalled.min_by_key(|(id, holder)| (holder.stalled_at, *id));
        longest.map(|(id, _)| id)
    }

    /// Finds the slowest holder of the owner that holds most, if it holds more than `units`.
    fn find_of_largest_owner(&self, units: u32) -> Option<u64> {
        let used = |holder: &Holder| self.used_with(holder.owner, 0);
        let larger = self.evictable().filter(|(_, holder)| used(holder) > units);
        let largest =
            larger.max_by_key(|(id, holder)| (used(holder), Reverse((holder.stalled_at, *id))));
        largest.map(|(id, _)| id)
    }

    fn evictable(&self) -> impl Iterator<Item = (u64, &Holder)> {
        let holders = self.holders.iter().map(|(id, holder)| (*id, holder));
        holders.filter(|(_, holder)| !holder.is_evicted && !holder.is_protected)
    }

    /// Marks a holder as evicted and returns what ends its work.
    fn evict(&mut self, id: u64) -> Option<Action> {
        let holder = self.holders.get_mut(&id)?;
        holder.is_evicted = true;
        let (owner, units) = (holder.owner, holder.units);
        let action = holder.on_eviction.take();
        self.evicted += units;
        subtract_units(&mut self.used_by_owner, owner, units);
        add_units(&mut self.evicted_by_owner, owner, units);
        action
    }

    fn shrink(&mut self, id: u64, units: u32) {
        let Some(holder) = self.holders.get_mut(&id) else {
            return;
        };
        let freed = holder.units.saturating_sub(units);
        holder.units -= freed;
        let (owner, is_evicted) = (holder.owner, holder.is_evicted);
        self.used -= freed;
        if is_evicted {
            self.evicted -= freed;
            subtract_units(&mut self.evicted_by_owner, owner, freed);
        } else {
            subtract_units(&mut self.used_by_owner, owner, freed);
        }
    }

    fn release(&mut self, id: u64) {
        self.shrink(id, 0);
        self.holders.remove(&id);
    }
}

fn units_of(owner: Option<Owner>, units: &HashMap<Owner, u32>) -> u32 {
    let units = owner.and_then(|owner| units.get(&owner));
    units.copied().unwrap_or_default()
}

fn add_units(table: &mut HashMap<Owner, u32>, owner: Option<Owner>, units: u32) {
    if let Some(owner) = owner {
        *table.entry(owner).or_default() += units;
    }
}

fn subtract_units(table: &mut HashMap<Owner, u32>, owner: Option<Owner>, units: u32) {
    let Some(owner) = owner else { return };
    if let Some(left) = table.get_mut(&owner) {
        *left -= units;
        if *left == 0 {
            table.remove(&owner);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pool.lock().release(self.id);
        self.pool.released.notify_waiters();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Permit").field(&self.0.id).finish()
    }
}

fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
