use super::{ATTACK_TIME, Finding, PreparedAttack};
use crate::{
    account::{Account, Mailbox, attacker_address, submit},
    honest::register_webhook,
    hostile_peer::HostilePeer,
    testbed::{Testbed, used_bytes},
};
use anyhow::Context as _;
use sealpost_e2ee::{invite::Invite, plaintext::Kind};
use sealpost_proto::limits::{ENVELOPE_BYTES_MIN, ENVELOPES_PER_REQUEST_MAX};
use std::time::Duration;
use tokio::time::{Instant, interval};

const NETWORK: u8 = 6;
/// Requests in each second, each with as many envelopes as are allowed.
const REQUESTS_PER_SECOND: u32 = 20;
/// Mailboxes that are opened and closed for each request.
const MAILBOXES_PER_REQUEST: usize = 2;
/// Kind that no node knows, and the size of such a payload.
const UNKNOWN_KIND: Kind = Kind(0x7abc);
const UNKNOWN_BYTES: usize = 150_000;
/// Largest accepted growth of the node's database, which the honest client's messages also need.
const NODE_GROWTH_MAX: u64 = 4 * 1024 * 1024;

/// An account sends to itself as fast as its rate permits; every envelope ends at once, and so do
/// its mailboxes. A peer sends payloads of a kind that its partner's node does not know.
pub(super) async fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let (account, endpoint) =
        register_webhook(&testbed.relay, attacker_address(NETWORK, 0)).await?;
    let mailbox = account.open_mailbox().await?;
    let (_, url) = testbed.victim.api()?.create_invite(true).await?;
    let invite = Invite::parse(&url).context("an invite of our own")?;
    let mallory = Account::with_pull(&testbed.relay, attacker_address(NETWORK, 1)).await?;
    let mut peer = HostilePeer::connect(&mallory, &invite).await?;
    let (relay, node) = (testbed.relay_database(), testbed.victim_database());
    let (relay_before, node_before) = (used_bytes(&relay)?, used_bytes(&node)?);
    Ok(Box::pin(async move {
        let _endpoint = endpoint;
        let (mut ended, mut unknown) = (0, 0);
        let mut ticks = interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
        let deadline = Instant::now() + ATTACK_TIME;
        while Instant::now() < deadline {
            ticks.tick().await;
            // Refusals are expected.
            if send(&account, &mailbox).await.is_ok() {
                ended += ENVELOPES_PER_REQUEST_MAX as u64;
            }
            let envelope = peer.seal(UNKNOWN_KIND, vec![7; UNKNOWN_BYTES])?;
            if submit(&mallory.client, vec![envelope]).await.is_ok() {
                unknown += 1;
            }
        }
        let relay_growth = used_bytes(&relay)?.saturating_sub(relay_before);
        let node_growth = used_bytes(&node)?.saturating_sub(node_before);
        Ok(vec![
            Finding::new("envelopes that ended", ended),
            Finding::new("bytes by which the relay's database grew", relay_growth),
            Finding::new("payloads of an unknown kind", unknown),
            Finding::new("bytes by which the node's database grew", node_growth)
                .with_limit(NODE_GROWTH_MAX),
        ])
    }))
}

async fn send(account: &Account, mailbox: &Mailbox) -> anyhow::Result<()> {
    let envelopes = (0..ENVELOPES_PER_REQUEST_MAX).map(|_| mailbox.envelope(ENVELOPE_BYTES_MIN));
    submit(&account.client, envelopes.collect()).await?;
    for _ in 0..MAILBOXES_PER_REQUEST {
        let closed = account.open_mailbox().await?;
        account.client.close_mailbox(closed.address.id).await?;
    }
    Ok(())
}
