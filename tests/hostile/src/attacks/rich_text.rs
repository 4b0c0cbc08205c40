use super::{ATTACK_TIME, Finding, PreparedAttack};
use crate::{
    account::{Account, attacker_address, submit},
    hostile_peer::HostilePeer,
    testbed::Testbed,
    texts::hostile_texts,
};
use anyhow::Context as _;
use sealpost_e2ee::{invite::Invite, payload::ContentType};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const NETWORK: u8 = 10;
/// Time after which the rest of the messages is not submitted.
const SUBMISSION_TIME: Duration = Duration::from_secs(15);
/// Formats of the texts: Markdown, HTML, plain text, and one that nobody knows.
const FORMATS: [ContentType; 4] = [
    ContentType(0),
    ContentType(1),
    ContentType(2),
    ContentType(200),
];

/// A paired peer sends texts that are expensive to display, in every format.
pub(super) async fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let (_, url) = testbed.victim.api()?.create_invite(true).await?;
    let account = Account::with_pull(&testbed.relay, attacker_address(NETWORK, 0)).await?;
    let invite = Invite::parse(&url).context("an invite of our own")?;
    let mut peer = HostilePeer::connect(&account, &invite).await?;
    let mut envelopes = Vec::new();
    for text in hostile_texts() {
        for format in FORMATS {
            envelopes.push(peer.message(&text, format)?);
        }
    }
    Ok(Box::pin(async move {
        let deadline = Instant::now() + SUBMISSION_TIME;
        let mut submitted = 0;
        for envelope in envelopes {
            if Instant::now() < deadline {
                submit(&account.client, vec![envelope]).await?;
                submitted += 1;
            }
        }
        sleep(ATTACK_TIME).await;
        Ok(vec![Finding::new("hostile messages", submitted)])
    }))
}
