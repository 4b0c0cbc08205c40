//! User actions on invites and connections: create, use, answer, revoke, block.

use super::Pairing;
use crate::{
    model::Violation,
    node::Purpose,
    pace::Span,
    schedule::{DAY, HOUR, MINUTE, SECOND},
    simulation::Simulation,
    wire::Request,
};
use sealpost_node::pairing::{self, InviteOptions};
use sealpost_node_core::model::ConnectionStatus;

impl Simulation {
    pub(super) async fn create_invite(&mut self, number: usize) -> Result<Option<u64>, Violation> {
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
        let options = InviteOptions {
            kind,
            lifetime,
            auto_accept,
        };
        let created = self
            .commit(node, move |tx| {
                let id = pairing::create_invite(tx, &identity, options)?;
                let invite = pairing::load_invite(tx, id)?.issued.invite;
                Ok((id, invite))
            })
            .await?;
        let Some((id, invite)) = created else {
            return Ok(Some(MINUTE));
        };
        self.log(&format!("node-{node} creates {id}"));
        self.users.invites[number].created = Some((id, invite));
        self.wake_all(node);
        Ok(None)
    }

    pub(super) async fn use_invite(&mut self, number: usize) -> Result<Option<u64>, Violation> {
        let Pairing {
            invite,
            invitee,
            has_given_up,
        } = self.users.pairings[number];
        let planned = &self.users.invites[invite];
        let is_impossible = has_given_up
            || self.nodes[invitee].is_deleted
            || self.nodes[planned.inviter].is_deleted;
        let is_too_late =
            self.has_large_jumps && self.schedule.now() > self.pace.fault_phase + 2 * HOUR;
        if is_impossible || is_too_late {
            return Ok(None);
        }
        let Some((id, invite)) = planned.created.clone() else {
            return Ok(Some(MINUTE));
        };
        if self.model.has_used_invite(invitee, invite.id().as_bytes()) {
            return Ok(None);
        }
        if self.nodes[invitee].is_up && self.is_mailbox_ready(planned.inviter, id).await? {
            let mailbox = invite.mailbox().id;
            let purpose = Purpose::Connect {
                pairing: number,
                invite: Box::new(invite),
            };
            self.send_request(invitee, &Request::Prekeys(mailbox), purpose);
        }
        Ok(Some(40 * SECOND))
    }

    /// Records that the invite cannot be used, so that its user stops retrying.
    pub(crate) fn abandon_pairing(&mut self, pairing: usize) {
        self.users.pairings[pairing].has_given_up = true;
    }

    pub(super) async fn answer_requests(&mut self, node: usize) -> Result<Option<u64>, Violation> {
        for (id, side) in self.model.connections(node) {
            // Accepting one request may have ended others that were pending.
            let is_pending = |simulation: &Self| {
                simulation
                    .model
                    .connections(node)
                    .iter()
                    .any(|(other, side)| *other == id && side.status == ConnectionStatus::Pending)
            };
            if !self.nodes[node].is_up || !side.is_inviter || !is_pending(self) {
                continue;
            }
            let is_rejected = self.users.is_rejected(&side.invite());
            let (identity, connection) = (self.identity(node), id);
            let decided = self.commit(node, move |tx| match is_rejected {
                true => pairing::reject(tx, connection, Some("we do not know you")),
                false => pairing::accept(tx, &identity, connection),
            });
            if decided.await?.is_some() {
                self.log(&format!(
                    "node-{node} {} {id}",
                    if is_rejected { "rejects" } else { "accepts" }
                ));
                self.wake_all(node);
            }
        }
        let is_over = self.span == Span::Year && self.schedule.now() > 2 * DAY;
        Ok((!self.nodes[node].is_deleted && !is_over).then_some(10 * MINUTE))
    }

    pub(super) async fn revoke_invite(&mut self, number: usize) -> Result<Option<u64>, Violation> {
        let planned = &self.users.invites[number];
        let node = planned.inviter;
        let Some((id, invite)) = planned.created.clone() else {
            return Ok(None);
        };
        if self.nodes[node].is_deleted || self.model.has_ended(invite.id().as_bytes()) {
            return Ok(None);
        }
        if !self.nodes[node].is_up {
            return Ok(Some(MINUTE));
        }
        if self
            .commit(node, move |tx| pairing::revoke_invite(tx, id))
            .await?
            .is_none()
        {
            return Ok(Some(MINUTE));
        }
        self.log(&format!("node-{node} revokes {id}"));
        self.model.record_revocation(invite.id().as_bytes());
        self.wake_all(node);
        Ok(None)
    }

    pub(super) async fn block_connection(&mut self, node: usize) -> Result<Option<u64>, Violation> {
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
        let id = accepted[self.random.index(accepted.len())].0;
        if self
            .commit(node, move |tx| pairing::block(tx, id))
            .await?
            .is_some()
        {
            self.log(&format!("node-{node} blocks {id}"));
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
