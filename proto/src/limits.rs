//! Limits that several modules share, or that bound what others can cause. Names of sizes and
//! counts contain the unit; times are [`Duration`]s.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

// --- messages and files (docs/e2ee.md, Attachments) ---

/// Text of one message, as UTF-8.
pub const MESSAGE_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Body of one plaintext inside the ratchet.
pub const PLAINTEXT_BODY_BYTES_MAX: usize = 240 * 1024;
/// Files attached to one message.
pub const FILES_PER_MESSAGE_MAX: usize = 5;
/// Plaintext of one file.
pub const FILE_BYTES_MAX: u64 = 100_000_000;
/// Plaintext of all files of one message; configuration can lower it.
pub const MESSAGE_FILES_BYTES_MAX: u64 = 500_000_000;
/// File name as it is displayed and sent, as UTF-8.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Media type of a file.
pub const MIME_BYTES_MAX: usize = 127;
/// Recipients of one message.
pub const RECIPIENTS_PER_MESSAGE_MAX: usize = 256;
/// Name on an identity card, as UTF-8.
pub const CARD_NAME_BYTES_MAX: usize = 64;
/// Note that accompanies a connection request, as UTF-8.
pub const REQUEST_NOTE_BYTES_MAX: usize = 200;
/// Message ids in one receipt.
pub const RECEIPT_IDS_MAX: usize = 64;
/// Links in one message.
pub const LINKS_PER_MESSAGE_MAX: usize = 64;
/// URL, object id, name or icon of a link, as UTF-8.
pub const LINK_TEXT_BYTES_MAX: usize = 2_048;
/// Reaction, as UTF-8: one emoji with all its joiners.
pub const REACTION_BYTES_MAX: usize = 64;
/// Name of a chat, as UTF-8.
pub const CHAT_NAME_BYTES_MAX: usize = 200;
/// Description of a chat, as UTF-8.
pub const CHAT_DESCRIPTION_BYTES_MAX: usize = 2_048;
/// Participants named by one chat event.
pub const PARTICIPANTS_PER_EVENT_MAX: usize = 256;
/// Signed card inside a payload, or a rotated card with its additional signature.
pub const CARD_BYTES_MAX: usize = 512;
/// Entries of one CBOR map, including unknown ones.
pub const MAP_ENTRIES_MAX: u64 = 32;
/// Leading bytes of a file that are inspected to detect its type.
pub const SNIFFED_BYTES: usize = 8 * 1024;
/// Image preview as it is sent in a message.
pub const PREVIEW_BYTES_MAX: usize = 16 * 1024;
/// Longer side of a preview, in pixels.
pub const PREVIEW_SIDE_MAX: u32 = 256;
/// Size of an image for which a preview is generated.
pub const PREVIEW_SOURCE_BYTES_MAX: u64 = 64_000_000;
/// Pixels of an image for which a preview is generated.
pub const PREVIEW_SOURCE_PIXELS_MAX: u64 = 64_000_000;
/// Longer side, in pixels, of an image for which a preview is generated.
pub const PREVIEW_SOURCE_SIDE_MAX: u32 = 32_768;
/// Pixels of a progressive JPEG for which a preview is generated. Such an image cannot be decoded
/// line by line, so the limit is lower.
pub const PREVIEW_SOURCE_PROGRESSIVE_PIXELS_MAX: u64 = 2_000_000;
/// Memory that a decoder may use for lines or for a picture that is already scaled down.
pub const PREVIEW_MEMORY_BYTES: usize = 8 * 1024 * 1024;
/// Time that generating a preview may take.
pub const PREVIEW_TIME_MAX: Duration = Duration::from_secs(10);
/// Extension that is preserved when a file name is truncated, including the dot, as UTF-8.
pub const FILE_EXTENSION_BYTES_MAX: usize = 16;
/// Nesting depth of the elements of a rendered message; deeper ones are displayed without theirs.
pub const CONTENT_DEPTH_MAX: usize = 32;
/// Rendered text of one message; a longer one is displayed as plain text.
pub const RENDERED_TEXT_BYTES_MAX: usize = 256 * 1024;

// --- envelopes and relays ---

