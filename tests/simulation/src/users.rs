//! The actions of users and their times. Actions on invites and connections are in `pairings`.

mod pairings;
mod year;

use crate::{
    fault::Mutant,
    model::{PlannedConnection, Violation},
    node::Depth,
    random::Random,
    restore::Restore,
    schedule::{DAY, HOUR, MINUTE, SECOND},
    simulation::{Event, Simulation},
};
use sealpost_e2ee::invite::Invite;
use sealpost_node::{
    conversation,
    outbox::{self, OutgoingMessage},
    store::{Tx, postings},
};
use sealpost_node_core::model::{ContentType, Direction, InviteId, InviteKind, UserId};
use sealpost_proto::limits;
use std::time::Duration;

/// User action.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// Creates an invite.
    CreateInvite(usize),
    /// Uses an invite, and retries until that succeeds.
    UseInvite(usize),
    /// Accepts or rejects the pending requests at a node, periodically.
    AnswerRequests(usize),
    /// Sends a message from a node.
    SendMessage(usize),
    /// Reads some of the messages that arrived at a node, periodically.
    ReadMessages(usize),
    /// Revokes an invite.
    RevokeInvite(usize),
    /// Blocks one of a node's connections.
    BlockConnection(usize),
    /// Deletes a node's account.
    DeleteAccount(usize),
    /// Backs up a node, periodically.
    BackUp(usize),
    /// Sets a node back to one of its backups.
    Restore(usize, Restore),
    /// Backs up the relay, periodically.
    BackUpRelay,
    /// Sets the relay back to its latest backup.
    RestoreRelay,
    /// Makes the relay refuse envelopes for some time.
    RefuseEnvelopes,
    /// Stops a node or the relay for some time.
    Outage(Option<usize>),
}

impl Action {
    /// Returns whether the action repeats until the end of the run.
    pub(crate) const fn is_recurring(self) -> bool {
        matches!(
            self,
            Self::AnswerRequests(_) | Self::ReadMessages(_) | Self::BackUp(_) | Self::BackUpRelay
        )
    }
}

/// Probabilities, in a thousand, of the actions that end connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DisruptionRates {
    /// A node blocks one of its connections.
    pub(crate) blocked: u64,
    /// A node's account is deleted.
    pub(crate) deleted: u64,
}

impl DisruptionRates {
    /// Returns the rates of a run. `NodeNeverExpiresMessages` only has an effect on messages whose
    /// receipt cannot arrive any more.
    pub(crate) const fn for_mutant(mutant: Option<Mutant>) -> Self {
        match mutant {
            Some(Mutant::NodeNeverExpiresMessages) => Self {
                blocked: 900,
                deleted: 900,
            },
            _ => Self {
                blocked: 150,
                deleted: 400,
            },
        }
    }
}

/// Planned invite and its inviter.
struct PlannedInvite {
    inviter: usize,
    kind: InviteKind,
    lifetime: Duration,
    auto_accept: bool,
    /// Whether the inviter rejects every request made with it.
    is_rejected: bool,
    created: Option<(InviteId, Invite)>,
}

impl PlannedInvite {
    fn generate(inviter: usize, kind: InviteKind, random: &mut Random) -> Self {
        let is_short = kind == InviteKind::Single && random.happens_per_mille(200);
        let lifetime = if is_short {
            random.between(10 * MINUTE, 40 * MINUTE)
        } else {
            7 * DAY
        };
        let auto_accept = random.happens_per_mille(500);
        let is_rejected = !auto_accept && random.happens_per_mille(200);
        Self {
            inviter,
            kind,
            lifetime: Duration::from_millis(lifetime),
            auto_accept,
            is_rejected,
            created: None,
        }
    }
}

/// Planned use of an invite.
struct Pairing {
    invite: usize,
    invitee: usize,
    /// Whether the invite cannot be used any more, because it is gone or its prekeys have expired.
    has_given_up: bool,
}

/// The users of a run and their planned actions.
pub(crate) struct Users {
    invites: Vec<PlannedInvite>,
    pairings: Vec<Pairing>,
    messages_written: u64,
}

