//! Work of one job of the writer, which everybody else waits for: it must not depend on the number
//! of rows in the store.

use super::*;
use crate::store::sweep::SweepTask;
use rusqlite::{
    Connection,
    trace::{TraceEvent, TraceEventCodes},
};
use sealpost_proto::limits::{DELIVERY_BATCH_BYTES_MAX, ENVELOPE_LIFETIME_MAX, SWEEP_UNITS_MAX};
use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// SQLite's instructions between two counts.
const STEPS_PER_COUNT: i32 = 20;

/// Connection to the database of a fixture that counts instructions and records statements.
pub(super) struct Probe {
    pub(super) db: Connection,
    steps: Arc<AtomicU64>,
    /// Statements of the measured jobs.
    statements: Arc<Mutex<BTreeSet<String>>>,
    is_measuring: Arc<AtomicBool>,
}

impl Probe {
    fn open(fixture: &Fixture) -> Self {
        let mut db = Connection::open(fixture.directory.path().join("relay.db")).unwrap();
        let (steps, statements) = (Arc::<AtomicU64>::default(), Arc::<Mutex<_>>::default());
        let counted = Arc::clone(&steps);
        db.progress_handler(
            STEPS_PER_COUNT,
            Some(move || {
                counted.fetch_add(STEPS_PER_COUNT.unsigned_abs().into(), Ordering::Relaxed);
                false
            }),
        )
        .unwrap();
        let recorded: Arc<Mutex<BTreeSet<String>>> = Arc::clone(&statements);
        let is_measuring = Arc::<AtomicBool>::default();
        let records = Arc::clone(&is_measuring);
        db.trace_v2(
            TraceEventCodes::SQLITE_TRACE_STMT,
            Some(move |event: TraceEvent<'_>| {
                if let TraceEvent::Stmt(statement, _) = event
                    && records.load(Ordering::Relaxed)
                {
                    recorded
                        .lock()
                        .unwrap()
                        .insert(statement.sql().into_owned());
                }
            }),
        )
        .unwrap();
        Self {
            db,
            steps,
            statements,
            is_measuring,
        }
    }

    /// A store with `count` rows of each kind; see [`fill`].
    pub(super) async fn filled(count: usize) -> (Fixture, Self) {
        let fixture = Fixture::new().await;
        let probe = Self::open(&fixture);
        fill(&probe, count);
        (fixture, probe)
    }

    /// Runs a job in a transaction that is rolled back, and returns the number of instructions.
    fn measure(&self, job: &Job) -> u64 {
        let transaction = self.db.unchecked_transaction().unwrap();
        transaction.execute_batch(&job.setup).unwrap();
        let before = self.steps.load(Ordering::Relaxed);
        self.is_measuring.store(true, Ordering::Relaxed);
        (job.run)(&transaction).unwrap();
        self.is_measuring.store(false, Ordering::Relaxed);
        self.steps.load(Ordering::Relaxed) - before
    }

    fn plan(&self, sql: &str) -> Vec<String> {
        let mut statement = self
            .db
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        for number in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(number, 0).unwrap();
        }
        let mut lines = statement.raw_query();
        let mut plan = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            plan.push(line.get("detail").unwrap());
        }
        plan
    }

    fn execute(&self, sql: &str) {
        self.db.execute_batch(sql).unwrap();
    }
}

