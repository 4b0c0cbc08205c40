//! What has to be so at the end of a run: who is connected with whom, and what became of every message.

use super::{Broken, Link, Model, ensure};
use sealpost_proto::DeliveryStatus;
use std::collections::BTreeMap;

/// Who took up whose invite, and what the inviter's people meant to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) inviter: usize,
    pub(crate) acceptor: usize,
    pub(crate) invite: [u8; 16],
    pub(crate) is_unwelcome: bool,
}

impl Model {
    /// What has to be so once faults have stopped and nothing is under way.
    ///
    /// # Errors
    /// [`Broken`] says what is missing.
    pub(crate) fn check_end(&self, wishes: &[Wish]) -> Result<(), Broken> {
        wishes
            .iter()
            .try_for_each(|wish| self.check_pairing(*wish))?;
        self.check_roads()?;
        self.check_statuses()
    }

    fn check_pairing(&self, wish: Wish) -> Result<(), Broken> {
        let Wish {
            inviter,
            acceptor,
            invite,
            is_unwelcome,
        } = wish;
        let link = Link { invite, acceptor };
        let view = |node: usize| {
            let side = self
                .sides
                .iter()
                .find(|((of, _), side)| *of == node && side.link == link);
            side.map_or(("absent", ""), |(_, side)| {
                (side.status.as_str(), side.health.as_str())
            })
        };
        let ends = (view(inviter), view(acceptor));
        let is_joined = ends == (("accepted", "ok"), ("accepted", "ok"));
        let is_refused = matches!(
            ends,
            (("rejected", _), ("rejected", _))
                | (("absent", _), ("pending", "broken") | ("absent", _))
        );
        let holds = match (is_unwelcome, self.has_ended(&invite)) {
            (false, false) => is_joined,
            (false, true) => is_joined || is_refused,
            (true, _) => is_refused,
        };
        ensure(holds || self.is_disturbed(link), || {
            format!("node-{inviter} and node-{acceptor} end as {ends:?}")
        })
    }

    fn check_roads(&self) -> Result<(), Broken> {
        let undisturbed = self
            .sent
            .iter()
            .filter(|(road, _)| !self.is_disturbed(road.link));
        for (road, sent) in undisturbed {
            let shown = self.shown.get(road).map_or(&[][..], Vec::as_slice);
            let missing = sent.iter().find(|text| !shown.contains(text));
            ensure(missing.is_none(), || {
                format!("{missing:?} was sent and never shown")
            })?;
        }
        Ok(())
    }

    /// Every message has ended, and says no more than what is so. Where a life ended, or somebody is gone, it may say less.
    fn check_statuses(&self) -> Result<(), Broken> {
        let of_living = self
            .statuses
            .iter()
            .filter(|((node, _), _)| !self.gone.contains(node));
        for ((node, message), status) in of_living {
            let Some((road, text)) = self.messages.get(&(*node, message.clone())) else {
                continue;
            };
            let is_shown = self
                .shown
                .get(road)
                .is_some_and(|shown| shown.contains(text));
            let is_read = self.read.contains(&(*road, text.clone()));
            let best = if is_read {
                DeliveryStatus::Read
            } else {
                DeliveryStatus::Delivered
            };
            let holds = match (*status, self.is_disturbed(road.link)) {
                (DeliveryStatus::Failed, true) => true,
                (DeliveryStatus::Delivered, true) => is_shown,
                (status, _) => status == best && is_shown,
            };
            ensure(holds, || {
                format!("{text:?} ends as {status}; shown: {is_shown}, read: {is_read}")
            })?;
        }
        Ok(())
    }

    /// How messages ended, each word with its count.
    pub(crate) fn endings(&self) -> BTreeMap<&'static str, usize> {
        let mut endings = BTreeMap::new();
        let of_living = self
            .statuses
            .iter()
            .filter(|((node, _), _)| !self.gone.contains(node));
        for (_, status) in of_living {
            *endings.entry(status.as_str()).or_default() += 1;
        }
        endings
    }

    /// How connections ended at those who asked for them, each word with its count.
    pub(crate) fn joinings(&self) -> BTreeMap<String, usize> {
        let mut joinings = BTreeMap::new();
        let of_living = self
            .sides
            .iter()
            .filter(|((node, _), side)| !side.is_inviter && !self.gone.contains(node));
        for (_, side) in of_living {
            *joinings
                .entry(format!("{} {}", side.status, side.health))
                .or_default() += 1;
        }
        joinings
    }
}
