//! The words of the operator's API, as JSON: what the routes answer, the commands print and the page shows. Ids, times and
//! durations are written as in the API of nodes; of a webhook only the host is ever shown, because its URL may hold secrets.

use sealpost_proto::{AccountId, DeliveryId, EnvelopeId, EnvelopeState, MailboxId, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, iter::Sum, ops::AddAssign};
use utoipa::ToSchema;

/// What the lane of an account does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LaneState {
    /// Nothing holds it: what comes goes out at once.
    Ready,
    /// A batch is out, at the webhook or at a node that pulled.
    Leased,
    /// The webhook failed and is tried again later.
    BackingOff,
    /// The webhook asked for patience.
    AskedToWait,
    /// The account has no webhook: its node has to pull.
    Pull,
    /// The webhook has not answered its challenge yet: the node has to pull.
    Unverified,
    /// The webhook refused too often, or is gone: the node has to pull, or to pass a webhook test.
    Off,
    /// The operator suspended the account.
    Suspended,
}

/// What waits for an account, and how its delivery goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Lane {
    /// Envelopes and events that wait.
    pub(crate) waiting: u64,
    /// Since when the oldest of them waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_at: Option<Timestamp>,
    /// What it does.
    pub(crate) state: LaneState,
    /// Calls of the webhook that failed in a row.
    pub(crate) failures: u32,
    /// Why the last one failed, or why the webhook is not called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When the webhook is called again, while it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt_at: Option<Timestamp>,
    /// Host of the webhook, with its port where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_host: Option<String>,
}

/// An account as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Account {
    /// Which.
    pub(crate) account_id: AccountId,
    /// When it was registered.
    pub(crate) created_at: Timestamp,
    /// Whether the operator suspended it.
    pub(crate) suspended: bool,
    /// Its open mailboxes.
    pub(crate) mailboxes: u64,
    /// Bytes of its blobs, announced sizes included.
    pub(crate) blob_bytes: u64,
    /// What waits for it.
    #[serde(flatten)]
    pub(crate) lane: Lane,
}

/// One quota or rate of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Quota {
    /// Its name, as in the configuration.
    pub(crate) name: String,
    /// What is in force for this account.
    pub(crate) limit: u64,
    /// What is said for all accounts.
    pub(crate) for_all: u64,
    /// What is said for this account, also when it is the same; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) own: Option<u64>,
    /// What the account holds of it; absent of rates, and where it is one of many mailboxes or blobs that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<u64>,
}

/// The quotas of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AccountQuotas {
    /// Whose.
    pub(crate) account_id: AccountId,
    /// All of them.
    pub(crate) quotas: Vec<Quota>,
}

/// What is different for one account: its quotas by name. What is left out is as for all.
pub(crate) type OwnQuotas = BTreeMap<String, u64>;

/// A page of accounts, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Accounts {
    /// The relay's clock, by which ages are counted.
    pub(crate) relay_time: Timestamp,
    /// The accounts.
    pub(crate) accounts: Vec<Account>,
    /// The cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// The queue of one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Queue {
    /// Whose.
    pub(crate) account_id: AccountId,
    /// What waits.
    #[serde(flatten)]
    pub(crate) lane: Lane,
}

/// A page of queues in which something waits, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Queues {
    /// The relay's clock, by which ages are counted.
    pub(crate) relay_time: Timestamp,
    /// The queues.
    pub(crate) queues: Vec<Queue>,
    /// The cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// What kind of thing waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemKind {
    /// A sealed envelope for one of the account's mailboxes.
    Envelope,
    /// News of an envelope that the account sent.
    Event,
}

/// One thing that waits, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Item {
    /// Its number in the relay's count.
    pub(crate) id: DeliveryId,
    /// What it is.
    pub(crate) kind: ItemKind,
    /// The envelope, or the one that the news is about.
    pub(crate) envelope: EnvelopeId,
    /// Where it came to; absent for news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mailbox: Option<MailboxId>,
    /// Its size; absent for news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size_bytes: Option<u64>,
    /// Where it is; for news, where the envelope is that it is about.
    pub(crate) state: EnvelopeState,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// Since when it waits.
    pub(crate) waits_since: Timestamp,
    /// When it is given up; absent for news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// Where it stands.
    #[serde(default)]
    pub(crate) place: Place,
    /// When what is set aside is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) set_aside_until: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// Where something stands in its queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// In its order.
    #[default]
    InOrder,
    /// It held the others up and is tried alone.
    SetAside,
    /// Behind one of its mailbox that is set aside.
    Behind,
}