/// Origin of a relay.
pub const ORIGIN_BYTES_MAX: usize = 100;
/// Size of the smallest envelope in bytes.
pub const ENVELOPE_BYTES_MIN: usize = 2 * 1024;
/// Largest envelope: Padmé up to 256 KiB.
pub const ENVELOPE_BYTES_MAX: usize = 256 * 1024;
/// Send keys of one mailbox: a peer that rotates its key uses two for a while.
pub const SEND_KEYS_MAX: usize = 2;
/// Exact size of a sealed prekey bundle at the relay.
pub const SEALED_PREKEYS_BYTES: usize = 2_048;
/// Envelopes in one request.
pub const ENVELOPES_PER_REQUEST_MAX: usize = 100;
/// JSON body of one request that submits envelopes.
pub const ENVELOPES_REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Body of any other JSON request to a relay.
pub const JSON_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Longest lifetime of an envelope.
pub const ENVELOPE_LIFETIME_MAX: Duration = DAY.saturating_mul(30);
/// Lifetime of an envelope whose sender requests none.
pub const ENVELOPE_LIFETIME_DEFAULT: Duration = DAY.saturating_mul(7);
/// Time beyond [`ENVELOPE_LIFETIME_MAX`] for which a relay retains an envelope's digest.
pub const DIGEST_RETENTION_AFTER_LIFETIME: Duration = DAY.saturating_mul(7);
/// Envelopes that one account submits per day whose records are retained for that long. The records
/// of others are short.
pub const LONG_RECORDS_PER_DAY_MAX: u32 = 50_000;
/// Shortest time after acceptance for which a short record is retained; it is retained until the
/// envelope ends in any case. It is longer than [`BACKOFF_MAX`], after which a node resubmits an
/// envelope whose result it does not know.
pub const SHORT_RECORD_RETENTION: Duration = HOUR.saturating_mul(2);
/// Envelopes with the same id, in different mailboxes, that one status query or recall inspects.
pub const ENVELOPES_WITH_SAME_ID_MAX: usize = 16;
/// Status events that wait for one account; beyond it, further events are dropped.
pub const ACCOUNT_EVENTS_MAX: u64 = 100_000;
/// Envelopes waiting in one mailbox (default, configurable).
pub const MAILBOX_ENVELOPES_MAX: u64 = 10_000;
/// Bytes of envelopes waiting in one mailbox (default, configurable).
pub const MAILBOX_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Envelopes waiting in all mailboxes of one account (default, configurable).
pub const ACCOUNT_ENVELOPES_MAX: u64 = 1_000_000;
/// Bytes of envelopes waiting in all mailboxes of one account (default, configurable).
pub const ACCOUNT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Mailboxes of one account (default, configurable).
pub const ACCOUNT_MAILBOXES_MAX: u64 = 100_000;
/// Closed mailboxes of one account whose ids nobody can open again; beyond it, the id that was
/// closed first is deleted.
pub const CLOSED_MAILBOXES_MAX: u64 = 100_000;
/// Pages of the relay's list of mailboxes that a node reads: twice what an account can have.
pub const MAILBOX_PAGES_MAX: usize = 400;
/// Mailboxes that a node reports as unknown to it; the others follow when these are closed.
pub const UNKNOWN_MAILBOXES_MAX: usize = 1_000;
/// Time for which a relay retains the mailbox ids of a deleted account.
pub const MAILBOX_ID_RETENTION: Duration = DAY.saturating_mul(37);
/// Largest limit that the owner of a mailbox can set for each sender.
pub const SENDER_ENVELOPES_MAX: u64 = 1_000_000;
/// Period of that limit, from the first envelope of the sender on.
pub const SENDER_LIMIT_PERIOD: Duration = DAY.saturating_mul(7);
/// Delay after which a sender may retry a mailbox that has accepted its limit of envelopes.
pub const SENDER_LIMIT_RETRY: Duration = HOUR;
/// Blobs of one account (default, configurable).
pub const ACCOUNT_BLOBS_MAX: u64 = 100_000;
/// Bytes of all blobs of one account (default, configurable).
pub const ACCOUNT_BLOB_BYTES_MAX: u64 = 20_000_000_000;
/// Size of a sealed checkpoint in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 4 * 1024;
/// URL of a webhook.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

// --- blobs ---

/// Plaintext of one STREAM chunk.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks in one part.
pub const CHUNKS_PER_PART: usize = 32;
/// Salt and commitment that precede the first chunk.
pub const BLOB_HEAD_BYTES: usize = 48;
/// One part without the head: 32 chunks of 64 KiB, each with a 16-byte tag.
pub const PART_BYTES: usize = CHUNKS_PER_PART * (CHUNK_BYTES + 16);
/// Largest part: part 0 also carries the head.
pub const PART_BYTES_MAX: usize = PART_BYTES + BLOB_HEAD_BYTES;
/// Largest blob: 100,000,000 bytes padded and sealed, including the head.
pub const BLOB_BYTES_MAX: u64 = 100_687_920;
/// Parts of the largest blob.
pub const BLOB_PARTS_MAX: u32 = 48;
/// Minimum time for which a blob outlives its message.
pub const BLOB_LIFETIME_AFTER_MESSAGE: Duration = DAY.saturating_mul(7);
/// Interval at which a node extends the lifetime of its blobs while messages that reference them
/// are waiting.
pub const BLOB_EXTENSION_INTERVAL: Duration = DAY;
/// Longest lifetime of a blob.
pub const BLOB_LIFETIME_MAX: Duration = DAY.saturating_mul(37);

// --- requests ---

/// Longest time between `created` and `expires` of a request signature, and the tolerated clock
/// difference.
pub const SIGNATURE_LIFETIME_MAX: Duration = Duration::from_secs(300);
/// Lifetime of an API session.
pub const SESSION_LIFETIME: Duration = HOUR;
/// Longest long poll.
pub const PULL_WAIT_MAX: Duration = Duration::from_secs(25);
/// Tolerated difference, in either direction, between the clock and the time of a proof for reading
/// prekeys.
pub const READ_PROOF_LIFETIME: Duration = Duration::from_secs(300);
/// Nonce of a request signature.
pub const NONCE_CHARS_MAX: usize = 64;
/// Tolerated difference, in either direction, between the receiver's clock and the time of a
/// webhook call.
pub const WEBHOOK_CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures in the header of one webhook call.
pub const WEBHOOK_SIGNATURES_MAX: usize = 8;
/// Time for which a node submits an envelope again whose mailbox the relay does not know: the node
/// of the recipient may be opening its mailboxes again, because its relay lost the account.
pub const MAILBOX_UNKNOWN_RETRY_TIME: Duration = Duration::from_secs(600);
/// Timeout for connecting to a relay.
pub const RELAY_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of one request to a relay, except long polls, parts, and a single envelope, which also has
/// the time that it needs at [`LINK_BYTES_PER_SECOND_MIN`].
pub const RELAY_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for transferring one part of a blob: two megabytes over a link of 64 kbit/s.
pub const PART_TIMEOUT: Duration = Duration::from_secs(300);
/// Minimum average rate, in bytes per second, at which a part must arrive after [`BODY_GRACE`].
pub const PART_BYTES_PER_SECOND_MIN: u32 = 7 * 1024;
/// Time beyond the requested wait for which a client waits for the response to a long poll.
pub const PULL_GRACE: Duration = Duration::from_secs(15);
/// Bytes that a client reads of a relay's problem document.
pub const PROBLEM_BYTES_MAX: usize = 64 * 1024;
/// Time after which a client closes an idle connection. It is shorter than [`HEADER_READ_TIMEOUT`],
/// so that a client does not reuse a connection that the server is closing.
pub const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(8);
/// Idle connections that a client retains per host.
pub const CLIENT_IDLE_PER_HOST_MAX: usize = 8;

