//! The reference model: what people sent and what each node's database shows of it, and nothing of how it got there. It is
//! told after every commit, and says what may not be.

mod ending;

use crate::node::{SeenConnection, SeenInvite, SeenMessage, Sight};
pub(crate) use ending::Wish;
use sealpost_proto::{DeliveryStatus, FailureCode, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What was not as promised, in words.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

/// A connection, the same for both of its sides: whose invite it came from and who took it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    invite: [u8; 16],
    acceptor: usize,
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Road {
    link: Link,
    from: usize,
}

/// A connection as one side's database shows it.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    link: Link,
    peer: usize,
    pub(crate) is_inviter: bool,
    pub(crate) status: String,
    health: String,
}

impl Side {
    /// The invite that it came from.
    pub(crate) const fn invite(&self) -> [u8; 16] {
        self.link.invite
    }

    /// Whether people write on it.
    pub(crate) fn takes_messages(&self) -> bool {
        self.status == "accepted" && self.health != "broken"
    }
}

/// What people did, and what came of it so far.
#[derive(Default)]
pub(crate) struct Model {
    fingerprints: Vec<[u8; 32]>,
    /// Clocks may be off by weeks: lives end before their time.
    weeks: bool,
    /// Nodes whose accounts were deleted.
    gone: BTreeSet<usize>,
    invites: BTreeMap<[u8; 16], Invited>,
    sides: BTreeMap<(usize, String), Side>,
    /// What somebody tried to send, by text: a node, its connections.
    intended: BTreeMap<String, (usize, BTreeSet<String>)>,
    sent: BTreeMap<Road, Vec<String>>,
    shown: BTreeMap<Road, Vec<String>>,
    read: BTreeSet<(Road, String)>,
    /// Where each message of each node belongs.
    messages: BTreeMap<(usize, String), (Road, String)>,
    statuses: BTreeMap<(usize, String), DeliveryStatus>,
}

/// An invite as the model knows it.
#[derive(Debug, Clone, Copy)]
struct Invited {
    inviter: usize,
    is_single: bool,
    expires_at: Option<Timestamp>,
    /// It was used, revoked, or has expired: nobody gets in any more.
    has_ended: bool,
}

impl Model {
    pub(crate) fn new(fingerprints: Vec<[u8; 32]>, weeks: bool) -> Self {
        Self {
            fingerprints,
            weeks,
            ..Self::default()
        }
    }

    /// A node's account is deleted: nothing reaches it any more.
    pub(crate) fn leave(&mut self, node: usize) {
        self.gone.insert(node);
    }

    /// Somebody took an invite back.
    pub(crate) fn revoke(&mut self, invite: &[u8; 16]) {
        self.invites
            .entry(*invite)
            .and_modify(|invited| invited.has_ended = true);
    }

    /// Whether lives may end on this connection before what was promised has come.
    fn is_disturbed(&self, link: Link) -> bool {
        let inviter = self
            .invites
            .get(&link.invite)
            .map(|invited| invited.inviter);
        let is_blocked = self
            .sides
            .values()
            .any(|side| side.link == link && side.status == "blocked");
        self.weeks
            || is_blocked
            || self.gone.contains(&link.acceptor)
            || inviter.is_some_and(|inviter| self.gone.contains(&inviter))
    }

    /// Whether anything ended in this run that may leave a message without an answer.
    pub(crate) fn has_disturbed(&self) -> bool {
        self.weeks
            || !self.gone.is_empty()
            || self.sides.values().any(|side| side.status == "blocked")
    }

    /// Whether nobody gets in by this invite any more.
    pub(crate) fn has_ended(&self, invite: &[u8; 16]) -> bool {
        self.invites
            .get(invite)
            .is_some_and(|invited| invited.has_ended || self.gone.contains(&invited.inviter))
    }

    /// Somebody is about to send this text, which no other message has.
    pub(crate) fn intend(&mut self, node: usize, connections: &[String], text: &str) {
        self.intended.insert(
            text.to_owned(),
            (node, connections.iter().cloned().collect()),
        );
    }

