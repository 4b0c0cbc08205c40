//! Telling where envelopes are, taking them back.

use super::{
    Store, StoreError, lanes, mailboxes,
    rows::{maybe_time, row, rows, small, state, state_number, time},
    tally::{Tally, WAITING_COLUMNS, WaitingEnvelope},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, EnvelopeId, EnvelopeState, ErrorCode, Timestamp, wire::EnvelopeStatus,
};
use sealpost_signatures::proofs;

/// What became of the wish to take an envelope back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall {
    /// It is recalled, now or before.
    Recalled,
    /// The code of the refusal.
    Refused(ErrorCode),
}

const STATUS_COLUMNS: &str = "envelope, state, attempts, next_attempt_at, expires_at, CASE \
     WHEN state < 2 AND place = 2 THEN 'an earlier envelope of its mailbox is set aside' ELSE reason END AS reason";

impl Store {
    /// Where the account's envelopes are; ids of others are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn statuses(
        &self,
        sender: AccountId,
        ids: Vec<EnvelopeId>,
    ) -> Result<Vec<EnvelopeStatus>, StoreError> {
        let sql = format!(
            "SELECT {STATUS_COLUMNS} FROM envelopes WHERE envelope = ? AND sender = ? ORDER BY id DESC LIMIT 1"
        );
        self.read(move |db| {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                found.extend(row(
                    db,
                    &sql,
                    params![id.as_bytes(), sender.as_bytes()],
                    status,
                )?);
            }
            Ok(found)
        })
        .await
    }

    /// Takes an envelope back, unless it is out or has ended. An account of another sender sees none.
    ///
    /// # Errors
    /// [`StoreError`].
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

fn status(row: &Row<'_>) -> rusqlite::Result<EnvelopeStatus> {
    Ok(EnvelopeStatus {
        id: EnvelopeId::from_bytes(row.get("envelope")?),
        state: state(row, "state")?,
        attempts: small(row, "attempts")?,
        reason: row.get("reason")?,
        next_attempt_at: maybe_time(row, "next_attempt_at")?,
        expires_at: time(row, "expires_at")?,
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
        "SELECT {WAITING_COLUMNS}, state FROM envelopes WHERE envelope = ? AND sender = ? ORDER BY id DESC"
    );
    let found = rows(
        db,
        &sql,
        params![envelope.as_bytes(), sender.as_bytes()],
        |row| Ok((WaitingEnvelope::read(row)?, state(row, "state")?)),
    )?;
    let mut answer = Recall::Refused(ErrorCode::NotFound);
    for (waiting, state) in found {
        answer = recall_one(db, now, &waiting, state, envelope, proof)?;
        if answer == Recall::Recalled {
            break;
        }
    }
    Ok(answer)
}

fn recall_one(
    db: &Connection,
    now: Timestamp,
    waiting: &WaitingEnvelope,
    state: EnvelopeState,
    envelope: EnvelopeId,
    proof: &[u8],
) -> Result<Recall, StoreError> {
    if state_number(state) > state_number(EnvelopeState::Retrying) {
        let before = state == EnvelopeState::Recalled;
        return Ok(if before {
            Recall::Recalled
        } else {
            Recall::Refused(ErrorCode::TooLate)
        });
    }
    let keys = mailboxes::find(db, waiting.mailbox)?
        .map(|facts| facts.keys)
        .unwrap_or_default();
    if !proofs::verify_recall(&keys, waiting.mailbox, envelope, proof) {
        return Ok(Recall::Refused(ErrorCode::ProofInvalid));
    }
    if lanes::holds(db, now, waiting.account, waiting.id)? {
        return Ok(Recall::Refused(ErrorCode::TooLate));
    }
    let mut tally = Tally::default();
    tally.end(db, now, waiting, EnvelopeState::Recalled, None)?;
    tally.write(db, now)?;
    Ok(Recall::Recalled)
}