// --- delivery ---

/// Envelopes in one delivery batch, in bytes before base64.
pub const DELIVERY_BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Envelopes and events in one delivery batch.
pub const DELIVERY_BATCH_ITEMS_MAX: usize = 256;
/// Bytes that an event counts towards the size of a batch.
pub const DELIVERY_EVENT_BYTES: usize = 512;
/// Rate of the slowest supported link, in bytes per second. A call or pull of a single envelope has
/// the time that the envelope needs at this rate.
pub const LINK_BYTES_PER_SECOND_MIN: u32 = 5_000;
/// Time within which a full batch must arrive so that the next one may be twice as large.
pub const QUICK_BATCH_TIME: Duration = Duration::from_millis(3_750);
/// Full batches that must arrive quickly before a size that failed is tried again.
pub const QUICK_BATCHES_BEFORE_RETRY: u32 = 64;
/// Time after which a size that failed may be tried again at once.
pub const FAILED_SIZE_RETENTION: Duration = HOUR;
/// Bytes of envelopes in the first batch of a lane, and in a node's first pull after a start.
pub const BATCH_BYTES_FIRST: usize = 128 * 1024;
/// First delay of the backoff.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// Longest delay of the backoff.
pub const BACKOFF_MAX: Duration = HOUR;
/// Shortest `Retry-After` that is honoured; a shorter one is raised to it.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Longest `Retry-After` that is honoured.
pub const RETRY_AFTER_MAX: Duration = DAY;
/// Consecutive refused calls after which a webhook is turned off, if they stretch over
/// [`REFUSAL_PERIOD_MIN`].
pub const REFUSED_CALLS_MAX: u32 = 10;
/// Time over which consecutive refusals must stretch before a webhook is turned off, so that a
/// faulty configuration of a proxy does not turn it off within seconds.
pub const REFUSAL_PERIOD_MIN: Duration = HOUR;
/// Failures of an envelope that is sent alone, while others succeed, after which it is set aside.
pub const ENVELOPE_FAILURES_MAX: u32 = 3;
/// Outcomes `later` for one envelope, while others succeed, after which it is set aside.
pub const ENVELOPE_DEFERRALS_MAX: u32 = 10;
/// Interval between attempts for an envelope that is set aside.
pub const SET_ASIDE_RETRY_INTERVAL: Duration = HOUR;
/// Timeout of a webhook call, unless it delivers a single envelope over a slow link.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of a webhook call that starts while more than half of the call slots are in use.
pub const WEBHOOK_TIMEOUT_UNDER_LOAD: Duration = Duration::from_secs(3);
/// Webhook tests that a relay runs at a time. Each account can have one.
pub const WEBHOOK_TESTS_MAX: u32 = 32;
/// Time for which a webhook test waits for a slot. It exceeds [`POOL_STALL_TIMEOUT`], after which
/// slow tests lose theirs.
pub const WEBHOOK_TEST_WAIT_MAX: Duration = Duration::from_secs(3);
/// Webhook tests that a relay runs at a time for URLs with the same host and port.
pub const WEBHOOK_TESTS_PER_SERVER_MAX: u32 = 4;
/// Bytes that a relay reads of a webhook's response.
pub const WEBHOOK_RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Timeout for connecting to one address of a webhook.
pub const WEBHOOK_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for resolving a host name to its addresses of one family.
pub const NAME_LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of one query to a name server; within [`NAME_LOOKUP_TIMEOUT`] it is repeated.
pub const NAME_QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Addresses of one family and host name that are considered; a response can contain thousands.
pub const ADDRESSES_RESOLVED_MAX: usize = 16;
/// Addresses of one host name that are tried for a webhook call.
pub const ADDRESSES_TRIED_MAX: usize = 3;
/// Body of one webhook call that a node accepts: a batch as base64, plus its JSON.
pub const WEBHOOK_CALL_BYTES_MAX: usize = 2 * DELIVERY_BATCH_BYTES_MAX;
/// Time that running webhook calls have to finish when a relay shuts down; then their leases are
/// released.
pub const WEBHOOK_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Consecutive batches of one lane before other lanes are served.
pub const LANE_BATCHES_MAX: u32 = 16;
/// Duration of the lease of a batch, unless a pull states its own. It outlasts the longest call.
pub const LEASE_DURATION: Duration = Duration::from_secs(120);
/// Shortest lease that a pull can request; a shorter one is raised to it.
pub const PULL_LEASE_MIN: Duration = Duration::from_secs(10);
/// Longest lease that a pull can request; a longer one is lowered to it. It suffices for the
/// largest batch at [`LINK_BYTES_PER_SECOND_MIN`].
pub const LEASE_DURATION_MAX: Duration = Duration::from_secs(360);
/// Longest interval between the pulls of a node with a webhook. They tell it whether the relay
/// calls the webhook.
pub const WEBHOOK_NODE_PULL_INTERVAL: Duration = MINUTE;
/// Longest interval between the tests that a node requests of a webhook that is not called.
pub const WEBHOOK_TEST_INTERVAL_MAX: Duration = Duration::from_secs(300);
/// Requests without progress that a node sends to its relay in a burst.
pub const RELAY_REQUESTS_BURST: u32 = 40;
/// Interval at which a node may send further requests without progress, whatever the relay
/// responds.
pub const RELAY_REQUEST_INTERVAL: Duration = Duration::from_millis(250);
/// Shortest interval between the pulls that calls with a wrong time cause.
pub const CLOCK_CHECK_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// Shortest time between calls of a failing webhook. A contact of the account brings the next call
/// forward, but no closer than this to the previous one.
pub const CONTACT_RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Envelopes and events in one call of a webhook whose last call failed.
pub const PROBE_ITEMS_MAX: usize = 32;
/// Bytes of envelopes in one call of a webhook whose last call failed, unless a single envelope is
/// larger.
pub const PROBE_BYTES_MAX: usize = 16 * 1024;
/// Concurrent webhook calls of one relay, not counting webhooks whose last call failed.
pub const WEBHOOK_CALLS_MAX: usize = 512;
/// Concurrent calls of webhooks whose last call failed.
pub const FAILING_CALLS_MAX: usize = 128;
/// Failed calls per second of webhooks whose last call had failed too.
pub const FAILING_CALLS_PER_SECOND: u64 = 100;
/// Due lanes that a relay's scheduler loads at a time; it loads more once these have started.
pub const DUE_LANES_MAX: usize = 256;
/// Bytes of envelopes that a relay holds in memory for webhook calls and pulls, in addition to the
/// reservation of each call.
pub const DELIVERY_MEMORY_SHARED_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of envelopes reserved for each of [`WEBHOOK_CALLS_MAX`] calls.
pub const DELIVERY_MEMORY_PER_CALL_BYTES: usize = 8 * 1024;
/// Time that a call waits for that memory before its lease is released.
pub const DELIVERY_MEMORY_WAIT_MAX: Duration = Duration::from_secs(10);
/// Bytes of envelopes that a relay holds in memory for calls of webhooks whose last call failed.
pub const FAILING_MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of single envelopes that a relay holds in memory for long calls, which have the time that
/// the envelope needs at [`LINK_BYTES_PER_SECOND_MIN`].
pub const LONG_CALLS_MEMORY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that a long call reserves at least, so that long calls use at most half of
/// [`FAILING_CALLS_MAX`].
pub const LONG_CALL_BYTES_MIN: usize = 16 * 1024;

