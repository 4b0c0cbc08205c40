//! JSON types of the admin API, shared by its handlers, the CLI and the status page.
//!
//! Ids, times and durations have the same format as in the API for nodes. Only the host of a
//! webhook is ever shown, because the rest of its URL may contain secrets.

use sealpost_proto::{AccountId, DeliveryId, EnvelopeId, EnvelopeState, MailboxId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// State of an account's delivery lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LaneState {
    /// Items are delivered as soon as they arrive.
    Ready,
    /// A batch is leased to the webhook or to a node that pulled.
    Leased,
    /// The last webhook call failed; the next attempt follows after a backoff.
    BackingOff,
    /// The endpoint asked the relay to wait (`Retry-After`, or `later`).
    AskedToWait,
    /// The account has no webhook, so its node has to pull.
    Pull,
    /// The webhook has not passed its test yet; until then the node has to pull.
    Unverified,
    /// The webhook refused ten calls in a row or returned 410; the node has to pull or pass a
    /// webhook test.
    Off,
    /// The operator suspended the account.
    Suspended,
}

/// Queue depth and delivery state of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Lane {
    /// Number of queued envelopes and events.
    pub(crate) waiting: u64,
    /// Time at which the oldest of them was queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_at: Option<Timestamp>,
    /// Current state of the lane.
    pub(crate) state: LaneState,
    /// Consecutive failed webhook calls.
    pub(crate) failures: u32,
    /// Reason why the last call failed, or why the webhook is not called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Time of the next webhook call, while the lane waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt_at: Option<Timestamp>,
    /// Host of the webhook, with the port if the URL has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_host: Option<String>,
}

/// Names by which the operator recognises an account, besides its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AccountNames {
    /// Text that the operator set; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// Name of the registration token that the account registered with; absent if it registered
    /// without one or with a token of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_name: Option<String>,
}

/// Request to label an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLabel {
    /// Text of up to 64 characters on one line; empty to remove the label.
    #[schema(max_length = 64)]
    pub(crate) label: String,
}

/// Account as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Account {
    /// Id of the account.
    pub(crate) account_id: AccountId,
    /// Names by which the operator recognises it.
    #[serde(flatten)]
    pub(crate) names: AccountNames,
    /// Time of registration.
    pub(crate) created_at: Timestamp,
    /// Whether the operator suspended the account.
    pub(crate) suspended: bool,
    /// Number of open mailboxes.
    pub(crate) mailboxes: u64,
    /// Total size of its blobs in bytes, including the announced size of unfinished uploads.
    pub(crate) blob_bytes: u64,
    /// Queue depth and delivery state.
    #[serde(flatten)]
    pub(crate) lane: Lane,
}

/// Quota or rate limit of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Quota {
    /// Name of the setting, without its section.
    pub(crate) name: String,
    /// Limit in force for this account.
    pub(crate) limit: u64,
    /// Limit for accounts without an override.
    pub(crate) default_limit: u64,
    /// Override for this account; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) override_limit: Option<u64>,
    /// Current usage; absent for rate limits and for limits of a single mailbox or blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) used: Option<u64>,
}

/// Quotas and rate limits of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AccountQuotas {
    /// Id of the account.
    pub(crate) account_id: AccountId,
    /// Names by which the operator recognises it.
    #[serde(flatten)]
    pub(crate) names: AccountNames,
    /// All quotas and rate limits.
    pub(crate) quotas: Vec<Quota>,
}

/// Overrides of one account by setting name; a setting that is left out has its default.
pub(crate) type QuotaSettings = BTreeMap<String, u64>;

/// Page of accounts, ordered by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Accounts {
    /// Current time of the relay, from which ages are computed.
    pub(crate) relay_time: Timestamp,
    /// Accounts on this page.
    pub(crate) accounts: Vec<Account>,
    /// Cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Queue of one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Queue {
    /// Id of the account.
    pub(crate) account_id: AccountId,
    /// Names by which the operator recognises it.
    #[serde(flatten)]
    pub(crate) names: AccountNames,
    /// Queue depth and delivery state.
    #[serde(flatten)]
    pub(crate) lane: Lane,
}

/// Page of non-empty queues, ordered by the age of their oldest item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Queues {
    /// Current time of the relay, from which ages are computed.
    pub(crate) relay_time: Timestamp,
    /// Queues on this page.
    pub(crate) queues: Vec<Queue>,
    /// Cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Kind of a queued item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemKind {
    /// A sealed envelope for one of the account's mailboxes.
    Envelope,
    /// Status event for an envelope that the account sent.
    Event,
}

