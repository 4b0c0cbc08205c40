//! Accepting envelopes. Requests that arrive while the writer commits wait together and are decided by its next job: what
//! they share, a mailbox, a lane, the count of items, is read and written once for all of them.

use super::{
    LeasedBatch, Store, StoreError, deliveries, lanes,
    mailboxes::{self, OpenMailboxFacts, Recipient},
    rows::{int, millis, row, run, state},
    tally::{Tally, Woken},
};
use crate::wakes::Wakes;
use rusqlite::{Connection, params};
use sealpost_proto::{
    AccountId, EnvelopeId, MailboxId, Origin, Timestamp,
    limits::WRITER_QUEUE_MAX,
    time::millis as duration_millis,
    wire::{SubmitOutcome, SubmitResult, SubmittedEnvelope},
};
use sealpost_relay_core::{
    Quotas,
    accept::{self, Facts, Known, Verdict},
};
use sealpost_signatures::proofs;
use sealpost_sqlite::WriteError;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

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

/// A request of envelopes.
struct Request {
    now: Timestamp,
    sender: AccountId,
    submissions: Vec<Submission>,
    quotas: Quotas,
}

type Answer = oneshot::Sender<Result<Vec<SubmitResult>, StoreError>>;

/// Requests that wait for the writer's next job, with whom to answer.
#[derive(Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<Vec<(Request, Answer)>>>);

impl Arrivals {
    /// Adds one; says whether it is the first, for which somebody has to call the writer.
    fn add(&self, request: Request, answer: Answer) -> Result<bool, StoreError> {
        let mut waiting = lock(&self.0);
        if waiting.len() >= WRITER_QUEUE_MAX {
            return Err(StoreError::Busy);
        }
        waiting.push((request, answer));
        Ok(waiting.len() == 1)
    }

    fn take(&self) -> Vec<(Request, Answer)> {
        mem::take(&mut lock(&self.0))
    }
}

impl Store {
    /// Decides about a request of envelopes and writes down what is accepted, all in one transaction; gives one result for
    /// each, in their order. Whom something waits for now is woken.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of it was accepted.
    pub(crate) async fn submit(
        &self,
        now: Timestamp,
        sender: AccountId,
        submissions: Vec<Submission>,
        quotas: Quotas,
    ) -> Result<Vec<SubmitResult>, StoreError> {
        let (answer, answered) = oneshot::channel();
        if self.arrivals.add(
            Request {
                now,
                sender,
                submissions,
                quotas,
            },
            answer,
        )? {
            self.decide_arrivals();
        }
        let unanswered = || StoreError::Failed {
            reason: "the job did not end".to_owned(),
        };
        self.note_health(answered.await.unwrap_or_else(|_| Err(unanswered())))
    }

    fn decide_arrivals(&self) {
        let (arrivals, wakes) = (self.arrivals.clone(), Arc::clone(&self.wakes));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&answers);
        let job = move |db: &Connection| {
            let (requests, senders): (Vec<_>, Vec<_>) = arrivals.take().into_iter().unzip();
            *lock(&taken) = senders;
            decide(db, &requests, &wakes)
        };
        let wakes = Arc::clone(&self.wakes);
        let then = move |outcome: Result<_, WriteError<StoreError>>| {
            let answers = mem::take(&mut *lock(&answers));
            match outcome {
                Ok(Decided {
                    results,
                    woken,
                    leased,
                }) => {
                    wakes.wake_lanes(&woken, leased);
                    answers
                        .into_iter()
                        .zip(results)
                        .for_each(|(answer, results)| drop(answer.send(Ok(results))));
                }
                Err(error) => refuse(answers, &error.into()),
            }
        };
        if let Err(error) = self.db.write_then(job, then) {
            refuse(
                self.arrivals.take().into_iter().map(|(_, answer)| answer),
                &error.into(),
            );
        }
    }
}

/// Tells each that nothing of its request was accepted.
fn refuse(answers: impl IntoIterator<Item = Answer>, error: &StoreError) {
    answers
        .into_iter()
        .for_each(|answer| drop(answer.send(Err(error.clone()))));
}