// --- rate limits of a relay (defaults, configurable) ---

/// Sustained requests per second of one account.
pub const REQUESTS_PER_SECOND_MAX: u32 = 200;
/// Burst of requests of one account.
pub const REQUESTS_BURST_MAX: u32 = 1_000;
/// Envelopes per minute of one account.
pub const ENVELOPES_PER_MINUTE_MAX: u32 = 30_000;
/// Bytes of blob parts that one account uploads per day.
pub const BLOB_BYTES_PER_DAY_MAX: u64 = 100_000_000_000;
/// Requests per minute without an API session from one IP address.
pub const ADDRESS_REQUESTS_PER_MINUTE_MAX: u32 = 600;
/// IP addresses that the rate limiter counts individually.
pub const TRACKED_ADDRESSES_MAX: usize = 100_000;

// --- resources of a relay ---

/// Time without progress after which a body, response or transfer can be evicted from its memory or
/// slot, if others need it.
pub const POOL_STALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval at which a client that waits for units of a pool checks for stalled holders.
pub const POOL_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Rate, in bytes per second, below which a body, response or transfer counts as stalled.
pub const POOL_BYTES_PER_SECOND_MIN: u32 = 4 * 1024;
/// Time for which a request waits until evicted memory or slots are released.
pub const POOL_EVICTION_WAIT_MAX: Duration = Duration::from_secs(1);
/// Concurrent uploads of blob parts at a relay, and the same number of downloads. One segment of
/// each is in memory.
pub const PART_TRANSFERS_MAX: u32 = 64;
/// Concurrent part transfers of one account in each direction.
pub const PART_TRANSFERS_PER_ACCOUNT_MAX: u32 = 4;
/// Concurrent part transfers of a node in each direction. One less than
/// [`PART_TRANSFERS_PER_ACCOUNT_MAX`], which leaves a slot for a part whose connection hangs.
pub const PARTS_IN_FLIGHT_MAX: u32 = 3;
/// Bytes of request bodies from accounts, except parts, that a relay holds in memory.
pub const REQUEST_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of [`REQUEST_MEMORY_BYTES_MAX`] for one account: its largest request and small ones.
pub const REQUEST_MEMORY_PER_ACCOUNT_BYTES_MAX: usize = ENVELOPES_REQUEST_BYTES_MAX + 256 * 1024;
/// Bytes of [`REQUEST_MEMORY_BYTES_MAX`] for all accounts at one IP address.
pub const REQUEST_MEMORY_PER_ADDRESS_BYTES_MAX: usize = REQUEST_MEMORY_BYTES_MAX / 2;
/// Memory of a request whose body is received, in addition to its headers and body.
pub const REQUEST_OVERHEAD_BYTES: usize = 4 * 1024;
/// Body of a registration.
pub const REGISTRATION_REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Bytes of registration requests that a relay holds in memory.
pub const REGISTRATION_MEMORY_BYTES_MAX: usize = 512 * 1024;
/// Bytes of [`REGISTRATION_MEMORY_BYTES_MAX`] for one IP address.
pub const REGISTRATION_MEMORY_PER_ADDRESS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of responses to accounts that a relay holds in memory until they are sent.
pub const RESPONSE_MEMORY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of [`RESPONSE_MEMORY_BYTES_MAX`] for one account: one pull, in binary and as JSON.
pub const RESPONSE_MEMORY_PER_ACCOUNT_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Smallest response for which memory is reserved.
pub const RESERVED_RESPONSE_BYTES_MIN: usize = 1024;
/// Accounts with an open long poll; the relay responds to further ones immediately.
pub const LONG_POLLS_MAX: usize = 10_000;
/// Open long polls of one account; the relay responds to further ones immediately.
pub const LONG_POLLS_PER_ACCOUNT_MAX: usize = 8;
/// Bytes of a part that are in memory during its transfer.
pub const PART_SEGMENT_BYTES: usize = 128 * 1024;
/// Accounts in a relay's account cache.
pub const ACCOUNT_CACHE_ENTRIES_MAX: usize = 20_000;
/// Mailboxes on one page of a list.
pub const MAILBOXES_PER_PAGE: usize = 500;
/// Time after its last part after which an incomplete upload is deleted.
pub const UPLOAD_IDLE_TIMEOUT: Duration = DAY.saturating_mul(2);
/// Delay after which a sender may retry a full mailbox.
pub const MAILBOX_FULL_RETRY: Duration = MINUTE;
/// Delay after which a sender may retry the mailbox of a suspended account.
pub const MAILBOX_SUSPENDED_RETRY: Duration = MINUTE.saturating_mul(15);
/// Delay after which a client may retry an overloaded relay.
pub const BUSY_RETRY: Duration = Duration::from_secs(1);
/// Disk space that a relay reserves for completing accepted work (default, configurable).
pub const STORAGE_RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// Upper bound of that reserve as a percentage of the disk (default, configurable).
pub const STORAGE_RESERVE_PERCENT: u8 = 10;
/// Interval at which a relay checks its free disk space.
pub const STORAGE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Disk space of a request in addition to its body: rows, indexes, frames of the log.
pub const STORAGE_BYTES_PER_REQUEST: u64 = 32 * 1024;
/// Number of times that the bytes of a body are written: as received, to the log, to the database.
pub const STORAGE_WRITE_AMPLIFICATION: u64 = 3;
/// Delay after which a client may retry a relay without disk space.
pub const STORAGE_FULL_RETRY: Duration = Duration::from_secs(10);
/// Units of work that a sweep of a relay does in one commit, a few milliseconds: an expired or
/// deleted row is one unit.
pub const SWEEP_UNITS_MAX: usize = 256;
/// Bytes of an expired or deleted envelope that are a further unit.
pub const SWEEP_BYTES_PER_UNIT: usize = 16 * 1024;
/// Envelopes at the front of a queue that a search inspects for one that can be delivered. Expired
/// ones and those in closed mailboxes remain there until the next sweep.
pub const QUEUE_SCAN_ROWS_MAX: usize = 1_024;
/// Envelopes of one account that can be set aside at a time; beyond it, a poison envelope is
/// retried in order.
pub const SET_ASIDE_ENVELOPES_MAX: usize = 256;
/// Interval at which a relay looks for expired rows.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Time by which a relay's clock may be behind the latest time that it has recorded before `check`
/// reports it.
pub const CLOCK_BEHIND_MAX: Duration = MINUTE;

