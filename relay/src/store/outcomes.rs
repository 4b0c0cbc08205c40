//! Outcomes of batches: items end or wait on, senders are notified, the lane moves on.

use super::{
    BatchOutcome, CallEnd, StoreError, deliveries, lanes,
    queue_changes::{QueueChanges, StatusUpdate, WAITING_COLUMNS, WaitingEnvelope, item_id},
    rows::state_code,
};
use rusqlite::{Connection, params};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeState, Timestamp, limits::SET_ASIDE_RETRY_INTERVAL,
    wire::DeliveryResults,
};
use sealpost_relay_core::{
    Effect, Event,
    batch_results::{self, BatchResults, Verdict},
    classify::Class,
};
use sealpost_sqlite::{query, to_millis};

/// Reason of an envelope that the recipient's node refused.
const REFUSED: &str = "the recipient's node refused it";
/// Reason of an envelope that the recipient's node deferred.
const DEFERRED: &str = "the recipient's node asked to wait";

/// Changes that an outcome makes for one account.
struct OutcomeChanges<'a> {
    db: &'a Connection,
    now: Timestamp,
    account: AccountId,
    queue: QueueChanges,
    stored: u64,
}

impl<'a> OutcomeChanges<'a> {
    fn new(db: &'a Connection, now: Timestamp, account: AccountId) -> Self {
        Self {
            db,
            now,
            account,
            queue: QueueChanges::default(),
            stored: 0,
        }
    }

    fn apply_results(&mut self, answer: &BatchResults) -> Result<(), StoreError> {
        for (id, verdict) in &answer.verdicts {
            let (state, reason) = match verdict {
                Verdict::Stored => (EnvelopeState::Stored, None),
                Verdict::Refused => (EnvelopeState::Failed, Some(REFUSED)),
                Verdict::Deferred => continue,
            };
            match self.find(*id)? {
                Some(waiting) => {
                    self.stored += u64::from(state == EnvelopeState::Stored);
                    self.queue
                        .end_envelope(self.db, self.now, &waiting, state, reason)?;
                }
                None => self.delete_event(*id)?,
            }
        }
        match answer.blocking_item {
            Some(id) => self.count_deferral(id),
            None => Ok(()),
        }
    }

    fn find(&self, id: DeliveryId) -> Result<Option<WaitingEnvelope>, StoreError> {
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM waiting_envelopes WHERE id = ? AND account_id = ?"
        );
        let params = params![item_id(id), self.account.as_bytes()];
        Ok(query::first_row(
            self.db,
            &sql,
            params,
            WaitingEnvelope::read,
        )?)
    }

    fn delete_event(&mut self, id: DeliveryId) -> Result<(), StoreError> {
        let sql = "DELETE FROM events WHERE id = ? AND account_id = ?";
        let params = params![item_id(id), self.account.as_bytes()];
        let deleted = query::execute(self.db, sql, params)?;
        self.queue.remove_events(self.account, deleted);
        Ok(())
    }

    fn count_deferral(&self, id: DeliveryId) -> Result<(), StoreError> {
        let sql = "UPDATE envelopes SET deferrals = deferrals + 1 WHERE id = \
                   (SELECT id FROM queued_envelopes WHERE id = ? AND account_id = ?) RETURNING \
                   deferrals";
        let params = params![item_id(id), self.account.as_bytes()];
        let deferrals = query::first_value(self.db, sql, params)?;
        if deferrals.is_some_and(batch_results::exceeds_deferral_limit) {
            let until = self.now.plus(SET_ASIDE_RETRY_INTERVAL);
            lanes::set_aside(self.db, self.account, item_id(id), until)?;
        }
        Ok(())
    }

    /// Counts an attempt for each envelope of the batch that still waits, and notifies its sender.
    fn record_attempt(
        &mut self,
        items: &[DeliveryId],
        reason: Option<&str>,
        next_attempt_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let state = EnvelopeState::Retrying;
        for id in items {
            let Some(waiting) = self.find(*id)? else {
                continue;
            };
            let attempts = waiting.attempts.saturating_add(1);
            query::execute(
                self.db,
                "UPDATE envelopes SET state = ?, attempts = ?, reason = ?, next_attempt_at = ? \
                 WHERE id = ?",
                params![
                    state_code(state),
                    attempts,
                    reason,
                    next_attempt_at.map(to_millis),
                    waiting.id
                ],
            )?;
            let update = StatusUpdate {
                state,
                attempts,
                reason,
                next_attempt_at,
            };
            self.queue
                .notify_sender(self.db, self.now, &waiting, &update)?;
        }
        Ok(())
    }

    fn set_aside(
        &mut self,
        items: &[DeliveryId],
        reason: Option<&str>,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.record_attempt(items, reason, Some(until))?;
        for id in items {
            if !lanes::set_aside(self.db, self.account, item_id(*id), until)? {
                self.requeue_last(*id)?;
            }
        }
        Ok(())
    }

    fn apply_effects(
        &mut self,
        effects: &[Effect],
        items: &[DeliveryId],
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        for effect in effects {
            match *effect {
                Effect::Retry { next_attempt_at } => {
                    self.record_attempt(items, reason, next_attempt_at)?;
                }
                Effect::SetAside { until } => self.set_aside(items, reason, until)?,
                Effect::SwitchedOff | Effect::Lease { .. } => {}
            }
        }
        Ok(())
    }

    /// Moves an event to the end of the queue: unlike an envelope, it is not set aside for a time.
    fn requeue_last(&self, id: DeliveryId) -> Result<(), StoreError> {
        let last = lanes::reserve_item_ids(self.db, 1)?;
        let sql = "UPDATE events SET id = ? WHERE id = ? AND account_id = ?";
        let params = params![last, item_id(id), self.account.as_bytes()];
        query::execute(self.db, sql, params)?;
        Ok(())
    }
}

