use super::{Finding, PreparedAttack};
use crate::{
    account::{Account, attacker_address},
    hostile_peer::HostilePeer,
    testbed::Testbed,
};
use anyhow::Context as _;
use sealpost_demo::{api::Api, node::DeliveryMode};
use sealpost_e2ee::invite::Invite;
use sealpost_node::api::model::{ConnectionStatus, CreateInvite, InviteKind};
use sealpost_proto::{limits::ENVELOPES_PER_REQUEST_MAX, wire::SubmitRequest};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const NETWORK: u8 = 9;
const REQUESTS: usize = 120;
const NOTE: &str = "an honest request";
/// Time for which the last requests may be in transit.
const TRANSIT: Duration = Duration::from_secs(2);
/// Time after which an accepted request counts as lost.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// An honest request waits at a contact address, at which one account sends 120 others.
pub(super) async fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let invite = CreateInvite {
        kind: InviteKind::Contact,
        lifetime_ms: None,
        auto_accept: false,
    };
    let (_, url) = testbed.victim.api()?.create_invite_with(&invite).await?;
    let mut honest = testbed.env.start_node("Honest", DeliveryMode::Pull).await?;
    honest.api()?.connect(&url, NOTE).await?;
    testbed.victim.api()?.wait_for_request(NOTE).await?;
    let (victim, account) = (testbed.victim.home().clone(), attacker_address(NETWORK, 0));
    let account = Account::with_pull(&testbed.relay, account).await?;
    Ok(Box::pin(async move {
        let invite = Invite::parse(&url).context("an invite of our own")?;
        send_requests(&account, &invite).await?;
        let is_waiting = accept_honest_request(&victim.api()?, &honest.api()?).await?;
        honest.stop().await?;
        let lost = Finding::new("honest requests that were lost", u64::from(!is_waiting));
        Ok(vec![lost.with_limit(0)])
    }))
}

async fn send_requests(account: &Account, invite: &Invite) -> anyhow::Result<()> {
    let mut envelopes = Vec::new();
    for number in 0..REQUESTS {
        let name = format!("Mallory {number}");
        envelopes.push(HostilePeer::request(account, invite, &name).await?.1);
    }
    for batch in envelopes.chunks(ENVELOPES_PER_REQUEST_MAX) {
        // The relay may refuse some of them, which is what it should do.
        let envelopes = batch.to_vec();
        account.client.submit(&SubmitRequest { envelopes }).await?;
    }
    sleep(TRANSIT).await;
    Ok(())
}

/// Accepts the honest request at the victim. Returns false if it is no longer there, or if its
/// sender does not learn of it.
async fn accept_honest_request(victim: &Api, requester: &Api) -> anyhow::Result<bool> {
    let connections = victim.list_connections().await?;
    let Some(request) = connections.into_iter().find(|one| one.note == NOTE) else {
        return Ok(false);
    };
    victim.accept(&request.id).await?;
    let deadline = Instant::now() + ACCEPT_TIMEOUT;
    while Instant::now() < deadline {
        let connections = requester.list_connections().await?;
        let mut statuses = connections.iter().map(|one| one.status);
        if statuses.any(|status| status == ConnectionStatus::Accepted) {
            return Ok(true);
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(false)
}
