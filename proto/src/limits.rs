//! Every limit, with its unit in its name. Nothing anywhere is unlimited; whoever needs a new bound puts it here.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

// --- messages and files (docs/e2ee.md, Attachments) ---

/// Text of one message, as UTF-8.
pub const MESSAGE_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Body of one plaintext inside the ratchet.
pub const PLAINTEXT_BODY_BYTES_MAX: usize = 240 * 1024;
/// Files of one message.
pub const FILES_PER_MESSAGE_MAX: usize = 5;
/// Plaintext of one file.
pub const FILE_BYTES_MAX: u64 = 100_000_000;
/// Plaintext of all files of one message, before configuration lowers it.
pub const MESSAGE_FILES_BYTES_MAX: u64 = 500_000_000;
/// Name of a file as it is shown and sent, as UTF-8.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Media type of a file.
pub const MIME_BYTES_MAX: usize = 127;
/// Recipients of one `send`.
pub const RECIPIENTS_PER_MESSAGE_MAX: usize = 256;
/// Name on an identity card, as UTF-8.
pub const CARD_NAME_BYTES_MAX: usize = 64;
/// Note that goes with a connection request, as UTF-8.
pub const REQUEST_NOTE_BYTES_MAX: usize = 200;
/// Message ids in one receipt.
pub const RECEIPT_IDS_MAX: usize = 64;
/// Links of one message.
pub const LINKS_PER_MESSAGE_MAX: usize = 64;
/// URL, object id, name or icon of a link, as UTF-8.
pub const LINK_TEXT_BYTES_MAX: usize = 2_048;
/// A reaction, as UTF-8: one emoji with all its joiners.
pub const REACTION_BYTES_MAX: usize = 64;
/// Name of a chat, as UTF-8.
pub const CHAT_NAME_BYTES_MAX: usize = 200;
/// Description of a chat, as UTF-8.
pub const CHAT_DESCRIPTION_BYTES_MAX: usize = 2_048;
/// Participants that one event of a chat names.
pub const PARTICIPANTS_PER_EVENT_MAX: usize = 256;
/// A signed card inside a payload, or a rotated one with its extra signature.
pub const CARD_BYTES_MAX: usize = 512;
/// Entries of one CBOR map, unknown ones included.
pub const MAP_ENTRIES_MAX: u64 = 32;
/// First bytes of a file by which its type is told.
pub const SNIFFED_BYTES: usize = 8 * 1024;
/// A preview of an image, as it travels in a message.
pub const PREVIEW_BYTES_MAX: usize = 16 * 1024;
/// The longer side of a preview, in pixels.
pub const PREVIEW_SIDE_MAX: u32 = 256;
/// An image of which a preview is made.
pub const PREVIEW_SOURCE_BYTES_MAX: u64 = 64_000_000;
/// Its pixels.
pub const PREVIEW_SOURCE_PIXELS_MAX: u64 = 64_000_000;
/// Its longer side, in pixels.
pub const PREVIEW_SOURCE_SIDE_MAX: u32 = 32_768;
/// Its pixels when it is a progressive JPEG, which cannot be decoded line by line.
pub const PREVIEW_SOURCE_PROGRESSIVE_PIXELS_MAX: u64 = 2_000_000;
/// What a decoder may take for lines or a picture that is already scaled down.
pub const PREVIEW_MEMORY_BYTES: usize = 8 * 1024 * 1024;
/// How long making a preview may take.
pub const PREVIEW_TIME_MAX: Duration = Duration::from_secs(10);
/// Extension that survives when the name of a file is cut, with its dot, as UTF-8.
pub const FILE_EXTENSION_BYTES_MAX: usize = 16;
/// How deep quotes, lists and emphasis may stand in each other; what is deeper is shown flat. The work of an HTML parser
/// grows with the square of the depth.
pub const MARKDOWN_DEPTH_MAX: usize = 32;

// --- envelopes and relays ---