    /// A node's connections in the order of their names.
    pub(crate) fn connections(&self, node: usize) -> Vec<(String, Side)> {
        let of_node = self.sides.iter().filter(|((of, _), _)| *of == node);
        of_node
            .map(|((_, name), side)| (name.clone(), side.clone()))
            .collect()
    }

    /// Whether this node has taken up that invite.
    pub(crate) fn has_taken_up(&self, node: usize, invite: &[u8; 16]) -> bool {
        let link = Link {
            invite: *invite,
            acceptor: node,
        };
        self.sides
            .iter()
            .any(|((of, _), side)| *of == node && side.link == link)
    }

    /// Messages that people sent, one for each recipient.
    pub(crate) fn sent_count(&self) -> usize {
        self.sent.values().map(Vec::len).sum()
    }

    /// Takes in what a node's database shows after a commit.
    ///
    /// # Errors
    /// [`Broken`] when it shows what may not be.
    pub(crate) fn see(&mut self, node: usize, sight: Sight) -> Result<(), Broken> {
        self.expire_invites(node, sight.now);
        let known: BTreeSet<_> = self
            .connections(node)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        self.sides.retain(|(of, _), _| *of != node);
        for connection in sight.connections {
            let is_new = !known.contains(&connection.name);
            self.see_connection(node, connection, is_new)?;
        }
        for invite in sight.invites {
            self.see_invite(node, &invite)?;
        }
        for message in sight.messages {
            self.see_message(node, message)?;
        }
        let known = self
            .messages
            .range((node, String::new())..(node + 1, String::new()))
            .count();
        ensure(known as u64 == sight.message_count, || {
            format!("node-{node} lost a message that it had")
        })?;
        for name in sight.read {
            let entry = self.messages.get(&(node, name)).cloned();
            self.read.extend(entry);
        }
        for (message, status, code) in sight.statuses {
            self.see_status(node, message, &status, code.as_deref())?;
        }
        Ok(())
    }

    fn expire_invites(&mut self, node: usize, now: Timestamp) {
        for invited in self
            .invites
            .values_mut()
            .filter(|invited| invited.inviter == node)
        {
            invited.has_ended |= invited.expires_at.is_some_and(|end| end <= now);
        }
    }

    fn see_invite(&mut self, node: usize, seen: &SeenInvite) -> Result<(), Broken> {
        let first = Invited {
            inviter: node,
            is_single: seen.is_single,
            expires_at: seen.expires_at,
            has_ended: false,
        };
        let invited = self.invites.entry(seen.id).or_insert(first);
        let sides = self
            .sides
            .iter()
            .filter(|((of, _), side)| *of == node && side.link.invite == seen.id);
        let accepted = sides
            .filter(|(_, side)| matches!(side.status.as_str(), "accepted" | "blocked"))
            .count();
        invited.has_ended |= !seen.is_open || invited.is_single && accepted > 0;
        ensure(!seen.is_single || accepted <= 1, || {
            format!("node-{node} lets {accepted} in by an invite for one")
        })
    }

    fn see_connection(
        &mut self,
        node: usize,
        seen: SeenConnection,
        is_new: bool,
    ) -> Result<(), Broken> {
        let peer = self
            .fingerprints
            .iter()
            .position(|fingerprint| *fingerprint == seen.peer);
        let peer =
            peer.ok_or_else(|| Broken(format!("node-{node} is connected with a stranger")))?;
        let link = Link {
            invite: seen.invite,
            acceptor: if seen.is_inviter { peer } else { node },
        };
        let side = Side {
            link,
            peer,
            is_inviter: seen.is_inviter,
            status: seen.status,
            health: seen.health,
        };
        let may_break = !side.is_inviter && side.status == "pending" || self.is_disturbed(link);
        ensure(side.health != "broken" || may_break, || {
            format!("{} of node-{node} is {}", seen.name, side.health)
        })?;
        let is_late = is_new
            && side.is_inviter
            && self
                .invites
                .get(&seen.invite)
                .is_some_and(|invited| invited.has_ended);
        ensure(!is_late || side.status == "rejected", || {
            format!(
                "node-{node} hears {} at an invite that has ended",
                seen.name
            )
        })?;
        let has_twin = self
            .sides
            .iter()
            .any(|((of, _), other)| *of == node && other.link == link);
        ensure(!has_twin, || {
            format!("node-{node} made two connections of one")
        })?;
        self.sides.insert((node, seen.name), side);
        Ok(())
    }

