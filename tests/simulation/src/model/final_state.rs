//! The checks at the end of a run: the state of every connection and every message.

use super::{Link, Model, Violation, ensure};
use sealpost_proto::DeliveryStatus;
use std::collections::BTreeMap;

/// Connection that users tried to make, and whether the inviter rejects it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedConnection {
    pub(crate) inviter: usize,
    pub(crate) invitee: usize,
    pub(crate) invite: [u8; 16],
    pub(crate) is_rejected: bool,
}

impl Model {
    /// Checks the state once faults have ended and nothing is in flight.
    pub(crate) fn check_final_state(
        &self,
        planned_connections: &[PlannedConnection],
    ) -> Result<(), Violation> {
        planned_connections
            .iter()
            .try_for_each(|planned| self.check_connection(*planned))?;
        self.check_routes()?;
        self.check_statuses()
    }

    fn check_connection(&self, planned: PlannedConnection) -> Result<(), Violation> {
        let PlannedConnection {
            inviter,
            invitee,
            invite,
            is_rejected,
        } = planned;
        let link = Link { invite, invitee };
        let view = |node: usize| {
            let side = self
                .sides
                .iter()
                .find(|((of, _), side)| *of == node && side.link == link);
            side.map_or(("absent", ""), |(_, side)| {
                (side.status.as_str(), side.health.as_str())
            })
        };
        let views = (view(inviter), view(invitee));
        let is_connected = views == (("accepted", "ok"), ("accepted", "ok"));
        let is_refused = matches!(
            views,
            (("rejected", _), ("rejected", _))
                | (("absent", _), ("pending", "broken") | ("absent", _))
        );
        // By the clock of the relay, an invite may have expired earlier.
        let may_have_ended = self.has_ended(&invite) || self.has_large_jumps;
        let holds = match (is_rejected, may_have_ended) {
            (false, false) => is_connected,
            (false, true) => is_connected || is_refused,
            (true, _) => is_refused,
        };
        ensure(holds || self.is_disrupted(link), || {
            format!("node-{inviter} and node-{invitee} end as {views:?}")
        })
    }

    fn check_routes(&self) -> Result<(), Violation> {
        let undisrupted = self
            .sent
            .iter()
            .filter(|(route, _)| !self.is_disrupted(route.link));
        for (route, sent) in undisrupted {
            let received = self.received.get(route).map_or(&[][..], Vec::as_slice);
            let missing = sent.iter().find(|text| {
                let message = (*route, (*text).clone());
                !received.contains(text)
                    && !self.forgotten.contains(&message)
                    && !self.failed.contains(&message)
            });
            ensure(missing.is_none(), || {
                format!("{missing:?} was sent and never received")
            })?;
        }
        Ok(())
    }

    /// Checks that every message has the final status that matches what its recipient did. On a
    /// disrupted connection the status may be older.
    fn check_statuses(&self) -> Result<(), Violation> {
        let of_existing_nodes = self
            .statuses
            .iter()
            .filter(|((node, _), _)| !self.deleted.contains(node));
        for ((node, message), status) in of_existing_nodes {
            let Some((route, text)) = self.messages.get(&(*node, *message)) else {
                continue;
            };
            let message = (*route, text.clone());
            let is_received = self.ever_received.contains(&message);
            let is_read = self.read.contains(&message);
            let was_read = self.ever_read.contains(&message);
            let is_disrupted = self.is_disrupted(route.link);
            let holds = match *status {
                DeliveryStatus::Failed => is_disrupted || !is_received,
                DeliveryStatus::Delivered => is_received && (is_disrupted || !is_read),
                DeliveryStatus::Read => was_read,
                DeliveryStatus::Pending | DeliveryStatus::Sent | DeliveryStatus::Retrying => false,
            };
            ensure(holds, || {
                format!("{text:?} ends as {status}; received: {is_received}, read: {is_read}")
            })?;
        }
        Ok(())
    }

    /// Counts messages by their final status.
    pub(crate) fn message_outcomes(&self) -> BTreeMap<&'static str, usize> {
        let mut message_outcomes = BTreeMap::new();
        let of_existing_nodes = self
            .statuses
            .iter()
            .filter(|((node, _), _)| !self.deleted.contains(node));
        for (_, status) in of_existing_nodes {
            *message_outcomes.entry(status.as_str()).or_default() += 1;
        }
        message_outcomes
    }

    /// Counts connections by their final status and health at the requesting side.
    pub(crate) fn connection_outcomes(&self) -> BTreeMap<String, usize> {
        let mut connection_outcomes = BTreeMap::new();
        let of_existing_nodes = self
            .sides
            .iter()
            .filter(|((node, _), side)| !side.is_inviter && !self.deleted.contains(node));
        for (_, side) in of_existing_nodes {
            *connection_outcomes
                .entry(format!("{} {}", side.status, side.health))
                .or_default() += 1;
        }
        connection_outcomes
    }
}
