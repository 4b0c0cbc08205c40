//! What the relay counts and measures, as OpenMetrics text for Prometheus.
//!
//! No account, endpoint or address is ever a label, so the number of series is bounded whatever happens. What is counted
//! on the way costs an atomic addition; what stands in the database is asked for at the scrape. Start reading at [`scrape`].

use crate::{
    relay::Relay,
    store::{Census, StoreError},
};
use http::StatusCode;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use sealpost_proto::{
    DeliveryId, Timestamp,
    wire::{DeliveryOutcome, DeliveryResult, SubmitOutcome},
};
use sealpost_relay_core::classify::Class;
use sealpost_service::http::ListenerCounts;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The type of what [`scrape`] gives.
pub(crate) const OPENMETRICS_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PREFIX: &str = "sealpost_relay";
/// Seconds: answers come within milliseconds, long polls and large parts within half a minute.
const REQUEST_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0,
];
/// Seconds: the living answer at once; an outage lasts minutes to days.
const DELIVERY_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0, 3_600.0, 21_600.0,
    86_400.0,
];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Seconds = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// What is counted while the relay works.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Counters<2>,
    request_duration: Seconds,
    envelopes: Counters<1>,
    refused: Counters<1>,
    calls: Counters<1>,
    deliveries: Counters<1>,
    delivery_delay: Histogram,
    asked: Asked,
}

/// What is asked for at the scrape.
#[derive(Default)]
struct Asked {
    queue_items: Gauge,
    queue_oldest_age: Gauge<f64, AtomicU64>,
    queues: Gauge,
    queues_failing: Gauge,
    accounts: Gauge,
    accounts_suspended: Gauge,
    mailboxes: Gauge,
    blobs: Gauge,
    database: Gauge,
    storage_free: Gauge,
    connections: Gauge,
    connections_accepted: Counter,
    connections_cut: Counters<1>,
    certificate_end: Family<Labels<0>, Gauge>,
    store_commits: Counter,
    store_jobs: Counter,
    resident_memory: Gauge,
}

impl Metrics {
    /// Nothing counted yet, by a relay that starts now.
    pub(crate) fn new(now: Timestamp) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_duration: Seconds::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            envelopes: Family::default(),
            refused: Family::default(),
            calls: Family::default(),
            deliveries: Family::default(),
            delivery_delay: Histogram::new(DELIVERY_BUCKETS),
            asked: Asked::default(),
        };
        metrics.register_counted();
        metrics.asked.register(&mut metrics.registry, now);
        metrics
    }

    fn register_counted(&mut self) {
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version that runs", Info::new(version));
        registry.register(
            "requests",
            "Requests answered, by route and class of status",
            self.requests.clone(),
        );
        let help = "Time from a request to its answer, by route";
        registry.register_with_unit(
            "request_duration",
            help,
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register(
            "envelopes",
            "Envelopes submitted and taken",
            self.envelopes.clone(),
        );
        registry.register(
            "envelopes_refused",
            "Envelopes submitted and refused, by code",
            self.refused.clone(),
        );
        registry.register(
            "webhook_calls",
            "Calls of webhooks, by what came of them",
            self.calls.clone(),
        );
        let help = "Envelopes handed to nodes, by what came of it, for each try";
        registry.register("deliveries", help, self.deliveries.clone());
        let help = "Time from accepting an envelope to the webhook's word that it is stored";
        registry.register_with_unit(
            "delivery_delay",
            help,
            Unit::Seconds,
            self.delivery_delay.clone(),
        );
    }

    /// A request was answered. `route` is the pattern that matched, if one did.
    pub(crate) fn answered(&self, route: Option<&str>, status: StatusCode, took: Duration) {
        let route = route_class(route);
        self.requests
            .get_or_create(&[("route", route), ("status", status_class(status))])
            .inc();
        self.request_duration
            .get_or_create(&[("route", route)])
            .observe(took.as_secs_f64());
    }

    /// Envelopes were submitted, and this is what was answered.
    pub(crate) fn submitted<'a>(&self, outcomes: impl Iterator<Item = &'a SubmitOutcome>) {
        for outcome in outcomes {
            match outcome {
                SubmitOutcome::Accepted { .. } => self
                    .envelopes
                    .get_or_create(&[("outcome", "accepted")])
                    .inc(),
                SubmitOutcome::Duplicate { .. } => self
                    .envelopes
                    .get_or_create(&[("outcome", "duplicate")])
                    .inc(),
                SubmitOutcome::Refused { code, .. } => {
                    self.refused.get_or_create(&[("code", code.as_str())]).inc()
                }
            };
        }
    }

    /// A webhook was called with envelopes accepted at these times, and what came of it is written down.
    pub(crate) fn called(
        &self,
        now: Timestamp,
        class: Class,
        results: &[DeliveryResult],
        sent: &[(DeliveryId, Timestamp)],
    ) {
        let outcome = class_name(class);
        self.calls.get_or_create(&[("outcome", outcome)]).inc();
        if class != Class::Answered {
            self.deliveries
                .get_or_create(&[("outcome", outcome)])
                .inc_by(sent.len() as u64);
            return;
        }
        self.handed(results);
        let stored = results
            .iter()
            .filter(|result| result.outcome == DeliveryOutcome::Stored);
        for accepted_at in stored
            .filter_map(|result| sent.iter().find(|(id, _)| *id == result.id))
            .map(|(_, at)| *at)
        {
            self.delivery_delay
                .observe(now.since(accepted_at).as_secs_f64());
        }
    }

    /// A node said what became of what it was handed.
    pub(crate) fn handed(&self, results: &[DeliveryResult]) {
        for result in results {
            let outcome = match result.outcome {
                DeliveryOutcome::Stored => "stored",
                DeliveryOutcome::Refused => "refused",
                DeliveryOutcome::Later { .. } => "later",
            };
            self.deliveries.get_or_create(&[("outcome", outcome)]).inc();
        }
    }
}

