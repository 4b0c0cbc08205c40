//! The reference model: the messages that users sent and their state in each node's database,
//! without any knowledge of the transport. It checks a snapshot after every commit.

mod final_state;
mod restore;

use crate::node::{ConnectionSnapshot, InviteSnapshot, MessageSnapshot, Snapshot};
use crate::schedule::DAY;
pub(crate) use final_state::PlannedConnection;
pub(crate) use restore::ModelBackup;
use restore::{ExpectedInits, HEALING_TIME_MAX};
use sealpost_e2ee::sessions::InitReason;
use sealpost_node_core::model::{
    ConnectionId, ConnectionStatus, ConnectionWarning, HealthState, MessageId,
};
use sealpost_proto::{DeliveryStatus, FailureCode, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Time after a long outage in which messages from before its end may fail: the longest life of an
/// envelope, and the time for which a receipt is awaited.
const EXPIRY_TIME_MAX: u64 = 32 * DAY;

/// Description of a violated guarantee.
#[derive(Debug)]
pub(crate) struct Violation(pub(crate) String);

/// Connection as both sides know it: the invite and the node that used it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    invite: [u8; 16],
    invitee: usize,
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    link: Link,
    from: usize,
}

/// Connection in the database of one side.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    link: Link,
    peer: usize,
    pub(crate) is_inviter: bool,
    pub(crate) status: ConnectionStatus,
    health: HealthState,
    warning: Option<ConnectionWarning>,
}

impl Side {
    /// Returns the invite that the connection was made with.
    pub(crate) const fn invite(&self) -> [u8; 16] {
        self.link.invite
    }

    /// Returns whether users send messages on it.
    pub(crate) fn accepts_messages(&self) -> bool {
        self.status == ConnectionStatus::Accepted && self.health != HealthState::Broken
    }
}

/// The actions of the users and the effects observed so far.
#[derive(Default)]
pub(crate) struct Model {
    fingerprints: Vec<[u8; 32]>,
    /// Whether clocks may be wrong by days, so that messages and invites may expire early.
    has_large_jumps: bool,
    /// Nodes whose accounts were deleted.
    deleted: BTreeSet<usize>,
    /// Connections that were blocked, even if a node was rolled back to a time before that.
    blocked: BTreeSet<Link>,
    invites: BTreeMap<[u8; 16], InviteState>,
    sides: BTreeMap<(usize, ConnectionId), Side>,
    /// The sender and the connections of each message that a user tried to send, by text.
    intended: BTreeMap<String, (usize, BTreeSet<ConnectionId>)>,
    sent: BTreeMap<Route, Vec<String>>,
    received: BTreeMap<Route, Vec<String>>,
    /// The messages that are read at their recipients.
    read: BTreeSet<(Route, String)>,
    /// The messages that were stored and read at any time, even if a database was rolled back
    /// since.
    ever_received: BTreeSet<(Route, String)>,
    ever_read: BTreeSet<(Route, String)>,
    /// The messages that their sender forgot when its database was rolled back.
    forgotten: BTreeSet<(Route, String)>,
    /// The messages that failed at their sender.
    failed: BTreeSet<(Route, String)>,
    /// Time of the latest commit.
    now: u64,
    /// Nodes that were down for so long that messages may have expired, with the end of the latest
    /// such outage.
    long_outages: BTreeMap<usize, u64>,
    /// Connections on which a disturbance occurred, with the time of the latest.
    disturbed: BTreeMap<Link, u64>,
    /// How many sessions the disturbances of a connection explain.
    expected_inits: BTreeMap<Link, ExpectedInits>,
    /// The route and text of each message of each node.
    messages: BTreeMap<(usize, MessageId), (Route, String)>,
    statuses: BTreeMap<(usize, MessageId), DeliveryStatus>,
}

/// Invite as the model knows it.
#[derive(Debug, Clone, Copy)]
struct InviteState {
    inviter: usize,
    is_single: bool,
    expires_at: Option<Timestamp>,
    /// Whether it was used or revoked or has expired, so that it cannot create connections.
    has_ended: bool,
}

