//! Limits of open connections, in total and per address, and eviction of idle ones.

use super::{activity::Activity, counts::ListenerCounts};
use sealpost_proto::limits::CONNECTION_EVICTABLE_AFTER;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};
use tokio::time::Instant;

/// One scan of all connections evicts up to this fraction of them, so that a flood of new
/// connections does not cost a scan each.
const EVICTED_FRACTION: usize = 64;

/// Connection slots of one listener.
pub(super) struct ConnectionSlots {
    total_max: usize,
    per_address_max: usize,
    counts: Arc<ListenerCounts>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    connections: HashMap<u64, Connection>,
    open_by_address: HashMap<IpAddr, usize>,
    next_id: u64,
    /// No connection can be evicted before this time.
    no_eviction_until: Option<Instant>,
}

struct Connection {
    activity: Arc<Activity>,
    address: Option<IpAddr>,
}

/// Slot of one open connection, released on drop.
pub(super) struct Slot {
    slots: Arc<ConnectionSlots>,
    id: u64,
}

/// Reason why there is no slot for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// All slots are in use by connections that are not idle.
    Full,
    /// The address of the client has reached its limit.
    AddressLimit,
}

impl ConnectionSlots {
    /// Creates the slots; each maximum is at least 1.
    pub(super) fn new(
        total_max: usize,
        per_address_max: usize,
        counts: Arc<ListenerCounts>,
    ) -> Arc<Self> {
        Arc::new(Self {
            total_max: total_max.max(1),
            per_address_max: per_address_max.max(1),
            counts,
            table: Mutex::default(),
        })
    }

    /// Reserves a slot. If none is free, closes the connections that have been idle longest.
    pub(super) fn reserve(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
        activity: &Arc<Activity>,
    ) -> Result<Slot, NoSlot> {
        let address = peer.and_then(address_key);
        let mut table = self.lock_table();
        let open = address.and_then(|address| table.open_by_address.get(&address));
        if open.is_some_and(|open| *open >= self.per_address_max) {
            return Err(NoSlot::AddressLimit);
        }
        if table.connections.len() >= self.total_max && !self.evict_idle(&mut table) {
            return Err(NoSlot::Full);
        }
        let id = table.insert(Connection {
            activity: Arc::clone(activity),
            address,
        });
        Ok(Slot {
            slots: Arc::clone(self),
            id,
        })
    }

    /// Closes the connections that have been idle longest; returns whether there were any.
    fn evict_idle(&self, table: &mut Table) -> bool {
        let now = Instant::now();
        if table.no_eviction_until.is_some_and(|until| now < until) {
            return false;
        }
        let idle = table
            .connections
            .iter()
            .filter_map(|(id, connection)| Some((connection.activity.idle_since()?, *id)));
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable();
        let evictable =
            idle.partition_point(|(since, _)| *since + CONNECTION_EVICTABLE_AFTER <= now);
        if evictable == 0 {
            // A busy connection may become idle at any moment, but is evictable only after this
            // time.
            let first = idle.first().map_or(now, |(since, _)| *since);
            table.no_eviction_until = Some(first + CONNECTION_EVICTABLE_AFTER);
            return false;
        }
        let evicted = evictable.min(self.total_max.div_ceil(EVICTED_FRACTION));
        for (_, id) in idle.into_iter().take(evicted) {
            if let Some(connection) = table.remove(id) {
                connection.activity.request_close();
                self.counts.idle_evicted.fetch_add(1, Relaxed);
            }
        }
        true
    }

    fn lock_table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, connection: Connection) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(address) = connection.address {
            *self.open_by_address.entry(address).or_default() += 1;
        }
        self.connections.insert(id, connection);
        id
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if let Some(address) = connection.address
            && let Some(open) = self.open_by_address.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                self.open_by_address.remove(&address);
            }
        }
        Some(connection)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock_table().remove(self.id);
    }
}

/// Returns the key of the limit per address: an IPv4 address, or the IPv6 /64 that a customer
/// usually gets. Loopback has no limit, because a proxy may connect on behalf of all
/// clients.
fn address_key(peer: SocketAddr) -> Option<IpAddr> {
    match peer.ip().to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(ip.into()),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
    }
}
