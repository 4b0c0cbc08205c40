-- The node's own database. Columns marked "sealed" hold values sealed under the data key (docs/e2ee-files-invites-vault.md).
-- Times are Unix milliseconds.

CREATE TABLE node (
    id                 INTEGER PRIMARY KEY CHECK (id = 1),
    name               TEXT NOT NULL,
    identity           BLOB NOT NULL, -- sealed: the two seeds
    card               BLOB NOT NULL,
    account_key        BLOB NOT NULL, -- sealed
    relay              TEXT NOT NULL,
    delivery           TEXT NOT NULL, -- JSON, DeliveryMode
    webhook_listen     TEXT,
    listen             TEXT NOT NULL,
    registration_token BLOB,          -- sealed
    account_id         BLOB,
    webhook_secret     BLOB,          -- sealed
    generation         INTEGER NOT NULL DEFAULT 0,
    created_at         INTEGER NOT NULL
) STRICT;

CREATE TABLE invites (
    ref         TEXT PRIMARY KEY,
    invite_id   BLOB NOT NULL,
    mailbox     BLOB NOT NULL,
    kind        TEXT NOT NULL,
    status      TEXT NOT NULL,
    auto_accept INTEGER NOT NULL,
    expires_at  INTEGER,
    secrets     BLOB NOT NULL, -- sealed
    version     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE connections (
    ref             TEXT PRIMARY KEY,
    direction       TEXT NOT NULL,
    status          TEXT NOT NULL,
    name            TEXT NOT NULL,
    note            TEXT NOT NULL,
    fingerprint     BLOB NOT NULL,
    verified        INTEGER NOT NULL DEFAULT 0,
    relay           TEXT NOT NULL,
    invite          TEXT,
    invite_id       BLOB NOT NULL,
    secrets         BLOB NOT NULL, -- sealed
    version         INTEGER NOT NULL,
    health          TEXT NOT NULL DEFAULT 'ok',
    health_reason   TEXT,
    last_contact_at INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX connections_by_fingerprint ON connections (fingerprint);
CREATE INDEX connections_by_invite_id ON connections (invite_id);

CREATE TABLE mailboxes (
    id         BLOB PRIMARY KEY,
    invite     TEXT REFERENCES invites (ref),
    connection TEXT REFERENCES connections (ref)
) STRICT;

CREATE TABLE chats (
    ref           TEXT PRIMARY KEY,
    uuid          BLOB NOT NULL UNIQUE,
    type          TEXT NOT NULL,
    connection    TEXT UNIQUE REFERENCES connections (ref),
    active        INTEGER NOT NULL DEFAULT 1,
    message_count INTEGER NOT NULL DEFAULT 0,
    revision      INTEGER NOT NULL DEFAULT 1,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE participants (
    ref    TEXT PRIMARY KEY,
    chat   TEXT NOT NULL REFERENCES chats (ref),
    self   INTEGER NOT NULL,
    status TEXT NOT NULL
) STRICT;
CREATE INDEX participants_by_chat ON participants (chat);

CREATE TABLE messages (
    position        INTEGER PRIMARY KEY AUTOINCREMENT,
    ref             TEXT NOT NULL UNIQUE,
    chat            TEXT NOT NULL REFERENCES chats (ref),
    uuid            BLOB NOT NULL,
    direction       TEXT NOT NULL,
    kind            INTEGER NOT NULL,
    sender_name     TEXT NOT NULL,
    content         BLOB NOT NULL, -- sealed
    content_type    TEXT NOT NULL,
    seq             INTEGER,
    action_required INTEGER NOT NULL DEFAULT 0,
    reply_to        BLOB,
    deliver_by      INTEGER,
    read_by         INTEGER,
    sent_at         INTEGER NOT NULL,
    received_at     INTEGER,
    read_at         INTEGER,
    revision        INTEGER NOT NULL DEFAULT 1,
    updated_at      INTEGER NOT NULL,
    UNIQUE (chat, uuid)
) STRICT;
CREATE INDEX messages_by_uuid ON messages (uuid);
CREATE INDEX messages_by_chat ON messages (chat, position);
CREATE INDEX messages_unread ON messages (position) WHERE direction = 'in' AND read_at IS NULL;

-- One row for each outgoing message: each status it had, and when.
CREATE TABLE deliveries (
    message         TEXT PRIMARY KEY REFERENCES messages (ref),
    connection      TEXT NOT NULL REFERENCES connections (ref),
    uuid            BLOB NOT NULL,
    status          TEXT NOT NULL,
    code            TEXT,
    reason          TEXT,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,
    healing         INTEGER NOT NULL DEFAULT 0,
    pending_at      INTEGER NOT NULL,
    sent_at         INTEGER,
    expires_at      INTEGER,
    delivered_at    INTEGER,
    read_at         INTEGER,
    failed_at       INTEGER
) STRICT;
CREATE INDEX deliveries_by_uuid ON deliveries (uuid, connection);
CREATE INDEX deliveries_open ON deliveries (connection, status) WHERE status IN ('pending', 'sent', 'retrying');

CREATE TABLE attachments (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    ref         TEXT NOT NULL UNIQUE,
    direction   TEXT NOT NULL,
    status      TEXT NOT NULL,
    file        BLOB NOT NULL UNIQUE, -- its name on this disk
    blob        BLOB NOT NULL,
    details     BLOB NOT NULL, -- sealed: the descriptor, but its preview
    preview     BLOB,          -- sealed
    file_type   BLOB,          -- sealed: what its first bytes tell, JSON
    size        INTEGER NOT NULL,
    digests     BLOB,          -- of ours: SHA-256 of each part
    transferred INTEGER NOT NULL DEFAULT 0,
    blob_until  INTEGER,       -- of ours: until when the relay has it
    keep_until  INTEGER,       -- of ours: until when the relay shall have it
    reason      TEXT,          -- why the transfer waits, or why the file failed
    attempt     INTEGER NOT NULL DEFAULT 0,
    next_at     INTEGER NOT NULL DEFAULT 0,
    relay_due     TEXT,        -- pending relay request for a blob of ours: 'extend' or 'delete'
    relay_reason  TEXT,        -- why that request waits
    relay_attempt INTEGER NOT NULL DEFAULT 0,
    relay_next_at INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX attachments_moving ON attachments (next_at) WHERE status IN ('uploading', 'waiting', 'downloading');

CREATE INDEX attachments_by_blob ON attachments (blob);
CREATE INDEX attachments_at_relay ON attachments (relay_next_at) WHERE relay_due IS NOT NULL;

-- Blobs that the relay may have parts of, and that no file is: it is to delete them. One whose file is still being sealed
-- stands here too, and leaves with the transaction that makes it a file; so a crash needs nobody who remembers it.
CREATE TABLE unwanted_blobs (
    blob    BLOB PRIMARY KEY,
    attempt INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE message_attachments (
    message    TEXT NOT NULL REFERENCES messages (ref),
    ordinal    INTEGER NOT NULL,
    attachment TEXT NOT NULL REFERENCES attachments (ref),
    fetched_at INTEGER, -- when the recipient said that it has it
    PRIMARY KEY (message, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_attachments_by_attachment ON message_attachments (attachment);

-- What is on its way out, in order within a connection. A row that is sealed is sent again byte for byte until the relay
-- has answered; then it is accepted, and stays until the receipt.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    item        BLOB NOT NULL UNIQUE,
    connection  TEXT NOT NULL REFERENCES connections (ref),
    kind        INTEGER NOT NULL,
    uuid        BLOB NOT NULL,
    message     TEXT REFERENCES messages (ref),
    body        BLOB NOT NULL, -- sealed: the payload
    seq         INTEGER,
    sent_at     INTEGER,
    state       TEXT NOT NULL,
    envelope_id BLOB,
    relay       TEXT,
    mailbox     BLOB,
    proof       BLOB,
    envelope    BLOB,
    expires_at  INTEGER,
    attempt     INTEGER NOT NULL DEFAULT 0,
    next_at     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX outbox_by_connection ON outbox (connection, state, id);
CREATE INDEX outbox_due ON outbox (state, next_at);
CREATE INDEX outbox_by_envelope ON outbox (envelope_id);

CREATE TABLE receipts_due (
    connection TEXT NOT NULL REFERENCES connections (ref),
    uuid       BLOB NOT NULL,
    kind       TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (connection, uuid, kind)
) STRICT, WITHOUT ROWID;

-- Digests of envelopes and of ratchet messages that were opened: what comes again is a repetition.
CREATE TABLE seen (
    scope TEXT NOT NULL,
    hash  BLOB NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (scope, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE message_ids (
    connection TEXT NOT NULL,
    uuid       BLOB NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (connection, uuid)
) STRICT, WITHOUT ROWID;

-- Calls of the relay that a change made necessary; carried out after its commit, in order within a subject.
CREATE TABLE chores (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    item    BLOB NOT NULL UNIQUE,
    subject TEXT NOT NULL,
    kind    TEXT NOT NULL,
    mailbox BLOB NOT NULL,
    payload BLOB NOT NULL, -- sealed
    attempt INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX chores_due ON chores (next_at);
CREATE INDEX chores_by_subject ON chores (subject, id);

CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    topic   TEXT NOT NULL,
    subject TEXT NOT NULL,
    data    TEXT,
    at      INTEGER NOT NULL
) STRICT;

-- Requests that must not be carried out twice, by the client's own id.
CREATE TABLE requests (
    client_id TEXT PRIMARY KEY,
    digest    BLOB NOT NULL,
    answer    TEXT NOT NULL,
    at        INTEGER NOT NULL
) STRICT;

-- Events of kinds that this version does not show.
CREATE TABLE kept (
    connection  TEXT NOT NULL,
    uuid        BLOB NOT NULL,
    kind        INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    sent_at     INTEGER NOT NULL,
    body        BLOB NOT NULL, -- sealed
    received_at INTEGER NOT NULL,
    PRIMARY KEY (connection, uuid)
) STRICT, WITHOUT ROWID;