impl Model {
    pub(crate) fn new(fingerprints: Vec<[u8; 32]>, has_large_jumps: bool) -> Self {
        Self {
            fingerprints,
            has_large_jumps,
            ..Self::default()
        }
    }

    /// Records that the account of a node was deleted.
    pub(crate) fn record_deletion(&mut self, node: usize) {
        self.deleted.insert(node);
    }

    /// Records that an invite was revoked.
    pub(crate) fn record_revocation(&mut self, invite: &[u8; 16]) {
        self.invites
            .entry(*invite)
            .and_modify(|state| state.has_ended = true);
    }

    /// Returns whether some guarantees do not apply to this connection.
    fn is_disrupted(&self, link: Link) -> bool {
        let inviter = self.invites.get(&link.invite).map(|state| state.inviter);
        self.blocked.contains(&link)
            || self.deleted.contains(&link.invitee)
            || inviter.is_some_and(|inviter| self.deleted.contains(&inviter))
    }

    /// Returns whether a message may expire although nobody ended the connection.
    fn may_expire(&self, route: Route) -> bool {
        let is_absent = |node: usize| {
            let end = self.long_outages.get(&node);
            end.is_some_and(|end| self.now < end + EXPIRY_TIME_MAX)
        };
        self.has_large_jumps
            || is_absent(route.from)
            || self.recipient(route).is_some_and(is_absent)
    }

    /// Returns whether a disturbance may still affect the connection.
    fn is_disturbed(&self, link: Link) -> bool {
        let at = self.disturbed.get(&link);
        at.is_some_and(|at| self.now < at + HEALING_TIME_MAX)
    }

    /// Records that a node has started a session to heal a connection.
    pub(crate) fn observe_init(
        &mut self,
        node: usize,
        connection: ConnectionId,
        reason: InitReason,
        at: u64,
    ) -> Result<(), Violation> {
        let Some(side) = self.sides.get(&(node, connection)) else {
            return Ok(());
        };
        if self.is_disrupted(side.link) {
            return Ok(());
        }
        let expected = self.expected_inits.entry(side.link).or_default();
        if reason == InitReason::Rotate {
            expected.observe_rotation(node, at);
            return Ok(());
        }
        ensure(expected.count_started(at), || {
            format!("node-{node} starts a session ({reason:?}) that nothing explains")
        })
    }

    /// Returns whether anything in this run may leave a message without a receipt.
    pub(crate) fn has_disruptions(&self) -> bool {
        self.has_large_jumps || !self.deleted.is_empty() || !self.blocked.is_empty()
    }

    /// Returns whether the invite cannot create any more connections.
    pub(crate) fn has_ended(&self, invite: &[u8; 16]) -> bool {
        self.invites
            .get(invite)
            .is_some_and(|state| state.has_ended || self.deleted.contains(&state.inviter))
    }

    /// Records that a user is about to send this text, which is unique.
    pub(crate) fn record_intent(&mut self, node: usize, connections: &[ConnectionId], text: &str) {
        self.intended.insert(
            text.to_owned(),
            (node, connections.iter().copied().collect()),
        );
    }

    /// Returns a node's connections ordered by id.
    pub(crate) fn connections(&self, node: usize) -> Vec<(ConnectionId, Side)> {
        let of_node = self.sides.iter().filter(|((of, _), _)| *of == node);
        of_node.map(|((_, id), side)| (*id, side.clone())).collect()
    }

    /// Returns whether the node has used the invite.
    pub(crate) fn has_used_invite(&self, node: usize, invite: &[u8; 16]) -> bool {
        let link = Link {
            invite: *invite,
            invitee: node,
        };
        self.sides
            .iter()
            .any(|((of, _), side)| *of == node && side.link == link)
    }

    /// Returns the number of messages sent, counted per recipient.
    pub(crate) fn sent_count(&self) -> usize {
        self.sent.values().map(Vec::len).sum()
    }

