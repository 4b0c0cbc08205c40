//! Outcomes of batches. They complete or retry items, notify senders and advance the lane to its
//! next state.

use super::{
    BatchOutcome, CallOutcome, CallReport, StoreError, deliveries, lanes,
    queue_changes::{QueueChanges, StatusUpdate, WAITING_COLUMNS, WaitingEnvelope, item_id},
    rows::state_code,
};
use rusqlite::{Connection, params};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeState, Timestamp,
    limits::{PROBE_ITEMS_MAX, SET_ASIDE_RETRY_INTERVAL},
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
const DEFERRED: &str = "the recipient's node asked the relay to wait";

/// Changes that the outcome of a batch makes to the queue of one account.
struct OutcomeChanges<'a> {
    db: &'a Connection,
    now: Timestamp,
    account: AccountId,
    queue: QueueChanges,
    stored_count: u64,
}

impl<'a> OutcomeChanges<'a> {
    fn new(db: &'a Connection, now: Timestamp, account: AccountId) -> Self {
        Self {
            db,
            now,
            account,
            queue: QueueChanges::default(),
            stored_count: 0,
        }
    }

    fn apply_results(&mut self, results: &BatchResults) -> Result<(), StoreError> {
        for (id, verdict) in &results.verdicts {
            let (state, reason) = match verdict {
                Verdict::Stored => (EnvelopeState::Stored, None),
                Verdict::Refused => (EnvelopeState::Failed, Some(REFUSED)),
                Verdict::Deferred => continue,
            };
            match self.find_waiting(*id)? {
                Some(waiting) => {
                    self.stored_count += u64::from(state == EnvelopeState::Stored);
                    self.queue
                        .end_envelope(self.db, self.now, &waiting, state, reason)?;
                }
                None => self.delete_event(*id)?,
            }
        }
        match results.blocking_item {
            Some(id) => self.count_deferral(id),
            None => Ok(()),
        }
    }

    fn find_waiting(&self, id: DeliveryId) -> Result<Option<WaitingEnvelope>, StoreError> {
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
        item_ids: &[DeliveryId],
        reason: Option<&str>,
        next_attempt_at: Timestamp,
    ) -> Result<(), StoreError> {
        for id in item_ids {
            if let Some(waiting) = self.find_waiting(*id)? {
                let attempts = waiting.attempts.saturating_add(1);
                self.set_retrying(&waiting, attempts, reason, next_attempt_at)?;
            }
        }
        Ok(())
    }