/// Longest origin of a relay.
pub const ORIGIN_BYTES_MAX: usize = 100;
/// Smallest envelope.
pub const ENVELOPE_BYTES_MIN: usize = 2 * 1024;
/// Largest envelope: Padmé up to 256 KiB.
pub const ENVELOPE_BYTES_MAX: usize = 256 * 1024;
/// Send keys of one mailbox: a second one while a peer moves from one to the other.
pub const SEND_KEYS_MAX: usize = 2;
/// A sealed prekey base at the relay, exactly.
pub const SEALED_PREKEYS_BYTES: usize = 2_048;
/// Envelopes in one request.
pub const ENVELOPES_PER_REQUEST_MAX: usize = 100;
/// Body of one request of envelopes, as JSON.
pub const ENVELOPES_REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Body of any other JSON request to a relay.
pub const JSON_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Longest life of an envelope (`MAX_LIFE`).
pub const ENVELOPE_LIFETIME_MAX: Duration = DAY.saturating_mul(30);
/// Life of an envelope whose sender asks for none.
pub const ENVELOPE_LIFETIME_DEFAULT: Duration = DAY.saturating_mul(7);
/// How much longer than [`ENVELOPE_LIFETIME_MAX`] a relay remembers an envelope's digest.
pub const DIGEST_RETENTION_AFTER_LIFETIME: Duration = DAY.saturating_mul(7);
/// Envelopes that may wait in one mailbox, before configuration.
pub const MAILBOX_ENVELOPES_MAX: u64 = 10_000;
/// Bytes of envelopes that may wait in one mailbox, before configuration.
pub const MAILBOX_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Envelopes that may wait in all mailboxes of one account, before configuration.
pub const ACCOUNT_ENVELOPES_MAX: u64 = 1_000_000;
/// Bytes of envelopes that may wait in all mailboxes of one account, before configuration.
pub const ACCOUNT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Mailboxes of one account, before configuration.
pub const ACCOUNT_MAILBOXES_MAX: u64 = 100_000;
/// Blobs of one account, before configuration.
pub const ACCOUNT_BLOBS_MAX: u64 = 100_000;
/// Bytes of blobs of one account, before configuration.
pub const ACCOUNT_BLOB_BYTES_MAX: u64 = 20_000_000_000;
/// A sealed checkpoint.
pub const CHECKPOINT_BYTES_MAX: usize = 4 * 1024;
/// A webhook's URL.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

// --- blobs ---

/// Plaintext of one STREAM chunk.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks of one part.
pub const CHUNKS_PER_PART: usize = 32;
/// Salt and commitment in front of the first chunk.
pub const BLOB_HEAD_BYTES: usize = 48;
/// One part without the head: 32 chunks of 64 KiB with a 16-byte tag each.
pub const PART_BYTES: usize = CHUNKS_PER_PART * (CHUNK_BYTES + 16);
/// The largest part: part 0 also carries the head.
pub const PART_BYTES_MAX: usize = PART_BYTES + BLOB_HEAD_BYTES;
/// Largest blob: 100,000,000 bytes padded, sealed, with its head.
pub const BLOB_BYTES_MAX: u64 = 100_687_920;
/// Parts of the largest blob.
pub const BLOB_PARTS_MAX: u32 = 48;
/// How much longer than its message a blob lives at least.
pub const BLOB_LIFETIME_AFTER_MESSAGE: Duration = DAY.saturating_mul(7);
/// The node of a blob's owner asks for a longer life once this much of the one that its waiting messages need is used up.
pub const BLOB_EXTENSION_INTERVAL: Duration = DAY;
/// Longest life of a blob.
pub const BLOB_LIFETIME_MAX: Duration = DAY.saturating_mul(37);

// --- requests ---

