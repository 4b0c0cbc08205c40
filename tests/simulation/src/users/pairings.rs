//! User actions on invites and connections: create, use, answer, revoke, block.

use super::Pairing;
use crate::{
    model::Violation,
    node::Purpose,
    schedule::{HOUR, MINUTE, SECOND},
    simulation::{FAULT_PHASE, Simulation},
    wire::Request,
};
use sealpost_node::pairing::{self, InviteOptions};
use sealpost_node_core::model::ConnectionStatus;

impl Simulation {
    pub(super) async fn invite(&mut self, number: usize) -> Result<Option<u64>, Violation> {
        let planned = &self.users.invites[number];
        let (node, kind, auto_accept, lifetime) = (
            planned.inviter,
            planned.kind,
            planned.auto_accept,
            planned.lifetime,
        );
        if self.nodes[node].is_deleted {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        let identity = self.identity(node);
        let terms = InviteOptions {
            kind,
            lifetime,
            auto_accept,
        };
        let created = self
            .commit(node, move |tx| {
                let name = pairing::create_invite(tx, &identity, terms)?;
                let invite = pairing::load_invite(tx, name)?.held.invite;
                Ok((name, invite))
            })
            .await?;
        let Some((name, invite)) = created else {
            return Ok(Some(MINUTE));
        };
        self.log(&format!("node-{node} creates {name}"));
        self.users.invites[number].created = Some((name, invite));
        self.wake_all(node);
        Ok(None)
    }

    pub(super) async fn use_invite(&mut self, number: usize) -> Result<Option<u64>, Violation> {
        let Pairing {
            invite,
            acceptor,
            has_given_up,
        } = self.users.pairings[number];
        let planned = &self.users.invites[invite];
        let is_hopeless = has_given_up
            || self.nodes[acceptor].is_deleted
            || self.nodes[planned.inviter].is_deleted;
        let is_too_late = self.has_large_jumps && self.schedule.now() > FAULT_PHASE + 2 * HOUR;
        if is_hopeless || is_too_late {
            return Ok(None);
        }
        let Some((name, invite)) = planned.created.clone() else {
            return Ok(Some(MINUTE));
        };
        if self.model.has_used_invite(acceptor, invite.id().as_bytes()) {
            return Ok(None);
        }
        if self.nodes[acceptor].is_up && self.is_published(planned.inviter, name).await? {
            let mailbox = invite.mailbox().id;
            let purpose = Purpose::Connect {
                pairing: number,
                invite: Box::new(invite),
            };
            self.send_request(acceptor, &Request::Prekeys(mailbox), purpose);
        }
        Ok(Some(40 * SECOND))
    }

    /// Records that the invite cannot be used, so that its user stops retrying.
    pub(crate) fn give_up(&mut self, pairing: usize) {
        self.users.pairings[pairing].has_given_up = true;
    }

    pub(super) async fn answer_requests(&mut self, node: usize) -> Result<Option<u64>, Violation> {
        for (name, side) in self.model.connections(node) {
            // Accepting one request may have ended others that were pending.
            let is_pending = |simulation: &Self| {
                simulation
                    .model
                    .connections(node)
                    .iter()
                    .any(|(other, side)| *other == name && side.status == ConnectionStatus::Pending)
            };
            if !self.nodes[node].is_up || !side.is_inviter || !is_pending(self) {
                continue;
            }
            let is_rejected = self.users.is_rejected(&side.invite());
            let (identity, connection) = (self.identity(node), name);
            let decided = self.commit(node, move |tx| match is_rejected {
                true => pairing::reject(tx, connection, Some("we do not know you")),
                false => pairing::accept(tx, &identity, connection),
            });
            if decided.await?.is_some() {
                self.log(&format!(
                    "node-{node} {} {name}",
                    if is_rejected { "rejects" } else { "accepts" }
                ));
                self.wake_all(node);
            }
        }
        Ok((!self.nodes[node].is_deleted).then_some(10 * MINUTE))
    }

    pub(super) async fn revoke(&mut self, number: usize) -> Result<Option<u64>, Violation> {
        let planned = &self.users.invites[number];
        let node = planned.inviter;
        let Some((name, invite)) = planned.created.clone() else {
            return Ok(None);
        };
        if self.nodes[node].is_deleted || self.model.has_ended(invite.id().as_bytes()) {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        if self
            .commit(node, move |tx| pairing::revoke_invite(tx, name))
            .await?
            .is_none()
        {
            return Ok(Some(MINUTE));
        }
        self.log(&format!("node-{node} revokes {name}"));
        self.model.revoke(invite.id().as_bytes());
        self.wake_all(node);
        Ok(None)
    }

    pub(super) async fn block(&mut self, node: usize) -> Result<Option<u64>, Violation> {
        let connections = self.model.connections(node);
        let accepted: Vec<_> = connections
            .into_iter()
            .filter(|(_, side)| side.status == ConnectionStatus::Accepted)
            .collect();
        if self.nodes[node].is_deleted || accepted.is_empty() {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        let name = accepted[self.random.index(accepted.len())].0;
        if self
            .commit(node, move |tx| pairing::block(tx, name))
            .await?
            .is_some()
        {
            self.log(&format!("node-{node} blocks {name}"));
            self.wake_all(node);
        }
        Ok(None)
    }

    /// Deletes the node's account; the node does not start again.
    pub(super) async fn delete_account(&mut self, node: usize) -> Result<Option<u64>, Violation> {
        if !self.relay.is_up {
            return Ok(Some(MINUTE));
        }
        let (now, account) = (self.relay_now(), self.nodes[node].account);
        self.relay.delete_account(now, account, self.mutant).await?;
        self.log(&format!("the account of node-{node} is deleted"));
        self.model.record_deletion(node);
        self.nodes[node].delete();
        self.wake_relay();
        Ok(None)
    }
}
