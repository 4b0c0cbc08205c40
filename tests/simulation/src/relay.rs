//! The relay's side: what it answers to each request, and which mistakes a mutant makes there.

use crate::{
    chance::Chance,
    fault::Mutant,
    model::{Broken, ensure},
    wire::{Answer, Request},
};
use sealpost_proto::{
    AccountId, EnvelopeId, ErrorCode, MailboxId, Timestamp,
    limits::{ENVELOPE_LIFE_DEFAULT, ENVELOPE_LIFE_MAX},
    wire::{
        DeliveryBatch, DeliveryOutcome, DeliveryResult, SubmitOutcome, SubmitRequest, SubmitResult,
    },
};
use sealpost_relay::{
    StoreError,
    bare::{BareRelay, Call},
};
use std::collections::{BTreeMap, BTreeSet};

/// The relay's process.
pub(crate) struct Relay {
    pub(crate) bare: BareRelay,
    /// Its clock is ahead by so much, or behind.
    pub(crate) skew_ms: i64,
    /// Which run of the process this is.
    pub(crate) life: u32,
    pub(crate) is_up: bool,
    /// When it looks for webhooks to call.
    pub(crate) next_look: Option<u64>,
    /// Calls of webhooks that are under way; it forgets them when it ends.
    pub(crate) calls: BTreeMap<u64, CallUnderWay>,
    /// Calls that began with what was just submitted.
    pub(crate) begun: Vec<(Call, DeliveryBatch)>,
    /// Envelopes that break every call of a webhook that carries them, until faults stop.
    pub(crate) poisoned: BTreeSet<EnvelopeId>,
    /// When its clock jumped last.
    jumped: Option<u64>,
    /// What it said `accepted` to, and to whom.
    pub(crate) accepted: Vec<(AccountId, EnvelopeId)>,
    /// Until when it said that it would try to hand over each of them.
    ends: BTreeMap<EnvelopeId, Timestamp>,
    /// Mailboxes that it opened, and for whom.
    opened: BTreeMap<MailboxId, AccountId>,
    /// Mailboxes of which it said that they are closed.
    pub(crate) closed: BTreeSet<MailboxId>,
}

/// A call of a webhook that is under way.
pub(crate) struct CallUnderWay {
    pub(crate) call: Call,
    pub(crate) node: usize,
    /// When it began.
    pub(crate) began: u64,
    /// Whether it carries an envelope that breaks it.
    pub(crate) is_poisoned: bool,
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self(format!("the relay's store: {error}"))
    }
}

impl Relay {
    pub(crate) const fn new(bare: BareRelay) -> Self {
        Self {
            bare,
            skew_ms: 0,
            life: 0,
            is_up: true,
            next_look: None,
            calls: BTreeMap::new(),
            begun: Vec::new(),
            poisoned: BTreeSet::new(),
            jumped: None,
            accepted: Vec::new(),
            ends: BTreeMap::new(),
            opened: BTreeMap::new(),
            closed: BTreeSet::new(),
        }
    }

    /// Carries out one request of an account; its commit is done when this returns.
    pub(crate) async fn answer(
        &mut self,
        now: Timestamp,
        account: AccountId,
        request: Request,
        mutant: Option<Mutant>,
        poison: u64,
        chance: &mut Chance,
    ) -> Result<Answer, Broken> {
        self.bare.contact(now, account).await?;
        Ok(match request {
            Request::Submit(request) => {
                self.submit(now, account, request, mutant, poison, chance)
                    .await?
            }
            Request::Pull => {
                let batch = self.bare.pull(now, account).await?;
                self.ensure_alive(now, &batch)?;
                Answer::Pulled(batch)
            }
            Request::Acknowledge(mut results) => {
                spoil_answer(mutant, &mut results.results);
                if mutant != Some(Mutant::RelayIgnoresAnswers) {
                    self.bare.acknowledge(now, account, results).await?;
                }
                Answer::Done
            }
            Request::OpenMailbox(mailbox, key) => {
                if mutant == Some(Mutant::RelayOpensNothing) {
                    return Ok(Answer::Done);
                }
                let opened = self
                    .bare
                    .open_mailbox(now, account, mailbox, vec![key])
                    .await?;
                self.opened.insert(mailbox, account);
                opened.map_or_else(Answer::Refused, |()| Answer::Done)
            }
            Request::CloseMailbox(mailbox) => {
                if mutant != Some(Mutant::RelayClosesNothing) {
                    self.bare.close_mailbox(now, account, mailbox).await?;
                }
                self.closed.insert(mailbox);
                Answer::Done
            }
            Request::PublishPrekeys(mailbox, sealed) => {
                let is_open = self.bare.publish_prekeys(account, mailbox, sealed).await?;
                if is_open {
                    Answer::Done
                } else {
                    Answer::Refused(ErrorCode::NotFound)
                }
            }
            Request::Prekeys(mailbox) => {
                let sealed = self.bare.prekeys(mailbox).await?;
                sealed.map_or(Answer::Refused(ErrorCode::MailboxUnknown), Answer::Prekeys)
            }
        })
    }

