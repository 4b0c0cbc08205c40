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
        transaction.execute_batch(job.setup).unwrap();
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

/// Fills the store with `count` rows of each kind: waiting envelopes for Bolt in `count / 10`
/// mailboxes, which are its oldest; records; events; nonces; blobs; lanes.
fn fill(probe: &Probe, count: usize) {
    let now = NOW.as_millis();
    probe.execute(&format!(
        "CREATE TEMP TABLE numbers AS WITH RECURSIVE n(i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n; \
         BEGIN; \
         INSERT INTO mailboxes (id, account_id, key_1, created_at, waiting_envelopes) \
             SELECT unhex(printf('%032x', i)), x'{BOLT_HEX}', zeroblob(32), 0, 10 \
             FROM numbers WHERE i <= {count} / 10; \
         INSERT INTO mailboxes (id, account_id, created_at, closed_at) \
             SELECT unhex(printf('aa%030x', i)), x'{BOLT_HEX}', 0, i FROM numbers; \
         INSERT INTO envelopes (id, envelope_id, mailbox_id, account_id, sender_id, digest, \
                 size_bytes, accepted_at, expires_at, state, has_short_record) \
             SELECT i, randomblob(16), unhex(printf('%032x', i % ({count} / 10) + 1)), \
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
         UPDATE accounts SET mailbox_count = {count} / 10, closed_mailbox_count = 100000 \
             WHERE id = x'{BOLT_HEX}'; \
         INSERT INTO nonces (key, nonce, expires_at) \
             SELECT randomblob(32), 'n', 0 FROM numbers; \
         INSERT INTO mailbox_senders (mailbox_id, sender_id, envelopes, period_start) \
             SELECT randomblob(16), randomblob(16), 1, 0 FROM numbers; \
         INSERT INTO blobs (id, account_id, size_bytes, token_hash, expires_at, last_upload_at) \
             SELECT unhex(printf('%032x', i)), x'{BOLT_HEX}', 500, zeroblob(32), 0, 0 \
             FROM numbers; \
         INSERT INTO lanes (account_id, machine, due_at, callable_at) \
             SELECT unhex(printf('bb%030x', i)), (SELECT machine FROM lanes LIMIT 1), \
                 {now} * 2, {now} * 2 FROM numbers; \
         COMMIT;"
    ));
}

const ACME_HEX: &str = "01010101010101010101010101010101";
const BOLT_HEX: &str = "02020202020202020202020202020202";

/// Job that could find many rows. `setup` prepares the store and is not measured.
struct Job {
    name: String,
    setup: &'static str,
    run: Box<dyn Fn(&Connection) -> Result<(), StoreError>>,
}

impl Job {
    fn new(
        name: impl Into<String>,
        setup: &'static str,
        run: impl Fn(&Connection) -> Result<(), StoreError> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            setup,
            run: Box::new(run),
        }
    }
}

const CLOSE_ACCOUNT: &str = "INSERT INTO closed_accounts (id, key, closed_at) \
     SELECT id, key, 0 FROM accounts; DELETE FROM accounts;";
const WITHOUT_ENVELOPES: &str = "INSERT INTO closed_accounts (id, key, closed_at) \
     SELECT id, key, 0 FROM accounts; DELETE FROM accounts; DELETE FROM envelopes;";
const WITHOUT_MAILBOXES: &str = "INSERT INTO closed_accounts (id, key, closed_at) \
     SELECT id, key, 0 FROM accounts; DELETE FROM accounts; DELETE FROM envelopes; \
     UPDATE mailboxes SET closed_at = 0;";
const WITHOUT_EVENTS: &str = "INSERT INTO closed_accounts (id, key, closed_at) \
     SELECT id, key, 0 FROM accounts; DELETE FROM accounts; DELETE FROM envelopes; \
     UPDATE mailboxes SET closed_at = 0; DELETE FROM events;";
const EMPTIED_ACCOUNT: &str = "INSERT INTO closed_accounts (id, key, is_emptied, closed_at) \
     SELECT id, key, 1, 0 FROM accounts;";
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
    let setups = [
        (SweepTask::ExpireEnvelopes, ""),
        (SweepTask::FailInClosedMailboxes, CLOSE_MAILBOXES),
        (SweepTask::EmptyClosedAccounts, CLOSE_ACCOUNT),
        (SweepTask::EmptyClosedAccounts, WITHOUT_ENVELOPES),
        (SweepTask::EmptyClosedAccounts, WITHOUT_MAILBOXES),
        (SweepTask::EmptyClosedAccounts, WITHOUT_EVENTS),
        (SweepTask::ForgetClosedAccounts, EMPTIED_ACCOUNT),
        (SweepTask::DeleteRecords, ""),
        (SweepTask::DeleteRecords, ONLY_RECORDS),
        (SweepTask::DeleteShortRecords, ""),
        (SweepTask::DeleteShortRecords, ONLY_RECORDS),
        (SweepTask::DeleteNonces, ""),
        (SweepTask::DeleteSenderCounts, ""),
        (SweepTask::ExpireBlobs, ""),
        (SweepTask::ListBlobDeletions, DELETE_BLOBS),
    ];
    assert!(
        SweepTask::ALL
            .iter()
            .all(|task| setups.iter().any(|(tested, _)| tested == task))
    );
    let job = |(task, setup): (SweepTask, &'static str)| {
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
    let jobs = |(name, now, setup): (&str, Timestamp, &'static str)| {
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
        assert!(many <= 1_000_000, "{}: {many} instructions", job.name);
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
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut tables = probe.db.prepare(sql).unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let scans: BTreeSet<_> = tables
        .map(|table| format!("SCAN {}", table.unwrap()))
        .collect();
    for sql in statements {
        let plan = probe.plan(&sql);
        let is_scan = |line: &&String| {
            let words: Vec<_> = line.split_whitespace().take(2).collect();
            scans.contains(&words.join(" "))
        };
        assert_eq!(plan.iter().find(is_scan), None, "{sql}");
    }
}