/// Fills the store with `count` rows of each kind: waiting envelopes for Bolt in `count / 2`
/// mailboxes, which are its oldest; records; events; nonces; blobs; lanes.
fn fill(probe: &Probe, count: usize) {
    let now = NOW.as_millis();
    probe.execute(&format!(
        "CREATE TEMP TABLE numbers AS WITH RECURSIVE n(i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n; \
         BEGIN; \
         INSERT INTO mailboxes (id, account_id, key_1, created_at, waiting_envelopes) \
             SELECT unhex(printf('%032x', i)), x'{BOLT_HEX}', zeroblob(32), 0, 2 \
             FROM numbers WHERE i <= {count} / 2; \
         INSERT INTO mailboxes (id, account_id, created_at, closed_at) \
             SELECT unhex(printf('aa%030x', i)), x'{BOLT_HEX}', 0, i FROM numbers; \
         INSERT INTO envelopes (id, envelope_id, mailbox_id, account_id, sender_id, digest, \
                 size_bytes, accepted_at, expires_at, state, has_short_record) \
             SELECT i, randomblob(16), unhex(printf('%032x', i % ({count} / 2) + 1)), \
                 x'{BOLT_HEX}', x'{ACME_HEX}', zeroblob(32), 2048, {now}, {now} + 1000, 0, 1 \
             FROM numbers; \
         INSERT INTO envelope_bodies (id, bytes) SELECT i, zeroblob(2048) FROM numbers; \
         INSERT INTO envelopes (id, envelope_id, mailbox_id, account_id, sender_id, digest, \
                 size_bytes, accepted_at, expires_at, state, has_short_record) \
             SELECT {count} + i, zeroblob(16), randomblob(16), \
                 x'{ACME_HEX}', x'{BOLT_HEX}', zeroblob(32), 2048, {now}, {now} + 1000, 2, 1 \
             FROM numbers; \
         INSERT INTO events (id, account_id, envelope_id, state, attempts, created_at) \
             SELECT 2 * {count} + i, x'{BOLT_HEX}', randomblob(16), 4, 0, 0 FROM numbers; \
         UPDATE counters SET value = 4 * {count} WHERE name = 'last_item_id'; \
         UPDATE lanes SET waiting_items = 2 * {count}, waiting_envelopes = {count}, \
             waiting_bytes = 2048 * {count} WHERE account_id = x'{BOLT_HEX}'; \
         UPDATE accounts SET mailbox_count = {count} / 2, closed_mailbox_count = 100000 \
             WHERE id = x'{BOLT_HEX}'; \
         INSERT INTO nonces (key, nonce, expires_at) \
             SELECT randomblob(32), 'n', 0 FROM numbers; \
         INSERT INTO mailbox_senders (mailbox_id, sender_id, envelopes, period_start) \
             SELECT randomblob(16), randomblob(16), 1, 0 FROM numbers; \
         INSERT INTO blobs (id, account_id, size_bytes, token_hash, expires_at, last_upload_at) \
             SELECT unhex(printf('%032x', i)), x'{BOLT_HEX}', 500, zeroblob(32), 0, 0 \
             FROM numbers; \
         INSERT INTO lanes (account_id, lane_state, due_at, callable_at) \
             SELECT unhex(printf('bb%030x', i)), (SELECT lane_state FROM lanes LIMIT 1), \
                 {now} * 2, {now} * 2 FROM numbers; \
         COMMIT;"
    ));
}

const ACME_HEX: &str = "01010101010101010101010101010101";
const BOLT_HEX: &str = "02020202020202020202020202020202";

type RunJob = Box<dyn Fn(&Connection) -> Result<(), StoreError>>;

/// Job that could find many rows. `setup` prepares the store and is not measured.
struct Job {
    name: String,
    setup: String,
    run: RunJob,
}

impl Job {
    fn new(
        name: impl Into<String>,
        setup: impl Into<String>,
        run: impl Fn(&Connection) -> Result<(), StoreError> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            setup: setup.into(),
            run: Box::new(run),
        }
    }
}

/// Deletes Bolt's account, and then what `already_removed` says.
fn close_account(already_removed: &str) -> String {
    format!(
        "INSERT INTO closed_accounts (id, key, closed_at) \
             SELECT id, key, 0 FROM accounts WHERE id = x'{BOLT_HEX}'; \
         DELETE FROM accounts WHERE id = x'{BOLT_HEX}'; {already_removed}"
    )
}

const CLOSE_MAILBOXES: &str = "INSERT INTO mailbox_closures SELECT account_id, id FROM mailboxes \
     WHERE closed_at IS NULL;";
const DELETE_BLOBS: &str = "INSERT INTO blob_deletions SELECT id FROM blobs;";
const ONLY_RECORDS: &str = "DELETE FROM envelopes WHERE state < 2;";

/// Queries that read a number of rows from the front of a table.
const READ_FROM_FRONT: [&str; 3] = [
    "FROM mailbox_closures LIMIT ?",
    "FROM blob_deletions LIMIT ?",
    "FROM envelopes ORDER BY id LIMIT ?",
];

