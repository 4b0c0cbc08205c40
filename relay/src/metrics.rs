//! Metrics of the relay for Prometheus.
//!
//! No account, endpoint or address is ever a label, so that the number of series is bounded. Events
//! are counted when they occur, which costs an atomic addition; values of the database are sampled
//! at the scrape.

use crate::store::Totals;
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
use sealpost_service::{
    http::ListenerCounts,
    metrics::{from_openmetrics, resident_bytes},
};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const PREFIX: &str = "sealpost_relay";
/// Seconds. Most responses take milliseconds; long polls and large parts last up to half a minute.
const REQUEST_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0,
];
/// Seconds. Healthy endpoints respond at once; outages last minutes to days.
const DELIVERY_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0, 3_600.0, 21_600.0,
    86_400.0,
];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Seconds = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Metrics of the relay.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Counters<2>,
    request_duration: Seconds,
    envelopes: Counters<1>,
    refused: Counters<1>,
    calls: Counters<1>,
    deliveries: Counters<1>,
    delivery_delay: Histogram,
    sampled: SampledMetrics,
}

/// Metrics whose values are sampled at the scrape.
#[derive(Default)]
struct SampledMetrics {
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
    connections_dropped: Counters<1>,
    certificate_not_after: Family<Labels<0>, Gauge>,
    store_commits: Counter,
    store_jobs: Counter,
    resident_memory: Gauge,
}

impl Metrics {
    /// Returns the metrics of a relay that starts now.
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
            sampled: SampledMetrics::default(),
        };
        metrics.register_counters();
        metrics.sampled.register(&mut metrics.registry, now);
        metrics
    }

    fn register_counters(&mut self) {
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Program version", Info::new(version));
        registry.register(
            "requests",
            "Requests by route and status class",
            self.requests.clone(),
        );
        let help = "Duration of requests by route";
        registry.register_with_unit(
            "request_duration",
            help,
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register(
            "envelopes",
            "Accepted and duplicate envelopes by outcome",
            self.envelopes.clone(),
        );
        registry.register(
            "envelopes_refused",
            "Refused envelopes by error code",
            self.refused.clone(),
        );
        registry.register(
            "webhook_calls",
            "Webhook calls by outcome",
            self.calls.clone(),
        );
        let help = "Delivery attempts by outcome";
        registry.register("deliveries", help, self.deliveries.clone());
        let help = "Time from the acceptance of an envelope to its delivery by webhook";
        registry.register_with_unit(
            "delivery_delay",
            help,
            Unit::Seconds,
            self.delivery_delay.clone(),
        );
    }

    /// Records a request. `route` is the pattern of the matched route, if one matched.
    pub(crate) fn record_request(
        &self,
        route: Option<&str>,
        status: StatusCode,
        duration: Duration,
    ) {
        let route = route_class(route);
        self.requests
            .get_or_create(&[("route", route), ("status", status_class(status))])
            .inc();
        self.request_duration
            .get_or_create(&[("route", route)])
            .observe(duration.as_secs_f64());
    }

    /// Records the outcomes of submitted envelopes.
    pub(crate) fn record_submissions<'a>(&self, outcomes: impl Iterator<Item = &'a SubmitOutcome>) {
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

    /// Records a webhook call with envelopes that were accepted at these times.
    pub(crate) fn record_call(
        &self,
        now: Timestamp,
        class: Class,
        results: &[DeliveryResult],
        sent: &[(DeliveryId, Timestamp)],
    ) {
        let outcome = class_name(class);
        self.calls.get_or_create(&[("outcome", outcome)]).inc();
        if class != Class::Succeeded {
            self.deliveries
                .get_or_create(&[("outcome", outcome)])
                .inc_by(sent.len() as u64);
            return;
        }
        self.record_results(results);
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

    /// Records the results that a node returned for a batch.
    pub(crate) fn record_results(&self, results: &[DeliveryResult]) {
        for result in results {
            let outcome = match result.outcome {
                DeliveryOutcome::Stored => "stored",
                DeliveryOutcome::Refused => "refused",
                DeliveryOutcome::Deferred { .. } => "later",
            };
            self.deliveries.get_or_create(&[("outcome", outcome)]).inc();
        }
    }
}

impl SampledMetrics {
    fn register(&self, registry: &mut Registry, now: Timestamp) {
        let started = Gauge::<f64, AtomicU64>::default();
        started.set(Duration::from_millis(now.as_millis()).as_secs_f64());
        let help = "Start time of the process as Unix time";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, started);
        let help = "Resident memory of the process";
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
            "Queued envelopes and events",
            &self.queue_items,
        );
        plain("queues", "Non-empty queues", &self.queues);
        plain(
            "queues_failing",
            "Non-empty queues whose webhook is failing or off",
            &self.queues_failing,
        );
        plain("accounts", "Accounts", &self.accounts);
        plain(
            "accounts_suspended",
            "Suspended accounts",
            &self.accounts_suspended,
        );
        plain("mailboxes", "Open mailboxes", &self.mailboxes);
        plain(
            "connections",
            "Open connections to the public listener",
            &self.connections,
        );
        let mut bytes = |name: &str, help: &str, metric: &Gauge| {
            registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
        };
        bytes(
            "blobs",
            "Total size of all blobs, including unfinished uploads",
            &self.blobs,
        );
        bytes("database", "Size of the database", &self.database);
        bytes(
            "storage_free",
            "Free space on the disk of the data directory",
            &self.storage_free,
        );
        let help = "Age of the oldest queued item";
        registry.register_with_unit(
            "queue_oldest_age",
            help,
            Unit::Seconds,
            self.queue_oldest_age.clone(),
        );
        let help = "Accepted connections to the public listener";
        registry.register(
            "connections_accepted",
            help,
            self.connections_accepted.clone(),
        );
        let help = "Connections that were refused or closed by reason";
        registry.register(
            "connections_dropped",
            help,
            self.connections_dropped.clone(),
        );
        let help = "Expiry of the certificate as Unix time; absent if a proxy terminates TLS";
        registry.register_with_unit(
            "certificate_not_after",
            help,
            Unit::Seconds,
            self.certificate_not_after.clone(),
        );
        let help = "Database commits with changes, one fsync each";
        registry.register("store_commits", help, self.store_commits.clone());
        registry.register(
            "store_jobs",
            "Write jobs in these commits",
            self.store_jobs.clone(),
        );
    }

    fn sample_listener(&self, counts: &ListenerCounts, certificate_not_after: Option<Timestamp>) {
        self.connections.set(to_gauge_value(counts.open()));
        self.connections_accepted
            .inner()
            .store(counts.accepted(), Ordering::Relaxed);
        for (reason, count) in [
            ("limit_reached", counts.refused_at_limit()),
            ("address_limit", counts.refused_at_address_limit()),
            ("idle_evicted", counts.idle_evicted()),
            ("tls_handshake_failed", counts.handshakes_failed()),
        ] {
            self.connections_dropped
                .get_or_create(&[("reason", reason)])
                .inner()
                .store(count, Ordering::Relaxed);
        }
        if let Some(end) = certificate_not_after {
            self.certificate_not_after
                .get_or_create(&[])
                .set(to_gauge_value(end.as_millis() / 1_000));
        }
    }

    fn sample_totals(&self, now: Timestamp, totals: &Totals) {
        self.queue_items.set(to_gauge_value(totals.queued));
        let oldest_age = totals.oldest_at.map_or(Duration::ZERO, |at| now.since(at));
        self.queue_oldest_age.set(oldest_age.as_secs_f64());
        self.queues.set(to_gauge_value(totals.queues));
        self.queues_failing.set(to_gauge_value(totals.failing));
        self.accounts.set(to_gauge_value(totals.accounts));
        self.accounts_suspended
            .set(to_gauge_value(totals.suspended));
        self.mailboxes.set(to_gauge_value(totals.mailboxes));
        self.blobs.set(to_gauge_value(totals.blob_bytes));
        self.database.set(to_gauge_value(totals.database_bytes));
    }
}

