use super::{ATTACK_TIME, Finding, PreparedAttack};
use crate::{
    account::{Account, attacker_address},
    endpoint::SilentEndpoint,
    testbed::Testbed,
};
use sealpost_proto::wire::DeliveryMode;
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

const NETWORK: u8 = 4;
const ACCOUNTS: usize = 20;
/// Tests that each account requests at a time.
const TESTS_PER_ACCOUNT: usize = 30;
/// Pause after a response, so that refusals are not the attack.
const PAUSE: Duration = Duration::from_millis(500);
/// Largest accepted number of connections to one victim.
const VICTIM_CONNECTIONS_MAX: u64 = 32;

/// The webhooks have names that the resolver never answers.
pub(super) async fn prepare_unresolvable(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let accounts = register(testbed, 0, |number| {
        format!("http://webhook-{number}.sealpost-test.example/")
    });
    let accounts = accounts.await?;
    Ok(Box::pin(async move {
        request_tests(accounts).await;
        Ok(Vec::new())
    }))
}

/// All webhooks are the same server, which does not respond.
pub(super) async fn prepare_silent(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let victim = SilentEndpoint::start().await?;
    let accounts = register(testbed, ACCOUNTS, |_| format!("http://{}/", victim.address)).await?;
    Ok(Box::pin(async move {
        request_tests(accounts).await;
        let peak = Finding::new("connections to the victim", victim.peak() as u64);
        Ok(vec![peak.with_limit(VICTIM_CONNECTIONS_MAX)])
    }))
}

async fn register(
    testbed: &Testbed,
    first: usize,
    url: impl Fn(usize) -> String,
) -> anyhow::Result<Vec<Account>> {
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let source = attacker_address(NETWORK, first + number);
        let delivery = DeliveryMode::Webhook { url: url(number) };
        accounts.push(Account::register(&testbed.relay, source, delivery).await?);
    }
    Ok(accounts)
}

async fn request_tests(accounts: Vec<Account>) {
    let mut running = JoinSet::new();
    for account in &accounts {
        for _ in 0..TESTS_PER_ACCOUNT {
            let client = account.client.clone();
            running.spawn(async move {
                loop {
                    // Refusals are expected.
                    let _ = client.test_webhook().await;
                    sleep(PAUSE).await;
                }
            });
        }
    }
    let _ = timeout(ATTACK_TIME, running.join_next()).await;
}
