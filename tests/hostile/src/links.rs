//! Delivery over slow links: messages wait at the relay, the recipient's node starts, and all of
//! them have to arrive in at most twice the time that their bytes need, apart from a few seconds.
//! The same holds for messages that a node submits over such a link.

use crate::proxy::{Link, LinkShape, Opener};
use anyhow::Context as _;
use futures_util::future::try_join_all;
use sealpost_bench_support::Figure;
use sealpost_demo::{
    environment::{Environment, pair, send},
    node::{DeliveryMode, Node},
    ports::reserve_port,
    process::Program,
};
use sealpost_proto::{
    B64, DeliveryId, DeliveryStatus, EnvelopeId, MailboxId, Timestamp, wire::DeliveredEnvelope,
};
use serde::Serialize;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Text of one message, and the envelope that seals it.
#[derive(Debug, Clone, Copy)]
struct MessageSize {
    text: usize,
    envelope: usize,
}

const USUAL: MessageSize = MessageSize {
    text: 6_000,
    envelope: 8_192,
};
/// The envelopes that a node seals for a connection at a time need more than the usual timeout on a
/// slow link.
const LARGE: MessageSize = MessageSize {
    text: 48_000,
    envelope: 65_536,
};
/// Large messages that a node submits.
const LARGE_MESSAGES: usize = 24;
/// Largest accepted ratio of the time that a link needs to that of its bytes alone.
const RATIO_MAX: f64 = 2.0;
/// The same for a link that cuts connections: each cut is followed by a backoff.
const CUT_RATIO_MAX: f64 = 30.0;
/// Time beyond the accepted ratio for the start of the node and for a machine that is busy. A lane
/// that does not adapt needs minutes.
const GRACE: Duration = Duration::from_secs(5);
/// Time after which the rest of the messages is not awaited, as a multiple of the accepted time.
const ABANDONED_AFTER: f64 = 1.5;
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What passes over a link.
#[derive(Debug, Clone, Copy)]
enum Traffic {
    /// Deliveries to the recipient.
    Delivery(DeliveryMode),
    /// Submissions of large messages by the sender.
    Submission,
}

/// Link and what passes over it.
struct LinkSetup {
    name: &'static str,
    shape: LinkShape,
    traffic: Traffic,
    /// Messages at least, so that they exceed a limit of the link.
    messages_min: usize,
    /// Largest accepted ratio.
    ratio_max: f64,
}

const SLOW: LinkShape = LinkShape {
    bytes_per_second: 25_000,
    body_bytes_max: None,
    cut_after_bytes: None,
};
/// A common default of reverse proxies.
const LIMITED: LinkShape = LinkShape {
    bytes_per_second: 1_000_000,
    body_bytes_max: Some(1024 * 1024),
    cut_after_bytes: None,
};
/// Each connection carries less than a full batch.
const CUT: LinkShape = LinkShape {
    bytes_per_second: 1_000_000,
    body_bytes_max: None,
    cut_after_bytes: Some(500_000),
};

const LINKS: [LinkSetup; 9] = [
    LinkSetup {
        name: "25 KB/s, webhook",
        shape: SLOW,
        traffic: Traffic::Delivery(DeliveryMode::Webhook),
        messages_min: 0,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "25 KB/s, pull",
        shape: SLOW,
        traffic: Traffic::Delivery(DeliveryMode::Pull),
        messages_min: 0,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s behind a limit of 1 MiB, webhook",
        shape: LIMITED,
        traffic: Traffic::Delivery(DeliveryMode::Webhook),
        messages_min: 200,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s behind a limit of 1 MiB, pull",
        shape: LIMITED,
        traffic: Traffic::Delivery(DeliveryMode::Pull),
        messages_min: 200,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s with cuts after 500 KB, webhook",
        shape: CUT,
        traffic: Traffic::Delivery(DeliveryMode::Webhook),
        messages_min: 200,
        ratio_max: CUT_RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s with cuts after 500 KB, pull",
        shape: CUT,
        traffic: Traffic::Delivery(DeliveryMode::Pull),
        messages_min: 200,
        ratio_max: CUT_RATIO_MAX,
    },
    LinkSetup {
        name: "25 KB/s, submission",
        shape: SLOW,
        traffic: Traffic::Submission,
        messages_min: 0,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s behind a limit of 1 MiB, submission",
        shape: LIMITED,
        traffic: Traffic::Submission,
        messages_min: 0,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s with cuts after 500 KB, submission",
        shape: CUT,
        traffic: Traffic::Submission,
        messages_min: 0,
        ratio_max: CUT_RATIO_MAX,
    },
];

