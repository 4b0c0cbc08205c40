//! A model of two nodes with one connection, and of the network and the relay between them. A node
//! of the model uses [`Sessions`] as docs/e2ee.md#sessions-of-a-connection requires.

use super::parties::{Party, paired};
use crate::keys::ConnId;
use crate::prekeys::{BundleId, PrekeyBundle, PrekeySecrets, Scope, next_epoch};
use crate::sessions::{
    Continuity, InitReason, OpenOutcome, OpenedMessage, RejectReason, RejectedMessage, Remedy,
    Sessions,
};
use sealpost_proto::Timestamp;
use sealpost_proto::limits::{ENVELOPE_LIFETIME_MAX, PREKEYS_ROTATION_INTERVAL};
use std::time::Duration;

const STEP: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Rounds are further apart than a node's INITs.
const ROUND: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(super) enum Event {
    Seal(usize),
    Initiate(usize),
    Deliver(usize),
    Lose(usize),
    /// A side is restored from a backup, which holds neither sessions nor secrets of bundles.
    Restore(usize),
    /// A side's data folder is copied.
    Copy(usize),
    /// One of the copies of a side's data folder is put back, and nothing at the side shows it.
    Rollback {
        side: usize,
        pick: usize,
    },
    /// A day passes.
    Wait,
}

/// Whether a node starts a session in the next round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum InitDue {
    No,
    /// Unless the peer has answered the own INIT by then, which was sent before.
    IfUnconfirmed,
    Yes,
}

/// What a node stores about the connection, in addition to its sessions and the secrets of its
/// bundles.
#[derive(Clone)]
struct Record {
    used_bundles: Vec<BundleId>,
    latest_bundle: BundleId,
    peer_bundle_epoch: u64,
    init_due: InitDue,
    /// When the node was restored, by the relay's clock.
    restored_at: Option<Timestamp>,
}

/// Copy of a node's data folder.
#[derive(Clone)]
struct DataFolder {
    sessions: Sessions,
    bundles: Vec<PrekeySecrets>,
    record: Record,
}

struct Node {
    party: Party,
    record: Record,
    copies: Vec<DataFolder>,
    scope: Scope,
    /// The bundle at the relay.
    published: PrekeyBundle,
}

struct Envelope {
    to: usize,
    accepted_at: Timestamp,
    inner: Vec<u8>,
}

pub(super) struct Network {
    nodes: [Node; 2],
    conn_id: ConnId,
    /// The time at the relay.
    now: Timestamp,
    clock_offset: Duration,
    in_flight: Vec<Envelope>,
    /// Number of INITs since the count was last reset.
    pub(super) inits: u32,
    /// Number of resets that the nodes have shown.
    pub(super) resets: u32,
    /// Number of alerts that the nodes have shown.
    pub(super) alerts: u32,
}

impl Node {
    fn new(mut party: Party, scope: Scope) -> Self {
        party.bundles.clear();
        let published = party.publish(scope);
        let record = Record {
            used_bundles: Vec::new(),
            latest_bundle: published.bundle_id(),
            peer_bundle_epoch: 0,
            init_due: InitDue::No,
            restored_at: None,
        };
        let mut node = Self {
            party,
            record,
            copies: Vec::new(),
            scope,
            published,
        };
        node.copy_folder();
        node
    }

    fn copy_folder(&mut self) {
        self.copies.push(DataFolder {
            sessions: self.party.sessions.clone(),
            bundles: self.party.bundles.clone(),
            record: self.record.clone(),
        });
    }

    fn put_back(&mut self, pick: usize) {
        let copy = self.copies[pick % self.copies.len()].clone();
        self.party.sessions = copy.sessions;
        self.party.bundles = copy.bundles;
        self.record = copy.record;
    }

    /// Sets the node back to a backup. It reads its own bundle at the relay, so that the next one
    /// has a higher epoch.
    fn restore(&mut self, now: Timestamp) {
        self.party.sessions = Sessions::new();
        self.party.bundles.clear();
        self.record = Record {
            used_bundles: Vec::new(),
            latest_bundle: self.published.bundle_id(),
            peer_bundle_epoch: 0,
            init_due: InitDue::No,
            restored_at: Some(now),
        };
        self.renew_prekeys();
    }

