//! Accepting envelopes, telling where they are, taking them back.

use super::{
    Store, StoreError, lanes,
    mailboxes::{self, OpenMailboxFacts},
    rows::{int, maybe_time, millis, row, rows, run, small, state, state_number, time},
    tally::{Tally, WAITING_COLUMNS, WaitingEnvelope},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, EnvelopeId, EnvelopeState, ErrorCode, MailboxId, Origin, Timestamp,
    time::millis as duration_millis,
    wire::{EnvelopeStatus, SubmitOutcome, SubmitResult, SubmittedEnvelope},
};
use sealpost_relay_core::{
    Quotas,
    accept::{self, Facts, Known, Verdict},
};
use sealpost_signatures::proofs;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// One envelope as it was submitted.
#[derive(Debug)]
pub(crate) struct Submission {
    /// Made by the sending node.
    pub(crate) id: EnvelopeId,
    /// Where to.
    pub(crate) mailbox: MailboxId,
    /// Whether the mailbox's reference names this relay.
    pub(crate) home: bool,
    /// The proof that came with it.
    pub(crate) proof: Vec<u8>,
    /// The expiry that was asked for.
    pub(crate) asked_expiry: Option<Timestamp>,
    /// SHA-256 of the bytes.
    pub(crate) digest: [u8; 32],
    /// The envelope.
    pub(crate) bytes: Vec<u8>,
}

impl Submission {
    /// Takes an envelope off the wire; `home` is this relay.
    #[must_use]
    pub(crate) fn new(home: &Origin, envelope: SubmittedEnvelope) -> Self {
        Self {
            id: envelope.id,
            mailbox: envelope.mailbox.id,
            home: envelope.mailbox.relay == *home,
            proof: envelope.proof.0,
            asked_expiry: envelope.expires_at,
            digest: Sha256::digest(envelope.bytes.as_slice()).into(),
            bytes: envelope.bytes.0,
        }
    }
}

/// What became of a request of envelopes.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// One for each, in their order.
    pub(crate) results: Vec<SubmitResult>,
    /// The accounts for which something waits now.
    pub(crate) woken: Vec<AccountId>,
}

/// What became of the wish to take an envelope back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall {
    /// It is recalled, now or before.
    Recalled,
    /// The code of the refusal.
    Refused(ErrorCode),
}

const STATUS_COLUMNS: &str = "envelope, state, attempts, reason, next_attempt_at, expires_at";

impl Store {
    /// Decides about a request of envelopes and writes down what is accepted, all in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of it was accepted.
    pub(crate) async fn submit(
        &self,
        now: Timestamp,
        sender: AccountId,
        submissions: Vec<Submission>,
        quotas: Quotas,
    ) -> Result<Submitted, StoreError> {
        self.write(move |db| Desk::open(db, now, sender, &quotas, submissions.len())?.submit(submissions)).await
    }

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
                found.extend(row(db, &sql, params![id.as_bytes(), sender.as_bytes()], status)?);
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
        self.write(move |db| recall(db, now, sender, envelope, &proof)).await
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

/// Where one request of envelopes is decided.
struct Desk<'a> {
    db: &'a Connection,
    now: Timestamp,
    sender: AccountId,
    quotas: &'a Quotas,
    next_id: i64,
    mailboxes: BTreeMap<MailboxId, Slot>,
    tally: Tally,
}

/// A mailbox that the request names.
struct Slot {
    facts: Option<OpenMailboxFacts>,
    refused: bool,
}

impl<'a> Desk<'a> {
    fn open(
        db: &'a Connection,
        now: Timestamp,
        sender: AccountId,
        quotas: &'a Quotas,
        count: usize,
    ) -> Result<Self, StoreError> {
        let next_id = lanes::next_items(db, count)?;
        Ok(Self { db, now, sender, quotas, next_id, mailboxes: BTreeMap::new(), tally: Tally::default() })
    }

    fn submit(mut self, submissions: Vec<Submission>) -> Result<Submitted, StoreError> {
        let mut results = Vec::with_capacity(submissions.len());
        for submission in submissions {
            let id = submission.id;
            results.push(SubmitResult { id, outcome: self.decide(&submission)? });
        }
        let woken = self.tally.write(self.db, self.now)?;
        Ok(Submitted { results, woken })
    }