    fn see_message(&mut self, node: usize, message: SeenMessage) -> Result<(), Broken> {
        let side = self.sides.get(&(node, message.connection.clone()));
        let side = side
            .ok_or_else(|| Broken(format!("{} of node-{node} has no connection", message.name)))?;
        let road = Road {
            link: side.link,
            from: if message.is_incoming { side.peer } else { node },
        };
        let text = message.content;
        if message.is_incoming {
            self.see_incoming(node, road, &text)?
        } else {
            self.see_outgoing(node, &message.connection, road, &text)?
        }
        self.messages.insert((node, message.name), (road, text));
        Ok(())
    }

    fn see_outgoing(
        &mut self,
        node: usize,
        connection: &str,
        road: Road,
        text: &str,
    ) -> Result<(), Broken> {
        let is_intended = self
            .intended
            .get(text)
            .is_some_and(|(of, to)| *of == node && to.contains(connection));
        ensure(is_intended, || {
            format!("node-{node} sends {text:?}, which nobody wrote")
        })?;
        let sent = self.sent.entry(road).or_default();
        ensure(!sent.iter().any(|earlier| earlier == text), || {
            format!("node-{node} sends {text:?} twice")
        })?;
        sent.push(text.to_owned());
        Ok(())
    }

    fn see_incoming(&mut self, node: usize, road: Road, text: &str) -> Result<(), Broken> {
        let sent = self.sent.get(&road).map_or(&[][..], Vec::as_slice);
        let place = |text: &str| sent.iter().position(|sent| sent == text);
        let shown = self.shown.entry(road).or_default();
        let here = place(text);
        ensure(here.is_some(), || {
            format!("node-{node} shows {text:?}, which nobody sent to it")
        })?;
        ensure(!shown.iter().any(|earlier| earlier == text), || {
            format!("node-{node} shows {text:?} twice")
        })?;
        let overtaken = shown.iter().find(|earlier| place(earlier) > here);
        ensure(overtaken.is_none(), || {
            format!("node-{node} shows {text:?} after {overtaken:?}")
        })?;
        shown.push(text.to_owned());
        Ok(())
    }

    fn see_status(
        &mut self,
        node: usize,
        message: String,
        status: &str,
        code: Option<&str>,
    ) -> Result<(), Broken> {
        let status = DeliveryStatus::parse(status);
        let status =
            status.ok_or_else(|| Broken(format!("{message} of node-{node} has no status")))?;
        let before = self.statuses.insert((node, message.clone()), status);
        if before == Some(status) {
            return Ok(());
        }
        let is_legal = before.is_none_or(|before| before.may_become(status));
        ensure(is_legal, || {
            format!("{message} of node-{node} moved from {before:?} to {status}")
        })?;
        let Some((road, text)) = self.messages.get(&(node, message)) else {
            return Err(Broken(format!(
                "node-{node} delivers a message that it has not"
            )));
        };
        let is_shown = self
            .shown
            .get(road)
            .is_some_and(|shown| shown.contains(text));
        let is_read = self.read.contains(&(*road, text.clone()));
        match status {
            DeliveryStatus::Delivered => ensure(is_shown, || {
                format!("{text:?} counts as delivered and is not there")
            }),
            DeliveryStatus::Read => ensure(is_read, || {
                format!("{text:?} counts as read, and nobody read it")
            }),
            DeliveryStatus::Failed => {
                ensure(self.is_disturbed(road.link), || {
                    format!("{text:?} failed ({code:?}) though nothing ended")
                })?;
                let has_expired = code == Some(FailureCode::Expired.as_str());
                ensure(!has_expired || self.weeks, || {
                    format!("{text:?} expired, and there was time")
                })
            }
            DeliveryStatus::Pending | DeliveryStatus::Sent | DeliveryStatus::Retrying => Ok(()),
        }
    }
}

/// Says what is broken unless it holds.
///
/// # Errors
/// [`Broken`] when it does not.
pub(crate) fn ensure(holds: bool, words: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(words())) }
}