/// Result of one link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LinkResult {
    /// Name of the link.
    pub(crate) link: &'static str,
    /// Messages that waited.
    pub(crate) messages: usize,
    /// Messages that arrived.
    pub(crate) delivered: u64,
    /// Seconds until the last one arrived, or until the rest was abandoned.
    pub(crate) seconds: Figure,
    /// That time, divided by the time that the bytes of the messages need on the link.
    pub(crate) ratio: Figure,
    /// Largest accepted ratio, apart from a few seconds.
    pub(crate) ratio_max: Figure,
}

impl LinkResult {
    /// Returns a one-line summary.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{}: {} of {} messages in {:.1} s, {:.2} times the time of their bytes",
            self.link, self.delivered, self.messages, self.seconds.0, self.ratio.0
        )
    }

    /// Returns the bound that was exceeded, if one was.
    pub(crate) fn exceeded(&self) -> Option<String> {
        let is_complete = self.delivered >= self.messages as u64;
        let shortest = self.seconds.0 / self.ratio.0;
        let accepted = shortest * self.ratio_max.0 + GRACE.as_secs_f64();
        (!is_complete || self.seconds.0 > accepted).then(|| self.summary())
    }
}

/// Tests all links at the same time, each with its own relay and nodes.
pub(crate) async fn run(program: &Program, messages: usize) -> anyhow::Result<Vec<LinkResult>> {
    try_join_all(LINKS.iter().map(async |setup| {
        setup
            .run(program, messages.max(setup.messages_min))
            .await
            .context(setup.name)
    }))
    .await
}

impl LinkSetup {
    async fn run(&self, program: &Program, messages: usize) -> anyhow::Result<LinkResult> {
        let mut link = Link::new();
        let mut env = Environment::new(program.clone())?;
        let relay = env.relay.origin();
        let relay = relay
            .strip_prefix("http://")
            .context("an origin")?
            .parse()?;
        let origin = format!("http://{}", link.start_proxy(relay, Opener::Node)?);
        env.relay.set_extra_args(&["--public-url", &origin]);
        env.relay.start().await?;
        let mut sender = Node::init(
            program,
            env.directory(),
            "Sender",
            &origin,
            DeliveryMode::Pull,
        )
        .await?;
        let mut recipient = self.init_recipient(&env, &mut link, &origin).await?;
        for node in [&mut sender, &mut recipient] {
            node.start().await?;
            node.wait_until_connected().await?;
        }
        let connection = pair(&recipient, &sender).await?.invitee.id;
        recipient.stop().await?;
        let result = match self.traffic {
            Traffic::Delivery(_) => {
                let last = send_messages(&sender, &connection, USUAL, messages).await?;
                wait_until_sent(&sender, &last).await?;
                sender.stop().await?;
                link.set_shape(self.shape);
                self.deliver(&mut recipient, messages).await?
            }
            Traffic::Submission => {
                link.set_shape(self.shape);
                self.submit(&sender, &connection).await?
            }
        };
        for mut node in [sender, recipient] {
            node.kill().await?;
        }
        env.finish().await?;
        Ok(result)
    }

    /// Creates the recipient, whose webhook is behind the link too.
    async fn init_recipient(
        &self,
        env: &Environment,
        link: &mut Link,
        relay: &str,
    ) -> anyhow::Result<Node> {
        let webhook = SocketAddr::from((Ipv4Addr::LOCALHOST, reserve_port()?));
        let url = format!("http://{}/", link.start_proxy(webhook, Opener::Relay)?);
        let listen = webhook.to_string();
        let args = match self.traffic {
            Traffic::Delivery(DeliveryMode::Webhook) => {
                vec!["--webhook-listen", &listen, "--webhook-url", &url]
            }
            Traffic::Delivery(DeliveryMode::Pull) | Traffic::Submission => Vec::new(),
        };
        Node::init_with_args(env.program(), env.directory(), "Recipient", relay, &args).await
    }

    async fn deliver(&self, recipient: &mut Node, messages: usize) -> anyhow::Result<LinkResult> {
        let measurement = self.start(messages, delivery_bytes()?);
        recipient.start().await?;
        let api = recipient.api()?;
        let arrived = async || anyhow::Ok(api.fetch_node().await?.unread_count);
        measurement.finish(arrived).await
    }

