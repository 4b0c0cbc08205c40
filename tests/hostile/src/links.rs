//! Delivery over slow links: messages wait at the relay, the recipient's node starts, and all of
//! them have to arrive in at most twice the time that their bytes need, apart from a few seconds.

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
const MESSAGE_BYTES: usize = 6_000;
const ENVELOPE_BYTES: usize = 8_192;
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

/// Link and how its node receives.
struct LinkSetup {
    name: &'static str,
    shape: LinkShape,
    delivery: DeliveryMode,
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

const LINKS: [LinkSetup; 6] = [
    LinkSetup {
        name: "25 KB/s, webhook",
        shape: SLOW,
        delivery: DeliveryMode::Webhook,
        messages_min: 0,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "25 KB/s, pull",
        shape: SLOW,
        delivery: DeliveryMode::Pull,
        messages_min: 0,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s behind a limit of 1 MiB, webhook",
        shape: LIMITED,
        delivery: DeliveryMode::Webhook,
        messages_min: 200,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s behind a limit of 1 MiB, pull",
        shape: LIMITED,
        delivery: DeliveryMode::Pull,
        messages_min: 200,
        ratio_max: RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s with cuts after 500 KB, webhook",
        shape: CUT,
        delivery: DeliveryMode::Webhook,
        messages_min: 200,
        ratio_max: CUT_RATIO_MAX,
    },
    LinkSetup {
        name: "1 MB/s with cuts after 500 KB, pull",
        shape: CUT,
        delivery: DeliveryMode::Pull,
        messages_min: 200,
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
        queue_messages(&sender, &connection, messages).await?;
        sender.stop().await?;
        link.set_shape(self.shape);
        let result = self.deliver(&mut recipient, messages).await?;
        recipient.kill().await?;
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
        let args = match self.delivery {
            DeliveryMode::Pull => Vec::new(),
            DeliveryMode::Webhook => vec!["--webhook-listen", &listen, "--webhook-url", &url],
        };
        Node::init_with_args(env.program(), env.directory(), "Recipient", relay, &args).await
    }

    async fn deliver(&self, recipient: &mut Node, messages: usize) -> anyhow::Result<LinkResult> {
        let bytes = messages * delivery_bytes()?;
        let shortest = Duration::from_secs_f64(bytes as f64 / self.shape.bytes_per_second as f64);
        let abandoned_after = (shortest.mul_f64(self.ratio_max) + GRACE).mul_f64(ABANDONED_AFTER);
        let started = Instant::now();
        recipient.start().await?;
        let api = recipient.api()?;
        let delivered = loop {
            let delivered = api.fetch_node().await?.unread_count;
            if delivered >= messages as u64 || started.elapsed() > abandoned_after {
                break delivered;
            }
            sleep(POLL_INTERVAL).await;
        };
        let seconds = started.elapsed().as_secs_f64();
        Ok(LinkResult {
            link: self.name,
            messages,
            delivered,
            seconds: Figure(seconds),
            ratio: Figure(seconds / shortest.as_secs_f64()),
            ratio_max: Figure(self.ratio_max),
        })
    }
}

/// Sends messages until all of them wait at the relay.
async fn queue_messages(sender: &Node, connection: &str, messages: usize) -> anyhow::Result<()> {
    let api = sender.api()?;
    let text = "All work and no play. ".repeat(MESSAGE_BYTES / 22);
    let mut last = None;
    for _ in 0..messages {
        last = Some(send(&api, connection, &text, &[]).await?);
    }
    // The messages of a connection are submitted in order.
    let last = last.context("no message")?;
    api.wait_for_status(&last.id, DeliveryStatus::Sent).await?;
    Ok(())
}

/// Returns the bytes of one message in a batch of deliveries.
fn delivery_bytes() -> anyhow::Result<usize> {
    let delivery = DeliveredEnvelope {
        id: DeliveryId(1_000),
        mailbox: MailboxId::from_bytes([0; 16]),
        envelope: EnvelopeId::from_bytes([0; 16]),
        accepted_at: Timestamp::from_millis(1_766_000_000_000),
        bytes: B64(vec![0; ENVELOPE_BYTES]),
    };
    Ok(serde_json::to_vec(&delivery)?.len())
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
