//! Simulated links: the time that a lane takes to deliver a backlog over a slow or limited link.

use super::*;
use crate::budget::long_call_timeout;
use sealpost_proto::limits::{
    BACKOFF_FIRST, ENVELOPE_BYTES_MAX, LINK_BYTES_PER_SECOND_MIN, WEBHOOK_TIMEOUT,
};
use std::collections::VecDeque;

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
/// Envelope of a message of 6,000 bytes.
const ENVELOPE: usize = 8_192;
const LATENCY: Duration = Duration::from_millis(3);

/// Link between the relay and an endpoint that stores everything.
#[derive(Debug, Clone, Copy)]
struct Link {
    bytes_per_second: usize,
    /// Largest body that a proxy on the way accepts, and the class of the others.
    body_max: Option<(usize, Class)>,
}

/// Outcome of the delivery of a backlog.
#[derive(Debug, Default)]
struct Delivered {
    elapsed: Duration,
    /// Time that the bodies of the delivered envelopes take on the link.
    needed: Duration,
    set_aside: usize,
    calls: usize,
}

impl Link {
    const fn new(bytes_per_second: usize) -> Self {
        Self {
            bytes_per_second,
            body_max: None,
        }
    }

    const fn with_body_max(self, bytes: usize, class: Class) -> Self {
        Self {
            body_max: Some((bytes, class)),
            ..self
        }
    }

    fn transfer_time(&self, bytes: usize) -> Duration {
        Duration::from_secs((bytes * 7 / 5) as u64) / u32::try_from(self.bytes_per_second).unwrap()
    }

    /// Returns the class and the duration of a call. A proxy refuses a body after it has read it.
    fn call(&self, bytes: usize, timeout: Duration) -> (Class, Duration) {
        let elapsed = self.transfer_time(bytes) + LATENCY;
        match self.body_max {
            _ if elapsed > timeout => (Class::TimedOut, timeout),
            Some((max, class)) if bytes * 7 / 5 > max => (class, elapsed),
            _ => (Class::Succeeded, elapsed),
        }
    }
}

/// Delivers envelopes of these sizes, each to a mailbox of its own.
fn deliver(lane: &mut Lane, link: Link, envelopes: Vec<usize>) -> Delivered {
    let mut queue: VecDeque<_> = envelopes.into_iter().enumerate().collect();
    let (mut now, mut delivered) = (NOW, Delivered::default());
    while let Some((head, _)) = queue.front() {
        now = now.max(lane.due_at(now, true, None).unwrap());
        let snapshot = QueueSnapshot {
            head: Some(DeliveryId(*head as u64)),
            has_other_mailbox: queue.len() > 1,
            has_set_aside_due: false,
        };
        let has_long_timeout = lane.uses_failing_slots();
        let [Effect::Lease { fence, method, .. }] = lane.step(now, Event::Call(snapshot), 0)[..]
        else {
            panic!("{lane:?} is not called");
        };
        let items = batch_len(&queue, lane.batch_limits(method));
        let start = usize::from(method == DeliveryMethod::Webhook(Selection::Other));
        let bytes = queue.range(start..start + items).map(|item| item.1).sum();
        let long = long_call_timeout(items, bytes, WEBHOOK_TIMEOUT).filter(|_| has_long_timeout);
        let timeout = long.unwrap_or(WEBHOOK_TIMEOUT);
        let (class, elapsed) = link.call(bytes, timeout);
        now = now.plus(elapsed);
        delivered.calls += 1;
        assert!(delivered.calls < 5_000, "{lane:?} {delivered:?}");
        let finished = Event::Finished {
            fence,
            class,
            first: DeliveryId(queue[start].0 as u64),
            items,
            bytes,
            elapsed,
            retry_after: None,
        };
        let effects = lane.step(now, finished, u64::MAX);
        let is_set_aside = matches!(effects[..], [Effect::SetAside { .. }]);
        if class == Class::Succeeded || is_set_aside {
            queue.drain(start..start + items);
        }
        if class == Class::Succeeded {
            delivered.needed += link.transfer_time(bytes);
        }
        delivered.set_aside += usize::from(is_set_aside);
    }
    delivered.elapsed = now.since(NOW);
    delivered
}

fn batch_len(queue: &VecDeque<(usize, usize)>, limits: BatchLimits) -> usize {
    let mut bytes = 0;
    let fitting = queue.iter().take(limits.items).take_while(|(_, size)| {
        bytes += size;
        bytes <= limits.bytes
    });
    fitting.count().max(1)
}

fn new_lane() -> Lane {
    Lane {
        webhook: WebhookState::Active,
        ..Lane::new(true)
    }
}

#[track_caller]
fn expect_twice_the_needed_time(link: Link, envelopes: Vec<usize>) {
    let count = envelopes.len();
    let delivered = deliver(&mut new_lane(), link, envelopes);
    assert_eq!(delivered.set_aside, 0, "{link:?} {delivered:?}");
    assert!(
        delivered.elapsed <= delivered.needed * 2,
        "{link:?}, {count} envelopes: {delivered:?}"
    );
}