// --- administration of a relay ---

/// Name of a registration token, in characters.
pub const TOKEN_NAME_CHARS_MAX: usize = 64;
/// Registration tokens of one relay.
pub const REGISTRATION_TOKENS_MAX: u64 = 10_000;
/// Longest lifetime of a registration token.
pub const REGISTRATION_TOKEN_LIFETIME_MAX: Duration = DAY.saturating_mul(3_653);
/// Characters of the label that an operator gives an account.
pub const ACCOUNT_LABEL_CHARS_MAX: usize = 64;
/// Lanes or envelopes that one commit of an administrative command inspects or changes.
pub const ADMIN_BATCH_ROWS_MAX: usize = 128;
/// Bytes of responses of the admin API that a relay holds in memory until they are sent.
pub const ADMIN_MEMORY_BYTES_MAX: usize = ADMIN_RESPONSE_BYTES_MAX;
/// Response of the admin API that the CLI reads.
pub const ADMIN_RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Minutes of throughput history that a relay retains.
pub const THROUGHPUT_HISTORY_MINUTES: usize = 60;

// --- ratchet, sessions and prekeys (docs/e2ee.md) ---

/// Keys that one message may skip in one chain.
pub const SKIPPED_KEYS_PER_MESSAGE_MAX: u32 = 1_000;
/// Skipped keys stored for one session.
pub const SKIPPED_KEYS_STORED_MAX: usize = 2_000;
/// Old header keys retained, in addition to those that still have stored keys.
pub const OLD_HEADER_KEYS_MAX: usize = 256;
/// Tombstones of evicted keys, as ranges.
pub const TOMBSTONES_MAX: usize = 256;
/// Interval at which a connection's unused prekey bundle is replaced.
pub const PREKEYS_ROTATION_INTERVAL: Duration = DAY.saturating_mul(7);
/// Prekey bundles of one connection or invite whose secrets a node stores; beyond it, the oldest
/// are deleted. Regular rotation needs eleven.
pub const PREKEY_BUNDLES_MAX: usize = 16;
/// Minimum interval at which a node opens its mailboxes again because its relay has lost the
/// account.
pub const ACCOUNT_REPLACEMENT_INTERVAL_MIN: Duration = Duration::from_secs(600);
/// Lifetime of a connection's prekey bundle (`not_after`).
pub const PREKEYS_LIFETIME: Duration = DAY.saturating_mul(37);
/// Time before its `not_before` from which a bundle is accepted.
pub const PREKEYS_EARLY_MAX: Duration = DAY.saturating_mul(2);
/// Age at which the side with the lower fingerprint rotates the session.
pub const SESSION_ROTATION_LOWER: Duration = DAY.saturating_mul(7);
/// Age at which the side with the higher fingerprint rotates the session.
pub const SESSION_ROTATION_HIGHER: Duration = DAY.saturating_mul(8);
/// Messages sealed by either side after which a session rotates.
pub const SESSION_MESSAGES_MAX: u64 = 10_000;
/// Time for which an old session can still receive.
pub const OLD_SESSION_RETENTION: Duration = DAY;
/// Old sessions of a connection that can still receive; beyond it, the oldest is retired early.
pub const OLD_SESSIONS_MAX: usize = 8;
/// Ids of retired sessions, and hashes of retired prefixes, that a connection stores; beyond it,
/// the oldest are deleted.
pub const RETIRED_SESSIONS_MAX: usize = 4_096;
/// Confirmed sessions that can prove continuity. A peer names the latest one that it has confirmed,
/// and when both sides replace sessions in quick succession, this side may have confirmed several
/// others since.
pub const PREVIOUS_SESSIONS_MAX: usize = 8;
/// Sessions that were replaced before this side confirmed them, and that can prove continuity
/// nevertheless, because the peer may have confirmed them.
pub const REPLACED_SESSIONS_MAX: usize = 2;
/// Bitmap of a resume: 1,024 messages above `upto`.
pub const RESUME_BITMAP_BYTES_MAX: usize = 128;
/// How far above the first missing number a node records which numbers of a peer arrived: as far as
/// a bitmap reaches.
pub const RESUME_SEQS_MAX: u64 = 8 * RESUME_BITMAP_BYTES_MAX as u64;
/// Incarnations of a peer for which a node records which numbers arrived.
pub const PEER_INCARNATIONS_MAX: usize = 8;
/// Time after the receipt for which a node can send a message again, to a peer that was restored
/// from a backup.
pub const CONFIRMED_MESSAGE_RETENTION: Duration = DAY.saturating_mul(30);
/// Time after which a node asks the peer about a message that the relay has accepted and for which
/// no receipt arrived, and the interval at which it asks again.
pub const RECEIPT_QUERY_INTERVAL: Duration = DAY;
/// Interval at which a node asks a peer for the receipts of messages that nobody has read yet, if no
/// session was replaced in the meantime.
pub const READ_RECEIPT_QUERY_INTERVAL: Duration = DAY.saturating_mul(7);
/// Age up to which a node asks for the receipts of a message.
pub const RECEIPT_QUERY_AGE_MAX: Duration = DAY.saturating_mul(90);
/// Messages for whose receipts a node asks a peer at once.
pub const RECEIPTS_QUERIED_MAX: usize = 1_024;
/// Time after which a node without a session tries again to start one, when the peer's prekeys are
/// unusable.
pub const SESSION_RETRY_INTERVAL: Duration = HOUR;
/// First interval between two repairs of the same kind on one connection: new sessions after an
/// envelope that cannot be opened, or requests to send again. Each further one doubles it.
pub const REPAIR_INTERVAL_FIRST: Duration = Duration::from_secs(60);
/// Longest interval between two repairs of the same kind.
pub const REPAIR_INTERVAL_MAX: Duration = HOUR;
/// Times a day that a peer can make a node resend earlier messages at once; further resends are
/// delayed like repairs. A restored peer needs one for each incarnation.
pub const IMMEDIATE_RESENDS_PER_DAY_MAX: u32 = 16;
/// Requests with which a node asks for one file again whose blob the relay has lost.
pub const FILE_REQUESTS_MAX: u32 = 3;
/// Time within which the outcome of such a request is expected.
pub const FILE_REQUEST_INTERVAL: Duration = DAY;
/// Times that a node uploads one file again at the request of one recipient, until no request has
/// come for [`CONFIRMED_MESSAGE_RETENTION`].
pub const REPEATED_UPLOADS_PER_FILE_MAX: u32 = 3;
/// Time after which one recipient may cause another upload of the same file.
pub const REPEATED_UPLOAD_INTERVAL: Duration = HOUR;
/// Files that a node uploads again in a day at the request of one recipient.
pub const REPEATED_UPLOADS_PER_CONNECTION_MAX: u64 = 64;
/// Files that a node uploads again in a day at the request of all recipients.
pub const REPEATED_UPLOADS_PER_DAY_MAX: u64 = 512;
/// Period of the two limits above.
pub const REPEATED_UPLOADS_PERIOD: Duration = DAY;
/// Repairs of the same kind in a day beyond which users are warned.
pub const REPAIRS_PER_DAY_BEFORE_WARNING: u32 = 5;
/// Latest checkpoints of a node that its database keeps, to recognise them elsewhere.
pub const CHECKPOINTS_KEPT: usize = 32;
/// Default interval of the checkpoints of an active node.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Shortest interval of checkpoints.
pub const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Encoded resume of an INIT: incarnation, upto and a full bitmap take 155 bytes.
pub const RESUME_BYTES_MAX: usize = 256;
/// Sequence numbers in one notice of messages that will not be sent: as many as a resume bitmap
/// covers.
pub const VOID_SEQS_MAX: usize = 1_024;
/// Time by which a session epoch can be ahead of the clock.
pub const SESSION_EPOCH_AHEAD_MAX: Duration = DAY.saturating_mul(3_653);

