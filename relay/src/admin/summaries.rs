//! Conversion of the store's summaries to the JSON of the admin API.

use super::model::{
    Account, AccountNames, Accounts, DropResult, Item, ItemKind, Items, Lane, LaneState, Queue,
    QueueState, Queues, RetryResult, Throughput, Token, Tokens,
};
use crate::{
    store::{
        self, AccountSummary, DropOutcome, LaneStatus, LaneSummary, Page, QueueCursor, QueueItem,
        QueueItems, QueueSummary, RegistrationToken, RetryOutcome,
    },
    throughput::ThroughputCounts,
};
use sealpost_proto::{AccountId, Timestamp};

impl Accounts {
    pub(super) fn new(relay_time: Timestamp, page: Page<AccountSummary, AccountId>) -> Self {
        Self {
            relay_time,
            accounts: convert(page.items),
            next: page.next.map(|id| id.to_string()),
        }
    }
}

impl Queues {
    pub(super) fn new(relay_time: Timestamp, page: Page<QueueSummary, QueueCursor>) -> Self {
        Self {
            relay_time,
            queues: convert(page.items),
            next: page.next.map(|cursor| cursor.to_string()),
        }
    }
}

impl Items {
    pub(super) fn new(relay_time: Timestamp, QueueItems { queue, page }: QueueItems) -> Self {
        Self {
            relay_time,
            queue: queue.into(),
            items: convert(page.items),
            next: page.next,
        }
    }
}

impl Tokens {
    pub(super) fn new(relay_time: Timestamp, page: Page<RegistrationToken, String>) -> Self {
        Self {
            relay_time,
            tokens: convert(page.items),
            next: page.next,
        }
    }
}

fn convert<T, U: From<T>>(items: Vec<T>) -> Vec<U> {
    items.into_iter().map(U::from).collect()
}

impl From<store::AccountNames> for AccountNames {
    fn from(names: store::AccountNames) -> Self {
        Self {
            label: names.label,
            token_name: names.token_name,
        }
    }
}

impl From<AccountSummary> for Account {
    fn from(account: AccountSummary) -> Self {
        Self {
            account_id: account.account,
            names: account.names.into(),
            created_at: account.created_at,
            suspended: account.is_suspended,
            mailboxes: account.mailboxes,
            blob_bytes: account.blob_bytes,
            lane: account.lane.into(),
        }
    }
}

impl From<LaneSummary> for Lane {
    fn from(lane: LaneSummary) -> Self {
        Self {
            waiting: lane.waiting,
            oldest_at: lane.oldest_at,
            state: lane.status.into(),
            failures: lane.failures,
            reason: lane.reason,
            next_attempt_at: lane.next_attempt_at,
            webhook_host: lane.webhook_host,
        }
    }
}

impl From<LaneStatus> for LaneState {
    fn from(status: LaneStatus) -> Self {
        match status {
            LaneStatus::Ready => Self::Ready,
            LaneStatus::Leased => Self::Leased,
            LaneStatus::BackingOff => Self::BackingOff,
            LaneStatus::AskedToWait => Self::AskedToWait,
            LaneStatus::Pull => Self::Pull,
            LaneStatus::Unverified => Self::Unverified,
            LaneStatus::Off => Self::Off,
            LaneStatus::Suspended => Self::Suspended,
        }
    }
}

impl From<QueueSummary> for Queue {
    fn from(queue: QueueSummary) -> Self {
        Self {
            account_id: queue.account,
            names: queue.names.into(),
            lane: queue.lane.into(),
        }
    }
}

impl From<QueueItem> for Item {
    fn from(item: QueueItem) -> Self {
        Self {
            id: item.id,
            kind: item.kind.into(),
            envelope_id: item.envelope,
            mailbox_id: item.mailbox,
            size_bytes: item.size_bytes,
            state: item.state,
            attempts: item.attempts,
            waiting_since: item.waiting_since,
            expires_at: item.expires_at,
            queue_state: item.queue_state.into(),
            set_aside_until: item.set_aside_until,
            reason: item.reason,
        }
    }
}

impl From<store::ItemKind> for ItemKind {
    fn from(kind: store::ItemKind) -> Self {
        match kind {
            store::ItemKind::Envelope => Self::Envelope,
            store::ItemKind::Event => Self::Event,
        }
    }
}

impl From<store::QueueState> for QueueState {
    fn from(state: store::QueueState) -> Self {
        match state {
            store::QueueState::InOrder => Self::InOrder,
            store::QueueState::SetAside => Self::SetAside,
            store::QueueState::Held => Self::Held,
        }
    }
}

impl From<RetryOutcome> for RetryResult {
    fn from(retried: RetryOutcome) -> Self {
        Self {
            queues: retried.accounts.len() as u64,
            set_aside: retried.set_aside,
        }
    }
}

impl From<DropOutcome> for DropResult {
    fn from(dropped: DropOutcome) -> Self {
        Self {
            dropped: dropped.envelopes,
            up_to: dropped.up_to,
        }
    }
}

impl From<RegistrationToken> for Token {
    fn from(token: RegistrationToken) -> Self {
        Self {
            name: token.name,
            uses: token.used,
            uses_left: token.uses_left,
            expires_at: token.expires_at,
            created_at: token.created_at,
            last_used_at: token.last_used_at,
        }
    }
}

impl From<ThroughputCounts> for Throughput {
    fn from(counts: ThroughputCounts) -> Self {
        Self {
            accepted: counts.accepted,
            delivered: counts.delivered,
            failed_calls: counts.failed_calls,
            refused: counts.refused,
        }
    }
}
