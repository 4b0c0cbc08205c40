//! Status and recall of envelopes.

use super::{
    Store, StoreError, lanes, mailboxes,
    queue_changes::{QueueChanges, WAITING_COLUMNS, WaitingEnvelope},
    rows::{QueueState, sql_limit, state_from_code},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, EnvelopeId, EnvelopeState, ErrorCode, Timestamp, limits::ENVELOPES_WITH_SAME_ID_MAX,
    wire::EnvelopeStatus,
};
use sealpost_signatures::proofs;
use sealpost_sqlite::{RowError, RowExt as _, query};

/// Outcome of a request to recall an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecallOutcome {
    /// The envelope is recalled, now or earlier.
    Recalled,
    Refused(ErrorCode),
}

const STATUS_COLUMNS: &str =
    "envelope_id, state, attempts, next_attempt_at, expires_at, reason, queue_state";

/// Condition for a sender's envelopes with one id, the latest first. The same id can be used in any
/// number of mailboxes, of which a few are inspected.
const SAME_ID: &str = "FROM envelopes WHERE id IN \
     (SELECT id FROM envelopes WHERE envelope_id = ?1 LIMIT ?3) AND sender_id = ?2 ORDER BY id DESC";

fn row_limit() -> i64 {
    sql_limit(ENVELOPES_WITH_SAME_ID_MAX)
}

/// Reason of an envelope that is held.
const HELD: &str = "an earlier envelope of its mailbox is set aside";

impl Store {
    /// Loads the status of the sender's envelopes. Unknown ids and those of other senders are left
    /// out.
    pub(crate) async fn load_statuses(
        &self,
        sender: AccountId,
        ids: Vec<EnvelopeId>,
    ) -> Result<Vec<EnvelopeStatus>, StoreError> {
        self.read(move |db| {
            ids.into_iter()
                .filter_map(|id| load_status(db, sender, id).transpose())
                .collect()
        })
        .await
    }

    /// Recalls an envelope unless it is in a leased batch or has ended. Envelopes of other senders
    /// are `not_found`.
    pub(crate) async fn recall(
        &self,
        now: Timestamp,
        sender: AccountId,
        envelope: EnvelopeId,
        proof: Vec<u8>,
    ) -> Result<RecallOutcome, StoreError> {
        self.write(move |db| recall(db, now, sender, envelope, &proof))
            .await
    }
}

pub(super) fn load_status(
    db: &Connection,
    sender: AccountId,
    envelope: EnvelopeId,
) -> Result<Option<EnvelopeStatus>, StoreError> {
    let sql = format!("SELECT {STATUS_COLUMNS} {SAME_ID} LIMIT 1");
    let params = params![envelope.as_bytes(), sender.as_bytes(), row_limit()];
    Ok(query::first_row(db, &sql, params, read_status)?)
}

fn read_status(row: &Row<'_>) -> Result<EnvelopeStatus, RowError> {
    let state = row.convert("state", state_from_code)?;
    let is_held =
        !state.is_final() && row.convert("queue_state", QueueState::from_code)? == QueueState::Held;
    Ok(EnvelopeStatus {
        id: row.id("envelope_id")?,
        state,
        attempts: row.read("attempts")?,
        reason: if is_held {
            Some(HELD.to_owned())
        } else {
            row.read("reason")?
        },
        next_attempt_at: row.optional_timestamp("next_attempt_at")?,
        expires_at: row.timestamp("expires_at")?,
    })
}

pub(super) fn recall(
    db: &Connection,
    now: Timestamp,
    sender: AccountId,
    envelope: EnvelopeId,
    proof: &[u8],
) -> Result<RecallOutcome, StoreError> {
    let sql = format!("SELECT {WAITING_COLUMNS}, state {SAME_ID}");
    let params = params![envelope.as_bytes(), sender.as_bytes(), row_limit()];
    let found = query::all_rows(db, &sql, params, |row| {
        Ok((
            WaitingEnvelope::read(row)?,
            row.convert("state", state_from_code)?,
        ))
    })?;
    let mut outcome = RecallOutcome::Refused(ErrorCode::NotFound);
    for (waiting, state) in found {
        outcome = recall_one(db, now, &waiting, state, envelope, proof)?;
        if outcome == RecallOutcome::Recalled {
            break;
        }
    }
    Ok(outcome)
}

fn recall_one(
    db: &Connection,
    now: Timestamp,
    waiting: &WaitingEnvelope,
    state: EnvelopeState,
    envelope: EnvelopeId,
    proof: &[u8],
) -> Result<RecallOutcome, StoreError> {
    if state == EnvelopeState::Recalled {
        return Ok(RecallOutcome::Recalled);
    }
    if state.is_final() {
        return Ok(RecallOutcome::Refused(ErrorCode::TooLate));
    }
    let keys = mailboxes::find_open(db, waiting.mailbox)?
        .map(|mailbox| mailbox.keys)
        .unwrap_or_default();
    if !proofs::verify_recall(&keys, waiting.mailbox, envelope, proof) {
        return Ok(RecallOutcome::Refused(ErrorCode::ProofInvalid));
    }
    if lanes::is_leased(db, now, waiting.account, waiting.id)? {
        return Ok(RecallOutcome::Refused(ErrorCode::TooLate));
    }
    let mut changes = QueueChanges::default();
    changes.end_envelope(db, now, waiting, EnvelopeState::Recalled, None)?;
    changes.write(db, now)?;
    Ok(RecallOutcome::Recalled)
}
