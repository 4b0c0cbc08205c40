//! What was said of a batch, carried out: items end or wait on, senders are told, the lane moves.

use super::{
    CallEnd, Handed, StoreError, deliveries, lanes,
    rows::{millis, row, run, small, state_number},
    tally::{News, Tally, WAITING_COLUMNS, WaitingEnvelope, item},
};
use rusqlite::{Connection, params};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeState, Timestamp, limits::SET_ASIDE_RETRY, wire::DeliveryResults,
};
use sealpost_relay_core::{
    Effect, Event,
    answer::{self, Answer, Verdict},
    classify::Class,
};

const REFUSED: &str = "the recipient's node refused it";

/// Carries out what was said of items of one account.
struct Outcome<'a> {
    db: &'a Connection,
    now: Timestamp,
    account: AccountId,
    tally: Tally,
    stored: u64,
}

impl Outcome<'_> {
    fn apply(&mut self, answer: &Answer) -> Result<(), StoreError> {
        for (id, verdict) in &answer.verdicts {
            let state = match verdict {
                Verdict::Stored => EnvelopeState::Stored,
                Verdict::Refused => EnvelopeState::Failed,
                Verdict::Later => continue,
            };
            let reason = (state == EnvelopeState::Failed).then_some(REFUSED);
            match self.find(*id)? {
                Some(waiting) => {
                    self.stored += u64::from(state == EnvelopeState::Stored);
                    self.tally.end(self.db, self.now, &waiting, state, reason)?;
                }
                None => self.drop_event(*id)?,
            }
        }
        match answer.blamed {
            Some(id) => self.blame(id),
            None => Ok(()),
        }
    }

    fn find(&self, id: DeliveryId) -> Result<Option<WaitingEnvelope>, StoreError> {
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM envelopes WHERE id = ? AND account = ? AND state < 2"
        );
        row(
            self.db,
            &sql,
            params![item(id), self.account.as_bytes()],
            WaitingEnvelope::read,
        )
    }

    fn drop_event(&mut self, id: DeliveryId) -> Result<(), StoreError> {
        let sql = "DELETE FROM events WHERE id = ? AND account = ?";
        let gone = run(self.db, sql, params![item(id), self.account.as_bytes()])?;
        self.tally.events_left(self.account, gone);
        Ok(())
    }

    fn blame(&self, id: DeliveryId) -> Result<(), StoreError> {
        let sql = "UPDATE envelopes SET laters = laters + 1 WHERE id = ? AND account = ? AND state < 2 AND place = 0 \
                   RETURNING laters";
        let laters = row(
            self.db,
            sql,
            params![item(id), self.account.as_bytes()],
            |row| small(row, "laters"),
        )?;
        if laters.is_some_and(answer::sets_aside) {
            lanes::set_aside(
                self.db,
                self.account,
                item(id),
                self.now.plus(SET_ASIDE_RETRY),
            )?;
        }
        Ok(())
    }

    /// Counts an attempt for what still waits of a batch, and tells the senders.
    fn retry(
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
            run(
                self.db,
                "UPDATE envelopes SET state = ?, attempts = ?, reason = ?, next_attempt_at = ? WHERE id = ?",
                params![
                    state_number(state),
                    attempts,
                    reason,
                    next_attempt_at.map(millis),
                    waiting.id
                ],
            )?;
            let news = News {
                state,
                attempts,
                reason,
                next_attempt_at,
            };
            self.tally.tell(self.db, self.now, &waiting, &news)?;
        }
        Ok(())
    }

    fn set_aside(
        &mut self,
        items: &[DeliveryId],
        reason: Option<&str>,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.retry(items, reason, Some(until))?;
        for id in items {
            if !lanes::set_aside(self.db, self.account, item(*id), until)? {
                self.put_last(*id)?;
            }
        }
        Ok(())
    }

    fn perform(
        &mut self,
        effects: &[Effect],
        items: &[DeliveryId],
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        for effect in effects {
            match *effect {
                Effect::Retry { next_attempt_at } => self.retry(items, reason, next_attempt_at)?,
                Effect::SetAside { until } => self.set_aside(items, reason, until)?,
                Effect::SwitchedOff | Effect::Lease { .. } => {}
            }
        }
        Ok(())
    }

    /// An event has no hour to wait for: it goes to the end of the queue.
    fn put_last(&self, id: DeliveryId) -> Result<(), StoreError> {
        let last = lanes::next_items(self.db, 1)?;
        let sql = "UPDATE events SET id = ? WHERE id = ? AND account = ?";
        run(
            self.db,
            sql,
            params![last, item(id), self.account.as_bytes()],
        )?;
        Ok(())
    }
}

