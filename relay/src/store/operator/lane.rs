//! Lanes as the operator sees them.

use crate::store::lanes;
use rusqlite::Row;
use sealpost_proto::{Timestamp, wire::WebhookState};
use sealpost_relay_core::{Lane, lane::State};
use sealpost_sqlite::{RowError, RowExt as _};
use url::Url;

/// State of a lane as the operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneStatus {
    /// New items are delivered at once.
    Ready,
    /// A batch is leased to the webhook or to a node that pulled.
    Leased,
    /// The webhook failed and is retried later.
    BackingOff,
    /// The endpoint asked the relay to wait.
    AskedToWait,
    /// The account has no webhook: its node has to pull.
    Pull,
    /// The webhook has not passed its test yet: the node has to pull.
    Unverified,
    /// The webhook is turned off: the node has to pull or to pass a webhook test.
    Off,
    /// The operator suspended the account.
    Suspended,
}

/// Items that wait for an account, and the state of their delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneSummary {
    /// Number of envelopes and events that wait.
    pub(crate) waiting: u64,
    pub(crate) oldest_at: Option<Timestamp>,
    pub(crate) status: LaneStatus,
    /// Number of consecutive failed calls.
    pub(crate) failures: u32,
    /// Why the webhook fails or is not called.
    pub(crate) reason: Option<String>,
    /// When the webhook is called again, while the lane waits for it.
    pub(crate) next_attempt_at: Option<Timestamp>,
    pub(crate) webhook_host: Option<String>,
}

/// Time of the oldest item of the lane `l`: one index lookup for each kind of item. The oldest
/// envelope that is held is younger than the one that is set aside before it.
pub(super) const OLDEST: &str = "nullif(min( \
    ifnull((SELECT accepted_at FROM queued_envelopes WHERE account_id = l.account_id \
            ORDER BY id LIMIT 1), 9223372036854775807), \
    ifnull((SELECT accepted_at FROM set_aside_envelopes WHERE account_id = l.account_id \
            ORDER BY id LIMIT 1), 9223372036854775807), \
    ifnull((SELECT created_at FROM events WHERE account_id = l.account_id \
            ORDER BY id LIMIT 1), 9223372036854775807)), 9223372036854775807)";

/// Columns that [`read_lane_summary`] reads, besides `oldest_at`.
pub(super) const COLUMNS: &str =
    "l.lane_state, l.waiting_items, l.reason, a.webhook_url, a.suspended";

pub(super) fn read_lane_summary(row: &Row<'_>, now: Timestamp) -> Result<LaneSummary, RowError> {
    let lane = lanes::read_lane(row)?;
    let url: Option<String> = row.read("webhook_url")?;
    let status = determine_status(&lane, row.read("suspended")?, now);
    Ok(LaneSummary {
        waiting: row.read("waiting_items")?,
        oldest_at: row.optional_timestamp("oldest_at")?,
        failures: lane.failures,
        reason: row.read("reason")?,
        next_attempt_at: backoff_until(&lane).filter(|_| status.is_waiting()),
        status,
        webhook_host: url.and_then(|url| webhook_host(&url)),
    })
}

impl LaneStatus {
    const fn is_waiting(self) -> bool {
        matches!(self, Self::BackingOff | Self::AskedToWait)
    }
}

fn determine_status(lane: &Lane, suspended: bool, now: Timestamp) -> LaneStatus {
    match (lane.webhook, lane.state) {
        _ if suspended => LaneStatus::Suspended,
        (_, State::Leased { until, .. }) if until > now => LaneStatus::Leased,
        (WebhookState::None, _) => LaneStatus::Pull,
        (WebhookState::Unverified, _) => LaneStatus::Unverified,
        (WebhookState::Off, _) => LaneStatus::Off,
        (WebhookState::Active, State::BackingOff { until, .. }) if until > now => {
            LaneStatus::BackingOff
        }
        (WebhookState::Active, State::RetryAfter { until }) if until > now => {
            LaneStatus::AskedToWait
        }
        (
            WebhookState::Active,
            State::Ready
            | State::Leased { .. }
            | State::BackingOff { .. }
            | State::RetryAfter { .. },
        ) => LaneStatus::Ready,
    }
}

const fn backoff_until(lane: &Lane) -> Option<Timestamp> {
    match lane.state {
        State::BackingOff { until, .. } | State::RetryAfter { until } => Some(until),
        State::Ready | State::Leased { .. } => None,
    }
}

/// Returns the host of a webhook with its port. The rest of the URL may contain a secret.
fn webhook_host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(
        url.port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_webhook_host_is_shown() {
        assert_eq!(
            webhook_host("https://user:word@node.example/hook/secret?key=1").as_deref(),
            Some("node.example")
        );
        assert_eq!(
            webhook_host("http://[::1]:8080/x").as_deref(),
            Some("[::1]:8080")
        );
        assert_eq!(webhook_host("nothing"), None);
    }

    #[test]
    fn due_lane_is_ready() {
        let (now, later) = (Timestamp::from_millis(5), Timestamp::from_millis(6));
        let mut lane = Lane::new(true);
        assert_eq!(determine_status(&lane, false, now), LaneStatus::Unverified);
        lane.webhook = WebhookState::Active;
        lane.state = State::BackingOff {
            since: now,
            until: later,
        };
        assert_eq!(determine_status(&lane, false, now), LaneStatus::BackingOff);
        assert_eq!(determine_status(&lane, false, later), LaneStatus::Ready);
        assert_eq!(determine_status(&lane, true, now), LaneStatus::Suspended);
    }
}
