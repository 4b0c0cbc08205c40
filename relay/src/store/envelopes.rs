//! Status and recall of envelopes.

use super::{
    Store, StoreError, lanes, mailboxes,
    queue_changes::{QueueChanges, WAITING_COLUMNS, WaitingEnvelope},
    rows::{QueueState, state_from_code},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, EnvelopeId, EnvelopeState, ErrorCode, Timestamp, wire::EnvelopeStatus,
};
use sealpost_signatures::proofs;
use sealpost_sqlite::{RowError, RowExt as _, query};

/// Outcome of a request to recall an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall {
    /// The envelope is recalled, now or earlier.
    Recalled,
    Refused(ErrorCode),
}

const STATUS_COLUMNS: &str =
    "envelope_id, state, attempts, next_attempt_at, expires_at, reason, queue_state";

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
        let sql = format!(
            "SELECT {STATUS_COLUMNS} FROM envelopes WHERE envelope_id = ? AND sender_id = ? \
             ORDER BY id DESC LIMIT 1"
        );
        self.read(move |db| {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let params = params![id.as_bytes(), sender.as_bytes()];
                found.extend(query::first_row(db, &sql, params, read_status)?);
            }
            Ok(found)
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
    ) -> Result<Recall, StoreError> {
        self.write(move |db| recall(db, now, sender, envelope, &proof))
            .await
    }
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

fn recall(
    db: &Connection,
    now: Timestamp,
    sender: AccountId,
    envelope: EnvelopeId,
    proof: &[u8],
) -> Result<Recall, StoreError> {
    let sql = format!(
        "SELECT {WAITING_COLUMNS}, state FROM envelopes WHERE envelope_id = ? AND sender_id = ? \
         ORDER BY id DESC"
    );
    let params = params![envelope.as_bytes(), sender.as_bytes()];
    let found = query::all_rows(db, &sql, params, |row| {
        Ok((
            WaitingEnvelope::read(row)?,
            row.convert("state", state_from_code)?,
        ))
    })?;
    let mut outcome = Recall::Refused(ErrorCode::NotFound);
    for (waiting, state) in found {
        outcome = recall_one(db, now, &waiting, state, envelope, proof)?;
        if outcome == Recall::Recalled {
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
) -> Result<Recall, StoreError> {
    if state == EnvelopeState::Recalled {
        return Ok(Recall::Recalled);
    }
    if state.is_final() {
        return Ok(Recall::Refused(ErrorCode::TooLate));
    }
    let keys = mailboxes::find_open(db, waiting.mailbox)?
        .map(|mailbox| mailbox.keys)
        .unwrap_or_default();
    if !proofs::verify_recall(&keys, waiting.mailbox, envelope, proof) {
        return Ok(Recall::Refused(ErrorCode::ProofInvalid));
    }
    if lanes::is_leased(db, now, waiting.account, waiting.id)? {
        return Ok(Recall::Refused(ErrorCode::TooLate));
    }
    let mut changes = QueueChanges::default();
    changes.end_envelope(db, now, waiting, EnvelopeState::Recalled, None)?;
    changes.write(db, now)?;
    Ok(Recall::Recalled)
}