    fn renew_prekeys(&mut self) {
        self.record.latest_bundle = BundleId {
            epoch: next_epoch(self.record.latest_bundle.epoch, self.party.now),
            spk_id: self.record.latest_bundle.spk_id + 1,
        };
        self.published = self.party.publish_as(self.scope, self.record.latest_bundle);
    }

    fn record_used_bundle(&mut self, bundle: BundleId) {
        let mut stored = self.party.bundles.iter();
        if stored.any(|secrets| secrets.bundle_id() == bundle)
            && !self.record.used_bundles.contains(&bundle)
        {
            self.record.used_bundles.push(bundle);
        }
    }

    fn apply_opened(&mut self, opened: OpenedMessage) {
        self.party.sessions = opened.sessions;
        if let Some(new) = &opened.new_session {
            self.record_used_bundle(new.bundle);
            self.renew_prekeys();
        }
        if opened.is_newly_confirmed {
            let used = std::mem::take(&mut self.record.used_bundles);
            self.party
                .bundles
                .retain(|secrets| !used.contains(&secrets.bundle_id()));
        }
    }

    fn apply_rejected(&mut self, rejected: RejectedMessage, accepted_at: Timestamp) {
        if let Some(sessions) = rejected.sessions {
            self.party.sessions = sessions;
        }
        if let Some(bundle) = rejected.used_bundle {
            self.record_used_bundle(bundle);
            if bundle.epoch >= self.record.latest_bundle.epoch {
                self.renew_prekeys();
            }
        }
        let is_from_before_restore = rejected.reason == RejectReason::UnknownSession
            && self.record.restored_at.is_some_and(|at| accepted_at < at);
        let is_init_sent = rejected.reason == RejectReason::UnknownSession
            && self.party.sessions.has_unconfirmed_init();
        let due = match rejected.remedy {
            Remedy::InitDesync if is_from_before_restore => InitDue::No,
            Remedy::InitDesync if is_init_sent => InitDue::IfUnconfirmed,
            Remedy::InitDesync | Remedy::AlertAndInit => InitDue::Yes,
            Remedy::Discard | Remedy::ResumeDue => InitDue::No,
            Remedy::Suspend => panic!("another identity"),
        };
        self.record.init_due = self.record.init_due.max(due);
    }
}

impl Network {
    pub(super) fn new(seed: u64, clock_offset: Duration) -> Self {
        let (a, b, conn_id) = paired(seed);
        let now = a.now;
        let scope = Scope::connection(&conn_id);
        let mut network = Self {
            nodes: [Node::new(a, scope), Node::new(b, scope)],
            conn_id,
            now,
            clock_offset,
            in_flight: Vec::new(),
            inits: 0,
            resets: 0,
            alerts: 0,
        };
        network.pass(STEP);
        network
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now.plus(duration);
        let [a, b] = &mut self.nodes;
        a.party.now = self.now;
        b.party.now = self.now.plus(self.clock_offset);
    }

    pub(super) fn step(&mut self, event: &Event) {
        self.pass(STEP);
        match event {
            Event::Seal(side) => self.seal(*side),
            Event::Initiate(side) => self.initiate(*side, InitReason::Rotate),
            Event::Deliver(pick) if !self.in_flight.is_empty() => {
                let envelope = self.in_flight.remove(pick % self.in_flight.len());
                self.deliver(&envelope);
            }
            Event::Lose(pick) if !self.in_flight.is_empty() => {
                self.in_flight.remove(pick % self.in_flight.len());
            }
            Event::Deliver(_) | Event::Lose(_) => {}
            Event::Restore(side) => {
                self.nodes[*side].restore(self.now);
                self.initiate(*side, InitReason::Restore);
            }
            Event::Copy(side) => self.nodes[*side].copy_folder(),
            Event::Rollback { side, pick } => self.nodes[*side].put_back(*pick),
            Event::Wait => self.wait(),
        }
    }