/// Longest time between `created` and `expires` of a request's signature, and how far a clock may be off.
pub const SIGNATURE_LIFETIME_MAX: Duration = Duration::from_secs(300);
/// Life of a signed-in session.
pub const SESSION_LIFETIME: Duration = HOUR;
/// Longest long poll.
pub const PULL_WAIT_MAX: Duration = Duration::from_secs(25);
/// A proof for reading prekeys is good for this long, either way.
pub const READ_PROOF_LIFETIME: Duration = Duration::from_secs(300);
/// Nonce of a request's signature.
pub const NONCE_CHARS_MAX: usize = 64;
/// How far the time of a webhook call may be from the receiver's clock, either way.
pub const WEBHOOK_CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures in the header of one webhook call.
pub const WEBHOOK_SIGNATURES_MAX: usize = 8;
/// Bytes of envelopes that a node submits in one request; as base64 they stay under [`ENVELOPES_REQUEST_BYTES_MAX`].
pub const SUBMISSION_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Time for a connection to a relay.
pub const RELAY_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one call of a relay, long polls and parts excepted.
pub const RELAY_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for one part of a blob, either way: two megabytes over a line of 64 kbit/s.
pub const PART_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a part that must come in a second on average, once [`BODY_GRACE`] is over.
pub const PART_BYTES_PER_SECOND_MIN: u32 = 7 * 1024;
/// How much later than asked a long poll may be answered.
pub const PULL_GRACE: Duration = Duration::from_secs(15);
/// Most of a relay's problem that is read.
pub const PROBLEM_BYTES_MAX: usize = 64 * 1024;
/// How long a client keeps a resting connection: shorter than [`HEADER_READ_TIMEOUT`], so that none is used in the moment
/// in which the other side closes it.
pub const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(8);
/// Resting connections that a client keeps for one host.
pub const CLIENT_IDLE_PER_HOST_MAX: usize = 8;

// --- delivery ---

/// Envelopes in one delivery batch, as bytes before base64.
pub const DELIVERY_BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Envelopes and events in one delivery batch.
pub const DELIVERY_BATCH_ITEMS_MAX: usize = 256;
/// First delay of the backoff.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// Longest delay of the backoff.
pub const BACKOFF_MAX: Duration = HOUR;
/// Shortest `Retry-After` that is honoured: whoever asks to be called again at once is called a second later.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Longest `Retry-After` that is honoured.
pub const RETRY_AFTER_MAX: Duration = DAY;
/// Refused calls in a row after which a webhook is switched off.
pub const REFUSED_CALLS_MAX: u32 = 10;
/// Failures of one envelope alone, while others pass, after which it is set aside.
pub const ENVELOPE_FAILURES_MAX: u32 = 3;
/// Answers `later` for one envelope, while others pass, after which it is set aside.
pub const ENVELOPE_DEFERRALS_MAX: u32 = 10;
/// How often an envelope that is set aside is tried again.
pub const SET_ASIDE_RETRY_INTERVAL: Duration = HOUR;
/// Longest webhook call.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest webhook call that begins while more than half of the calls that may be under way are.
pub const WEBHOOK_TIMEOUT_UNDER_LOAD: Duration = Duration::from_secs(3);
/// Most of a webhook's answer that is read.
pub const WEBHOOK_RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Time for a connection to one address of a webhook.
pub const WEBHOOK_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried for a webhook call.
pub const ADDRESSES_TRIED_MAX: usize = 3;
/// Body of one webhook call that a node takes: a batch as base64, with room for what frames it.
pub const WEBHOOK_CALL_BYTES_MAX: usize = 2 * DELIVERY_BATCH_BYTES_MAX;
/// Calls that are under way when a relay stops have this long to end; then their leases are given back.
pub const WEBHOOK_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches of one lane in a row before other lanes get their turn.
pub const LANE_BATCHES_MAX: u32 = 16;
/// Lease of a batch that was pulled or is being delivered.
pub const LEASE_DURATION: Duration = MINUTE;
/// How often a webhook node also pulls.
pub const WEBHOOK_NODE_PULL_INTERVAL: Duration = Duration::from_secs(900);
/// An account's contacts bring the next call of a failing webhook forward, but calls stay this far apart.
pub const CONTACT_RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Envelopes and events in one call of a webhook whose last call failed.
pub const PROBE_ITEMS_MAX: usize = 32;
/// Bytes of envelopes in one call of a webhook whose last call failed, unless one alone is larger.
pub const PROBE_BYTES_MAX: usize = 16 * 1024;
/// Webhook calls of one relay at a time, besides those of webhooks whose last call failed.
pub const WEBHOOK_CALLS_MAX: usize = 512;
/// Calls of webhooks whose last call failed, at a time.
pub const FAILING_CALLS_MAX: usize = 128;
/// Calls of webhooks whose last call failed that fail again, in a second.
pub const FAILING_CALLS_PER_SECOND: u64 = 100;
/// Lanes that are due of which a relay's scheduler knows at a time; it reads the next ones when these have begun.
pub const DUE_LANES_MAX: usize = 256;
/// Bytes of envelopes that a relay holds in memory for webhook calls and pulls, besides what each call has of its own.
pub const DELIVERY_MEMORY_SHARED_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of envelopes that each of [`WEBHOOK_CALLS_MAX`] calls may hold in memory whatever the others do.
pub const DELIVERY_MEMORY_PER_CALL_BYTES: usize = 8 * 1024;
/// How long a call waits for room in that memory before its lease is given back.
pub const DELIVERY_MEMORY_WAIT_MAX: Duration = Duration::from_secs(10);
/// Bytes of envelopes that a relay holds in memory for calls of webhooks whose last call failed.
pub const FAILING_MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024;

