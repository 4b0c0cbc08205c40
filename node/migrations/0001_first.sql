-- The node's own database. Columns marked "sealed" hold values sealed under the data key
-- (docs/e2ee-files-invites-vault.md). Times are Unix milliseconds.

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
    start_count        INTEGER NOT NULL DEFAULT 0, -- how often the daemon has started
    created_at         INTEGER NOT NULL
) STRICT;

-- The latest checkpoints that this database has written, to recognise them elsewhere.
CREATE TABLE checkpoints (
    generation INTEGER PRIMARY KEY,
    mark       BLOB NOT NULL,
    activity   INTEGER NOT NULL, -- rows that had been inserted when it was written
    written_at INTEGER NOT NULL
) STRICT;

-- Warnings about this node, until a person acknowledges them.
CREATE TABLE node_warnings (
    code TEXT PRIMARY KEY,
    at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Users of this node. So far there is one, who has the node's name.
CREATE TABLE users (
    id   INTEGER PRIMARY KEY,
    name TEXT
) STRICT;
INSERT INTO users (id) VALUES (1);

CREATE TABLE invites (
    id          TEXT PRIMARY KEY,
    invite_key  BLOB NOT NULL, -- id of the invite on the wire
    mailbox     BLOB NOT NULL,
    kind        TEXT NOT NULL,
    status      TEXT NOT NULL,
    auto_accept INTEGER NOT NULL,
    expires_at  INTEGER,
    secrets     BLOB NOT NULL, -- sealed
    version     INTEGER NOT NULL,
    -- requests that were refused because the invite was not open, or because too many waited
    refused_requests INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE connections (
    id              TEXT PRIMARY KEY,
    direction       TEXT NOT NULL,
    status          TEXT NOT NULL,
    name            TEXT NOT NULL,
    name_key        TEXT NOT NULL, -- the name as it is compared
    note            TEXT NOT NULL,
    fingerprint     BLOB NOT NULL,
    verified        INTEGER NOT NULL DEFAULT 0,
    relay           TEXT NOT NULL,
    invite          TEXT,
    invite_key      BLOB NOT NULL,
    secrets         BLOB NOT NULL, -- sealed
    version         INTEGER NOT NULL,
    health          TEXT NOT NULL DEFAULT 'ok',
    health_reason   TEXT,
    warning         TEXT, -- until a person acknowledges it
    last_contact_at INTEGER,
    receipts_queried_at INTEGER NOT NULL DEFAULT 0, -- when the peer was asked for all receipts
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX connections_by_name_key ON connections (name_key);
CREATE INDEX connections_by_fingerprint ON connections (fingerprint);
CREATE INDEX connections_by_invite_key ON connections (invite_key);
CREATE INDEX connections_pending ON connections (invite, created_at) WHERE status = 'pending';

CREATE TABLE mailboxes (
    id         BLOB PRIMARY KEY,
    invite     TEXT REFERENCES invites (id),
    connection TEXT REFERENCES connections (id)
) STRICT;

CREATE TABLE chats (
    id            TEXT PRIMARY KEY,
    uuid          BLOB NOT NULL,
    type          TEXT NOT NULL,
    connection    TEXT NOT NULL REFERENCES connections (id),
    active        INTEGER NOT NULL DEFAULT 1,
    last_number   INTEGER NOT NULL DEFAULT 0, -- of the latest posting
    read_reported INTEGER NOT NULL DEFAULT 0, -- read receipts are sent up to this number
    revision      INTEGER NOT NULL DEFAULT 1,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    UNIQUE (connection, uuid)
) STRICT;
CREATE UNIQUE INDEX chats_direct ON chats (connection) WHERE type = 'direct';

CREATE TABLE participants (
    id     TEXT PRIMARY KEY,
    chat   TEXT NOT NULL REFERENCES chats (id),
    self   INTEGER NOT NULL,
    status TEXT NOT NULL
) STRICT;
CREATE INDEX participants_by_chat ON participants (chat);

-- A message is stored once, regardless of the number of recipients and chats. Its author is one of
-- our users or a connection; a system message of this node has neither.
CREATE TABLE messages (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid              BLOB NOT NULL,
    author_user       INTEGER REFERENCES users (id),
    author_connection TEXT REFERENCES connections (id),
    author_name       TEXT NOT NULL,
    content           BLOB NOT NULL, -- sealed
    html              BLOB NOT NULL, -- sealed: the content, rendered when the message was stored
    content_type      TEXT NOT NULL,
    reply_to          BLOB,          -- uuid
    action_required   INTEGER NOT NULL DEFAULT 0,
    deliver_by        INTEGER,
    read_by           INTEGER,
    sent_at           INTEGER NOT NULL,
    received_at       INTEGER,
    revision          INTEGER NOT NULL DEFAULT 1,
    updated_at        INTEGER NOT NULL,
    is_system         INTEGER NOT NULL DEFAULT 0,
    CHECK ((author_user IS NOT NULL) + (author_connection IS NOT NULL) + is_system = 1)
) STRICT;
-- Peers choose the uuids of their messages, so a received uuid is unique only within its
-- connection.
CREATE UNIQUE INDEX messages_own ON messages (uuid) WHERE author_user IS NOT NULL;
CREATE UNIQUE INDEX messages_received ON messages (author_connection, uuid)
    WHERE author_connection IS NOT NULL;

-- A posting is one message in one chat: CMG-<chat>-<number>. Numbers count arrivals without gaps.
-- The display order is (sort, life, seq, number). A message that arrives after one that its sender
-- sent later has the sort key of that one, any other message has its own number.
CREATE TABLE postings (
    chat    TEXT NOT NULL REFERENCES chats (id),
    number  INTEGER NOT NULL,
    message INTEGER NOT NULL REFERENCES messages (id),
    own     INTEGER NOT NULL,
    sort    INTEGER NOT NULL,
    life    INTEGER NOT NULL, -- of the sender's incarnation; 0 for our own
    seq     INTEGER NOT NULL, -- assigned by the sender in that incarnation; 0 for our own
    files   INTEGER NOT NULL,
    PRIMARY KEY (chat, number),
    UNIQUE (message, chat)
) STRICT, WITHOUT ROWID;
CREATE INDEX postings_in_display_order ON postings (chat, sort, life, seq, number);
CREATE INDEX postings_by_sender ON postings (chat, own, life, seq, sort);
CREATE INDEX postings_with_files ON postings (chat, files) WHERE files > 0;

-- Order of the incarnations of a peer: what it sent in an earlier one is shown before what it sent
-- in a later one, whenever it arrives.
CREATE TABLE lives (
    connection  TEXT NOT NULL REFERENCES connections (id),
    incarnation BLOB NOT NULL,
    life        INTEGER NOT NULL,
    PRIMARY KEY (connection, incarnation)
) STRICT, WITHOUT ROWID;
CREATE INDEX lives_in_order ON lives (connection, life);

-- The number up to which a user has read a chat.
CREATE TABLE read_positions (
    user   INTEGER NOT NULL REFERENCES users (id),
    chat   TEXT NOT NULL REFERENCES chats (id),
    number INTEGER NOT NULL,
    PRIMARY KEY (user, chat)
) STRICT, WITHOUT ROWID;

-- One row for each recipient of our messages: the status and the time of each change.
CREATE TABLE deliveries (
    message         INTEGER NOT NULL REFERENCES messages (id),
    connection      TEXT NOT NULL REFERENCES connections (id),
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
    failed_at       INTEGER,
    PRIMARY KEY (message, connection)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_open ON deliveries (connection, status)
    WHERE status IN ('pending', 'sent', 'retrying');
CREATE INDEX deliveries_unread ON deliveries (connection, message)
    WHERE status IN ('sent', 'retrying', 'delivered', 'failed');
CREATE INDEX deliveries_failed ON deliveries (connection) WHERE status = 'failed';

-- Sealed files of both directions, each stored once.
CREATE TABLE files (
    position             INTEGER PRIMARY KEY AUTOINCREMENT,
    id                   TEXT NOT NULL UNIQUE,
    direction            TEXT NOT NULL,
    status               TEXT NOT NULL,
    disk_file            BLOB NOT NULL UNIQUE, -- name of the file in the data directory
    on_disk              INTEGER NOT NULL DEFAULT 1, -- outgoing: whether the data directory has it
    blob                 BLOB NOT NULL,
    descriptor           BLOB NOT NULL, -- sealed: everything except the preview
    preview              BLOB,          -- sealed
    file_type            BLOB,          -- sealed: JSON, detected from the first bytes
    size                 INTEGER NOT NULL,
    digests              BLOB NOT NULL, -- outgoing: SHA-256 digest of each part
    content_digest       BLOB,          -- outgoing: SHA-256 digest of the plaintext; sealed
    transferred          INTEGER NOT NULL DEFAULT 0,
    reason               TEXT,          -- why the transfer waits, or why the file failed
    attempt              INTEGER NOT NULL DEFAULT 0,
    next_at              INTEGER NOT NULL DEFAULT 0,
    blob_until           INTEGER,       -- outgoing: when the blob expires at the relay
    keep_until           INTEGER,       -- outgoing: until when the relay must store the blob
    blob_request         TEXT,          -- outgoing: request that is due, 'extend' or 'delete'
    blob_request_reason  TEXT,          -- why that request waits
    blob_request_attempt INTEGER NOT NULL DEFAULT 0,
    blob_request_next_at INTEGER NOT NULL DEFAULT 0,
    requests             INTEGER NOT NULL DEFAULT 0, -- incoming: to its sender to upload it again
    requested_at         INTEGER, -- incoming: when the sender was asked, until it responds
    created_at           INTEGER NOT NULL
) STRICT;
CREATE INDEX files_with_transfer ON files (next_at)
    WHERE status IN ('uploading', 'waiting', 'downloading');
CREATE INDEX files_by_blob ON files (blob);
CREATE INDEX files_with_blob_request ON files (blob_request_next_at)
    WHERE blob_request IS NOT NULL;

-- An attachment is the use of a file in a message. The attachment of a staged file has no
-- message.
CREATE TABLE attachments (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    file     TEXT NOT NULL REFERENCES files (id),
    message  INTEGER REFERENCES messages (id),
    ordinal  INTEGER NOT NULL DEFAULT 0,
    UNIQUE (message, ordinal)
) STRICT;
CREATE INDEX attachments_by_file ON attachments (file);

-- Recipients that have reported the download of a file.
CREATE TABLE delivery_files (
    message    INTEGER NOT NULL,
    connection TEXT NOT NULL,
    file       TEXT NOT NULL REFERENCES files (id),
    status     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (message, connection, file),
    FOREIGN KEY (message, connection) REFERENCES deliveries (message, connection)
) STRICT, WITHOUT ROWID;

-- Requests of recipients to upload one of our files again.
CREATE TABLE upload_requests (
    connection   TEXT NOT NULL REFERENCES connections (id),
    file         TEXT NOT NULL REFERENCES files (id),
    message      BLOB NOT NULL,    -- uuid of the message that the request names
    uploads      INTEGER NOT NULL, -- number of uploads that this recipient has caused
    requested_at INTEGER NOT NULL, -- when it caused the last one
    is_open      INTEGER NOT NULL, -- whether the recipient waits for the outcome
    PRIMARY KEY (connection, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX upload_requests_open ON upload_requests (file) WHERE is_open;
CREATE INDEX upload_requests_by_time ON upload_requests (requested_at);

-- Blobs that no row of files references, although the relay may have parts of them. The node asks
-- the relay to delete them. The blob of a file that is being sealed is listed too, until the
-- transaction that stores the file, so that a crash leaves no unlisted parts at the relay.
CREATE TABLE unreferenced_blobs (
    blob    BLOB PRIMARY KEY,
    attempt INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Outgoing payloads (messages, receipts and the steps of pairing), in order within a connection. A
-- message is referenced, and encoded when the row is sealed; all other rows contain their payload.
-- A sealed envelope is submitted unchanged until the relay responds. The row of a message remains
-- for 30 days after the receipt, because the peer may be restored from a backup.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    item        BLOB NOT NULL UNIQUE,
    connection  TEXT NOT NULL REFERENCES connections (id),
    kind        INTEGER NOT NULL,
    uuid        BLOB NOT NULL,
    message     INTEGER REFERENCES messages (id),
    payload     BLOB,          -- sealed
    incarnation BLOB,          -- of the first sealing, like seq and sent_at
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
    next_at     INTEGER NOT NULL DEFAULT 0,
    -- when the relay first did not know the mailbox
    mailbox_unknown_since INTEGER,
    CHECK ((message IS NULL) <> (payload IS NULL))
) STRICT;
CREATE INDEX outbox_by_connection ON outbox (connection, state, id);
CREATE INDEX outbox_due ON outbox (state, next_at);
CREATE INDEX outbox_by_envelope ON outbox (envelope_id);
CREATE INDEX outbox_by_message ON outbox (message);
CREATE INDEX outbox_by_uuid ON outbox (connection, uuid);
CREATE INDEX outbox_numbered ON outbox (connection, incarnation, seq) WHERE seq > 0;

CREATE TABLE receipts_due (
    connection TEXT NOT NULL REFERENCES connections (id),
    uuid       BLOB NOT NULL,
    kind       TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (connection, uuid, kind)
) STRICT, WITHOUT ROWID;

-- Digests of opened envelopes and ratchet messages, to recognise duplicates.
CREATE TABLE opened_digests (
    scope  TEXT NOT NULL,
    digest BLOB NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (scope, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE received_uuids (
    connection TEXT NOT NULL,
    uuid       BLOB NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (connection, uuid)
) STRICT, WITHOUT ROWID;

-- Requests to the relay about mailboxes and prekeys that a change requires. They are sent after its
-- commit, in order within a subject.
CREATE TABLE relay_jobs (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    item    BLOB NOT NULL UNIQUE,
    subject TEXT NOT NULL, -- id of an invite or a connection
    kind    TEXT NOT NULL,
    mailbox BLOB NOT NULL,
    payload BLOB NOT NULL, -- sealed
    attempt INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX relay_jobs_due ON relay_jobs (next_at);
CREATE INDEX relay_jobs_by_subject ON relay_jobs (subject, id);

-- Changed resources. The API renders the current state of the subject when an event is read.
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    topic   TEXT NOT NULL,
    subject TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

-- Completed requests to send a message, by the id that the client chose (an idempotency key).
CREATE TABLE requests (
    client_id TEXT PRIMARY KEY,
    digest    BLOB NOT NULL, -- of the request, with the content of its files
    sent      TEXT NOT NULL, -- ids of the message in the chats, separated by spaces
    at        INTEGER NOT NULL
) STRICT;

-- Payloads of unknown kinds, stored for a later version.
CREATE TABLE unknown_payloads (
    connection  TEXT NOT NULL,
    uuid        BLOB NOT NULL,
    kind        INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    sent_at     INTEGER NOT NULL,
    payload     BLOB NOT NULL, -- sealed
    received_at INTEGER NOT NULL,
    PRIMARY KEY (connection, uuid)
) STRICT, WITHOUT ROWID;
CREATE INDEX unknown_payloads_by_age ON unknown_payloads (connection, received_at);

CREATE TABLE unknown_payload_totals (
    connection TEXT    NOT NULL PRIMARY KEY,
    payloads   INTEGER NOT NULL,
    bytes      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Restore of this node from a backup. Every backup has this row; other databases have none.
CREATE TABLE restoration (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    backed_up_at INTEGER NOT NULL,
    restored_at  INTEGER, -- NULL in the backup itself
    first_event  INTEGER NOT NULL DEFAULT 0, -- of the event stream that begins with the restore
    recovered_at INTEGER, -- when the sessions were replaced; nothing is sent or received before
    connections  INTEGER NOT NULL DEFAULT 0 -- whose sessions were replaced
) STRICT;
