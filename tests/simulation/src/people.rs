//! What people do and when they mean to. What they do about invites is in `pairings`.

mod pairings;

use crate::{
    agenda::{DAY, HOUR, MINUTE, SECOND},
    chance::Chance,
    model::{Broken, Wish},
    world::{Happening, STORM, World},
};
use sealpost_e2ee::invite::Invite;
use sealpost_node::{
    api::model::{Direction, InviteKind},
    inbox,
    outbox::{self, Draft},
    store::{Tx, messages},
};
use sealpost_proto::limits;
use std::time::Duration;

/// Something that somebody does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Makes an invite.
    Invite(usize),
    /// Takes an invite up, and tries again until it is taken up.
    TakeUp(usize),
    /// Answers the requests at a node, again and again.
    Answer(usize),
    /// Sends a message from a node.
    Send(usize),
    /// Reads some of what arrived at a node, again and again.
    Read(usize),
    /// Takes an invite back.
    Revoke(usize),
    /// Ends one of a node's connections.
    Block(usize),
    /// Gives a node up.
    Leave(usize),
}

impl Act {
    /// Whether it goes on for ever.
    pub(crate) const fn is_a_habit(self) -> bool {
        matches!(self, Self::Answer(_) | Self::Read(_))
    }
}

/// An invite and who makes it.
struct PlannedInvite {
    inviter: usize,
    kind: InviteKind,
    life: Duration,
    auto_accept: bool,
    /// Whoever comes by it is told no.
    is_unwelcome: bool,
    made: Option<(String, Invite)>,
}

impl PlannedInvite {
    fn draw(inviter: usize, kind: InviteKind, chance: &mut Chance) -> Self {
        let is_short = kind == InviteKind::Single && chance.happens(200);
        let life = if is_short {
            chance.between(10 * MINUTE, 40 * MINUTE)
        } else {
            7 * DAY
        };
        let auto_accept = chance.happens(500);
        let is_unwelcome = !auto_accept && chance.happens(200);
        Self {
            inviter,
            kind,
            life: Duration::from_millis(life),
            auto_accept,
            is_unwelcome,
            made: None,
        }
    }
}

/// Who takes up which invite.
struct Pairing {
    invite: usize,
    acceptor: usize,
    /// The invite was not there any more, or its keys were too old.
    has_given_up: bool,
}

/// The people of a run and their plans.
pub(crate) struct People {
    invites: Vec<PlannedInvite>,
    pairings: Vec<Pairing>,
    written: u64,
}

impl People {
    /// Everybody knows somebody; some know each other twice, some share a contact address.
    pub(crate) fn plan(nodes: usize, chance: &mut Chance) -> Self {
        let mut people = Self {
            invites: Vec::new(),
            pairings: Vec::new(),
            written: 0,
        };
        for node in 1..nodes {
            let friend = chance.index(node);
            let (inviter, acceptor) = if chance.happens(500) {
                (friend, node)
            } else {
                (node, friend)
            };
            people.plan_pairing(inviter, acceptor, nodes, chance);
            if chance.happens(300) {
                people.plan_pairing(acceptor, inviter, nodes, chance);
            }
        }
        people
    }

    fn plan_pairing(&mut self, inviter: usize, acceptor: usize, nodes: usize, chance: &mut Chance) {
        let address = self
            .invites
            .iter()
            .position(|invite| invite.inviter == inviter && invite.kind == InviteKind::Contact);
        let invite = address.unwrap_or_else(|| {
            let kind = if chance.happens(400) {
                InviteKind::Contact
            } else {
                InviteKind::Single
            };
            self.invites
                .push(PlannedInvite::draw(inviter, kind, chance));
            self.invites.len() - 1
        });
        self.pairings.push(Pairing {
            invite,
            acceptor,
            has_given_up: false,
        });
        // Now and then somebody passes on an invite that was for one.
        let other = (0..nodes).find(|node| *node != inviter && *node != acceptor);
        if let Some(acceptor) =
            other.filter(|_| self.invites[invite].kind == InviteKind::Single && chance.happens(400))
        {
            self.pairings.push(Pairing {
                invite,
                acceptor,
                has_given_up: false,
            });
        }
    }