pub(super) fn finish(
    db: &Connection,
    now: Timestamp,
    end: &CallEnd,
    go_on: Option<usize>,
) -> Result<Handed, StoreError> {
    let answer = match end.class {
        Class::Answered => answer::read(&end.items, &end.results),
        Class::Unreachable
        | Class::Broke
        | Class::AskedToWait(_)
        | Class::Refused
        | Class::Gone => Answer::none(),
    };
    let Some(mut lane) = lanes::load(db, end.account)? else {
        return Ok(Handed::nothing());
    };
    let first = end.items.first().copied().unwrap_or(DeliveryId(0));
    let (fence, class, items) = (end.fence, end.class, end.items.len());
    let effects = lane.step(
        now,
        Event::Finished {
            fence,
            class,
            first,
            items,
            later: answer.later,
        },
        end.random,
    );
    let reason = end.reason.as_deref().or(answer.later.map(|_| LATER));
    let mut outcome = Outcome {
        db,
        now,
        account: end.account,
        tally: Tally::default(),
        stored: 0,
    };
    outcome.apply(&answer)?;
    outcome.perform(&effects, &end.items, reason)?;
    let stored = outcome.stored;
    let mut woken = outcome.tally.write(db, now)?;
    lanes::note(db, end.account, end.reason.as_deref())?;
    let next = match go_on {
        Some(bytes_max) => deliveries::call(db, now, end.account, &mut lane, bytes_max)?,
        None => {
            lanes::save(db, now, end.account, &lane)?;
            None
        }
    };
    if next.is_none() && lanes::has_waiting(db, end.account)? {
        woken.push(end.account);
    }
    let switched_off = effects.contains(&Effect::SwitchedOff);
    Ok(Handed {
        woken,
        next,
        heeds_contact: lane.heeds_contact(),
        switched_off,
        stored,
    })
}

const LATER: &str = "the recipient's node asked to wait";

pub(super) fn acknowledge(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    results: &DeliveryResults,
) -> Result<Handed, StoreError> {
    let mut items: Vec<_> = results.results.iter().map(|result| result.id).collect();
    items.sort_unstable();
    items.dedup();
    let answer = answer::read(&items, &results.results);
    let Some(mut lane) = lanes::load(db, account)? else {
        return Ok(Handed::nothing());
    };
    let effects = lane.step(
        now,
        Event::Acknowledged {
            fence: results.lease,
            later: answer.later,
        },
        0,
    );
    let mut outcome = Outcome {
        db,
        now,
        account,
        tally: Tally::default(),
        stored: 0,
    };
    outcome.apply(&answer)?;
    outcome.perform(&effects, &items, Some(LATER))?;
    let stored = outcome.stored;
    let mut woken = outcome.tally.write(db, now)?;
    lanes::save(db, now, account, &lane)?;
    woken.push(account);
    Ok(Handed {
        woken,
        next: None,
        heeds_contact: lane.heeds_contact(),
        switched_off: false,
        stored,
    })
}

impl Handed {
    const fn nothing() -> Self {
        Self {
            woken: Vec::new(),
            next: None,
            heeds_contact: false,
            switched_off: false,
            stored: 0,
        }
    }
}