#[test]
fn slow_links_deliver_in_twice_the_needed_time() {
    for bytes_per_second in [
        5_500, 8_000, 12_000, 18_000, 25_000, 40_000, 64_000, 100_000, 250_000, 1_000_000,
    ] {
        for count in [60, 600] {
            expect_twice_the_needed_time(Link::new(bytes_per_second), vec![ENVELOPE; count]);
        }
    }
}

#[test]
fn large_envelopes_have_time_on_slow_links() {
    let mixed = [2_048, 65_536, 8_192, ENVELOPE_BYTES_MAX, 131_072, 2_048];
    for bytes_per_second in [5_500, 8_000, 12_000, 25_000, 100_000] {
        let link = Link::new(bytes_per_second);
        expect_twice_the_needed_time(link, vec![ENVELOPE_BYTES_MAX; 20]);
        expect_twice_the_needed_time(link, vec![65_536; 60]);
        expect_twice_the_needed_time(link, mixed.repeat(10));
    }
}

#[test]
fn limited_bodies_deliver_in_twice_the_needed_time() {
    let link = Link::new(1_000_000);
    for body_max in [1_048_576, 512_000, 100_000, 16_384] {
        let limited = link.with_body_max(body_max, Class::TooLarge);
        expect_twice_the_needed_time(limited, vec![ENVELOPE; 600]);
    }
    // The relay waits after each other failure, as it may be an outage.
    for class in [Class::EndpointError, Class::Unavailable, Class::Refused] {
        let limited = link.with_body_max(1_048_576, class);
        let delivered = deliver(&mut new_lane(), limited, vec![ENVELOPE; 6_000]);
        assert!(
            delivered.elapsed < delivered.needed * 3 / 2 && delivered.set_aside == 0,
            "{class:?} {delivered:?}"
        );
    }
}

#[test]
fn single_envelopes_beyond_the_limit_are_set_aside() {
    let link = Link::new(1_000_000).with_body_max(100_000, Class::TooLarge);
    let envelopes = [&[ENVELOPE; 50][..], &[ENVELOPE_BYTES_MAX], &[ENVELOPE; 50]].concat();
    let delivered = deliver(&mut new_lane(), link, envelopes);
    assert_eq!(delivered.set_aside, 1);
    assert!(delivered.calls < 30, "{delivered:?}");
    assert!(delivered.elapsed < delivered.needed * 2 + BACKOFF_FIRST);
}

#[test]
fn learned_size_survives_storage() {
    let link = Link::new(1_000_000).with_body_max(100_000, Class::TooLarge);
    let mut lane = new_lane();
    deliver(&mut lane, link, vec![ENVELOPE; 100]);
    let mut stored: Lane = serde_json::from_str(&serde_json::to_string(&lane).unwrap()).unwrap();
    assert_ne!(lane.batch_size, BatchSize::FIRST);
    assert_eq!(stored, lane);
    let delivered = deliver(&mut stored, link, vec![ENVELOPE; 100]);
    assert!(
        delivered.elapsed < delivered.needed * 3 / 2,
        "{delivered:?}"
    );
    let _ = stored.step(NOW, Event::DeliveryModeChanged { has_webhook: true }, 0);
    assert_eq!(stored.batch_size, BatchSize::FIRST);
}

#[test]
fn short_outage_costs_little_afterwards() {
    let mut lane = new_lane();
    deliver(&mut lane, Link::new(10_000_000), vec![ENVELOPE; 1_000]);
    for class in [Class::Unavailable, Class::TimedOut, Class::EndpointError] {
        let mut lane = lane.clone();
        let [Effect::Lease { fence, .. }] = lane.step(NOW, Event::Call(WAITING), 0)[..] else {
            panic!("{lane:?} is not called");
        };
        let failed = Event::Finished {
            fence,
            class,
            first: DeliveryId(1),
            items: 2,
            bytes: 4_096,
            elapsed: WEBHOOK_TIMEOUT,
            retry_after: None,
        };
        let _ = lane.step(NOW, failed, 0);
        let _ = lane.step(NOW.plus(BACKOFF_FIRST), Event::Contact, 0);
        let delivered = deliver(&mut lane, Link::new(10_000_000), vec![2_048; 10_000]);
        assert!(delivered.calls < 250, "{class:?} {delivered:?}");
    }
}

const WAITING: QueueSnapshot = QueueSnapshot {
    head: Some(DeliveryId(1)),
    has_other_mailbox: true,
    has_set_aside_due: false,
};

#[test]
fn slow_lane_becomes_fast_again() {
    let mut lane = new_lane();
    let slowest = Link::new(LINK_BYTES_PER_SECOND_MIN as usize + 100);
    deliver(&mut lane, slowest, vec![ENVELOPE_BYTES_MAX; 2]);
    assert!(lane.is_slow && lane.uses_failing_slots());
    deliver(&mut lane, Link::new(1_000_000), vec![65_536]);
    assert!(!lane.is_slow && !lane.uses_failing_slots());
}