// --- invites and receipts ---

/// Lifetime of a single-use invite whose creator requests none.
pub const INVITE_LIFETIME_DEFAULT: Duration = DAY.saturating_mul(7);
/// Longest lifetime of a single-use invite.
pub const INVITE_LIFETIME_MAX: Duration = DAY.saturating_mul(30);
/// Text that a person pastes to connect with the invite in it.
pub const PASTED_INVITE_BYTES_MAX: usize = 64 * 1024;
/// Places in a pasted text that are tried as an invite.
pub const INVITE_CANDIDATES_MAX: usize = 8;
/// Time for which an invite's mailbox stays open after the receipt for the acceptance.
pub const INVITE_MAILBOX_RETENTION: Duration = DAY;
/// Pending requests for an invite; beyond it, new ones are refused.
pub const PENDING_REQUESTS_MAX: usize = 100;
/// Requests that the mailbox of an invite accepts from one account within [`SENDER_LIMIT_PERIOD`].
pub const INVITE_ENVELOPES_PER_SENDER_MAX: u64 = 4;
/// Payloads of unknown kinds that a node stores for one connection; beyond it, the oldest are
/// deleted.
pub const UNKNOWN_PAYLOADS_PER_CONNECTION_MAX: u64 = 1_000;
/// Bytes of payloads of unknown kinds that a node stores for one connection.
pub const UNKNOWN_PAYLOAD_BYTES_PER_CONNECTION_MAX: u64 = 1024 * 1024;
/// Bytes of payloads of unknown kinds that a node stores; beyond it, the oldest of the connection
/// with most bytes are deleted.
pub const UNKNOWN_PAYLOAD_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Time after its lifetime at which a message without a receipt becomes `unconfirmed`.
pub const UNCONFIRMED_AFTER: Duration = DAY;
/// Time for which message ids are stored for deduplication.
pub const MESSAGE_ID_RETENTION: Duration = DAY.saturating_mul(90);
/// Interval at which an acceptance without a receipt is sealed again.
pub const ACCEPT_RETRY_INTERVAL: Duration = HOUR;
/// Time that the creator of an invite waits for a relay to publish it.
pub const INVITE_PUBLISH_TIMEOUT: Duration = Duration::from_secs(20);