/// What came of requests that were decided together.
struct Decided {
    /// For each request, one for each of its envelopes.
    results: Vec<Vec<SubmitResult>>,
    /// Lanes that are called from now on.
    leased: Vec<LeasedBatch>,
    /// Other accounts for which something waits now.
    woken: Vec<Woken>,
}

fn decide(db: &Connection, requests: &[Request], wakes: &Wakes) -> Result<Decided, StoreError> {
    let mut desk = Desk::open(
        db,
        requests
            .iter()
            .map(|request| request.submissions.len())
            .sum(),
    )?;
    let results = requests
        .iter()
        .map(|request| desk.decide_request(request))
        .collect::<Result<_, _>>()?;
    let latest = requests
        .iter()
        .map(|request| request.now)
        .max()
        .unwrap_or(Timestamp::from_millis(0));
    let (mut leased, mut woken) = (Vec::new(), Vec::new());
    for lane in desk.tally.write_lanes(db, latest)? {
        match lease(db, latest, &lane, wakes)? {
            Some(batch) => leased.push(batch),
            None => woken.push(lane),
        }
    }
    Ok(Decided {
        results,
        leased,
        woken,
    })
}

/// Leases what is to be called with at once, if there is a place for it.
fn lease(
    db: &Connection,
    now: Timestamp,
    lane: &Woken,
    wakes: &Wakes,
) -> Result<Option<LeasedBatch>, StoreError> {
    if lane.is_callable
        && let Some(bytes_max) = wakes.take_place()
    {
        return deliveries::lease_for_call(db, now, lane.account, bytes_max);
    }
    Ok(None)
}

/// Where requests are decided.
struct Desk<'a> {
    db: &'a Connection,
    next_id: i64,
    mailboxes: HashMap<MailboxId, Option<OpenMailboxFacts>>,
    /// The accounts of those that are open.
    recipients: HashMap<AccountId, Recipient>,
    /// Mailboxes for which an earlier item of the request was refused for a passing reason.
    refused: BTreeSet<MailboxId>,
    tally: Tally,
}

impl<'a> Desk<'a> {
    fn open(db: &'a Connection, envelopes: usize) -> Result<Self, StoreError> {
        let next_id = lanes::next_items(db, envelopes)?;
        let (mailboxes, recipients) = (HashMap::new(), HashMap::new());
        Ok(Self {
            db,
            next_id,
            mailboxes,
            recipients,
            refused: BTreeSet::new(),
            tally: Tally::default(),
        })
    }

    fn decide_request(&mut self, request: &Request) -> Result<Vec<SubmitResult>, StoreError> {
        self.refused.clear();
        let mut results = Vec::with_capacity(request.submissions.len());
        for submission in &request.submissions {
            results.push(SubmitResult {
                id: submission.id,
                outcome: self.decide(request, submission)?,
            });
        }
        Ok(results)
    }

    /// Almost every envelope is new: it is written down if nothing else speaks against it, and the record of an earlier one
    /// is looked for only when there is one or when it is not taken.
    fn decide(
        &mut self,
        request: &Request,
        submission: &Submission,
    ) -> Result<SubmitOutcome, StoreError> {
        let facts = self.facts(submission)?;
        let now = &request.now;
        let own = self
            .recipient(submission.mailbox)
            .and_then(|recipient| recipient.own);
        let quotas = &own.map_or_else(|| request.quotas.clone(), |own| request.quotas.with(&own));
        if let Verdict::Accept { expires_at } = accept::decide(*now, quotas, facts)
            && self.write_down(request, submission, expires_at)?
        {
            return Ok(SubmitOutcome::Accepted { expires_at });
        }
        let known = known(self.db, request.sender, submission)?;
        match accept::decide(*now, quotas, Facts { known, ..facts }) {
            Verdict::Accept { .. } => Err(StoreError::Failed {
                reason: "an envelope is neither new nor known".to_owned(),
            }),
            Verdict::Duplicate { state } => Ok(SubmitOutcome::Duplicate { state }),
            Verdict::Refuse(refusal) => {
                if refusal.is_passing() {
                    self.refused.insert(submission.mailbox);
                }
                Ok(SubmitOutcome::Refused {
                    code: refusal.code,
                    retry_after_ms: refusal.retry_after.map(duration_millis),
                })
            }
        }
    }

