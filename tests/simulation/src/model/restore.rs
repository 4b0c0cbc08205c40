//! What the model expects after a database was rolled back to an earlier state.

use super::{Model, Route};
use crate::schedule::DAY;
use sealpost_node_core::model::{ConnectionId, MessageId};
use sealpost_proto::DeliveryStatus;
use std::collections::{BTreeMap, BTreeSet};

/// New sessions that heal a connection after one disturbance.
const INITS_PER_DISTURBANCE: u32 = 3;

/// Time after a disturbance in which the connection must heal. A node that was rolled back without
/// noticing it may use the current session until the next rotation, and outages delay that.
pub(super) const HEALING_TIME_MAX: u64 = 30 * DAY;

/// New sessions that disturbances of one connection explain.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExpectedInits {
    count: u32,
    disturbed_at: u64,
    /// The node that rotated the session last, and when.
    rotation: Option<(usize, u64)>,
}

impl ExpectedInits {
    fn add(&mut self, at: u64) {
        self.expire(at);
        self.count += INITS_PER_DISTURBANCE;
        self.disturbed_at = at;
    }

    /// Records a rotation. If both sides rotate at once, the INIT that loses may arrive when the
    /// other one is confirmed already, and then a third one answers it (row 10 of the table in
    /// docs/e2ee.md#which-init-wins).
    pub(super) fn observe_rotation(&mut self, node: usize, at: u64) {
        let last = self.rotation.replace((node, at));
        if last.is_some_and(|(other, then)| other != node && at < then + DAY) {
            self.expire(at);
            self.count += 1;
            self.disturbed_at = at;
        }
    }

    /// Counts one of the expected sessions as started, and returns whether there was one.
    pub(super) fn count_started(&mut self, at: u64) -> bool {
        self.expire(at);
        let is_expected = self.count > 0;
        self.count = self.count.saturating_sub(1);
        is_expected
    }

    const fn expire(&mut self, at: u64) {
        if at > self.disturbed_at + HEALING_TIME_MAX {
            self.count = 0;
        }
    }
}

/// What a node's database contained at the time of a backup.
pub(crate) struct ModelBackup {
    messages: BTreeMap<(usize, MessageId), (Route, String)>,
    statuses: BTreeMap<(usize, MessageId), DeliveryStatus>,
    received: BTreeMap<Route, Vec<String>>,
    read: BTreeSet<(Route, String)>,
}

impl Model {
    /// Returns what the node's database contains.
    pub(crate) fn back_up(&self, node: usize) -> ModelBackup {
        let is_incoming = |route: &Route| self.recipient(*route) == Some(node);
        ModelBackup {
            messages: select(&self.messages, |(of, _)| *of == node),
            statuses: select(&self.statuses, |(of, _)| *of == node),
            received: select(&self.received, is_incoming),
            read: self
                .read
                .iter()
                .filter(|(route, _)| is_incoming(route))
                .cloned()
                .collect(),
        }
    }

    /// Sets what the node's database contains back to a backup. What the node has sent since then
    /// is forgotten: it need not arrive any more, and the node does not get it back.
    pub(crate) fn restore(&mut self, node: usize, backup: &ModelBackup, at: u64) {
        let lost = self
            .messages
            .iter()
            .filter(|(key, _)| key.0 == node && !backup.messages.contains_key(key));
        let own = lost
            .filter(|(_, (route, _))| route.from == node)
            .map(|(_, sent)| sent.clone());
        let own: Vec<_> = own.collect();
        self.forgotten.extend(own);
        let incoming: Vec<_> = self
            .received
            .keys()
            .chain(self.sent.keys())
            .copied()
            .filter(|route| self.recipient(*route) == Some(node))
            .collect();
        self.messages.retain(|(of, _), _| *of != node);
        self.messages.extend(backup.messages.clone());
        self.statuses.retain(|(of, _), _| *of != node);
        self.statuses.extend(backup.statuses.clone());
        self.received.retain(|route, _| !incoming.contains(route));
        self.received.extend(backup.received.clone());
        self.read.retain(|(route, _)| !incoming.contains(route));
        self.read.extend(backup.read.clone());
        self.record_disturbance(at, |_, of| of == node);
    }

    /// Records that the relay was rolled back to an earlier state.
    pub(crate) fn record_relay_restore(&mut self, at: u64) {
        self.record_disturbance(at, |_, _| true);
    }

    /// Records that a node, or the relay, was down for so long that messages may have expired.
    pub(crate) fn record_long_outage(&mut self, node: Option<usize>, end: u64) {
        let nodes = node.map_or(0..self.fingerprints.len(), |node| node..node + 1);
        self.long_outages.extend(nodes.map(|node| (node, end)));
    }

    fn record_disturbance(&mut self, at: u64, matches: impl Fn(ConnectionId, usize) -> bool) {
        let links: BTreeSet<_> = self
            .sides
            .iter()
            .filter(|((of, id), _)| matches(*id, *of))
            .map(|(_, side)| side.link)
            .collect();
        for link in links {
            self.disturbed.insert(link, at);
            self.expected_inits.entry(link).or_default().add(at);
        }
    }

    /// Returns the node that receives what is sent on a route.
    pub(super) fn recipient(&self, route: Route) -> Option<usize> {
        let inviter = self.invites.get(&route.link.invite)?.inviter;
        Some(if route.from == inviter {
            route.link.invitee
        } else {
            inviter
        })
    }
}

fn select<K: Ord + Clone, V: Clone>(
    map: &BTreeMap<K, V>,
    is_selected: impl Fn(&K) -> bool,
) -> BTreeMap<K, V> {
    map.iter()
        .filter(|(key, _)| is_selected(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