// --- concurrency and retention of a node ---

/// Envelopes sealed for one connection at a time; one request is in flight for it.
pub const SEALED_PER_CONNECTION_MAX: usize = 16;
/// Connections that seal in one transaction.
pub const CONNECTIONS_PER_SEAL_BATCH_MAX: usize = 32;
/// Events of the local API that are stored for clients that reconnect.
pub const EVENTS_RETAINED_MAX: u64 = 10_000;
/// Interval of progress events for a file transfer.
pub const TRANSFER_PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// Window over which a transfer's rate is measured.
pub const TRANSFER_RATE_WINDOW: Duration = Duration::from_secs(4);
/// Time for which the end of a transfer is stored for slow clients.
pub const FINISHED_TRANSFER_RETENTION: Duration = Duration::from_secs(10);
/// Disk space that a node does not fill with files.
pub const FILES_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// Upper bound of that reserve as a percentage of the disk.
pub const FILES_RESERVE_PERCENT: u8 = 5;
/// Time for which a staged file waits for a message that attaches it.
pub const STAGED_FILE_RETENTION: Duration = DAY;

// --- local API and listeners ---

/// Bytes of bodies of webhook calls that a node holds in memory, for calls with a valid proof.
pub const WEBHOOK_MEMORY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of bodies of webhook calls that a node holds in memory, for calls without a valid proof.
pub const UNPROVEN_WEBHOOK_MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of [`UNPROVEN_WEBHOOK_MEMORY_BYTES_MAX`] for one IP address, except loopback.
pub const UNPROVEN_WEBHOOK_MEMORY_PER_ADDRESS_BYTES_MAX: usize = WEBHOOK_CALL_BYTES_MAX;
/// Memory that is reserved for a webhook call with a small body, which limits concurrent calls.
pub const WEBHOOK_CALL_MEMORY_BYTES_MIN: usize = 128 * 1024;
/// Bytes of request bodies that the node's local API holds in memory.
pub const LOCAL_REQUEST_MEMORY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of responses that the node's local API holds in memory until they are sent.
pub const LOCAL_RESPONSE_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Body of one JSON request to the node's local API.
pub const LOCAL_JSON_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Default number of items on a page of the local API.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Items on a page of the local API.
pub const PAGE_ITEMS_MAX: u32 = 500;
/// JSON of the items on a page of the local API, unless the first item alone is longer.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// One event of the local API that the CLI reads.
pub const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Time for which a request to the local API waits until the node has registered with its relay.
pub const REGISTRATION_WAIT_MAX: Duration = Duration::from_secs(10);
/// Timeout for the CLI's connection to the daemon.
pub const LOCAL_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for the daemon's response to the CLI.
pub const LOCAL_RESPONSE_TIMEOUT: Duration = MINUTE;
/// Path in the address of a Unix socket (`sun_path` of Linux, without the terminating zero).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// File that holds one secret: a key or a token.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Connections of one listener (default, configurable): each long poll needs one.
pub const LISTENER_CONNECTIONS_MAX: usize = LONG_POLLS_MAX + 2_048;
/// Connections of one listener from one IP address (default, configurable).
pub const LISTENER_CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Concurrent TLS handshakes of one listener.
pub const HANDSHAKES_MAX: usize = 1_024;
/// Idle time after which a full listener may close a connection in favour of a new one.
pub const CONNECTION_EVICTABLE_AFTER: Duration = Duration::from_secs(1);
/// Time after which a connection that has no request, or whose client does not read its response,
/// is closed.
pub const CONNECTION_IDLE_TIMEOUT: Duration = MINUTE;
/// Age after which a connection is closed once its requests are complete.
pub const CONNECTION_AGE_MAX: Duration = HOUR;
/// Longest time for which a client can stop reading a response.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Minimum rate, in bytes per second, at which a client must read a response after
/// [`WRITE_STALL_TIMEOUT`].
pub const WRITE_BYTES_PER_SECOND_MIN: u32 = 4 * 1024;
/// Minimum rate, in bytes per second, at which a client must read an HTTP/2 response after
/// [`WRITE_STALL_TIMEOUT`]. It is lower than the rate of the connection, which all its responses
/// use.
pub const STREAM_BYTES_PER_SECOND_MIN: u32 = 1024;
/// Piece of a response that is handed to the HTTP library at a time.
pub const RESPONSE_CHUNK_BYTES: usize = 16 * 1024;
/// Unsent bytes of a connection in the kernel's send buffer.
pub const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// File descriptors that a process needs besides connections: databases, parts, webhook calls.
pub const OPEN_FILES_RESERVED: usize = 1_024;
/// Interval at which certificate renewal is checked.
pub const ACME_CHECK_INTERVAL: Duration = HOUR;
/// First delay after a failed order; authorities allow few failures per hour.
pub const ACME_RETRY_FIRST: Duration = Duration::from_secs(120);
/// Longest delay after a failed order.
pub const ACME_RETRY_MAX: Duration = HOUR.saturating_mul(6);
/// Time that an authority may take for one step of an order.
pub const ACME_STEP_TIMEOUT: Duration = Duration::from_secs(120);
/// Interval at which certificate files are checked for changes.
pub const CERTIFICATE_CHECK_INTERVAL: Duration = MINUTE;
/// Time before a certificate's expiry at which the operator is warned.
pub const CERTIFICATE_EXPIRY_WARNING: Duration = DAY.saturating_mul(14);
/// Timeout for the first byte of a request.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for the headers of a request.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for which a client can send nothing of a request body.
/// [`BODY_BYTES_PER_SECOND_MIN`] applies afterwards, so that a client that sends byte by byte is
/// disconnected.
pub const BODY_GRACE: Duration = Duration::from_secs(10);
/// Minimum average rate, in bytes per second, at which a body must arrive after [`BODY_GRACE`], except
/// parts and the envelopes that a node submits, which need [`LINK_BYTES_PER_SECOND_MIN`].
pub const BODY_BYTES_PER_SECOND_MIN: u32 = 32 * 1024;
/// Time that open requests have to finish when a listener shuts down.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of one request.
pub const HEADER_BYTES_MAX: u32 = 32 * 1024;
/// Buffer of one HTTP/1.1 connection.
pub const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// Concurrent streams of one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 128;
/// Bytes of one HTTP/2 request body that are buffered before they are read.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Bytes of all request bodies of one HTTP/2 connection that are buffered before they are read.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Unsent bytes of one HTTP/2 response, beyond which the next chunk waits.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams of one HTTP/2 connection that can end with an error of the client's before the
/// connection is closed.
pub const HTTP2_STREAM_ERRORS_MAX: usize = 128;
/// Interval of keep-alive pings on an HTTP/2 connection.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Timeout for the response to such a ping.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a parser's error message that a problem document includes.
pub const PROBLEM_REASON_CHARS_MAX: usize = 200;
/// Jobs waiting for the single writer of a database; further ones are rejected immediately.
pub const WRITER_QUEUE_MAX: usize = 1_024;
/// Jobs in one group commit.
pub const WRITER_BATCH_MAX: usize = 256;
/// Time for which a database connection waits for a lock of another process, such as a backup tool.
pub const DATABASE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements that a database connection caches.
pub const DATABASE_CACHED_STATEMENTS_MAX: usize = 128;
/// Size to which the write-ahead log is truncated after a checkpoint.
pub const DATABASE_WAL_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// Pages of 4 KiB in the write-ahead log after which a commit runs a checkpoint. Many commits
/// change the same pages, and a checkpoint copies each of them once.
pub const DATABASE_WAL_CHECKPOINT_PAGES: u32 = 8_192;
/// Free disk space below which a failed write is attributed to a full disk.
pub const DISK_FULL_THRESHOLD_BYTES: u64 = 1024 * 1024;