impl Users {
    /// Connects every node to an earlier one; some pairs connect twice, some share a contact
    /// address.
    pub(crate) fn plan(nodes: usize, random: &mut Random) -> Self {
        let mut users = Self {
            invites: Vec::new(),
            pairings: Vec::new(),
            messages_written: 0,
        };
        for node in 1..nodes {
            let peer = random.index(node);
            let (inviter, invitee) = if random.happens_per_mille(500) {
                (peer, node)
            } else {
                (node, peer)
            };
            users.plan_pairing(inviter, invitee, nodes, random);
            if random.happens_per_mille(300) {
                users.plan_pairing(invitee, inviter, nodes, random);
            }
        }
        users
    }

    fn plan_pairing(&mut self, inviter: usize, invitee: usize, nodes: usize, random: &mut Random) {
        let contact_address = self
            .invites
            .iter()
            .position(|invite| invite.inviter == inviter && invite.kind == InviteKind::Contact);
        let invite = contact_address.unwrap_or_else(|| {
            let kind = if random.happens_per_mille(400) {
                InviteKind::Contact
            } else {
                InviteKind::Single
            };
            self.invites
                .push(PlannedInvite::generate(inviter, kind, random));
            self.invites.len() - 1
        });
        self.pairings.push(Pairing {
            invite,
            invitee,
            has_given_up: false,
        });
        // Sometimes a user passes on a single-use invite.
        let other = (0..nodes).find(|node| *node != inviter && *node != invitee);
        if let Some(invitee) = other.filter(|_| {
            self.invites[invite].kind == InviteKind::Single && random.happens_per_mille(400)
        }) {
            self.pairings.push(Pairing {
                invite,
                invitee,
                has_given_up: false,
            });
        }
    }

    /// Generates the actions, each with its time.
    pub(crate) fn generate_actions(
        &self,
        fault_phase: u64,
        nodes: usize,
        rates: DisruptionRates,
        random: &mut Random,
    ) -> Vec<(u64, Action)> {
        let mut actions = Vec::new();
        for invite in 0..self.invites.len() {
            actions.push((random.below(20 * MINUTE), Action::CreateInvite(invite)));
        }
        for pairing in 0..self.pairings.len() {
            actions.push((random.below(30 * MINUTE), Action::UseInvite(pairing)));
        }
        for node in 0..nodes {
            actions.push((random.below(10 * MINUTE), Action::AnswerRequests(node)));
            actions.push((random.below(HOUR), Action::ReadMessages(node)));
            for _ in 0..random.between(2, 7) {
                actions.push((random.below(fault_phase), Action::SendMessage(node)));
            }
            if random.happens_per_mille(rates.blocked) {
                actions.push((
                    random.between(fault_phase / 3, fault_phase),
                    Action::BlockConnection(node),
                ));
            }
        }
        for invite in 0..self.invites.len() {
            if random.happens_per_mille(120) {
                actions.push((random.below(fault_phase), Action::RevokeInvite(invite)));
            }
        }
        if random.happens_per_mille(300) {
            actions.push((random.below(fault_phase), Action::RefuseEnvelopes));
        }
        if nodes > 2 && random.happens_per_mille(rates.deleted) {
            actions.push((
                random.between(fault_phase / 3, fault_phase),
                Action::DeleteAccount(random.index(nodes)),
            ));
        }
        actions
    }

    /// Returns whether the inviter rejects the requests made with this invite.
    pub(crate) fn is_rejected(&self, id: &[u8; 16]) -> bool {
        let mut created = self
            .invites
            .iter()
            .filter_map(|planned| Some((planned, planned.created.as_ref()?)));
        created.any(|(planned, (_, invite))| planned.is_rejected && invite.id().as_bytes() == id)
    }

    /// Returns the connections that the users tried to make.
    pub(crate) fn planned_connections(&self) -> Vec<PlannedConnection> {
        let to_planned = |pairing: &Pairing| {
            let planned = &self.invites[pairing.invite];
            let invite = planned
                .created
                .as_ref()
                .map_or([0; 16], |(_, invite)| *invite.id().as_bytes());
            let (inviter, invitee, is_rejected) =
                (planned.inviter, pairing.invitee, planned.is_rejected);
            PlannedConnection {
                inviter,
                invitee,
                invite,
                is_rejected,
            }
        };
        self.pairings.iter().map(to_planned).collect()
    }
}