/// A page of what waits for one account, in the order of delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Items {
    /// The relay's clock, by which ages are counted.
    pub(crate) relay_time: Timestamp,
    /// How the delivery goes.
    #[serde(flatten)]
    pub(crate) queue: Queue,
    /// What waits.
    pub(crate) items: Vec<Item>,
    /// The cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<DeliveryId>,
}

/// What a wish to try again came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Retried {
    /// Queues that are tried now. One whose endpoint asked for patience is still left alone.
    pub(crate) queues: u64,
    /// Envelopes that were set aside and are tried now.
    pub(crate) set_aside: u64,
}

/// What was dropped by one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Dropped {
    /// Envelopes that ended as `failed`; their senders are told.
    pub(crate) dropped: u64,
    /// Where to go on with the same request, as `up_to`, when one was not enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) up_to: Option<DeliveryId>,
}

/// A token that lets nodes register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Token {
    /// What the operator calls it.
    pub(crate) name: String,
    /// Accounts that were registered with it.
    pub(crate) uses: u64,
    /// Accounts that may still be; absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uses_left: Option<u64>,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_at: Option<Timestamp>,
}

/// A page of tokens, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Tokens {
    /// The relay's clock, by which ages are counted.
    pub(crate) relay_time: Timestamp,
    /// The tokens.
    pub(crate) tokens: Vec<Token>,
    /// The cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// The wish for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// What to call it: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub(crate) name: String,
    /// For how many accounts it is good, at least 1; absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uses: Option<u64>,
    /// How long it is good; without end if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) life_ms: Option<u64>,
}

/// A token that was made just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CreatedToken {
    /// The secret, shown this once: the relay keeps only its digest.
    pub(crate) token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub(crate) kept: Token,
}

/// What happened in one minute, or in the last hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Throughput {
    /// Envelopes that were accepted.
    pub(crate) accepted: u64,
    /// Envelopes that their recipients' nodes stored.
    pub(crate) delivered: u64,
    /// Calls of webhooks that failed.
    pub(crate) failed_calls: u64,
    /// Envelopes that were refused when they were submitted.
    pub(crate) refused: u64,
}

impl AddAssign for Throughput {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.failed_calls += other.failed_calls;
        self.refused += other.refused;
    }
}

impl Sum for Throughput {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, next| {
            sum += next;
            sum
        })
    }
}

/// What the relay keeps on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Storage {
    /// The database.
    pub(crate) database_bytes: u64,
    /// Blobs, announced sizes included.
    pub(crate) blob_bytes: u64,
    /// Left on the disk of the data folder; absent when the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) free_bytes: Option<u64>,
}

/// The relay at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Stats {
    /// Version of the program.
    pub(crate) version: String,
    /// What nodes call it.
    pub(crate) origin: String,
    /// `ready`, or why it is not, as `/readyz` says.
    pub(crate) readiness: String,
    /// The relay's clock, when this was counted.
    pub(crate) relay_time: Timestamp,
    /// Since when it runs.
    pub(crate) started_at: Timestamp,
    /// Accounts.
    pub(crate) accounts: u64,
    /// Of these, suspended ones.
    pub(crate) suspended: u64,
    /// Open mailboxes.
    pub(crate) mailboxes: u64,
    /// Envelopes and events that wait.
    pub(crate) queued: u64,
    /// Accounts for which something waits.
    pub(crate) queues: u64,
    /// Of these, those whose webhook fails or is off.
    pub(crate) failing: u64,
    /// Since when the oldest waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_at: Option<Timestamp>,
    /// Connections of nodes that are open.
    pub(crate) connections: u64,
    /// When the certificate expires; absent when a proxy speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate_not_after: Option<Timestamp>,
    /// The last hour, or since the start if that was later.
    pub(crate) last_hour: Throughput,
    /// The same minute by minute, the one under way last.
    pub(crate) minutes: Vec<Throughput>,
    /// The disk.
    pub(crate) storage: Storage,
}