fn sweep_jobs() -> Vec<Job> {
    let old = NOW.plus(ENVELOPE_LIFETIME_MAX).plus(ENVELOPE_LIFETIME_MAX);
    let closed = SweepTask::EmptyClosedAccounts;
    let without_envelopes = "DELETE FROM envelopes";
    let without_mailboxes = "DELETE FROM envelopes; UPDATE mailboxes SET closed_at = 0";
    let without_events =
        "DELETE FROM envelopes; UPDATE mailboxes SET closed_at = 0; DELETE FROM events";
    let is_emptied = "UPDATE closed_accounts SET is_emptied = 1";
    let setups = [
        (SweepTask::ExpireEnvelopes, String::new()),
        (SweepTask::FailInClosedMailboxes, CLOSE_MAILBOXES.to_owned()),
        (closed, close_account("")),
        (closed, close_account(without_envelopes)),
        (closed, close_account(without_mailboxes)),
        (closed, close_account(without_events)),
        (SweepTask::ForgetClosedAccounts, close_account(is_emptied)),
        (SweepTask::DeleteRecords, String::new()),
        (SweepTask::DeleteRecords, ONLY_RECORDS.to_owned()),
        (SweepTask::DeleteShortRecords, String::new()),
        (SweepTask::DeleteShortRecords, ONLY_RECORDS.to_owned()),
        (SweepTask::DeleteNonces, String::new()),
        (SweepTask::DeleteSenderCounts, String::new()),
        (SweepTask::ExpireBlobs, String::new()),
        (SweepTask::ListBlobDeletions, DELETE_BLOBS.to_owned()),
    ];
    let is_tested = |task| setups.iter().any(|(tested, _)| *tested == task);
    assert!(SweepTask::ALL.into_iter().all(is_tested));
    let job = |(task, setup): (SweepTask, String)| {
        Job::new(format!("{task:?} {setup}"), setup, move |db| {
            sweep::run_slice(db, old, task, 0).map(|_| ())
        })
    };
    setups.into_iter().map(job).collect()
}

fn queue_jobs() -> Vec<Job> {
    let expired = NOW.plus(Duration::from_secs(2));
    let states = [
        ("healthy queue", NOW, ""),
        ("queue of expired envelopes", expired, ""),
        ("queue of closed mailboxes", NOW, CLOSE_MAILBOXES),
    ];
    let jobs = |(name, now, setup): (&str, Timestamp, &str)| {
        [
            Job::new(format!("call, {name}"), setup, move |db| {
                deliveries::lease_batch(db, now, BOLT, DELIVERY_BATCH_BYTES_MAX).map(|_| ())
            }),
            Job::new(format!("pull, {name}"), setup, move |db| {
                deliveries::pull(db, now, BOLT, PullLimits::default()).map(|_| ())
            }),
        ]
    };
    states.into_iter().flat_map(jobs).collect()
}

fn jobs() -> Vec<Job> {
    let id = EnvelopeId::from_bytes([0; 16]);
    let first = MailboxId::from_bytes(1_u128.to_be_bytes());
    let mut jobs = vec![
        Job::new("delete an account", "", |db| {
            accounts::delete(db, NOW, BOLT).map(|_| ())
        }),
        Job::new("close a mailbox", "", move |db| {
            mailboxes::close(db, NOW, BOLT, first)
        }),
        Job::new("recall an envelope", "", move |db| {
            envelopes::recall(db, NOW, BOLT, id, &[0; 16]).map(|_| ())
        }),
        Job::new("query a status", "", move |db| {
            envelopes::load_status(db, BOLT, id).map(|_| ())
        }),
        Job::new("make lanes due", "", |db| {
            sweep::make_lanes_due(db, NOW, ACME).map(|_| ())
        }),
        Job::new("retry queues", "", |db| {
            operator::queue::retry_queues(db, NOW, None).map(|_| ())
        }),
        Job::new("drop a queue", "", |db| {
            operator::queue::drop_queue(db, NOW, BOLT, None).map(|_| ())
        }),
    ];
    jobs.extend(queue_jobs());
    jobs.extend(sweep_jobs());
    jobs
}

#[tokio::test]
async fn work_does_not_grow_with_the_store() {
    let (_few, small) = Probe::filled(4 * SWEEP_UNITS_MAX).await;
    let (_many, large) = Probe::filled(16 * SWEEP_UNITS_MAX).await;
    for job in jobs() {
        let [few, many] = [&small, &large].map(|probe| probe.measure(&job));
        assert!(
            many <= few + few / 4 + 2_000,
            "{}: {few} instructions for few rows, {many} for many",
            job.name
        );
        println!("{}: {many} instructions", job.name);
        assert!(many <= 250_000, "{}: {many} instructions", job.name);
    }
}

#[tokio::test]
async fn no_statement_scans_a_table() {
    let (_fixture, probe) = Probe::filled(2 * SWEEP_UNITS_MAX).await;
    for job in jobs() {
        probe.measure(&job);
    }
    let mut statements = probe.statements.lock().unwrap().clone();
    assert!(statements.len() > 40, "{} statements", statements.len());
    statements.retain(|sql| !READ_FROM_FRONT.iter().any(|query| sql.contains(query)));
    for sql in statements {
        let plan = probe.plan(&sql);
        let of_front = "CO-ROUTINE e".to_owned();
        let is_bounded = |line: &str| {
            line == "SCAN CONSTANT ROW" || line == "SCAN e" && plan.contains(&of_front)
        };
        let is_scan = |line: &&String| line.starts_with("SCAN") && !is_bounded(line);
        assert_eq!(plan.iter().find(is_scan), None, "{sql}");
    }
}