impl Asked {
    fn register(&self, registry: &mut Registry, now: Timestamp) {
        let started = Gauge::<f64, AtomicU64>::default();
        started.set(Duration::from_millis(now.as_millis()).as_secs_f64());
        let help = "When the process started, since 1970";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, started);
        let help = "Memory that the process holds";
        registry.register_with_unit(
            "process_resident_memory",
            help,
            Unit::Bytes,
            self.resident_memory.clone(),
        );
        let registry = registry.sub_registry_with_prefix(PREFIX);
        let mut plain =
            |name: &str, help: &str, metric: &Gauge| registry.register(name, help, metric.clone());
        plain(
            "queue_items",
            "Envelopes and events that wait",
            &self.queue_items,
        );
        plain("queues", "Accounts for which something waits", &self.queues);
        plain(
            "queues_failing",
            "Of these, those whose webhook fails or is off",
            &self.queues_failing,
        );
        plain("accounts", "Accounts", &self.accounts);
        plain(
            "accounts_suspended",
            "Accounts that the operator suspended",
            &self.accounts_suspended,
        );
        plain("mailboxes", "Open mailboxes", &self.mailboxes);
        plain(
            "connections",
            "Connections of nodes that are open",
            &self.connections,
        );
        let mut bytes = |name: &str, help: &str, metric: &Gauge| {
            registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
        };
        bytes("blobs", "Announced sizes of all blobs", &self.blobs);
        bytes("database", "Size of the database", &self.database);
        bytes(
            "storage_free",
            "Free space where the data folder is",
            &self.storage_free,
        );
        let help = "How long the oldest envelope or event waits";
        registry.register_with_unit(
            "queue_oldest_age",
            help,
            Unit::Seconds,
            self.queue_oldest_age.clone(),
        );
        let help = "Connections of nodes that got a place";
        registry.register(
            "connections_accepted",
            help,
            self.connections_accepted.clone(),
        );
        let help = "Connections of nodes that the relay ended to keep its limits, by why";
        registry.register("connections_cut", help, self.connections_cut.clone());
        let help = "When the certificate expires, since 1970; absent when a proxy speaks TLS";
        registry.register_with_unit(
            "certificate_not_after",
            help,
            Unit::Seconds,
            self.certificate_end.clone(),
        );
        let help = "Commits of the database that changed something, one fsync each";
        registry.register("store_commits", help, self.store_commits.clone());
        registry.register(
            "store_jobs",
            "Changes that shared these commits",
            self.store_jobs.clone(),
        );
    }

    fn set_door(&self, counts: &ListenerCounts, certificate_end: Option<Timestamp>) {
        self.connections.set(number(counts.open()));
        self.connections_accepted
            .inner()
            .store(counts.accepted(), Ordering::Relaxed);
        for (why, cut) in [
            ("all_places_taken", counts.refused_full()),
            ("share_of_address", counts.refused_address()),
            ("rested_longest", counts.pushed_out()),
            ("tls_handshake", counts.handshakes_failed()),
        ] {
            self.connections_cut
                .get_or_create(&[("why", why)])
                .inner()
                .store(cut, Ordering::Relaxed);
        }
        if let Some(end) = certificate_end {
            self.certificate_end
                .get_or_create(&[])
                .set(number(end.as_millis() / 1_000));
        }
    }

    fn set(&self, now: Timestamp, census: &Census) {
        self.queue_items.set(number(census.queued));
        let oldest_age = census.oldest_at.map_or(Duration::ZERO, |at| now.since(at));
        self.queue_oldest_age.set(oldest_age.as_secs_f64());
        self.queues.set(number(census.queues));
        self.queues_failing.set(number(census.failing));
        self.accounts.set(number(census.accounts));
        self.accounts_suspended.set(number(census.suspended));
        self.mailboxes.set(number(census.mailboxes));
        self.blobs.set(number(census.blob_bytes));
        self.database.set(number(census.database_bytes));
    }
}