// --- protection of a node's data key (docs/e2ee-files-invites-vault.md, Vault) ---

/// Characters that a new passphrase of a data key must have.
pub const KEY_PASSPHRASE_CHARACTERS_MIN: usize = 12;
/// Memory of Argon2id for a new passphrase, in KiB: 64 MiB.
pub const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
/// Passes of Argon2id for a new passphrase.
pub const ARGON2_PASSES: u32 = 3;
/// Lanes of Argon2id for a new passphrase.
pub const ARGON2_LANES: u32 = 4;
/// Memory of Argon2id with which a wrapped data key is opened, in KiB: 256 MiB.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Passes of Argon2id with which a wrapped data key is opened.
pub const ARGON2_PASSES_MAX: u32 = 16;
/// Lanes of Argon2id with which a wrapped data key is opened.
pub const ARGON2_LANES_MAX: u32 = 16;

// --- files in the age format (backups) ---

/// Header of an age file.
pub const AGE_HEADER_BYTES_MAX: usize = 64 * 1024;
/// Recipients of one age file.
pub const AGE_RECIPIENTS_MAX: usize = 256;
/// Work factor of a new passphrase: the base-two logarithm of scrypt's `N`. Each attempt needs
/// 256 MiB of memory.
pub const SCRYPT_WORK_FACTOR_DEFAULT: u8 = 18;
/// Highest work factor that is accepted when a file is opened. It needs 4 GiB of memory.
pub const SCRYPT_WORK_FACTOR_MAX: u8 = 22;

/// Shortest interval of scheduled backups.
pub const BACKUP_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Time after which a failed scheduled backup is repeated.
pub const BACKUP_RETRY_INTERVAL: Duration = Duration::from_secs(600);
/// List of the digests of a backup, with about 100 bytes for each file.
pub const BACKUP_DIGESTS_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_blob_fits_its_parts() {
        let parts = (BLOB_BYTES_MAX - BLOB_HEAD_BYTES as u64).div_ceil(PART_BYTES as u64);
        assert_eq!((PART_BYTES, parts), (2_097_664, u64::from(BLOB_PARTS_MAX)));
    }
}