    /// What is known of it, but for an earlier one of the same name.
    fn facts(&mut self, submission: &Submission) -> Result<Facts, StoreError> {
        let Submission {
            id,
            mailbox,
            home,
            proof,
            asked_expiry,
            digest,
            bytes,
        } = submission;
        let after_refused = self.refused.contains(mailbox);
        self.mailbox(*mailbox)?;
        let open = self.mailboxes.get(mailbox).and_then(Option::as_ref);
        let keys = open.map_or(&[][..], |facts| &facts.keys);
        Ok(Facts {
            home: *home,
            size_bytes: bytes.len(),
            asked_expiry: *asked_expiry,
            mailbox: open.map(|facts| facts.held),
            suspended: open.is_some_and(|facts| facts.suspended),
            account: self
                .recipient(*mailbox)
                .map(|recipient| recipient.held)
                .unwrap_or_default(),
            proof_good: proofs::verify_post(keys, *mailbox, *id, digest, proof),
            known: None,
            after_refused,
        })
    }

    fn mailbox(&mut self, mailbox: MailboxId) -> Result<&mut Option<OpenMailboxFacts>, StoreError> {
        use std::collections::hash_map::Entry;
        match self.mailboxes.entry(mailbox) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let open = mailboxes::find(self.db, mailbox)?;
                if let Some(OpenMailboxFacts { account, .. }) = &open
                    && !self.recipients.contains_key(account)
                {
                    self.recipients
                        .insert(*account, mailboxes::recipient(self.db, *account)?);
                }
                Ok(unknown.insert(open))
            }
        }
    }

    /// The account of a mailbox that was looked for and is open.
    fn recipient(&self, mailbox: MailboxId) -> Option<&Recipient> {
        let open = self.mailboxes.get(&mailbox)?.as_ref()?;
        self.recipients.get(&open.account)
    }

    /// False, and nothing is written, when one of the same name was accepted before.
    fn write_down(
        &mut self,
        request: &Request,
        submission: &Submission,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (db, id, size) = (self.db, self.next_id, submission.bytes.len() as u64);
        let Some(facts) = self.mailbox(submission.mailbox)? else {
            return Ok(false);
        };
        let account = facts.account;
        let new = run(
            db,
            "INSERT INTO envelopes (id, envelope, mailbox, account, sender, digest, size, accepted_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (envelope, mailbox) DO NOTHING",
            params![
                id,
                submission.id.as_bytes(),
                submission.mailbox.as_bytes(),
                account.as_bytes(),
                request.sender.as_bytes(),
                submission.digest,
                int(size),
                millis(request.now),
                millis(expires_at)
            ],
        )?;
        if new == 0 {
            return Ok(false);
        }
        run(
            db,
            "INSERT INTO bodies (id, bytes) VALUES (?, ?)",
            params![id, submission.bytes],
        )?;
        facts.held.add(size);
        if let Some(recipient) = self.recipients.get_mut(&account) {
            recipient.held.add(size);
        }
        self.next_id += 1;
        self.tally.envelope_came(submission.mailbox, account, size);
        Ok(true)
    }
}

/// The record of an earlier envelope of the same name.
fn known(
    db: &Connection,
    sender: AccountId,
    submission: &Submission,
) -> Result<Option<Known>, StoreError> {
    let sql = "SELECT digest, sender, state FROM envelopes WHERE envelope = ? AND mailbox = ?";
    row(
        db,
        sql,
        params![submission.id.as_bytes(), submission.mailbox.as_bytes()],
        |row| {
            Ok(Known {
                same_digest: row.get::<_, [u8; 32]>("digest")? == submission.digest,
                same_sender: row.get::<_, [u8; 16]>("sender")? == *sender.as_bytes(),
                state: state(row, "state")?,
            })
        },
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