// --- how often a relay may be asked, before configuration ---

/// Requests of one account in a second, over time.
pub const REQUESTS_PER_SECOND_MAX: u32 = 200;
/// Requests of one account at once.
pub const REQUESTS_BURST_MAX: u32 = 1_000;
/// Envelopes of one account in a minute.
pub const ENVELOPES_PER_MINUTE_MAX: u32 = 30_000;
/// Bytes of parts of blobs that one account uploads in a day.
pub const BLOB_BYTES_PER_DAY_MAX: u64 = 100_000_000_000;
/// Requests without a session in a minute from one address.
pub const ADDRESS_REQUESTS_PER_MINUTE_MAX: u32 = 600;
/// Addresses that are counted one by one.
pub const TRACKED_ADDRESSES_MAX: usize = 100_000;

// --- what a relay holds and answers ---

/// Parts of blobs that come to a relay at a time, and as many that go; of each a stretch is in memory.
pub const PART_TRANSFERS_MAX: usize = 64;
/// Of those, the parts of one account.
pub const PART_TRANSFERS_PER_ACCOUNT_MAX: usize = 4;
/// Of those, the parts that a node moves at a time each way: one place stays free for a part whose connection hangs.
pub const PARTS_IN_FLIGHT_MAX: u32 = 3;
/// Bytes of request bodies, parts excepted, that a relay holds in memory at a time.
pub const REQUEST_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Accounts whose long polls a relay holds open at a time; more are answered at once.
pub const LONG_POLLS_MAX: usize = 10_000;
/// Long polls of one account that a relay holds open at a time; more are answered at once.
pub const LONG_POLLS_PER_ACCOUNT_MAX: usize = 8;
/// How much of a part is in a relay's memory while it comes or goes.
pub const PART_SEGMENT_BYTES: usize = 128 * 1024;
/// Accounts whose facts a relay keeps in memory.
pub const ACCOUNT_CACHE_ENTRIES_MAX: usize = 20_000;
/// Mailboxes on one page of a list.
pub const MAILBOXES_PER_PAGE: usize = 500;
/// An upload of a blob that is not complete is given up this long after its last part.
pub const UPLOAD_IDLE_TIMEOUT: Duration = DAY.saturating_mul(2);
/// When a sender may try a full mailbox again.
pub const MAILBOX_FULL_RETRY: Duration = MINUTE;
/// When a sender may try the mailbox of a suspended account again.
pub const MAILBOX_SUSPENDED_RETRY: Duration = MINUTE.saturating_mul(15);
/// When a relay that is too busy may be asked again.
pub const BUSY_RETRY: Duration = Duration::from_secs(1);
/// Bytes of its disk that a relay keeps for finishing what it accepted, before configuration.
pub const STORAGE_RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// Percent of its disk that the reserve takes at most, before configuration.
pub const STORAGE_RESERVE_PERCENT: u8 = 10;
/// How often a relay looks how much of its disk is free.
pub const STORAGE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// What a request costs on disk beside its body: rows, indices, the log's frames.
pub const STORAGE_BYTES_PER_REQUEST: u64 = 32 * 1024;
/// How often the bytes of a body are written: as they came, in the log, in the database.
pub const STORAGE_WRITE_AMPLIFICATION: u64 = 3;
/// When a relay without disk space may be asked again.
pub const STORAGE_FULL_RETRY: Duration = Duration::from_secs(10);
/// Rows that one sweep of a relay ends or deletes in one commit.
pub const SWEEP_ROWS_MAX: usize = 500;
/// How often a relay looks for what has expired.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How far behind the time that a relay has seen its clock may be before `check` says so.
pub const CLOCK_BEHIND_MAX: Duration = MINUTE;

