//! How many may be in at once, how many of them from one address, and who goes when there is no place left.

use super::{counts::ListenerCounts, presence::Presence};
use sealpost_proto::limits::MAKE_ROOM_AFTER_REST;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};
use tokio::time::Instant;

/// A scan of all places makes room for several newcomers, so that a flood of them does not cost a scan each: this part of
/// all places.
const ROOM_MADE: usize = 64;

/// The places of one listener.
pub(super) struct Places {
    total: usize,
    per_network: usize,
    counts: Arc<ListenerCounts>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    guests: HashMap<u64, Guest>,
    networks: HashMap<IpAddr, usize>,
    next: u64,
    /// Nobody will have rested long enough before.
    full_until: Option<Instant>,
}

struct Guest {
    presence: Arc<Presence>,
    network: Option<IpAddr>,
}

/// A place that somebody has. Dropping it gives it back.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
}

/// Why somebody gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All are taken, and everybody is busy.
    Full,
    /// The newcomer's network has its share.
    Network,
}

impl Places {
    /// At least one place there is.
    pub(super) fn new(total: usize, per_network: usize, counts: Arc<ListenerCounts>) -> Arc<Self> {
        Arc::new(Self {
            total: total.max(1),
            per_network: per_network.max(1),
            counts,
            table: Mutex::default(),
        })
    }

    /// A place, which may be that of others who only rest: these are asked to leave.
    pub(super) fn take(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
        presence: &Arc<Presence>,
    ) -> Result<Place, NoPlace> {
        let network = peer.and_then(network);
        let mut table = self.table();
        if network.is_some_and(|network| {
            table
                .networks
                .get(&network)
                .is_some_and(|open| *open >= self.per_network)
        }) {
            return Err(NoPlace::Network);
        }
        if table.guests.len() >= self.total && !self.make_room(&mut table) {
            return Err(NoPlace::Full);
        }
        Ok(self.seat(&mut table, network, presence))
    }

    fn seat(
        self: &Arc<Self>,
        table: &mut Table,
        network: Option<IpAddr>,
        presence: &Arc<Presence>,
    ) -> Place {
        let id = table.next;
        table.next += 1;
        table.guests.insert(
            id,
            Guest {
                presence: Arc::clone(presence),
                network,
            },
        );
        if let Some(network) = network {
            *table.networks.entry(network).or_default() += 1;
        }
        Place {
            places: Arc::clone(self),
            id,
        }
    }

    /// Those who rest longest go, a few at once.
    fn make_room(&self, table: &mut Table) -> bool {
        let now = Instant::now();
        if table.full_until.is_some_and(|until| now < until) {
            return false;
        }
        let resting = table
            .guests
            .iter()
            .filter_map(|(id, guest)| Some((guest.presence.resting_since()?, *id)));
        let mut resting: Vec<_> = resting.collect();
        resting.sort_unstable();
        let long = resting.partition_point(|(since, _)| *since + MAKE_ROOM_AFTER_REST <= now);
        if long == 0 {
            // Somebody busy may come to rest at any moment, but can go only this much later.
            let first = resting.first().map_or(now, |(since, _)| *since);
            table.full_until = Some(first + MAKE_ROOM_AFTER_REST);
            return false;
        }
        for (_, id) in resting
            .into_iter()
            .take(long.min(self.total.div_ceil(ROOM_MADE)))
        {
            if let Some(guest) = table.leave(id) {
                guest.presence.ask_to_leave();
                self.counts.pushed_out.fetch_add(1, Relaxed);
            }
        }
        true
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn leave(&mut self, id: u64) -> Option<Guest> {
        let guest = self.guests.remove(&id)?;
        if let Some(network) = guest.network
            && let Some(open) = self.networks.get_mut(&network)
        {
            *open -= 1;
            if *open == 0 {
                self.networks.remove(&network);
            }
        }
        Some(guest)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().leave(self.id);
    }
}

/// What counts as one address: an IPv4 address, or the 64 bits of an IPv6 address that one customer is given. Nothing
/// counts for this machine, where a proxy may speak for everybody.
fn network(peer: SocketAddr) -> Option<IpAddr> {
    match peer.ip().to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(ip.into()),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
    }
}
