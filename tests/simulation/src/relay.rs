//! The relay: how it responds to each request, and the defects of the relay's mutants.

use crate::{
    fault::Mutant,
    model::{Violation, ensure},
    random::Random,
    restore::RelayBackup,
    wire::{Request, Response},
};
use sealpost_proto::{
    AccountId, EnvelopeId, ErrorCode, MailboxId, Timestamp,
    limits::{ENVELOPE_LIFETIME_DEFAULT, ENVELOPE_LIFETIME_MAX},
    wire::{
        DeliveryBatch, DeliveryOutcome, DeliveryResult, SubmitOutcome, SubmitRequest,
        SubmitResponse, SubmitResult, SubmittedEnvelope,
    },
};
use sealpost_relay::{
    StoreError,
    simulated::{Call, SimulatedRelay},
};
use std::collections::{BTreeMap, BTreeSet};

/// Requests of a thousand that an overloaded relay refuses.
const REFUSED_REQUESTS: u64 = 800;

/// Simulated relay process.
pub(crate) struct Relay {
    pub(crate) inner: SimulatedRelay,
    /// How far its clock is ahead; negative when it is behind.
    pub(crate) skew_ms: i64,
    /// Number of the current run of the process.
    pub(crate) generation: u32,
    pub(crate) is_up: bool,
    /// When it next checks for webhooks to call.
    pub(crate) next_webhook_check: Option<u64>,
    /// Active webhook calls; lost when the process stops.
    pub(crate) calls: BTreeMap<u64, ActiveCall>,
    /// Calls started by the envelopes just submitted.
    pub(crate) started_calls: Vec<(Call, DeliveryBatch)>,
    /// Envelopes that make every call carrying them fail, until faults end.
    pub(crate) poisoned: BTreeSet<EnvelopeId>,
    /// When its clock last jumped.
    last_jump: Option<u64>,
    /// The envelopes that it accepted, with the submitting account.
    pub(crate) accepted: Vec<(AccountId, EnvelopeId)>,
    /// The expiry that it promised for each accepted envelope.
    expiries: BTreeMap<EnvelopeId, Timestamp>,
    /// The mailboxes that it opened, with their accounts.
    opened: BTreeMap<MailboxId, AccountId>,
    /// Until when it is overloaded and refuses most envelopes.
    pub(crate) refuses_until: Option<u64>,
    /// Its latest backup.
    pub(crate) backup: Option<RelayBackup>,
    /// The mailboxes that it reported as closed.
    pub(crate) closed: BTreeSet<MailboxId>,
}

/// Active webhook call.
pub(crate) struct ActiveCall {
    pub(crate) call: Call,
    pub(crate) node: usize,
    /// Start of the call.
    pub(crate) started: u64,
    /// Whether it carries a poison envelope.
    pub(crate) is_poisoned: bool,
}

impl From<StoreError> for Violation {
    fn from(error: StoreError) -> Self {
        Self(format!("the relay's store: {error}"))
    }
}

impl Relay {
    pub(crate) const fn new(inner: SimulatedRelay) -> Self {
        Self {
            inner,
            skew_ms: 0,
            generation: 0,
            is_up: true,
            next_webhook_check: None,
            calls: BTreeMap::new(),
            started_calls: Vec::new(),
            poisoned: BTreeSet::new(),
            last_jump: None,
            accepted: Vec::new(),
            expiries: BTreeMap::new(),
            opened: BTreeMap::new(),
            refuses_until: None,
            backup: None,
            closed: BTreeSet::new(),
        }
    }