    /// Lets a day pass: old envelopes expire, and old bundles are replaced.
    fn wait(&mut self) {
        self.pass(DAY);
        self.in_flight
            .retain(|envelope| self.now.since(envelope.accepted_at) < ENVELOPE_LIFETIME_MAX);
        for node in &mut self.nodes {
            let latest = Timestamp::from_millis(node.record.latest_bundle.epoch);
            if node.party.now.since(latest) >= PREKEYS_ROTATION_INTERVAL {
                node.renew_prekeys();
            }
        }
    }

    fn seal(&mut self, side: usize) {
        let inner = self.nodes[side].party.seal(b"x");
        self.in_flight.push(Envelope {
            to: 1 - side,
            accepted_at: self.now,
            inner,
        });
    }

    /// Starts a session with the peer's bundle at the relay, and sends a message in it.
    fn initiate(&mut self, side: usize, reason: InitReason) {
        self.pass(STEP);
        self.inits += 1;
        let [a, b] = &mut self.nodes;
        let (node, peer) = if side == 0 { (a, b) } else { (b, a) };
        peer.published
            .check_fresh(node.party.now, node.record.peer_bundle_epoch)
            .unwrap();
        node.party
            .initiate_with(&peer.party, self.conn_id, reason, &peer.published);
        node.record.peer_bundle_epoch = peer.published.bundle_id().epoch;
        self.seal(side);
    }

    /// Delivers an envelope. Returns whether its message opened.
    fn deliver(&mut self, envelope: &Envelope) -> bool {
        self.pass(STEP);
        let [a, b] = &mut self.nodes;
        let (node, peer) = if envelope.to == 0 { (a, b) } else { (b, a) };
        match node
            .party
            .outcome(&peer.party, self.conn_id, &envelope.inner)
        {
            OpenOutcome::Opened(opened) => {
                let new = opened.new_session.as_ref();
                let is_reset = new.is_some_and(|new| new.continuity == Continuity::Reset);
                self.resets += u32::from(is_reset);
                let is_answer_due = opened.new_session.is_some();
                node.apply_opened(*opened);
                if is_answer_due {
                    self.seal(envelope.to);
                }
                true
            }
            OpenOutcome::Rejected(rejected) => {
                self.alerts += u32::from(rejected.remedy == Remedy::AlertAndInit);
                node.apply_rejected(*rejected, envelope.accepted_at);
                false
            }
        }
    }

    /// Delivers everything in flight, and the answers to INITs. Returns whether every message
    /// opened.
    pub(super) fn deliver_all(&mut self) -> bool {
        let mut is_opened = true;
        while !self.in_flight.is_empty() {
            let in_flight = std::mem::take(&mut self.in_flight);
            for envelope in &in_flight {
                is_opened &= self.deliver(envelope);
            }
        }
        is_opened
    }

    /// Sends due INITs, lets both sides send one message, and delivers everything in flight.
    /// Returns whether every message opened.
    pub(super) fn round(&mut self) -> bool {
        self.pass(ROUND);
        for side in 0..2 {
            let node = &mut self.nodes[side];
            let due = std::mem::replace(&mut node.record.init_due, InitDue::No);
            let is_due = match due {
                InitDue::No => false,
                InitDue::IfUnconfirmed => node.party.sessions.has_unconfirmed_init(),
                InitDue::Yes => true,
            };
            if is_due {
                self.nodes[side].renew_prekeys();
                self.initiate(side, InitReason::Desync);
            }
            self.seal(side);
        }
        self.deliver_all()
    }

    pub(super) fn has_converged(&self) -> bool {
        let [a, b] = &self.nodes;
        let sessions = [&a.party.sessions, &b.party.sessions];
        sessions[0].current_id() == sessions[1].current_id()
            && sessions.iter().all(|sessions| sessions.is_confirmed())
            && a.record.init_due == InitDue::No
            && b.record.init_due == InitDue::No
    }
}
