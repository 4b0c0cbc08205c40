//! What people do about invites and connections: make invites, take them up, answer, take them back, end connections.

use super::Pairing;
use crate::{
    agenda::{HOUR, MINUTE, SECOND},
    model::Broken,
    node::Purpose,
    wire::Request,
    world::{STORM, World},
};
use sealpost_node::pairing::{self, InviteTerms};

impl World {
    pub(super) async fn invite(&mut self, number: usize) -> Result<Option<u64>, Broken> {
        let planned = &self.people.invites[number];
        let (node, kind, auto_accept, life) = (
            planned.inviter,
            planned.kind,
            planned.auto_accept,
            planned.life,
        );
        if self.nodes[node].has_left {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        let me = self.me(node);
        let terms = InviteTerms {
            kind,
            life,
            auto_accept,
        };
        let made = self
            .commit(node, move |tx| {
                let name = pairing::make_invite(tx, &me, terms)?;
                let invite = pairing::load_invite(tx, &name)?.held.invite;
                Ok((name, invite))
            })
            .await?;
        let Some((name, invite)) = made else {
            return Ok(Some(MINUTE));
        };
        self.note(&format!("node-{node} makes {name}"));
        self.people.invites[number].made = Some((name, invite));
        self.wake_all(node);
        Ok(None)
    }

    pub(super) async fn take_up(&mut self, number: usize) -> Result<Option<u64>, Broken> {
        let Pairing {
            invite,
            acceptor,
            has_given_up,
        } = self.people.pairings[number];
        let planned = &self.people.invites[invite];
        let is_hopeless =
            has_given_up || self.nodes[acceptor].has_left || self.nodes[planned.inviter].has_left;
        let is_tired = self.weeks && self.agenda.now() > STORM + 2 * HOUR;
        if is_hopeless || is_tired {
            return Ok(None);
        }
        let Some((name, invite)) = planned.made.clone() else {
            return Ok(Some(MINUTE));
        };
        if self.model.has_taken_up(acceptor, invite.id().as_bytes()) {
            return Ok(None);
        }
        if self.nodes[acceptor].is_up && self.is_published(planned.inviter, name).await? {
            let mailbox = invite.mailbox().id;
            let purpose = Purpose::Connect {
                pairing: number,
                invite: Box::new(invite),
            };
            self.ask(acceptor, &Request::Prekeys(mailbox), purpose);
        }
        Ok(Some(40 * SECOND))
    }

    /// The invite cannot be taken up: somebody sees that and asks for another one, some day.
    pub(crate) fn give_up(&mut self, pairing: usize) {
        self.people.pairings[pairing].has_given_up = true;
    }

    pub(super) async fn answer_requests(&mut self, node: usize) -> Result<Option<u64>, Broken> {
        for (name, side) in self.model.connections(node) {
            // An answer may have ended what waited beside it.
            let is_waiting = |world: &Self| {
                world
                    .model
                    .connections(node)
                    .iter()
                    .any(|(other, side)| *other == name && side.status == "pending")
            };
            if !self.nodes[node].is_up || !side.is_inviter || !is_waiting(self) {
                continue;
            }
            let is_unwelcome = self.people.is_unwelcome(&side.invite());
            let (me, connection) = (self.me(node), name.clone());
            let answered = self.commit(node, move |tx| match is_unwelcome {
                true => pairing::reject(tx, &connection, Some("we do not know you")),
                false => pairing::accept(tx, &me, &connection),
            });
            if answered.await?.is_some() {
                self.note(&format!(
                    "node-{node} {} {name}",
                    if is_unwelcome { "rejects" } else { "accepts" }
                ));
                self.wake_all(node);
            }
        }
        Ok((!self.nodes[node].has_left).then_some(10 * MINUTE))
    }

    pub(super) async fn revoke(&mut self, number: usize) -> Result<Option<u64>, Broken> {
        let planned = &self.people.invites[number];
        let node = planned.inviter;
        let Some((name, invite)) = planned.made.clone() else {
            return Ok(None);
        };
        if self.nodes[node].has_left || self.model.has_ended(invite.id().as_bytes()) {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        let revoked = name.clone();
        if self
            .commit(node, move |tx| pairing::revoke_invite(tx, &revoked))
            .await?
            .is_none()
        {
            return Ok(Some(MINUTE));
        }
        self.note(&format!("node-{node} revokes {name}"));
        self.model.revoke(invite.id().as_bytes());
        self.wake_all(node);
        Ok(None)
    }

    pub(super) async fn block(&mut self, node: usize) -> Result<Option<u64>, Broken> {
        let connections = self.model.connections(node);
        let accepted: Vec<_> = connections
            .into_iter()
            .filter(|(_, side)| side.status == "accepted")
            .collect();
        if self.nodes[node].has_left || accepted.is_empty() {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        let name = accepted[self.chance.index(accepted.len())].0.clone();
        let blocked = name.clone();
        if self
            .commit(node, move |tx| pairing::block(tx, &blocked))
            .await?
            .is_some()
        {
            self.note(&format!("node-{node} blocks {name}"));
            self.wake_all(node);
        }
        Ok(None)
    }

    /// The node's account is deleted, and the node does not come back.
    pub(super) async fn leave(&mut self, node: usize) -> Result<Option<u64>, Broken> {
        if !self.relay.is_up {
            return Ok(Some(MINUTE));
        }
        let (now, account) = (self.relay_now(), self.nodes[node].account);
        self.relay.forget_account(now, account, self.mutant).await?;
        self.note(&format!("node-{node} leaves"));
        self.model.leave(node);
        self.nodes[node].leave();
        self.wake_relay();
        Ok(None)
    }
}