    async fn submit(&self, sender: &Node, connection: &str) -> anyhow::Result<LinkResult> {
        let measurement = self.start(LARGE_MESSAGES, submission_bytes()?);
        let last = send_messages(sender, connection, LARGE, LARGE_MESSAGES).await?;
        let api = sender.api()?;
        // The messages of a connection are submitted in order.
        let arrived = async || {
            let message = api.fetch_message(&last).await?;
            let is_sent = message
                .deliveries
                .iter()
                .all(|delivery| delivery.status != DeliveryStatus::Pending);
            anyhow::Ok(if is_sent { LARGE_MESSAGES as u64 } else { 0 })
        };
        measurement.finish(arrived).await
    }

    fn start(&self, messages: usize, message_bytes: usize) -> Measurement<'_> {
        let bytes = messages * message_bytes;
        Measurement {
            setup: self,
            messages,
            shortest: Duration::from_secs_f64(bytes as f64 / self.shape.bytes_per_second as f64),
            started: Instant::now(),
        }
    }
}

/// Measurement of how long the messages take.
struct Measurement<'a> {
    setup: &'a LinkSetup,
    messages: usize,
    /// Time that the bytes alone need.
    shortest: Duration,
    started: Instant,
}

impl Measurement<'_> {
    /// Waits until all messages have arrived, or until it is far too late.
    async fn finish(
        self,
        arrived: impl AsyncFn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<LinkResult> {
        let Self {
            setup,
            messages,
            shortest,
            started,
        } = self;
        let abandoned_after = (shortest.mul_f64(setup.ratio_max) + GRACE).mul_f64(ABANDONED_AFTER);
        let delivered = loop {
            let delivered = arrived().await?;
            if delivered >= messages as u64 || started.elapsed() > abandoned_after {
                break delivered;
            }
            sleep(POLL_INTERVAL).await;
        };
        let seconds = started.elapsed().as_secs_f64();
        Ok(LinkResult {
            link: setup.name,
            messages,
            delivered,
            seconds: Figure(seconds),
            ratio: Figure(seconds / shortest.as_secs_f64()),
            ratio_max: Figure(setup.ratio_max),
        })
    }
}

/// Sends messages and returns the id of the last one.
async fn send_messages(
    sender: &Node,
    connection: &str,
    size: MessageSize,
    messages: usize,
) -> anyhow::Result<String> {
    let api = sender.api()?;
    let text = "All work and no play. ".repeat(size.text / 22);
    let mut last = None;
    for _ in 0..messages {
        last = Some(send(&api, connection, &text, &[]).await?);
    }
    Ok(last.context("no message")?.id)
}

/// Waits until a message and all earlier ones, which are submitted in order, are at the relay.
async fn wait_until_sent(sender: &Node, last: &str) -> anyhow::Result<()> {
    let api = sender.api()?;
    api.wait_for_status(last, DeliveryStatus::Sent).await?;
    Ok(())
}

/// Returns the bytes of one message in a batch of deliveries.
fn delivery_bytes() -> anyhow::Result<usize> {
    let delivery = DeliveredEnvelope {
        id: DeliveryId(1_000),
        mailbox: MailboxId::from_bytes([0; 16]),
        envelope: EnvelopeId::from_bytes([0; 16]),
        accepted_at: Timestamp::from_millis(1_766_000_000_000),
        bytes: B64(vec![0; USUAL.envelope]),
    };
    Ok(serde_json::to_vec(&delivery)?.len())
}

/// Returns the bytes of one large message in a submission, without its mailbox and proof.
fn submission_bytes() -> anyhow::Result<usize> {
    Ok(serde_json::to_vec(&B64(vec![0; LARGE.envelope]))?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_must_deliver_everything_in_time() {
        let result = LinkResult {
            link: "25 KB/s",
            messages: 60,
            delivered: 60,
            seconds: Figure(54.0),
            ratio: Figure(2.16),
            ratio_max: Figure(2.0),
        };
        assert_eq!(result.exceeded(), None);
        let late = LinkResult {
            seconds: Figure(56.0),
            ratio: Figure(2.24),
            ..result.clone()
        };
        assert!(late.exceeded().is_some());
        let incomplete = LinkResult {
            delivered: 59,
            ..result
        };
        assert!(incomplete.exceeded().is_some());
    }
}
