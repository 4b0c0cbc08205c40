-- Ids and keys are raw bytes, times Unix milliseconds.

CREATE TABLE accounts (
    account        BLOB    NOT NULL PRIMARY KEY,
    key            BLOB    NOT NULL UNIQUE,
    generation     INTEGER NOT NULL,
    suspended      INTEGER NOT NULL DEFAULT 0,
    webhook_url    TEXT,
    webhook_secret BLOB    NOT NULL,
    checkpoint     BLOB,
    mailboxes      INTEGER NOT NULL DEFAULT 0,
    blobs          INTEGER NOT NULL DEFAULT 0,
    blob_bytes     INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is added up over all accounts.
CREATE INDEX accounts_counted ON accounts (suspended, mailboxes, blob_bytes);

-- uses_left: absent when the token is good for any number of accounts.
CREATE TABLE registration_tokens (
    name         TEXT    NOT NULL PRIMARY KEY,
    digest       BLOB    NOT NULL UNIQUE,
    uses         INTEGER NOT NULL DEFAULT 0,
    uses_left    INTEGER,
    expires_at   INTEGER,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;

-- What the operator said of one account's quotas, as JSON of relay-core's QuotaOverrides; no row: as for all.
CREATE TABLE quotas (
    account   BLOB NOT NULL PRIMARY KEY,
    overrides TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- envelopes and bytes: what waits in all mailboxes of the account; waiting counts events too.
-- machine: the lane of relay-core as JSON. free_at: from when new work could go to the webhook, absent when it is not
-- called. due_at: when the scheduler has to look. failing: the last call failed. lease_first and lease_last: which items
-- the last lease holds.
CREATE TABLE lanes (
    account     BLOB    NOT NULL PRIMARY KEY,
    machine     TEXT    NOT NULL,
    waiting     INTEGER NOT NULL DEFAULT 0,
    envelopes   INTEGER NOT NULL DEFAULT 0,
    bytes       INTEGER NOT NULL DEFAULT 0,
    free_at     INTEGER,
    due_at      INTEGER,
    failing     INTEGER NOT NULL DEFAULT 0,
    lease_first INTEGER NOT NULL DEFAULT 0,
    lease_last  INTEGER NOT NULL DEFAULT 0,
    reason      TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX lanes_due ON lanes (failing, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE mailboxes (
    mailbox    BLOB    NOT NULL PRIMARY KEY,
    account    BLOB    NOT NULL,
    key_1      BLOB,
    key_2      BLOB,
    prekeys    BLOB,
    envelopes  INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    closed_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX mailboxes_of_account ON mailboxes (account, mailbox) WHERE closed_at IS NULL;

-- Mailboxes whose waiting envelopes have still to be ended.
CREATE TABLE closings (
    account BLOB NOT NULL,
    mailbox BLOB NOT NULL,
    PRIMARY KEY (account, mailbox)
) STRICT, WITHOUT ROWID;

-- The one count of envelopes and events.
CREATE TABLE counters (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('item', 0), ('heartbeat', 0);

-- state: 0 queued, 1 retrying, 2 stored, 3 recalled, 4 expired, 5 failed. A row outlives its envelope as the memory of
-- its digest; the bytes stand in bodies. place: 0 in the queue, 1 set aside until then, 2 behind one of its mailbox that
-- is set aside.
CREATE TABLE envelopes (
    id              INTEGER PRIMARY KEY,
    envelope        BLOB    NOT NULL,
    mailbox         BLOB    NOT NULL,
    account         BLOB    NOT NULL,
    sender          BLOB    NOT NULL,
    digest          BLOB    NOT NULL,
    size            INTEGER NOT NULL,
    state           INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    laters          INTEGER NOT NULL DEFAULT 0,
    accepted_at     INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    next_attempt_at INTEGER,
    place           INTEGER NOT NULL DEFAULT 0,
    set_aside_until INTEGER,
    reason          TEXT
) STRICT;
CREATE UNIQUE INDEX envelopes_once ON envelopes (envelope, mailbox);
CREATE INDEX envelopes_waiting ON envelopes (account, place, id) WHERE state < 2;
CREATE INDEX envelopes_set_aside ON envelopes (account, set_aside_until) WHERE state < 2 AND place = 1;
CREATE INDEX envelopes_ending ON envelopes (expires_at) WHERE state < 2;

CREATE TABLE bodies (
    id    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE events (
    id              INTEGER PRIMARY KEY,
    account         BLOB    NOT NULL,
    envelope        BLOB    NOT NULL,
    state           INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    reason          TEXT,
    next_attempt_at INTEGER,
    at              INTEGER NOT NULL
) STRICT;
CREATE INDEX events_waiting ON events (account, id);
CREATE INDEX events_of_envelope ON events (account, envelope);

CREATE TABLE nonces (
    key        BLOB    NOT NULL,
    nonce      TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (key, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_ending ON nonces (expires_at);

CREATE TABLE blobs (
    blob       BLOB    NOT NULL PRIMARY KEY,
    account    BLOB    NOT NULL,
    size       INTEGER NOT NULL,
    token_hash BLOB    NOT NULL,
    complete   INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL,
    touched_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_ending ON blobs (expires_at);
CREATE INDEX blobs_unfinished ON blobs (touched_at) WHERE complete = 0;
CREATE INDEX blobs_of_account ON blobs (account);

CREATE TABLE parts (
    blob   BLOB    NOT NULL,
    number INTEGER NOT NULL,
    digest BLOB    NOT NULL,
    PRIMARY KEY (blob, number)
) STRICT, WITHOUT ROWID;

-- Blobs whose parts have still to be deleted from the disk.
CREATE TABLE doomed (
    blob BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