// --- a relay's operator ---

/// Name of a registration token, in characters.
pub const TOKEN_NAME_CHARS_MAX: usize = 64;
/// Registration tokens of one relay.
pub const REGISTRATION_TOKENS_MAX: u64 = 10_000;
/// Longest life of a registration token.
pub const REGISTRATION_TOKEN_LIFETIME_MAX: Duration = DAY.saturating_mul(3_653);
/// Lanes or envelopes that one commit on the operator's behalf changes.
pub const ADMIN_BATCH_ROWS_MAX: usize = 500;
/// An answer of the operator's API as the commands read it.
pub const ADMIN_RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Minutes of a relay's throughput that are kept.
pub const THROUGHPUT_HISTORY_MINUTES: usize = 60;

// --- ratchet, sessions and prekeys (docs/e2ee.md) ---

/// Keys skipped in one chain by one message.
pub const SKIPPED_KEYS_PER_MESSAGE_MAX: u32 = 1_000;
/// Skipped keys stored for one session.
pub const SKIPPED_KEYS_STORED_MAX: usize = 2_000;
/// Old header keys kept, besides those that still have stored keys.
pub const OLD_HEADER_KEYS_MAX: usize = 256;
/// Tombstones of evicted keys, as ranges.
pub const TOMBSTONES_MAX: usize = 256;
/// How often a connection's prekey base is replaced though nobody used it.
pub const PREKEYS_ROTATION_INTERVAL: Duration = DAY.saturating_mul(7);
/// Life of a connection's prekey base (`not_after`).
pub const PREKEYS_LIFETIME: Duration = DAY.saturating_mul(37);
/// How early a base may be read before its `not_before`.
pub const PREKEYS_EARLY_MAX: Duration = DAY.saturating_mul(2);
/// Age at which the side with the lower fingerprint rotates the session.
pub const SESSION_ROTATION_LOWER: Duration = DAY.saturating_mul(7);
/// Age at which the other side rotates the session.
pub const SESSION_ROTATION_HIGHER: Duration = DAY.saturating_mul(8);
/// Messages sealed by either side after which a session rotates.
pub const SESSION_MESSAGES_MAX: u64 = 10_000;
/// How long an old session still receives.
pub const OLD_SESSION_RETENTION: Duration = DAY;
/// Old sessions of a connection that still receive; beyond, the oldest is retired early.
pub const OLD_SESSIONS_MAX: usize = 8;
/// Names of retired sessions, and hashes of retired prefixes, that a connection remembers; beyond, the oldest go.
pub const RETIRED_SESSIONS_MAX: usize = 4_096;
/// Confirmed sessions with which continuity can be proven: a peer whose confirmation is under way names the one before.
pub const PREVIOUS_SESSIONS_MAX: usize = 2;
/// Bitmap of a resume: 1,024 messages above `upto`.
pub const RESUME_BITMAP_BYTES_MAX: usize = 128;
/// The encoded resume of an INIT: incarnation, upto and a full bitmap take 155 bytes.
pub const RESUME_BYTES_MAX: usize = 256;
/// Gone messages in one answer: as many as a bitmap names.
pub const VOID_SEQS_MAX: usize = 1_024;
/// How far ahead a session epoch may be.
pub const SESSION_EPOCH_AHEAD_MAX: Duration = DAY.saturating_mul(3_653);

