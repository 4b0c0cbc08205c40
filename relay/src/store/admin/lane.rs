//! How a lane is shown to the operator.

use crate::{
    admin::model,
    store::{
        lanes,
        rows::{count, uint},
    },
};
use rusqlite::Row;
use sealpost_proto::{Timestamp, wire::WebhookState};
use sealpost_relay_core::{Lane, lane::State};
use url::Url;

/// No time at all: [`OLDEST`] of an empty lane.
const NEVER: i64 = i64::MAX;

/// Since when the oldest item of the lane `l` waits: one look into an index for each kind.
pub(super) const OLDEST: &str = "min( \
    ifnull((SELECT accepted_at FROM envelopes WHERE account = l.account AND state < 2 AND place = 0 \
            ORDER BY id LIMIT 1), 9223372036854775807), \
    ifnull((SELECT accepted_at FROM envelopes WHERE id = (SELECT min(id) FROM envelopes \
            WHERE account = l.account AND state < 2 AND place = 1)), 9223372036854775807), \
    ifnull((SELECT at FROM events WHERE account = l.account ORDER BY id LIMIT 1), 9223372036854775807))";

/// The columns that [`read`] takes, besides `oldest_at`.
pub(super) const COLUMNS: &str = "l.machine, l.waiting, l.reason, a.webhook_url, a.suspended";

pub(super) fn read(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<model::Lane> {
    let lane = lanes::read(row)?;
    let url: Option<String> = row.get("webhook_url")?;
    let suspended = row.get("suspended")?;
    let oldest_at: i64 = row.get("oldest_at")?;
    let state = state(&lane, suspended, now);
    Ok(model::Lane {
        waiting: count(row, "waiting")?,
        oldest_at: (oldest_at != NEVER).then(|| Timestamp::from_millis(uint(oldest_at))),
        failures: lane.failures,
        reason: row.get("reason")?,
        next_attempt_at: until(&lane).filter(|_| is_left_alone(state)),
        state,
        webhook_host: url.and_then(|url| host(&url)),
    })
}

fn state(lane: &Lane, suspended: bool, now: Timestamp) -> model::LaneState {
    use model::LaneState::{
        AskedToWait, BackingOff, Leased, Off, Pull, Ready, Suspended, Unverified,
    };
    match (lane.webhook, lane.state) {
        _ if suspended => Suspended,
        (_, State::Leased { until, .. }) if until > now => Leased,
        (WebhookState::None, _) => Pull,
        (WebhookState::Unverified, _) => Unverified,
        (WebhookState::Off, _) => Off,
        (WebhookState::Active, State::BackingOff { until, .. }) if until > now => BackingOff,
        (WebhookState::Active, State::AskedToWait { until }) if until > now => AskedToWait,
        (
            WebhookState::Active,
            State::Ready
            | State::Leased { .. }
            | State::BackingOff { .. }
            | State::AskedToWait { .. },
        ) => Ready,
    }
}

const fn is_left_alone(state: model::LaneState) -> bool {
    matches!(
        state,
        model::LaneState::BackingOff | model::LaneState::AskedToWait
    )
}

const fn until(lane: &Lane) -> Option<Timestamp> {
    match lane.state {
        State::BackingOff { until, .. } | State::AskedToWait { until } => Some(until),
        State::Ready | State::Leased { .. } => None,
    }
}

/// The host of a webhook, with its port: the rest of the URL may hold a secret.
fn host(url: &str) -> Option<String> {
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
    fn of_a_webhook_only_the_host_is_shown() {
        assert_eq!(
            host("https://user:word@node.example/hook/secret?key=1").as_deref(),
            Some("node.example")
        );
        assert_eq!(host("http://[::1]:8080/x").as_deref(), Some("[::1]:8080"));
        assert_eq!(host("nothing"), None);
    }

    #[test]
    fn a_lane_whose_time_has_come_is_ready() {
        let (now, later) = (Timestamp::from_millis(5), Timestamp::from_millis(6));
        let mut lane = Lane::new(true);
        assert_eq!(state(&lane, false, now), model::LaneState::Unverified);
        lane.webhook = WebhookState::Active;
        lane.state = State::BackingOff {
            since: now,
            until: later,
        };
        assert_eq!(state(&lane, false, now), model::LaneState::BackingOff);
        assert_eq!(state(&lane, false, later), model::LaneState::Ready);
        assert_eq!(state(&lane, true, now), model::LaneState::Suspended);
    }
}