/// Values that are sampled at a scrape.
pub(crate) struct Sample<'a> {
    pub(crate) now: Timestamp,
    pub(crate) totals: Totals,
    pub(crate) store: sealpost_sqlite::Stats,
    pub(crate) connections: &'a ListenerCounts,
    /// Absent if a proxy terminates TLS.
    pub(crate) certificate_not_after: Option<Timestamp>,
    /// Free space of the disk.
    pub(crate) free_bytes: u64,
}

impl Metrics {
    /// Renders all metrics with the sampled values.
    pub(crate) fn render(&self, sample: &Sample<'_>) -> Result<String, fmt::Error> {
        let sampled = &self.sampled;
        sampled.sample_totals(sample.now, &sample.totals);
        let commits = sampled.store_commits.inner();
        commits.store(sample.store.commits, Ordering::Relaxed);
        let jobs = sampled.store_jobs.inner();
        jobs.store(sample.store.jobs, Ordering::Relaxed);
        sampled.sample_listener(sample.connections, sample.certificate_not_after);
        sampled.storage_free.set(to_gauge_value(sample.free_bytes));
        sampled
            .resident_memory
            .set(to_gauge_value(resident_bytes().unwrap_or_default()));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(from_openmetrics(&text))
    }
}

fn to_gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns the resource of a route.
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
        Class::Succeeded => "succeeded",
        Class::Unreachable => "unreachable",
        Class::TimedOut => "timed_out",
        Class::Unavailable => "unavailable",
        Class::EndpointError => "endpoint_error",
        Class::TooLarge => "too_large",
        Class::RetryAfter(_) => "retry_after",
        Class::Refused => "refused",
        Class::Gone => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        assert_eq!(route_class(Some("/v1/envelopes/{id}")), "envelopes");
        assert_eq!(route_class(Some("/v1/at/{host}/{*rest}")), "other");
        assert_eq!(
            (route_class(Some("/healthz")), route_class(None)),
            ("public", "unknown")
        );
    }

    #[test]
    fn recorded_events_are_rendered() {
        let metrics = Metrics::new(Timestamp::from_millis(1_500));
        let at = |millis| Timestamp::from_millis(millis);
        let stored = DeliveryResult {
            id: DeliveryId(1),
            outcome: DeliveryOutcome::Stored,
        };
        metrics.record_call(
            at(3_000),
            Class::Succeeded,
            &[stored],
            &[(DeliveryId(1), at(1_000))],
        );
        metrics.record_call(
            at(3_000),
            Class::Unreachable,
            &[],
            &[(DeliveryId(2), at(1_000)), (DeliveryId(3), at(1_000))],
        );
        metrics.record_request(
            Some("/v1/blobs"),
            StatusCode::CREATED,
            Duration::from_millis(3),
        );
        metrics
            .sampled
            .sample_listener(&ListenerCounts::default(), None);
        let mut before = String::new();
        encode(&mut before, &metrics.registry).unwrap();
        assert!(
            !before
                .lines()
                .any(|line| line.starts_with("sealpost_relay_certificate_not_after_seconds")),
            "{before}"
        );
        metrics
            .sampled
            .sample_listener(&ListenerCounts::default(), Some(at(1_900_000_000_999)));
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
            "sealpost_relay_connections_dropped_total{reason=\"address_limit\"} 0",
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
