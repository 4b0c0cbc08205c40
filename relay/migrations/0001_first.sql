-- Ids and keys are raw bytes; times are Unix milliseconds.

-- token_name: registration token that the account registered with; NULL for one of the
-- configuration and without a token. label: set by the operator; NULL without one.
CREATE TABLE accounts (
    id                   BLOB    NOT NULL PRIMARY KEY,
    key                  BLOB    NOT NULL UNIQUE,
    key_generation       INTEGER NOT NULL,
    suspended            INTEGER NOT NULL DEFAULT 0,
    webhook_url          TEXT,
    webhook_secret       BLOB    NOT NULL,
    checkpoint           BLOB,
    mailbox_count        INTEGER NOT NULL DEFAULT 0,
    closed_mailbox_count INTEGER NOT NULL DEFAULT 0,
    blob_count           INTEGER NOT NULL DEFAULT 0,
    blob_bytes           INTEGER NOT NULL DEFAULT 0,
    token_name           TEXT,
    label                TEXT,
    created_at           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Covers the totals over all accounts.
CREATE INDEX accounts_totals ON accounts (suspended, mailbox_count, blob_bytes);

-- Deleted accounts. is_emptied: whether the sweep has removed everything except the ids of closed
-- mailboxes, which an account with the same key may open again.
CREATE TABLE closed_accounts (
    id         BLOB    NOT NULL PRIMARY KEY,
    key        BLOB    NOT NULL,
    is_emptied INTEGER NOT NULL DEFAULT 0,
    closed_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX closed_accounts_by_state ON closed_accounts (is_emptied, closed_at);

-- used: number of accounts that registered with the token.
-- uses_left: NULL if any number of accounts may register with the token.
CREATE TABLE registration_tokens (
    name         TEXT    NOT NULL PRIMARY KEY,
    digest       BLOB    NOT NULL UNIQUE,
    used         INTEGER NOT NULL DEFAULT 0,
    uses_left    INTEGER,
    expires_at   INTEGER,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;

-- overrides: QuotaOverrides of relay-core as JSON. An account without a row has the default quotas.
CREATE TABLE quota_overrides (
    account_id BLOB NOT NULL PRIMARY KEY,
    overrides  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- lane_state: Lane of relay-core as JSON.
-- waiting_items: envelopes and events that wait; waiting_envelopes and waiting_bytes: envelopes in
-- all mailboxes.
-- callable_at: earliest time at which new items can be delivered to the webhook; NULL while it is
-- not called.
-- due_at: when the scheduler has to inspect the lane. is_failing: whether calls use the
-- slots of failing endpoints.
-- lease_first, lease_last: range of item ids in the last lease.
-- reason: why the webhook fails or is off.
CREATE TABLE lanes (
    account_id        BLOB    NOT NULL PRIMARY KEY,
    lane_state        TEXT    NOT NULL,
    waiting_items     INTEGER NOT NULL DEFAULT 0,
    waiting_envelopes INTEGER NOT NULL DEFAULT 0,
    waiting_bytes     INTEGER NOT NULL DEFAULT 0,
    callable_at       INTEGER,
    due_at            INTEGER,
    is_failing        INTEGER NOT NULL DEFAULT 0,
    lease_first       INTEGER NOT NULL DEFAULT 0,
    lease_last        INTEGER NOT NULL DEFAULT 0,
    reason            TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX lanes_due ON lanes (is_failing, due_at) WHERE due_at IS NOT NULL;

-- The row of a closed mailbox remains, so that nobody else opens the id. closed_by_owner: whether
-- its owner closed it, and not the deletion of the account.
-- sender_envelopes_max: limit for each sender; see mailbox_senders.
CREATE TABLE mailboxes (
    id                   BLOB    NOT NULL PRIMARY KEY,
    account_id           BLOB    NOT NULL,
    key_1                BLOB,
    key_2                BLOB,
    prekeys              BLOB,
    sender_envelopes_max INTEGER,
    waiting_envelopes    INTEGER NOT NULL DEFAULT 0,
    waiting_bytes        INTEGER NOT NULL DEFAULT 0,
    created_at           INTEGER NOT NULL,
    closed_at            INTEGER,
    closed_by_owner      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX mailboxes_of_account ON mailboxes (account_id, id) WHERE closed_at IS NULL;
CREATE INDEX mailboxes_closed ON mailboxes (account_id, closed_at) WHERE closed_at IS NOT NULL;

-- Number of envelopes that a mailbox with a limit for each sender accepted from an account since
-- period_start.
CREATE TABLE mailbox_senders (
    mailbox_id   BLOB    NOT NULL,
    sender_id    BLOB    NOT NULL,
    envelopes    INTEGER NOT NULL,
    period_start INTEGER NOT NULL,
    PRIMARY KEY (mailbox_id, sender_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX mailbox_senders_by_start ON mailbox_senders (period_start);

-- Closed mailboxes in which envelopes may still wait; the sweep marks them as failed.
CREATE TABLE mailbox_closures (
    account_id BLOB NOT NULL,
    mailbox_id BLOB NOT NULL,
    PRIMARY KEY (account_id, mailbox_id)
) STRICT, WITHOUT ROWID;

-- last_item_id: envelopes and events share one sequence of ids. heartbeat: time of the last sweep.
-- last_short_record: up to this id, short records of ended envelopes are deleted.
CREATE TABLE counters (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES
    ('last_item_id', 0), ('heartbeat', 0), ('last_short_record', 0);

-- id: DeliveryId. envelope_id: id that the sender gave it. account_id: recipient.
-- state: 0 queued, 1 retrying, 2 stored, 3 recalled, 4 expired, 5 failed. The row outlives the
-- envelope, so that a repeated submission is recognised by its digest; it is the envelope's record.
-- has_short_record: whether the record is retained for hours instead of weeks, because its sender
-- has sent many envelopes on that day.
-- queue_state: 0 in order, 1 set aside, 2 held behind an envelope of the same mailbox that is set
-- aside. The views below name these states.
CREATE TABLE envelopes (
    id               INTEGER PRIMARY KEY,
    envelope_id      BLOB    NOT NULL,
    mailbox_id       BLOB    NOT NULL,
    account_id       BLOB    NOT NULL,
    sender_id        BLOB    NOT NULL,
    digest           BLOB    NOT NULL,
    size_bytes       INTEGER NOT NULL,
    state            INTEGER NOT NULL DEFAULT 0,
    attempts         INTEGER NOT NULL DEFAULT 0,
    deferrals        INTEGER NOT NULL DEFAULT 0,
    accepted_at      INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    next_attempt_at  INTEGER,
    queue_state      INTEGER NOT NULL DEFAULT 0,
    set_aside_until  INTEGER,
    has_short_record INTEGER NOT NULL DEFAULT 0,
    reason           TEXT
) STRICT;
CREATE UNIQUE INDEX envelopes_submitted ON envelopes (envelope_id, mailbox_id);
CREATE INDEX envelopes_waiting ON envelopes (account_id, queue_state, id) WHERE state < 2;
CREATE INDEX envelopes_in_mailbox ON envelopes (mailbox_id) WHERE state < 2;
CREATE INDEX envelopes_set_aside ON envelopes (account_id, set_aside_until)
    WHERE state < 2 AND queue_state = 1;
CREATE INDEX envelopes_expiring ON envelopes (expires_at) WHERE state < 2;

CREATE VIEW waiting_envelopes AS SELECT * FROM envelopes WHERE state < 2;
CREATE VIEW ended_envelopes AS SELECT * FROM envelopes WHERE state >= 2;
CREATE VIEW queued_envelopes AS SELECT * FROM envelopes WHERE state < 2 AND queue_state = 0;
CREATE VIEW set_aside_envelopes AS SELECT * FROM envelopes WHERE state < 2 AND queue_state = 1;
CREATE VIEW held_envelopes AS SELECT * FROM envelopes WHERE state < 2 AND queue_state = 2;

-- Bytes of waiting envelopes.
CREATE TABLE envelope_bodies (
    id    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

-- Status events for the sender of an envelope. account_id: the sender. state: as in envelopes.
CREATE TABLE events (
    id              INTEGER PRIMARY KEY,
    account_id      BLOB    NOT NULL,
    envelope_id     BLOB    NOT NULL,
    state           INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    reason          TEXT,
    next_attempt_at INTEGER,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX events_waiting ON events (account_id, id);
CREATE INDEX events_of_envelope ON events (account_id, envelope_id);

CREATE TABLE nonces (
    key        BLOB    NOT NULL,
    nonce      TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (key, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_expiring ON nonces (expires_at);

CREATE TABLE blobs (
    id             BLOB    NOT NULL PRIMARY KEY,
    account_id     BLOB    NOT NULL,
    size_bytes     INTEGER NOT NULL,
    token_hash     BLOB    NOT NULL,
    is_complete    INTEGER NOT NULL DEFAULT 0,
    expires_at     INTEGER NOT NULL,
    last_upload_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_expiring ON blobs (expires_at);
CREATE INDEX blobs_incomplete ON blobs (last_upload_at) WHERE is_complete = 0;
CREATE INDEX blobs_of_account ON blobs (account_id);

CREATE TABLE blob_parts (
    blob_id BLOB    NOT NULL,
    number  INTEGER NOT NULL,
    digest  BLOB    NOT NULL,
    PRIMARY KEY (blob_id, number)
) STRICT, WITHOUT ROWID;

-- Deleted blobs whose parts are still on the disk.
CREATE TABLE blob_deletions (
    blob_id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
