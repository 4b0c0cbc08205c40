//! What the model expects after a database was rolled back to an earlier state.

use super::{Model, Route};
use sealpost_node_core::model::{ConnectionId, MessageId};
use sealpost_proto::DeliveryStatus;
use std::collections::{BTreeMap, BTreeSet};

/// New sessions that heal a connection after one disturbance.
const INITS_PER_DISTURBANCE: u32 = 3;

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
    pub(crate) fn restore(&mut self, node: usize, backup: &ModelBackup) {
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
        self.record_disturbance(|_, of| of == node);
    }

    /// Records that the relay was rolled back to an earlier state.
    pub(crate) fn record_relay_restore(&mut self) {
        self.record_disturbance(|_, _| true);
    }

    /// Records that a node, or the relay, was down for so long that messages may have expired.
    pub(crate) fn record_long_outage(&mut self, node: Option<usize>) {
        match node {
            Some(node) => {
                self.long_outages.insert(node);
            }
            None => self.long_outages.extend(0..self.fingerprints.len()),
        }
    }

    fn record_disturbance(&mut self, matches: impl Fn(ConnectionId, usize) -> bool) {
        let links: BTreeSet<_> = self
            .sides
            .iter()
            .filter(|((of, id), _)| matches(*id, *of))
            .map(|(_, side)| side.link)
            .collect();
        for link in links {
            self.disturbed.insert(link);
            *self.expected_inits.entry(link).or_default() += INITS_PER_DISTURBANCE;
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