    /// Checks a snapshot of a node's database, taken after a commit at `at`.
    pub(crate) fn observe(
        &mut self,
        node: usize,
        snapshot: Snapshot,
        at: u64,
    ) -> Result<(), Violation> {
        self.now = at;
        self.expire_invites(node, snapshot.now);
        let known: BTreeMap<_, _> = self.connections(node).into_iter().collect();
        self.sides.retain(|(of, _), _| *of != node);
        for connection in snapshot.connections {
            self.observe_connection(node, &connection, known.get(&connection.id))?;
        }
        for invite in snapshot.invites {
            self.observe_invite(node, &invite)?;
        }
        for message in snapshot.messages {
            self.observe_message(node, message)?;
        }
        let known = self.messages.keys().filter(|(of, _)| *of == node).count();
        ensure(known as u64 == snapshot.message_count, || {
            format!("node-{node} lost a stored message")
        })?;
        for id in snapshot.read {
            let entry = self.messages.get(&(node, id)).cloned();
            self.ever_read.extend(entry.clone());
            self.read.extend(entry);
        }
        for (message, status, code) in snapshot.statuses {
            self.observe_status(node, message, status, code)?;
        }
        Ok(())
    }

    fn expire_invites(&mut self, node: usize, now: Timestamp) {
        for state in self
            .invites
            .values_mut()
            .filter(|state| state.inviter == node)
        {
            state.has_ended |= state.expires_at.is_some_and(|end| end <= now);
        }
    }

    fn observe_invite(&mut self, node: usize, seen: &InviteSnapshot) -> Result<(), Violation> {
        let first = InviteState {
            inviter: node,
            is_single: seen.is_single,
            expires_at: seen.expires_at,
            has_ended: false,
        };
        let state = self.invites.entry(seen.id).or_insert(first);
        let sides = self
            .sides
            .iter()
            .filter(|((of, _), side)| *of == node && side.link.invite == seen.id);
        let accepted = sides
            .filter(|(_, side)| {
                matches!(
                    side.status,
                    ConnectionStatus::Accepted | ConnectionStatus::Blocked
                )
            })
            .count();
        state.has_ended |= !seen.is_open || state.is_single && accepted > 0;
        ensure(!seen.is_single || accepted <= 1, || {
            format!("node-{node} accepted {accepted} connections for a single-use invite")
        })
    }

    fn observe_connection(
        &mut self,
        node: usize,
        seen: &ConnectionSnapshot,
        before: Option<&Side>,
    ) -> Result<(), Violation> {
        let peer = self
            .fingerprints
            .iter()
            .position(|fingerprint| *fingerprint == seen.peer);
        let peer =
            peer.ok_or_else(|| Violation(format!("node-{node} is connected to an unknown peer")))?;
        let link = Link {
            invite: seen.invite,
            invitee: if seen.is_inviter { peer } else { node },
        };
        let side = Side {
            link,
            peer,
            is_inviter: seen.is_inviter,
            status: seen.status,
            health: seen.health,
            warning: seen.warning,
        };
        if side.status == ConnectionStatus::Blocked {
            self.blocked.insert(link);
        }
        let may_break =
            !side.is_inviter && side.status == ConnectionStatus::Pending || self.is_disrupted(link);
        let warning = seen.warning;
        let is_raised = warning.is_some() && before.and_then(|before| before.warning) != warning;
        ensure(!is_raised || self.is_disturbed(link), || {
            format!(
                "{} of node-{node} has a false warning: {warning:?}",
                seen.id
            )
        })?;
        ensure(side.health != HealthState::Broken || may_break, || {
            format!("{} of node-{node} is {}", seen.id, side.health)
        })?;
        let is_late = before.is_none()
            && side.is_inviter
            && self
                .invites
                .get(&seen.invite)
                .is_some_and(|state| state.has_ended);
        ensure(
            !is_late || side.status == ConnectionStatus::Rejected,
            || {
                format!(
                    "node-{node} accepted request {} for an invite that has ended",
                    seen.id
                )
            },
        )?;
        let is_duplicate = self
            .sides
            .iter()
            .any(|((of, _), other)| *of == node && other.link == link);
        ensure(!is_duplicate, || {
            format!("node-{node} stored a connection twice")
        })?;
        self.sides.insert((node, seen.id), side);
        Ok(())
    }

