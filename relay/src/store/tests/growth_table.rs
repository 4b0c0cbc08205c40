//! The table in `docs/operating.md` of what one account can add to the database: it follows from the
//! limits, and names every table.

use super::{bounded_work::Probe, *};
use sealpost_proto::limits::{
    ACCOUNT_BLOB_BYTES_MAX, ACCOUNT_BLOBS_MAX, ACCOUNT_ENVELOPES_MAX, ACCOUNT_EVENTS_MAX,
    ACCOUNT_MAILBOXES_MAX, CLOSED_MAILBOXES_MAX, DIGEST_RETENTION_AFTER_LIFETIME,
    ENVELOPE_LIFETIME_MAX, ENVELOPES_PER_MINUTE_MAX, LONG_RECORDS_PER_DAY_MAX, PART_BYTES,
    REQUESTS_PER_SECOND_MAX, SHORT_RECORD_RETENTION, SIGNATURE_LIFETIME_MAX,
};

const DAY: Duration = Duration::from_secs(86_400);

/// What one account can add to a table.
struct Growth {
    table: &'static str,
    rows: &'static str,
    /// Rows that the rate limits allow on a day.
    per_day: u64,
    /// Rows that are left after a day.
    left: u64,
    /// Rows at a time.
    max: u64,
    /// Bytes of a row with its index entries.
    row_bytes: u64,
}

/// Tables whose number of rows does not depend on accounts.
const OTHER_TABLES: [&str; 2] = ["counters", "registration_tokens"];

fn growth() -> Vec<Growth> {
    let envelopes_per_day = u64::from(ENVELOPES_PER_MINUTE_MAX) * 24 * 60;
    let requests_per_day = u64::from(REQUESTS_PER_SECOND_MAX) * DAY.as_secs();
    let record_days = (ENVELOPE_LIFETIME_MAX + DIGEST_RETENTION_AFTER_LIFETIME).as_secs() / 86_400;
    // The rate limiter allows a day's number at once, and as many on each day.
    let long_records = u64::from(LONG_RECORDS_PER_DAY_MAX) * (record_days + 1);
    let short_records = envelopes_per_day * SHORT_RECORD_RETENTION.as_secs() / DAY.as_secs();
    let parts = ACCOUNT_BLOBS_MAX + ACCOUNT_BLOB_BYTES_MAX / PART_BYTES as u64;
    let nonces = u64::from(REQUESTS_PER_SECOND_MAX) * SIGNATURE_LIFETIME_MAX.as_secs();
    let row = |table, rows, per_day, max, row_bytes| Growth {
        table,
        rows,
        per_day,
        left: u64::min(per_day, max),
        max,
        row_bytes,
    };
    let records = Growth {
        left: 2 * u64::from(LONG_RECORDS_PER_DAY_MAX) + short_records,
        ..row(
            "envelopes",
            "records of ended ones that it sent",
            envelopes_per_day,
            long_records + short_records,
            250,
        )
    };
    let (mailboxes, closed) = (ACCOUNT_MAILBOXES_MAX, CLOSED_MAILBOXES_MAX);
    vec![
        row("accounts", "the account, with its checkpoint", 1, 1, 8_192),
        row("lanes", "its queue", 1, 1, 1_024),
        row(
            "quota_overrides",
            "its limits, if the operator set any",
            1,
            1,
            1_024,
        ),
        row("closed_accounts", "after its deletion", 1, 1, 200),
        row(
            "envelopes",
            "waiting for it",
            envelopes_per_day,
            ACCOUNT_ENVELOPES_MAX,
            400,
        ),
        records,
        row(
            "envelope_bodies",
            "waiting for it, without their bytes",
            envelopes_per_day,
            ACCOUNT_ENVELOPES_MAX,
            50,
        ),
        row(
            "events",
            "waiting for it",
            envelopes_per_day,
            ACCOUNT_EVENTS_MAX,
            350,
        ),
        row(
            "mailboxes",
            "open, with prekeys",
            requests_per_day,
            mailboxes,
            2_700,
        ),
        row("mailboxes", "deleted", requests_per_day, closed, 150),
        row(
            "mailbox_closures",
            "deleted since the last sweep",
            requests_per_day,
            mailboxes,
            80,
        ),
        row(
            "mailbox_senders",
            "its mailboxes, for each account that posts to them",
            requests_per_day,
            mailboxes,
            150,
        ),
        row(
            "nonces",
            "requests of the last five minutes",
            requests_per_day,
            nonces,
            250,
        ),
        row(
            "blobs",
            "its files",
            requests_per_day,
            ACCOUNT_BLOBS_MAX,
            250,
        ),
        row("blob_parts", "their parts", requests_per_day, parts, 100),
        row(
            "blob_deletions",
            "deleted since the last sweep",
            requests_per_day,
            ACCOUNT_BLOBS_MAX,
            50,
        ),
    ]
}

fn with_separators(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn megabytes(bytes: u64) -> String {
    with_separators(bytes.div_ceil(1_000_000))
}

fn lines() -> Vec<String> {
    let (mut on_first_day, mut at_most) = (0, 0);
    let mut lines = Vec::new();
    for row in growth() {
        let bytes = row.max * row.row_bytes;
        at_most += bytes;
        on_first_day += row.left * row.row_bytes;
        lines.push(format!(
            "| `{}` | {} | {} | {} | {} | {} | {} |",
            row.table,
            row.rows,
            with_separators(row.per_day),
            with_separators(row.left),
            with_separators(row.max),
            with_separators(row.row_bytes),
            megabytes(bytes)
        ));
    }
    lines.push(format!(
        "Together, these are up to {} MB after the first day and never more than {} MB,",
        megabytes(on_first_day),
        megabytes(at_most)
    ));
    lines
}

#[test]
fn table_of_growth_follows_from_the_limits() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let page = std::fs::read_to_string(path).unwrap();
    // The page is wrapped.
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in lines() {
        assert!(page.contains(&line), "missing:\n{line}");
    }
}

#[tokio::test]
async fn table_of_growth_names_every_table() {
    let (_fixture, probe) = Probe::filled(1_000).await;
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut tables = probe.db.prepare(sql).unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let known = growth();
    for table in tables {
        let table = table.unwrap();
        let is_known = known.iter().any(|row| row.table == table);
        assert!(
            is_known != OTHER_TABLES.contains(&table.as_str()),
            "{table}"
        );
    }
}

#[tokio::test]
async fn rows_are_not_larger_than_documented() {
    let (_fixture, probe) = Probe::filled(5_000).await;
    let measure = |table: &str| {
        let sql = format!(
            "SELECT (SELECT sum(pgsize) FROM dbstat WHERE name IN \
                 (SELECT name FROM sqlite_schema WHERE tbl_name = '{table}')) \
             / (SELECT count(*) FROM {table})"
        );
        let bytes: u64 = probe.db.query_row(&sql, [], |row| row.get(0)).unwrap();
        bytes
    };
    for table in [
        "envelopes",
        "events",
        "mailboxes",
        "nonces",
        "mailbox_senders",
        "blobs",
    ] {
        let documented = growth().into_iter().filter(|row| row.table == table);
        let smallest = documented.map(|row| row.row_bytes).min().unwrap();
        let measured = measure(table);
        assert!(measured <= smallest, "{table}: {measured} > {smallest}");
    }
}
