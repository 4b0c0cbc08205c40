//! What people do: make invites, take them up, accept, write and read.

use crate::{
    agenda::{HOUR, MINUTE, SECOND},
    chance::Chance,
    model::Broken,
    node::Purpose,
    wire::Request,
    world::{Happening, World},
};
use sealpost_e2ee::invite::Invite;
use sealpost_node::{
    api::model::{Direction, InviteKind},
    inbox,
    outbox::{self, Draft},
    pairing::{self, InviteTerms},
    store::{Tx, messages},
};
use sealpost_proto::limits;

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
    auto_accept: bool,
    made: Option<(String, Invite)>,
}

/// Who takes up which invite.
struct Pairing {
    invite: usize,
    acceptor: usize,
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
        let mut people = Self { invites: Vec::new(), pairings: Vec::new(), written: 0 };
        for node in 1..nodes {
            let friend = chance.index(node);
            let (inviter, acceptor) = if chance.happens(500) { (friend, node) } else { (node, friend) };
            people.plan_pairing(inviter, acceptor, chance);
            if chance.happens(300) {
                people.plan_pairing(acceptor, inviter, chance);
            }
        }
        people
    }

    fn plan_pairing(&mut self, inviter: usize, acceptor: usize, chance: &mut Chance) {
        let address =
            self.invites.iter().position(|invite| invite.inviter == inviter && invite.kind == InviteKind::Contact);
        let invite = address.unwrap_or_else(|| {
            let kind = if chance.happens(400) { InviteKind::Contact } else { InviteKind::Single };
            self.invites.push(PlannedInvite { inviter, kind, auto_accept: chance.happens(500), made: None });
            self.invites.len() - 1
        });
        self.pairings.push(Pairing { invite, acceptor });
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
        }
        acts
    }

    /// Who shall be connected: inviter, acceptor, the invite's name.
    pub(crate) fn pairings(&self) -> Vec<(usize, usize, [u8; 16])> {
        let named = |pairing: &Pairing| {
            let invite = &self.invites[pairing.invite];
            let id = invite.made.as_ref().map_or([0; 16], |(_, made)| *made.id().as_bytes());
            (invite.inviter, pairing.acceptor, id)
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
        };
        if let Some(after) = again {
            self.agenda.enter(after, Happening::Person(act));
        }
        Ok(())
    }

    async fn invite(&mut self, number: usize) -> Result<Option<u64>, Broken> {
        let planned = &self.people.invites[number];
        let (node, kind, auto_accept) = (planned.inviter, planned.kind, planned.auto_accept);
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        let me = self.me(node);
        let terms = InviteTerms { kind, life: limits::INVITE_LIFE_DEFAULT, auto_accept };
        let made = self
            .commit(node, move |tx| {
                let name = pairing::make_invite(tx, &me, terms)?;
                let invite = pairing::load_invite(tx, &name)?.held.invite;
                Ok((name, invite))
            })
            .await?;
        let Some((name, invite)) = made else { return Ok(Some(MINUTE)) };
        self.note(&format!("node-{node} makes {name}"));
        self.people.invites[number].made = Some((name, invite));
        self.wake_all(node);
        Ok(None)
    }

    async fn take_up(&mut self, number: usize) -> Result<Option<u64>, Broken> {
        let Pairing { invite, acceptor } = self.people.pairings[number];
        let planned = &self.people.invites[invite];
        let Some((name, invite)) = planned.made.clone() else { return Ok(Some(MINUTE)) };
        if self.model.has_taken_up(acceptor, invite.id().as_bytes()) {
            return Ok(None);
        }
        if self.nodes[acceptor].is_up && self.is_published(planned.inviter, name).await? {
            let mailbox = invite.mailbox().id;
            self.ask(acceptor, &Request::Prekeys(mailbox), Purpose::Connect(Box::new(invite)));
        }
        Ok(Some(40 * SECOND))
    }

    async fn answer_requests(&mut self, node: usize) -> Result<Option<u64>, Broken> {
        for (name, side) in self.model.connections(node) {
            if !self.nodes[node].is_up || !side.is_inviter || side.status != "pending" {
                continue;
            }
            let (me, connection) = (self.me(node), name.clone());
            if self.commit(node, move |tx| pairing::accept(tx, &me, &connection)).await?.is_some() {
                self.note(&format!("node-{node} accepts {name}"));
                self.wake_all(node);
            }
        }
        Ok(Some(10 * MINUTE))
    }

    async fn send(&mut self, node: usize) -> Result<Option<u64>, Broken> {
        let ready: Vec<_> =
            self.model.connections(node).into_iter().filter(|(_, side)| side.status == "accepted").collect();
        if ready.is_empty() || !self.nodes[node].is_up {
            return Ok(Some(5 * MINUTE));
        }
        let to_all = self.chance.happens(200);
        let one = self.chance.index(ready.len());
        let to: Vec<_> =
            ready.into_iter().enumerate().filter(|(at, _)| to_all || *at == one).map(|(_, (name, _))| name).collect();
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
        let job = move |tx: &mut Tx<'_>| outbox::send(tx, &me, &draft, limits::MESSAGE_FILES_BYTES_MAX);
        if self.commit(node, job).await?.is_some() {
            self.wake_all(node);
        }
        // Somebody who is in the mood writes several.
        Ok(self.chance.happens(400).then_some(SECOND))
    }

    async fn read_messages(&mut self, node: usize) -> Result<Option<u64>, Broken> {
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
            let some = unread.iter().enumerate().filter(|(at, _)| roll >> (at % 64) & 1 == 1);
            some.map(|(_, message)| message).try_for_each(|message| inbox::mark_read(tx, message))
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