impl Simulation {
    pub(crate) async fn perform_action(&mut self, action: Action) -> Result<(), Violation> {
        let repeat_after = match action {
            Action::CreateInvite(invite) => self.create_invite(invite).await?,
            Action::UseInvite(pairing) => self.use_invite(pairing).await?,
            Action::AnswerRequests(node) => self.answer_requests(node).await?,
            Action::SendMessage(node) => self.send_message(node).await?,
            Action::ReadMessages(node) => self.read_messages(node).await?,
            Action::RevokeInvite(invite) => self.revoke_invite(invite).await?,
            Action::BlockConnection(node) => self.block_connection(node).await?,
            Action::DeleteAccount(node) => self.delete_account(node).await?,
            Action::BackUp(node) => self.back_up_node(node).await?,
            Action::Restore(node, restore) => self.restore_node(node, restore).await?,
            Action::BackUpRelay => self.back_up_relay().await?,
            Action::RestoreRelay => self.restore_relay().await?,
            Action::RefuseEnvelopes => self.begin_refusals(),
            Action::Outage(node) => self.begin_outage(node)?,
        };
        if let Some(after) = repeat_after {
            self.schedule.add(after, Event::UserAction(action));
        }
        Ok(())
    }

    async fn send_message(&mut self, node: usize) -> Result<Option<u64>, Violation> {
        let ready: Vec<_> = self
            .model
            .connections(node)
            .into_iter()
            .filter(|(_, side)| side.accepts_messages())
            .collect();
        if self.nodes[node].is_deleted
            || ready.is_empty() && self.schedule.now() > self.pace.fault_phase + 4 * HOUR
        {
            return Ok(None);
        }
        if ready.is_empty() || !self.nodes[node].is_up {
            return Ok(Some(self.pace.user_retry_pause));
        }
        let to_all = self.random.happens_per_mille(200);
        let one = self.random.index(ready.len());
        let to: Vec<_> = ready
            .into_iter()
            .enumerate()
            .filter(|(at, _)| to_all || *at == one)
            .map(|(_, (id, _))| id)
            .collect();
        self.users.messages_written += 1;
        let text = format!("text {}", self.users.messages_written);
        self.model.record_intent(node, &to, &text);
        self.log(&format!("node-{node} sends {text:?} to {to:?}"));
        let outgoing = OutgoingMessage {
            to,
            content: text,
            content_type: ContentType::Markdown,
            attachments: Vec::new(),
            reply_to: None,
            action_required: false,
            deliver_by: None,
            read_by: None,
        };
        let identity = self.identity(node);
        let job = move |tx: &mut Tx<'_>| {
            outbox::send(tx, &identity, &outgoing, limits::MESSAGE_FILES_BYTES_MAX)
        };
        if self.commit(node, job).await?.is_some() {
            self.wake_all(node);
        }
        // Some users write several messages in a row.
        Ok(self.random.happens_per_mille(400).then_some(SECOND))
    }

    async fn read_messages(&mut self, node: usize) -> Result<Option<u64>, Violation> {
        if self.nodes[node].is_deleted {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        let roll = self.random.next_u64();
        let job = move |tx: &mut Tx<'_>| {
            let filter = postings::Filter {
                direction: Some(Direction::In),
                unread: true,
                limit: 100,
                ..postings::Filter::default()
            };
            let unread = postings::load_page(tx, &filter)?;
            let some = unread
                .iter()
                .enumerate()
                .filter(|(at, _)| roll >> (at % 64) & 1 == 1);
            some.map(|(_, posting)| posting.id)
                .try_for_each(|id| conversation::mark_read(tx, UserId::FIRST, id).map(|_| ()))
        };
        if self.schedule.now() > self.pace.reading_end {
            return Ok(None);
        }
        self.depth = Depth::Complete;
        if self.commit(node, job).await?.is_some() {
            self.wake_all(node);
        }
        Ok(Some(self.pace.reading_interval))
    }
}
