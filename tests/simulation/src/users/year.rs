//! The plan of a year: a few connections, messages throughout, and disturbances.

use super::{Action, Pairing, PlannedInvite, Users};
use crate::{
    random::Random,
    restore::Restore,
    schedule::{DAY, HOUR, MINUTE},
};
use sealpost_node_core::model::InviteKind;

/// Time by which the users have connected; disturbances begin later.
const PAIRED_AFTER: u64 = 3 * DAY;
/// Backups of each node before the first disturbance.
const DISTURBED_AFTER: u64 = 10 * DAY;

impl Users {
    /// Connects every node to an earlier one.
    pub(crate) fn plan_year(nodes: usize, random: &mut Random) -> Self {
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
            let kind = if random.happens_per_mille(400) {
                InviteKind::Contact
            } else {
                InviteKind::Single
            };
            let mut invite = PlannedInvite::generate(inviter, kind, random);
            (invite.lifetime, invite.is_rejected) =
                (std::time::Duration::from_millis(7 * DAY), false);
            users.invites.push(invite);
            users.pairings.push(Pairing {
                invite: users.invites.len() - 1,
                invitee,
                has_given_up: false,
            });
        }
        users
    }

    /// Generates the actions of a year, each with its time.
    pub(crate) fn generate_year(
        &self,
        end: u64,
        nodes: usize,
        random: &mut Random,
    ) -> Vec<(u64, Action)> {
        let mut actions = Vec::new();
        for number in 0..self.invites.len() {
            actions.push((random.below(20 * MINUTE), Action::CreateInvite(number)));
            actions.push((random.below(30 * MINUTE), Action::UseInvite(number)));
        }
        for node in 0..nodes {
            actions.push((random.below(10 * MINUTE), Action::AnswerRequests(node)));
            actions.push((random.below(HOUR), Action::ReadMessages(node)));
            actions.push((random.between(PAIRED_AFTER, 5 * DAY), Action::BackUp(node)));
            let mut at = random.below(PAIRED_AFTER);
            while at < end {
                actions.push((at, Action::SendMessage(node)));
                at += random.between(HOUR, 3 * DAY);
            }
        }
        actions.push((PAIRED_AFTER, Action::BackUpRelay));
        let mut at = DISTURBED_AFTER;
        loop {
            at += random.between(5 * DAY, 45 * DAY);
            if at > end {
                break;
            }
            add_disturbance(&mut actions, at, nodes, random);
        }
        if nodes > 2 && random.happens_per_mille(150) {
            let node = random.index(nodes);
            actions.push((random.between(end / 2, end), Action::BlockConnection(node)));
        }
        if nodes > 2 && random.happens_per_mille(100) {
            let node = random.index(nodes);
            actions.push((random.between(end / 2, end), Action::DeleteAccount(node)));
        }
        actions
    }
}

/// Adds one disturbance, and messages of all nodes around it.
fn add_disturbance(actions: &mut Vec<(u64, Action)>, at: u64, nodes: usize, random: &mut Random) {
    let node = random.index(nodes);
    let restore = |node, random: &mut Random| {
        let restore = if random.happens_per_mille(500) {
            Restore::Noticed
        } else {
            Restore::Unnoticed
        };
        Action::Restore(node, restore)
    };
    match random.below(7) {
        0 | 1 => actions.push((at, restore(node, random))),
        2 => {
            // Two nodes are restored at about the same time.
            actions.push((at, restore(node, random)));
            let other = random.index(nodes);
            actions.push((at + random.below(2 * HOUR), restore(other, random)));
        }
        3 => actions.push((at, Action::RestoreRelay)),
        4 => actions.push((at, Action::RefuseEnvelopes)),
        5 => actions.push((at, Action::Outage(Some(node)))),
        _ => actions.push((at, Action::Outage(None))),
    }
    for sender in 0..nodes {
        for _ in 0..random.below(4) {
            let when = random.between(at.saturating_sub(HOUR), at + 3 * HOUR);
            actions.push((when, Action::SendMessage(sender)));
        }
    }
}