// --- invites and receipts ---

/// Life of a single-use invite whose maker asks for none.
pub const INVITE_LIFETIME_DEFAULT: Duration = DAY.saturating_mul(7);
/// Longest life of a single-use invite.
pub const INVITE_LIFETIME_MAX: Duration = DAY.saturating_mul(30);
/// How long an invite's mailbox stays open after its accept is receipted.
pub const INVITE_MAILBOX_RETENTION: Duration = DAY;
/// Requests that wait at a contact address; the oldest goes.
pub const PENDING_REQUESTS_MAX: usize = 100;
/// Past the message's life, an unreceipted message shows `unconfirmed` after this long.
pub const UNCONFIRMED_AFTER: Duration = DAY;
/// De-duplication by message id.
pub const MESSAGE_ID_RETENTION: Duration = DAY.saturating_mul(90);
/// An accept that nobody confirmed is sealed again after this long.
pub const ACCEPT_RETRY_INTERVAL: Duration = HOUR;
/// How long the maker of an invite waits for a relay to publish it.
pub const INVITE_PUBLISH_TIMEOUT: Duration = Duration::from_secs(20);

// --- what a node does at a time, and keeps ---

/// Envelopes sealed for one connection at a time: one request is in flight for it.
pub const SEALED_PER_CONNECTION_MAX: usize = 16;
/// Connections that seal in one transaction.
pub const CONNECTIONS_PER_SEAL_BATCH_MAX: usize = 32;
/// Events of the local API that are kept for listeners that come back.
pub const EVENTS_RETAINED_MAX: u64 = 10_000;
/// How often a listener is told how far a file on the move is.
pub const TRANSFER_PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// The time over which a file's rate is measured.
pub const TRANSFER_RATE_WINDOW: Duration = Duration::from_secs(4);
/// How long the end of a transfer is remembered for listeners that are busy.
pub const FINISHED_TRANSFER_RETENTION: Duration = Duration::from_secs(10);
/// Bytes of its disk that a node does not fill with files.
pub const FILES_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// Percent of its disk that this reserve takes at most.
pub const FILES_RESERVE_PERCENT: u8 = 5;
/// How long a staged file waits for a message to take it.
pub const STAGED_FILE_RETENTION: Duration = DAY;

// --- local API and listeners ---