/// Queued item, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Item {
    /// Delivery id.
    pub(crate) id: DeliveryId,
    /// Whether it is an envelope or an event.
    pub(crate) kind: ItemKind,
    /// Id of the envelope, or of the envelope that the event is about.
    pub(crate) envelope_id: EnvelopeId,
    /// Mailbox of the envelope; absent for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mailbox_id: Option<MailboxId>,
    /// Size of the envelope; absent for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size_bytes: Option<u64>,
    /// State of the envelope, or of the envelope that the event is about.
    pub(crate) state: EnvelopeState,
    /// Delivery attempts so far.
    pub(crate) attempts: u32,
    /// Time at which the item was queued.
    pub(crate) waiting_since: Timestamp,
    /// Expiry of the envelope; absent for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// Whether it is in order, set aside or held.
    #[serde(default)]
    pub(crate) queue_state: QueueState,
    /// Next attempt of an envelope that is set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) set_aside_until: Option<Timestamp>,
    /// Reason why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// State of an item within its queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum QueueState {
    /// Delivered in order.
    #[default]
    InOrder,
    /// Calls with this envelope failed while others succeeded. It is retried alone, every hour.
    SetAside,
    /// Held behind an envelope of the same mailbox that is set aside.
    Held,
}

/// Page of the items queued for one account, in delivery order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Items {
    /// Current time of the relay, from which ages are computed.
    pub(crate) relay_time: Timestamp,
    /// Queue that holds the items.
    #[serde(flatten)]
    pub(crate) queue: Queue,
    /// Items on this page.
    pub(crate) items: Vec<Item>,
    /// Cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<DeliveryId>,
}

/// Result of a manual retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RetryResult {
    /// Queues that are due now, except those whose endpoint asked the relay to wait.
    pub(crate) queues: u64,
    /// Envelopes that were set aside and are due now.
    pub(crate) set_aside: u64,
}

/// Result of one drop request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DropResult {
    /// Envelopes that ended as `failed`; their senders are notified.
    pub(crate) dropped: u64,
    /// Value of `up_to` for the next request, if more envelopes are left to drop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) up_to: Option<DeliveryId>,
}

/// Registration token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Token {
    /// Name chosen by the operator.
    pub(crate) name: String,
    /// Number of accounts registered with it.
    pub(crate) uses: u64,
    /// Number of accounts that can still be registered with it; absent if unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uses_left: Option<u64>,
    /// Expiry; absent if it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// Time of creation.
    pub(crate) created_at: Timestamp,
    /// Time of the last registration with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_at: Option<Timestamp>,
}

/// Page of registration tokens, ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Tokens {
    /// Current time of the relay, from which ages are computed.
    pub(crate) relay_time: Timestamp,
    /// Tokens on this page.
    pub(crate) tokens: Vec<Token>,
    /// Cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Request to create a registration token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Name: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub(crate) name: String,
    /// Number of accounts that can be registered with it, at least 1; absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uses: Option<u64>,
    /// Lifetime; absent for a token that does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lifetime_ms: Option<u64>,
}

/// Newly created registration token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CreatedToken {
    /// The secret. It is shown only once, because the relay stores only its digest.
    pub(crate) token: String,
    /// Description of the token, as lists show it.
    #[serde(flatten)]
    pub(crate) details: Token,
}

/// Throughput of one minute or of the last hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Throughput {
    /// Accepted envelopes.
    pub(crate) accepted: u64,
    /// Envelopes stored by their recipients' nodes.
    pub(crate) delivered: u64,
    /// Failed webhook calls.
    pub(crate) failed_calls: u64,
    /// Envelopes refused on submission.
    pub(crate) refused: u64,
}

/// Disk usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Storage {
    /// Size of the database.
    pub(crate) database_bytes: u64,
    /// Total size of blobs, including the announced size of unfinished uploads.
    pub(crate) blob_bytes: u64,
    /// Free space on the disk of the data directory; absent if the system does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) free_bytes: Option<u64>,
}

/// Summary of the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Stats {
    /// Program version.
    pub(crate) version: String,
    /// Public origin of the relay.
    pub(crate) origin: String,
    /// `ready`, or the reason why not, as returned by `/readyz`.
    pub(crate) readiness: String,
    /// Current time of the relay.
    pub(crate) relay_time: Timestamp,
    /// Time at which the process started.
    pub(crate) started_at: Timestamp,
    /// Number of accounts.
    pub(crate) accounts: u64,
    /// Number of suspended accounts.
    pub(crate) suspended: u64,
    /// Number of open mailboxes.
    pub(crate) mailboxes: u64,
    /// Number of queued envelopes and events.
    pub(crate) queued: u64,
    /// Number of non-empty queues.
    pub(crate) queues: u64,
    /// Number of non-empty queues whose webhook is failing or off.
    pub(crate) failing: u64,
    /// Time at which the oldest item was queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_at: Option<Timestamp>,
    /// Open connections to the public listener.
    pub(crate) connections: u64,
    /// Expiry of the certificate; absent if a proxy terminates TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate_not_after: Option<Timestamp>,
    /// Throughput of the last hour, or since the start if that was later.
    pub(crate) last_hour: Throughput,
    /// Throughput per minute; the current minute is last.
    pub(crate) minutes: Vec<Throughput>,
    /// Disk usage.
    pub(crate) storage: Storage,
}