    /// Handles one request of an account; the commit is complete when this returns.
    pub(crate) async fn handle(
        &mut self,
        now: Timestamp,
        account: AccountId,
        request: Request,
        mutant: Option<Mutant>,
        poison: u64,
        random: &mut Random,
    ) -> Result<Response, Violation> {
        self.inner.record_contact(now, account).await?;
        Ok(match request {
            Request::Submit(request) => {
                self.submit(now, account, request, mutant, poison, random)
                    .await?
            }
            Request::Pull => {
                let batch = self.inner.pull(now, account).await?;
                self.ensure_not_expired(now, &batch)?;
                Response::Pulled(batch)
            }
            Request::Acknowledge(mut results) => {
                complete_partial_results(mutant, &mut results.results);
                if mutant != Some(Mutant::RelayIgnoresAcknowledgements) {
                    self.inner.acknowledge(now, account, results).await?;
                }
                Response::Done
            }
            Request::OpenMailbox(mailbox, key) => {
                if mutant == Some(Mutant::RelayOpensNoMailbox) {
                    return Ok(Response::Done);
                }
                let opened = self
                    .inner
                    .open_mailbox(now, account, mailbox, vec![key])
                    .await?;
                self.opened.insert(mailbox, account);
                opened.map_or_else(Response::Refused, |()| Response::Done)
            }
            Request::CloseMailbox(mailbox) => {
                if mutant != Some(Mutant::RelayClosesNoMailbox) {
                    self.inner.close_mailbox(now, account, mailbox).await?;
                }
                self.closed.insert(mailbox);
                Response::Done
            }
            Request::PublishPrekeys(mailbox, sealed) => {
                let is_open = self.inner.publish_prekeys(account, mailbox, sealed).await?;
                if is_open {
                    Response::Done
                } else {
                    Response::Refused(ErrorCode::NotFound)
                }
            }
            Request::Prekeys(mailbox) => {
                let sealed = self.inner.load_prekeys(mailbox).await?;
                sealed.map_or_else(Response::Refused, Response::Prekeys)
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
        random: &mut Random,
    ) -> Result<Response, Violation> {
        if self.refuses_until.is_some() && random.happens_per_mille(REFUSED_REQUESTS) {
            return Ok(refuse_all(&request));
        }
        if mutant == Some(Mutant::RelayReversesEnvelopes) {
            request.envelopes.reverse();
        }
        let drops_one =
            mutant == Some(Mutant::RelayDropsEnvelopes) && random.happens_per_mille(200);
        let dropped = if drops_one {
            request.envelopes.pop().map(|envelope| envelope.id)
        } else {
            None
        };
        let requested: Vec<_> = request
            .envelopes
            .iter()
            .map(|envelope| envelope.expires_at)
            .collect();
        if mutant == Some(Mutant::RelayExceedsExpiry) {
            request
                .envelopes
                .iter_mut()
                .for_each(|envelope| envelope.expires_at = Some(now.plus(ENVELOPE_LIFETIME_MAX)));
        }
        // Whether a call slot is free at that moment.
        let call_slots = random.index(2);
        let (mut response, started_calls) =
            self.inner.submit(now, account, request, call_slots).await?;
        self.started_calls = started_calls;
        for (result, requested) in response.results.iter_mut().zip(requested) {
            if let SubmitOutcome::Accepted { expires_at } = &mut result.outcome {
                if mutant == Some(Mutant::RelayExceedsExpiry) {
                    *expires_at = requested.unwrap_or(now.plus(ENVELOPE_LIFETIME_DEFAULT));
                }
                self.expiries.insert(result.id, *expires_at);
                self.accepted.push((account, result.id));
                if random.happens_per_mille(poison) {
                    self.poisoned.insert(result.id);
                }
            }
        }
        let outcome = SubmitOutcome::Accepted {
            expires_at: now.plus(ENVELOPE_LIFETIME_DEFAULT),
        };
        response
            .results
            .extend(dropped.map(|id| SubmitResult { id, outcome }));
        Ok(Response::Submitted(response))
    }

    /// Forgets the envelopes that it accepted after a backup that was restored; returns how many.
    pub(crate) fn forget_accepted(&mut self, accepted: usize) -> usize {
        let lost = self.accepted.split_off(accepted);
        lost.iter().for_each(|(_, envelope)| {
            self.expiries.remove(envelope);
        });
        lost.len()
    }

    /// Returns whether the batch carries a poison envelope.
    pub(crate) fn is_poisoned(&self, batch: &DeliveryBatch) -> bool {
        batch
            .deliveries
            .iter()
            .any(|delivery| self.poisoned.contains(&delivery.envelope))
    }

    /// Checks that no envelope of the batch has expired.
    pub(crate) fn ensure_not_expired(
        &self,
        now: Timestamp,
        batch: &DeliveryBatch,
    ) -> Result<(), Violation> {
        let has_expired = |envelope| self.expiries.get(envelope).is_some_and(|end| *end <= now);
        let expired = batch
            .deliveries
            .iter()
            .find(|delivery| has_expired(&delivery.envelope));
        ensure(expired.is_none(), || {
            "the relay delivers an expired envelope".to_owned()
        })
    }

    /// Deletes an account, as requested by its node or the operator.
    pub(crate) async fn delete_account(
        &mut self,
        now: Timestamp,
        account: AccountId,
        mutant: Option<Mutant>,
    ) -> Result<(), Violation> {
        if mutant != Some(Mutant::RelayKeepsDeletedAccount) {
            self.inner.delete_account(now, account).await?;
        }
        self.closed.extend(
            self.opened
                .iter()
                .filter(|(_, owner)| **owner == account)
                .map(|(mailbox, _)| *mailbox),
        );
        Ok(())
    }

    /// Sweeps what has expired.
    pub(crate) async fn sweep(
        &self,
        now: Timestamp,
        mutant: Option<Mutant>,
    ) -> Result<(), Violation> {
        if mutant != Some(Mutant::RelayNeverSweeps) {
            self.inner.sweep(now).await?;
        }
        Ok(())
    }

    /// Sets how far the clock is ahead from now on.
    pub(crate) fn set_clock(&mut self, at: u64, skew_ms: i64) {
        (self.skew_ms, self.last_jump) = (skew_ms, Some(at));
    }

    /// Returns whether the clock has jumped since.
    pub(crate) fn has_jumped(&self, since: u64) -> bool {
        self.last_jump.is_some_and(|at| at >= since)
    }

    /// Stops the process; active calls are lost.
    pub(crate) fn stop(&mut self) {
        self.generation += 1;
        self.is_up = false;
        self.calls.clear();
        self.started_calls.clear();
        self.next_webhook_check = None;
    }
}

/// Returns the response of a relay that is overloaded.
fn refuse_all(request: &SubmitRequest) -> Response {
    let refuse = |envelope: &SubmittedEnvelope| SubmitResult {
        id: envelope.id,
        outcome: SubmitOutcome::Refused {
            code: ErrorCode::Unavailable,
            retry_after_ms: None,
        },
    };
    Response::Submitted(SubmitResponse {
        results: request.envelopes.iter().map(refuse).collect(),
    })
}

/// Turns the results for a part of a batch into results for all of it, if the mutant does so.
pub(crate) fn complete_partial_results(mutant: Option<Mutant>, results: &mut [DeliveryResult]) {
    let has_stored = results
        .iter()
        .any(|result| result.outcome == DeliveryOutcome::Stored);
    if mutant == Some(Mutant::RelayCompletesPartialResults) && has_stored {
        results
            .iter_mut()
            .for_each(|result| result.outcome = DeliveryOutcome::Stored);
    }
}