    /// Their acts, each with its time.
    pub(crate) fn acts(&self, storm: u64, nodes: usize, chance: &mut Chance) -> Vec<(u64, Act)> {
        let mut acts = Vec::new();
        for invite in 0..self.invites.len() {
            acts.push((chance.below(20 * MINUTE), Act::Invite(invite)));
        }
        for pairing in 0..self.pairings.len() {
            acts.push((chance.below(30 * MINUTE), Act::TakeUp(pairing)));
        }
        for node in 0..nodes {
            acts.push((chance.below(10 * MINUTE), Act::Answer(node)));
            acts.push((chance.below(HOUR), Act::Read(node)));
            for _ in 0..chance.between(2, 7) {
                acts.push((chance.below(storm), Act::Send(node)));
            }
            if chance.happens(150) {
                acts.push((chance.between(storm / 3, storm), Act::Block(node)));
            }
        }
        for invite in 0..self.invites.len() {
            if chance.happens(120) {
                acts.push((chance.below(storm), Act::Revoke(invite)));
            }
        }
        if nodes > 2 && chance.happens(400) {
            acts.push((
                chance.between(storm / 3, storm),
                Act::Leave(chance.index(nodes)),
            ));
        }
        acts
    }

    /// Whether those who come by this invite are told no.
    pub(crate) fn is_unwelcome(&self, invite: &[u8; 16]) -> bool {
        let mut made = self
            .invites
            .iter()
            .filter_map(|planned| Some((planned, planned.made.as_ref()?)));
        made.any(|(planned, (_, made))| planned.is_unwelcome && made.id().as_bytes() == invite)
    }

    /// Who tried to be connected with whom.
    pub(crate) fn wishes(&self) -> Vec<Wish> {
        let named = |pairing: &Pairing| {
            let planned = &self.invites[pairing.invite];
            let invite = planned
                .made
                .as_ref()
                .map_or([0; 16], |(_, made)| *made.id().as_bytes());
            let (inviter, acceptor, is_unwelcome) =
                (planned.inviter, pairing.acceptor, planned.is_unwelcome);
            Wish {
                inviter,
                acceptor,
                invite,
                is_unwelcome,
            }
        };
        self.pairings.iter().map(named).collect()
    }
}

impl World {
    pub(crate) async fn act(&mut self, act: Act) -> Result<(), Broken> {
        let again = match act {
            Act::Invite(invite) => self.invite(invite).await?,
            Act::TakeUp(pairing) => self.take_up(pairing).await?,
            Act::Answer(node) => self.answer_requests(node).await?,
            Act::Send(node) => self.send(node).await?,
            Act::Read(node) => self.read_messages(node).await?,
            Act::Revoke(invite) => self.revoke(invite).await?,
            Act::Block(node) => self.block(node).await?,
            Act::Leave(node) => self.leave(node).await?,
        };
        if let Some(after) = again {
            self.agenda.enter(after, Happening::Person(act));
        }
        Ok(())
    }

    async fn send(&mut self, node: usize) -> Result<Option<u64>, Broken> {
        let ready: Vec<_> = self
            .model
            .connections(node)
            .into_iter()
            .filter(|(_, side)| side.takes_messages())
            .collect();
        if self.nodes[node].has_left || ready.is_empty() && self.agenda.now() > STORM + 4 * HOUR {
            return Ok(None);
        }
        if ready.is_empty() || !self.nodes[node].is_up {
            return Ok(Some(5 * MINUTE));
        }
        let to_all = self.chance.happens(200);
        let one = self.chance.index(ready.len());
        let to: Vec<_> = ready
            .into_iter()
            .enumerate()
            .filter(|(at, _)| to_all || *at == one)
            .map(|(_, (name, _))| name)
            .collect();
        self.people.written += 1;
        let text = format!("text {}", self.people.written);
        self.model.intend(node, &to, &text);
        self.note(&format!("node-{node} sends {text:?} to {to:?}"));
        let draft = Draft {
            to,
            content: text,
            attachments: Vec::new(),
            reply_to: None,
            action_required: false,
            deliver_by: None,
            read_by: None,
        };
        let me = self.me(node);
        let job =
            move |tx: &mut Tx<'_>| outbox::send(tx, &me, &draft, limits::MESSAGE_FILES_BYTES_MAX);
        if self.commit(node, job).await?.is_some() {
            self.wake_all(node);
        }
        // Somebody who is in the mood writes several.
        Ok(self.chance.happens(400).then_some(SECOND))
    }

    async fn read_messages(&mut self, node: usize) -> Result<Option<u64>, Broken> {
        if self.nodes[node].has_left {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        let roll = self.chance.number();
        let job = move |tx: &mut Tx<'_>| {
            let filter = messages::Filter {
                direction: Some(Direction::In),
                unread: true,
                limit: 100,
                ..messages::Filter::default()
            };
            let unread = messages::page(tx, &filter)?;
            let some = unread
                .iter()
                .enumerate()
                .filter(|(at, _)| roll >> (at % 64) & 1 == 1);
            some.map(|(_, message)| message)
                .try_for_each(|message| inbox::mark_read(tx, message))
        };
        if self.agenda.now() > 4 * HOUR {
            return Ok(None);
        }
        if self.commit(node, job).await?.is_some() {
            self.wake_all(node);
        }
        Ok(Some(20 * MINUTE))
    }
}