    fn observe_message(&mut self, node: usize, message: MessageSnapshot) -> Result<(), Violation> {
        let side = self.sides.get(&(node, message.connection));
        let side = side
            .ok_or_else(|| Violation(format!("{} of node-{node} has no connection", message.id)))?;
        let route = Route {
            link: side.link,
            from: if message.is_incoming { side.peer } else { node },
        };
        let text = message.content;
        if message.is_incoming {
            self.observe_incoming(node, route, &text)?
        } else {
            self.observe_outgoing(node, message.connection, route, &text)?
        }
        self.messages.insert((node, message.id), (route, text));
        Ok(())
    }

    fn observe_outgoing(
        &mut self,
        node: usize,
        connection: ConnectionId,
        route: Route,
        text: &str,
    ) -> Result<(), Violation> {
        let is_intended = self
            .intended
            .get(text)
            .is_some_and(|(of, to)| *of == node && to.contains(&connection));
        ensure(is_intended, || {
            format!("node-{node} sends {text:?}, which no user wrote")
        })?;
        let sent = self.sent.entry(route).or_default();
        ensure(!sent.iter().any(|earlier| earlier == text), || {
            format!("node-{node} sends {text:?} twice")
        })?;
        sent.push(text.to_owned());
        Ok(())
    }

    fn observe_incoming(&mut self, node: usize, route: Route, text: &str) -> Result<(), Violation> {
        let sent = self.sent.get(&route).map_or(&[][..], Vec::as_slice);
        let position = |text: &str| sent.iter().position(|sent| sent == text);
        let index = position(text);
        let received = self.received.get(&route).map_or(&[][..], Vec::as_slice);
        ensure(index.is_some(), || {
            format!("node-{node} shows {text:?}, which was not sent to it")
        })?;
        ensure(!received.iter().any(|earlier| earlier == text), || {
            format!("node-{node} shows {text:?} twice")
        })?;
        let overtaken = received.iter().find(|earlier| position(earlier) > index);
        // A message that is sent again after a disturbance arrives late.
        let may_be_late = self.is_disturbed(route.link) || self.may_expire(route);
        ensure(may_be_late || overtaken.is_none(), || {
            format!("node-{node} shows {text:?} after {overtaken:?}")
        })?;
        self.received
            .entry(route)
            .or_default()
            .push(text.to_owned());
        self.ever_received.insert((route, text.to_owned()));
        Ok(())
    }

    fn observe_status(
        &mut self,
        node: usize,
        message: MessageId,
        status: DeliveryStatus,
        code: Option<FailureCode>,
    ) -> Result<(), Violation> {
        let before = self.statuses.insert((node, message), status);
        if before == Some(status) {
            return Ok(());
        }
        let is_legal = before.is_none_or(|before| before.can_become(status));
        ensure(is_legal, || {
            format!("{message} of node-{node} moved from {before:?} to {status}")
        })?;
        let Some((route, text)) = self.messages.get(&(node, message)) else {
            return Err(Violation(format!(
                "node-{node} has a delivery without a message"
            )));
        };
        let message = (*route, text.clone());
        let is_received = self.ever_received.contains(&message);
        let is_read = self.ever_read.contains(&message);
        if status == DeliveryStatus::Failed {
            self.failed.insert(message);
        } else {
            self.failed.remove(&message);
        }
        match status {
            DeliveryStatus::Delivered => ensure(is_received, || {
                format!("{text:?} is reported as delivered but was not stored")
            }),
            DeliveryStatus::Read => ensure(is_read, || {
                format!("{text:?} is reported as read but was not")
            }),
            DeliveryStatus::Failed => {
                let has_expired =
                    matches!(code, Some(FailureCode::Expired | FailureCode::Unconfirmed));
                let is_explained =
                    self.is_disrupted(route.link) || has_expired && self.may_expire(*route);
                ensure(is_explained, || {
                    format!("{text:?} failed ({code:?}) without a cause")
                })
            }
            DeliveryStatus::Pending | DeliveryStatus::Sent | DeliveryStatus::Retrying => Ok(()),
        }
    }
}

/// Checks a condition.
pub(crate) fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), Violation> {
    if condition {
        Ok(())
    } else {
        Err(Violation(message()))
    }
}