    async fn submit(
        &mut self,
        now: Timestamp,
        account: AccountId,
        mut request: SubmitRequest,
        mutant: Option<Mutant>,
        poison: u64,
        chance: &mut Chance,
    ) -> Result<Answer, Broken> {
        if mutant == Some(Mutant::RelayReverses) {
            request.envelopes.reverse();
        }
        let swallows = mutant == Some(Mutant::RelaySwallows) && chance.happens(200);
        let swallowed = if swallows {
            request.envelopes.pop().map(|envelope| envelope.id)
        } else {
            None
        };
        let asked: Vec<_> = request
            .envelopes
            .iter()
            .map(|envelope| envelope.expires_at)
            .collect();
        if mutant == Some(Mutant::RelayOutlivesItsWord) {
            request
                .envelopes
                .iter_mut()
                .for_each(|envelope| envelope.expires_at = Some(now.plus(ENVELOPE_LIFE_MAX)));
        }
        // Whether it has room for a call at that moment.
        let places = chance.index(2);
        let (mut response, begun) = self.bare.submit(now, account, request, places).await?;
        self.begun = begun;
        for (result, asked) in response.results.iter_mut().zip(asked) {
            if let SubmitOutcome::Accepted { expires_at } = &mut result.outcome {
                if mutant == Some(Mutant::RelayOutlivesItsWord) {
                    *expires_at = asked.unwrap_or(now.plus(ENVELOPE_LIFE_DEFAULT));
                }
                self.ends.insert(result.id, *expires_at);
                self.accepted.push((account, result.id));
                if chance.happens(poison) {
                    self.poisoned.insert(result.id);
                }
            }
        }
        let outcome = SubmitOutcome::Accepted {
            expires_at: now.plus(ENVELOPE_LIFE_DEFAULT),
        };
        response
            .results
            .extend(swallowed.map(|id| SubmitResult { id, outcome }));
        Ok(Answer::Submitted(response))
    }

    /// Whether one of its envelopes breaks the call that carries this batch.
    pub(crate) fn is_poisoned(&self, batch: &DeliveryBatch) -> bool {
        batch
            .deliveries
            .iter()
            .any(|delivery| self.poisoned.contains(&delivery.envelope))
    }

    /// What it hands over has not expired.
    pub(crate) fn ensure_alive(&self, now: Timestamp, batch: &DeliveryBatch) -> Result<(), Broken> {
        let has_expired = |envelope| self.ends.get(envelope).is_some_and(|end| *end <= now);
        let expired = batch
            .deliveries
            .iter()
            .find(|delivery| has_expired(&delivery.envelope));
        ensure(expired.is_none(), || {
            "the relay hands over what has expired".to_owned()
        })
    }

    /// The account is deleted, as its node or the operator asks.
    pub(crate) async fn forget_account(
        &mut self,
        now: Timestamp,
        account: AccountId,
        mutant: Option<Mutant>,
    ) -> Result<(), Broken> {
        if mutant != Some(Mutant::RelayKeepsWhoLeft) {
            self.bare.delete_account(now, account).await?;
        }
        self.closed.extend(
            self.opened
                .iter()
                .filter(|(_, owner)| **owner == account)
                .map(|(mailbox, _)| *mailbox),
        );
        Ok(())
    }

    /// Ends what time ends.
    pub(crate) async fn sweep(&self, now: Timestamp, mutant: Option<Mutant>) -> Result<(), Broken> {
        if mutant != Some(Mutant::RelayNeverSweeps) {
            self.bare.sweep(now).await?;
        }
        Ok(())
    }

    /// Its clock is off by so much from now on.
    pub(crate) fn jump(&mut self, at: u64, skew_ms: i64) {
        (self.skew_ms, self.jumped) = (skew_ms, Some(at));
    }

    /// Whether its clock has jumped since.
    pub(crate) fn has_jumped(&self, since: u64) -> bool {
        self.jumped.is_some_and(|at| at >= since)
    }

    /// The process ends: what was under way is forgotten.
    pub(crate) fn end(&mut self) {
        self.life += 1;
        self.is_up = false;
        self.calls.clear();
        self.begun.clear();
        self.next_look = None;
    }
}

/// The answer to a part becomes the answer to all, where a mutant takes it so.
pub(crate) fn spoil_answer(mutant: Option<Mutant>, results: &mut [DeliveryResult]) {
    let has_stored = results
        .iter()
        .any(|result| result.outcome == DeliveryOutcome::Stored);
    if mutant == Some(Mutant::RelayTakesPartForWhole) && has_stored {
        results
            .iter_mut()
            .for_each(|result| result.outcome = DeliveryOutcome::Stored);
    }
}