pub(super) fn finish_call(
    db: &Connection,
    now: Timestamp,
    end: &CallEnd,
    next_batch_bytes: Option<usize>,
) -> Result<BatchOutcome, StoreError> {
    let answer = match end.class {
        Class::Succeeded => batch_results::evaluate(&end.items, &end.results),
        Class::Unreachable
        | Class::EndpointError
        | Class::RetryAfter(_)
        | Class::Refused
        | Class::Gone => BatchResults::none(),
    };
    let Some(mut lane) = lanes::load(db, end.account)? else {
        return Ok(BatchOutcome::EMPTY);
    };
    let event = Event::Finished {
        fence: end.fence,
        class: end.class,
        first: end.items.first().copied().unwrap_or(DeliveryId(0)),
        items: end.items.len(),
        retry_after: answer.retry_after,
    };
    let effects = lane.step(now, event, end.random);
    let reason = end
        .reason
        .as_deref()
        .or(answer.retry_after.map(|_| DEFERRED));
    let mut changes = OutcomeChanges::new(db, now, end.account);
    changes.apply_results(&answer)?;
    changes.apply_effects(&effects, &end.items, reason)?;
    let stored = changes.stored;
    let mut woken = changes.queue.write(db, now)?;
    lanes::set_reason(db, end.account, end.reason.as_deref())?;
    let next = match next_batch_bytes {
        Some(bytes_max) => deliveries::lease_next(db, now, end.account, &mut lane, bytes_max)?,
        None => {
            lanes::save(db, now, end.account, &lane)?;
            None
        }
    };
    if next.is_none() && lanes::has_waiting(db, end.account)? {
        woken.push(end.account);
    }
    Ok(BatchOutcome {
        woken,
        next,
        contact_ends_backoff: lane.contact_ends_backoff(),
        is_switched_off: effects.contains(&Effect::SwitchedOff),
        stored,
    })
}

pub(super) fn acknowledge(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    results: &DeliveryResults,
) -> Result<BatchOutcome, StoreError> {
    let mut items: Vec<_> = results.results.iter().map(|result| result.id).collect();
    items.sort_unstable();
    items.dedup();
    let answer = batch_results::evaluate(&items, &results.results);
    let Some(mut lane) = lanes::load(db, account)? else {
        return Ok(BatchOutcome::EMPTY);
    };
    let event = Event::Acknowledged {
        fence: results.lease,
        retry_after: answer.retry_after,
    };
    let effects = lane.step(now, event, 0);
    let mut changes = OutcomeChanges::new(db, now, account);
    changes.apply_results(&answer)?;
    changes.apply_effects(&effects, &items, Some(DEFERRED))?;
    let stored = changes.stored;
    let mut woken = changes.queue.write(db, now)?;
    lanes::save(db, now, account, &lane)?;
    woken.push(account);
    Ok(BatchOutcome {
        woken,
        next: None,
        contact_ends_backoff: lane.contact_ends_backoff(),
        is_switched_off: false,
        stored,
    })
}

impl BatchOutcome {
    const EMPTY: Self = Self {
        woken: Vec::new(),
        next: None,
        contact_ends_backoff: false,
        is_switched_off: false,
        stored: 0,
    };
}