/// Body of one JSON request to the node's local API.
pub const LOCAL_JSON_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Items of a page of the local API that asks for no number.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Items of a page of the local API.
pub const PAGE_ITEMS_MAX: u32 = 500;
/// One event of the local API as the CLI reads it.
pub const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Time for the CLI's connection to the daemon.
pub const LOCAL_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the daemon's answer to the CLI.
pub const LOCAL_RESPONSE_TIMEOUT: Duration = MINUTE;
/// A file that holds one secret: a key or a token.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Connections of one listener, before configuration: each long poll needs one.
pub const LISTENER_CONNECTIONS_MAX: usize = LONG_POLLS_MAX + 2_048;
/// Connections of one listener from one address, before configuration.
pub const LISTENER_CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// TLS handshakes of one listener at a time.
pub const HANDSHAKES_MAX: usize = 1_024;
/// A connection that has rested this long may be closed to make room for a new one.
pub const CONNECTION_EVICTABLE_AFTER: Duration = Duration::from_secs(1);
/// How long a connection may be without a request, or without taking more of the answer to one.
pub const CONNECTION_IDLE_TIMEOUT: Duration = MINUTE;
/// Age after which a connection ends when its requests have.
pub const CONNECTION_AGE_MAX: Duration = HOUR;
/// How long a client may take nothing of an answer.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an answer a client takes in a second at least, once [`WRITE_STALL_TIMEOUT`] is used up.
pub const WRITE_BYTES_PER_SECOND_MIN: u32 = 4 * 1024;
/// Bytes of a connection that the system takes from us before it has sent them.
pub const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// Files that a process has open besides its connections: databases, parts, webhook calls.
pub const OPEN_FILES_RESERVED: usize = 1_024;
/// How often it is looked whether a certificate has to be ordered anew.
pub const ACME_CHECK_INTERVAL: Duration = HOUR;
/// First pause after an order that failed; authorities allow few failures an hour.
pub const ACME_RETRY_FIRST: Duration = Duration::from_secs(120);
/// Longest pause after an order that failed.
pub const ACME_RETRY_MAX: Duration = HOUR.saturating_mul(6);
/// How long an authority may take for a step of an order.
pub const ACME_STEP_TIMEOUT: Duration = Duration::from_secs(120);
/// How often the files of a certificate are looked at.
pub const CERTIFICATE_CHECK_INTERVAL: Duration = MINUTE;
/// How long before a certificate expires its operator is warned.
pub const CERTIFICATE_EXPIRY_WARNING: Duration = DAY.saturating_mul(14);
/// Time for the first byte of a request.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the headers of a request.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a body of a request that does not come; a client that sends byte by byte is cut off.
pub const BODY_GRACE: Duration = Duration::from_secs(10);
/// Bytes of a body that must come in a second on average, once [`BODY_GRACE`] is over.
pub const BODY_BYTES_PER_SECOND_MIN: u32 = 32 * 1024;
/// Time that open requests have to end when a listener stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of one request.
pub const HEADER_BYTES_MAX: u32 = 32 * 1024;
/// Buffer of one HTTP/1.1 connection.
pub const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// Streams of one HTTP/2 connection at a time.
pub const HTTP2_STREAMS_MAX: u32 = 128;
/// How often a resting HTTP/2 connection is asked whether anybody is there.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Time for the answer to that.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a parser's words goes into a problem.
pub const PROBLEM_REASON_CHARS_MAX: usize = 200;
/// Jobs that may wait for the single writer of a database; more are refused at once.
pub const WRITER_QUEUE_MAX: usize = 1_024;
/// Jobs of one group commit.
pub const WRITER_BATCH_MAX: usize = 256;
/// How long a database connection waits for another process, a backup tool for example, to let go.
pub const DATABASE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements that a database connection keeps prepared.
pub const DATABASE_CACHED_STATEMENTS_MAX: usize = 128;
/// The write-ahead log of a database is cut back to this after a checkpoint.
pub const DATABASE_WAL_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// Pages of 4 KiB in the write-ahead log of a database after which a commit takes it over into the database. Many commits
/// change the same pages, which are taken over once.
pub const DATABASE_WAL_CHECKPOINT_PAGES: u32 = 8_192;
/// With less than this left on the disk, a failed write is put down to it.
pub const DISK_FULL_THRESHOLD_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_blob_fits_its_parts() {
        let parts = (BLOB_BYTES_MAX - BLOB_HEAD_BYTES as u64).div_ceil(PART_BYTES as u64);
        assert_eq!((PART_BYTES, parts), (2_097_664, u64::from(BLOB_PARTS_MAX)));
    }
}
