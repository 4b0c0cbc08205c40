//! What came and went in one transaction, added up so that each mailbox and each lane is written once.

use super::{
    StoreError, lanes, mailboxes,
    rows::{int, millis, run, small, state_number},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{AccountId, EnvelopeState, MailboxId, Timestamp};
use sealpost_relay_core::quota::Held;
use std::collections::{BTreeMap, BTreeSet};

/// An envelope that waits, as far as ending it needs it.
#[derive(Debug, Clone)]
pub(super) struct WaitingEnvelope {
    pub(super) id: i64,
    pub(super) envelope: [u8; 16],
    pub(super) mailbox: MailboxId,
    pub(super) account: AccountId,
    pub(super) sender: AccountId,
    pub(super) size: u64,
    pub(super) attempts: u32,
    pub(super) is_set_aside: bool,
}

/// The columns that [`WaitingEnvelope::read`] takes.
pub(super) const WAITING_COLUMNS: &str =
    "id, envelope, mailbox, account, sender, size, attempts, place";

impl WaitingEnvelope {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            envelope: row.get("envelope")?,
            mailbox: MailboxId::from_bytes(row.get("mailbox")?),
            account: AccountId::from_bytes(row.get("account")?),
            sender: AccountId::from_bytes(row.get("sender")?),
            size: super::rows::count(row, "size")?,
            attempts: small(row, "attempts")?,
            is_set_aside: small(row, "place")? == 1,
        })
    }
}

/// What a sender is told.
pub(super) struct News<'a> {
    pub(super) state: EnvelopeState,
    pub(super) attempts: u32,
    pub(super) reason: Option<&'a str>,
    pub(super) next_attempt_at: Option<Timestamp>,
}

#[derive(Default, Clone, Copy)]
struct Change<T> {
    came: T,
    left: T,
}

/// What comes into a lane or leaves it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Items {
    pub(super) envelopes: Held,
    pub(super) events: u64,
}

/// An account for which something waits now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Woken {
    /// Whose lane.
    pub(crate) account: AccountId,
    /// When the scheduler has to look at it; absent while its webhook is not called.
    pub(crate) due_at: Option<Timestamp>,
    /// Whether its webhook can be called at once, and the last call was answered.
    pub(crate) is_callable: bool,
}

/// What came and went.
#[derive(Default)]
pub(super) struct Tally {
    mailboxes: BTreeMap<MailboxId, Change<Held>>,
    lanes: BTreeMap<AccountId, Change<Items>>,
    /// Lanes whose queue holds again what waited behind something.
    let_on: BTreeSet<AccountId>,
}

impl Tally {
    pub(super) fn envelope_came(&mut self, mailbox: MailboxId, account: AccountId, size: u64) {
        let held = &mut self.mailboxes.entry(mailbox).or_default().came;
        held.add(size);
        self.lanes
            .entry(account)
            .or_default()
            .came
            .envelopes
            .add(size);
    }

    fn envelope_left(&mut self, waiting: &WaitingEnvelope) {
        let held = &mut self.mailboxes.entry(waiting.mailbox).or_default().left;
        held.add(waiting.size);
        self.lanes
            .entry(waiting.account)
            .or_default()
            .left
            .envelopes
            .add(waiting.size);
    }

    pub(super) fn events_left(&mut self, account: AccountId, count: usize) {
        if count > 0 {
            self.lanes.entry(account).or_default().left.events += count as u64;
        }
    }

    /// Ends an envelope that waits: its bytes go, and unless it was stored or recalled its sender is told.
    pub(super) fn end(
        &mut self,
        db: &Connection,
        now: Timestamp,
        waiting: &WaitingEnvelope,
        state: EnvelopeState,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        run(
            db,
            "UPDATE envelopes SET state = ?, reason = ?, next_attempt_at = NULL, set_aside_until = NULL WHERE id = ?",
            params![state_number(state), reason, waiting.id],
        )?;
        run(db, "DELETE FROM bodies WHERE id = ?", [waiting.id])?;
        self.envelope_left(waiting);
        if waiting.is_set_aside {
            lanes::let_on(db, waiting.account, waiting.mailbox)?;
            self.let_on.insert(waiting.account);
        }
        match state {
            EnvelopeState::Stored | EnvelopeState::Recalled if waiting.attempts == 0 => Ok(()),
            EnvelopeState::Stored | EnvelopeState::Recalled => self.forget_news(db, waiting),
            EnvelopeState::Queued
            | EnvelopeState::Retrying
            | EnvelopeState::Expired
            | EnvelopeState::Failed => {
                let news = News {
                    state,
                    attempts: waiting.attempts,
                    reason,
                    next_attempt_at: None,
                };
                self.tell(db, now, waiting, &news)
            }
        }
    }

    /// Tells the sender of an envelope; earlier news of it that still waits is replaced. A sender that left is not told.
    pub(super) fn tell(
        &mut self,
        db: &Connection,
        now: Timestamp,
        waiting: &WaitingEnvelope,
        news: &News<'_>,
    ) -> Result<(), StoreError> {
        self.forget_news(db, waiting)?;
        let id = lanes::next_items(db, 1)?;
        let told = run(
            db,
            "INSERT INTO events (id, account, envelope, state, attempts, reason, next_attempt_at, at) \
             SELECT ?, account, ?, ?, ?, ?, ?, ? FROM lanes WHERE account = ?",
            params![
                id,
                waiting.envelope,
                state_number(news.state),
                news.attempts,
                news.reason,
                news.next_attempt_at.map(millis),
                millis(now),
                waiting.sender.as_bytes()
            ],
        )?;
        self.lanes.entry(waiting.sender).or_default().came.events += told as u64;
        Ok(())
    }

    fn forget_news(
        &mut self,
        db: &Connection,
        waiting: &WaitingEnvelope,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM events WHERE account = ? AND envelope = ?";
        let gone = run(
            db,
            sql,
            params![waiting.sender.as_bytes(), waiting.envelope],
        )?;
        self.events_left(waiting.sender, gone);
        Ok(())
    }

    /// Writes it all down; gives the accounts for which something came.
    pub(super) fn write(
        self,
        db: &Connection,
        now: Timestamp,
    ) -> Result<Vec<AccountId>, StoreError> {
        Ok(self
            .write_lanes(db, now)?
            .into_iter()
            .map(|woken| woken.account)
            .collect())
    }

    /// The same, for who calls those that can be called without looking for them.
    pub(super) fn write_lanes(
        self,
        db: &Connection,
        now: Timestamp,
    ) -> Result<Vec<Woken>, StoreError> {
        for (mailbox, change) in self.mailboxes {
            mailboxes::change_held(db, mailbox, change.came, change.left)?;
        }
        let mut woken = Vec::new();
        for (account, change) in self.lanes {
            if change.came == Items::default() {
                lanes::count_left(db, account, change.left)?;
            } else {
                woken.push(lanes::count(db, now, account, change.came, change.left)?);
            }
        }
        for account in self.let_on {
            lanes::refresh(db, now, account)?;
            woken.push(Woken {
                account,
                due_at: Some(now),
                is_callable: false,
            });
        }
        Ok(woken)
    }
}

/// The number of an item on the wire, as a row has it.
pub(super) fn item(id: sealpost_proto::DeliveryId) -> i64 {
    int(id.0)
}