    /// Notifies the senders of envelopes that wait behind the batch, so that a failed call of few
    /// items reports as many as a probe does.
    fn report_delay(
        &mut self,
        item_ids: &[DeliveryId],
        reason: Option<&str>,
        next_attempt_at: Timestamp,
    ) -> Result<(), StoreError> {
        let count = PROBE_ITEMS_MAX.saturating_sub(item_ids.len());
        let last = item_ids.iter().max().copied().unwrap_or(DeliveryId(0));
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM (SELECT * FROM queued_envelopes \
             WHERE account_id = ? AND id > ? ORDER BY id LIMIT ?) WHERE state = ?"
        );
        let queued = state_code(EnvelopeState::Queued);
        let params = params![self.account.as_bytes(), item_id(last), count, queued];
        for waiting in query::all_rows(self.db, &sql, params, WaitingEnvelope::read)? {
            self.set_retrying(&waiting, waiting.attempts, reason, next_attempt_at)?;
        }
        Ok(())
    }

    fn set_retrying(
        &mut self,
        waiting: &WaitingEnvelope,
        attempts: u32,
        reason: Option<&str>,
        next_attempt_at: Timestamp,
    ) -> Result<(), StoreError> {
        let state = EnvelopeState::Retrying;
        query::execute(
            self.db,
            "UPDATE envelopes SET state = ?, attempts = ?, reason = ?, next_attempt_at = ? \
             WHERE id = ?",
            params![
                state_code(state),
                attempts,
                reason,
                to_millis(next_attempt_at),
                waiting.id
            ],
        )?;
        let update = StatusUpdate {
            state,
            attempts,
            reason,
            next_attempt_at: Some(next_attempt_at),
        };
        self.queue
            .notify_sender(self.db, self.now, waiting, &update)
    }

    fn set_aside(
        &mut self,
        item_ids: &[DeliveryId],
        reason: Option<&str>,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.record_attempt(item_ids, reason, until)?;
        for id in item_ids {
            if !lanes::set_aside(self.db, self.account, item_id(*id), until)? {
                self.requeue_last(*id)?;
            }
        }
        Ok(())
    }

    fn apply_effects(
        &mut self,
        effects: &[Effect],
        item_ids: &[DeliveryId],
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        for effect in effects {
            match *effect {
                Effect::Retry { next_attempt_at } => {
                    self.record_attempt(item_ids, reason, next_attempt_at)?;
                    self.report_delay(item_ids, reason, next_attempt_at)?;
                }
                Effect::SetAside { until } => self.set_aside(item_ids, reason, until)?,
                Effect::TurnedOff | Effect::Lease { .. } => {}
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
    report: &CallReport,
    next_batch_bytes: Option<usize>,
) -> Result<BatchOutcome, StoreError> {
    let CallOutcome {
        class,
        results,
        reason,
        elapsed,
    } = &report.outcome;
    let results = match class {
        Class::Succeeded => batch_results::evaluate(&report.item_ids, results),
        Class::Unreachable
        | Class::TimedOut
        | Class::Unavailable
        | Class::EndpointError
        | Class::TooLarge
        | Class::RetryAfter(_)
        | Class::Refused
        | Class::Gone => BatchResults::empty(),
    };
    let Some(mut lane) = lanes::load(db, report.account)? else {
        return Ok(BatchOutcome::EMPTY);
    };
    let event = Event::Finished {
        fence: report.fence,
        class: *class,
        first: report.item_ids.first().copied().unwrap_or(DeliveryId(0)),
        items: report.item_ids.len(),
        bytes: report.bytes,
        elapsed: *elapsed,
        retry_after: results.retry_after,
    };
    let effects = lane.step(now, event, report.random);
    let attempt_reason = reason.as_deref().or(results.retry_after.map(|_| DEFERRED));
    let mut changes = OutcomeChanges::new(db, now, report.account);
    changes.apply_results(&results)?;
    changes.apply_effects(&effects, &report.item_ids, attempt_reason)?;
    let stored_count = changes.stored_count;
    let mut accounts_to_notify = changes.queue.write(db, now)?;
    lanes::set_reason(db, report.account, reason.as_deref())?;
    let next = match next_batch_bytes {
        Some(bytes_max) => {
            deliveries::lease_from_lane(db, now, report.account, &mut lane, bytes_max)?
        }
        None => {
            lanes::save(db, now, report.account, &lane)?;
            None
        }
    };
    if next.is_none() && lanes::has_waiting(db, report.account)? {
        accounts_to_notify.push(report.account);
    }
    Ok(BatchOutcome {
        accounts_to_notify,
        next,
        contact_ends_backoff: lane.contact_ends_backoff(),
        is_turned_off: effects.contains(&Effect::TurnedOff),
        stored_count,
    })
}

pub(super) fn acknowledge(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    results: &DeliveryResults,
) -> Result<BatchOutcome, StoreError> {
    let mut item_ids: Vec<_> = results.results.iter().map(|result| result.id).collect();
    item_ids.sort_unstable();
    item_ids.dedup();
    let evaluated = batch_results::evaluate(&item_ids, &results.results);
    let Some(mut lane) = lanes::load(db, account)? else {
        return Ok(BatchOutcome::EMPTY);
    };
    let event = Event::Acknowledged {
        fence: results.fence,
        retry_after: evaluated.retry_after,
    };
    let effects = lane.step(now, event, 0);
    let mut changes = OutcomeChanges::new(db, now, account);
    changes.apply_results(&evaluated)?;
    changes.apply_effects(&effects, &item_ids, Some(DEFERRED))?;
    let stored_count = changes.stored_count;
    let mut accounts_to_notify = changes.queue.write(db, now)?;
    lanes::save(db, now, account, &lane)?;
    accounts_to_notify.push(account);
    Ok(BatchOutcome {
        accounts_to_notify,
        next: None,
        contact_ends_backoff: lane.contact_ends_backoff(),
        is_turned_off: false,
        stored_count,
    })
}

impl BatchOutcome {
    const EMPTY: Self = Self {
        accounts_to_notify: Vec::new(),
        next: None,
        contact_ends_backoff: false,
        is_turned_off: false,
        stored_count: 0,
    };
}