    fn decide(&mut self, submission: &Submission) -> Result<SubmitOutcome, StoreError> {
        let facts = self.facts(submission)?;
        let verdict = accept::decide(self.now, self.quotas, facts);
        match verdict {
            Verdict::Accept { expires_at } => {
                self.write_down(submission, expires_at)?;
                Ok(SubmitOutcome::Accepted { expires_at })
            }
            Verdict::Duplicate { state } => Ok(SubmitOutcome::Duplicate { state }),
            Verdict::Refuse(refusal) => {
                if let Some(slot) = self.mailboxes.get_mut(&submission.mailbox) {
                    slot.refused |= refusal.is_passing();
                }
                Ok(SubmitOutcome::Refused {
                    code: refusal.code,
                    retry_after_ms: refusal.retry_after.map(duration_millis),
                })
            }
        }
    }

    fn facts(&mut self, submission: &Submission) -> Result<Facts, StoreError> {
        let known = self.known(submission)?;
        let slot = self.slot(submission.mailbox)?;
        let keys = slot.facts.as_ref().map_or(&[][..], |facts| &facts.keys);
        let proof_good =
            proofs::verify_post(keys, submission.mailbox, submission.id, &submission.digest, &submission.proof);
        Ok(Facts {
            home: submission.home,
            size_bytes: submission.bytes.len(),
            asked_expiry: submission.asked_expiry,
            mailbox: slot.facts.as_ref().map(|facts| facts.held),
            proof_good,
            known,
            after_refused: slot.refused,
        })
    }

    fn known(&self, submission: &Submission) -> Result<Option<Known>, StoreError> {
        let sql = "SELECT digest, sender, state FROM envelopes WHERE envelope = ? AND mailbox = ?";
        row(self.db, sql, params![submission.id.as_bytes(), submission.mailbox.as_bytes()], |row| {
            Ok(Known {
                same_digest: row.get::<_, [u8; 32]>("digest")? == submission.digest,
                same_sender: row.get::<_, [u8; 16]>("sender")? == *self.sender.as_bytes(),
                state: state(row, "state")?,
            })
        })
    }

    fn slot(&mut self, mailbox: MailboxId) -> Result<&mut Slot, StoreError> {
        use std::collections::btree_map::Entry;
        match self.mailboxes.entry(mailbox) {
            Entry::Occupied(slot) => Ok(slot.into_mut()),
            Entry::Vacant(slot) => Ok(slot.insert(Slot { facts: mailboxes::find(self.db, mailbox)?, refused: false })),
        }
    }

    fn write_down(&mut self, submission: &Submission, expires_at: Timestamp) -> Result<(), StoreError> {
        let size = submission.bytes.len() as u64;
        let Some(Slot { facts: Some(facts), .. }) = self.mailboxes.get_mut(&submission.mailbox) else {
            return Ok(());
        };
        facts.held.envelopes += 1;
        facts.held.bytes += size;
        let id = self.next_id;
        self.next_id += 1;
        run(
            self.db,
            "INSERT INTO envelopes (id, envelope, mailbox, account, sender, digest, size, accepted_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                id,
                submission.id.as_bytes(),
                submission.mailbox.as_bytes(),
                facts.account.as_bytes(),
                self.sender.as_bytes(),
                submission.digest,
                int(size),
                millis(self.now),
                millis(expires_at)
            ],
        )?;
        run(self.db, "INSERT INTO bodies (id, bytes) VALUES (?, ?)", params![id, submission.bytes])?;
        self.tally.envelope_came(submission.mailbox, facts.account, size);
        Ok(())
    }
}

fn recall(
    db: &Connection,
    now: Timestamp,
    sender: AccountId,
    envelope: EnvelopeId,
    proof: &[u8],
) -> Result<Recall, StoreError> {
    let sql =
        format!("SELECT {WAITING_COLUMNS}, state FROM envelopes WHERE envelope = ? AND sender = ? ORDER BY id DESC");
    let found = rows(db, &sql, params![envelope.as_bytes(), sender.as_bytes()], |row| {
        Ok((WaitingEnvelope::read(row)?, state(row, "state")?))
    })?;
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
        return Ok(if before { Recall::Recalled } else { Recall::Refused(ErrorCode::TooLate) });
    }
    let keys = mailboxes::find(db, waiting.mailbox)?.map(|facts| facts.keys).unwrap_or_default();
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