/// Everything, as it is now.
///
/// # Errors
/// [`StoreError`] when the database cannot be asked.
pub(crate) async fn scrape(relay: &Relay) -> Result<String, StoreError> {
    let Metrics {
        registry, asked, ..
    } = &relay.metrics;
    asked.set(relay.now(), &relay.store.census().await?);
    let stats = relay.store.stats();
    asked
        .store_commits
        .inner()
        .store(stats.commits, Ordering::Relaxed);
    asked
        .store_jobs
        .inner()
        .store(stats.jobs, Ordering::Relaxed);
    asked.set_door(&relay.connections, relay.certificate_end());
    asked
        .storage_free
        .set(number(relay.storage.seen().free_bytes));
    asked
        .resident_memory
        .set(number(resident_bytes().unwrap_or_default()));
    let mut text = String::new();
    encode(&mut text, registry).map_err(|error| StoreError::Failed {
        reason: error.to_string(),
    })?;
    Ok(text)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    kibibytes
        .split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kibibytes| kibibytes * 1024)
}

/// Of a route only its resource.
fn route_class(route: Option<&str>) -> &'static str {
    const RESOURCES: [&str; 7] = [
        "accounts",
        "account",
        "session",
        "mailboxes",
        "envelopes",
        "deliveries",
        "blobs",
    ];
    match route.map(|route| route.strip_prefix("/v1/")) {
        None => "unknown",
        Some(None) => "public",
        Some(Some(rest)) => {
            let resource = rest.split('/').next();
            RESOURCES
                .iter()
                .find(|one| resource == Some(one))
                .copied()
                .unwrap_or("other")
        }
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

const fn class_name(class: Class) -> &'static str {
    match class {
        Class::Answered => "answered",
        Class::Unreachable => "unreachable",
        Class::Broke => "broke",
        Class::AskedToWait(_) => "asked_to_wait",
        Class::Refused => "refused_call",
        Class::Gone => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_few_whatever_is_asked() {
        assert_eq!(route_class(Some("/v1/envelopes/{id}")), "envelopes");
        assert_eq!(route_class(Some("/v1/at/{host}/{*rest}")), "other");
        assert_eq!(
            (route_class(Some("/healthz")), route_class(None)),
            ("public", "unknown")
        );
    }

    #[test]
    fn what_is_counted_stands_in_the_text() {
        let metrics = Metrics::new(Timestamp::from_millis(1_500));
        let at = |millis| Timestamp::from_millis(millis);
        let stored = DeliveryResult {
            id: DeliveryId(1),
            outcome: DeliveryOutcome::Stored,
        };
        metrics.called(
            at(3_000),
            Class::Answered,
            &[stored],
            &[(DeliveryId(1), at(1_000))],
        );
        metrics.called(
            at(3_000),
            Class::Unreachable,
            &[],
            &[(DeliveryId(2), at(1_000)), (DeliveryId(3), at(1_000))],
        );
        metrics.answered(
            Some("/v1/blobs"),
            StatusCode::CREATED,
            Duration::from_millis(3),
        );
        metrics.asked.set_door(&ListenerCounts::default(), None);
        let mut before = String::new();
        encode(&mut before, &metrics.registry).unwrap();
        assert!(
            !before
                .lines()
                .any(|line| line.starts_with("sealpost_relay_certificate_not_after_seconds")),
            "{before}"
        );
        metrics
            .asked
            .set_door(&ListenerCounts::default(), Some(at(1_900_000_000_999)));
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        for line in [
            "sealpost_relay_deliveries_total{outcome=\"stored\"} 1",
            "sealpost_relay_deliveries_total{outcome=\"unreachable\"} 2",
            "sealpost_relay_webhook_calls_total{outcome=\"unreachable\"} 1",
            "sealpost_relay_delivery_delay_seconds_sum 2.0",
            "sealpost_relay_delivery_delay_seconds_bucket{le=\"2.5\"} 1",
            "sealpost_relay_requests_total{route=\"blobs\",status=\"2xx\"} 1",
            "process_start_time_seconds 1.5",
            "sealpost_relay_connections 0",
            "sealpost_relay_connections_cut_total{why=\"share_of_address\"} 0",
            "sealpost_relay_certificate_not_after_seconds{} 1900000000",
            "# TYPE sealpost_relay_queue_oldest_age_seconds gauge",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in\n{text}"
            );
        }
    }
}
