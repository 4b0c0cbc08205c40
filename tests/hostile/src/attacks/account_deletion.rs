use super::{ATTACK_TIME, Finding, PreparedAttack};
use crate::account::{Account, Mailbox, attacker_address, open_mailbox, submit};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sealpost_proto::{
    Origin,
    limits::{ENVELOPE_BYTES_MIN, ENVELOPES_PER_REQUEST_MAX},
};
use sealpost_relay_client::RelayClient;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const NETWORK: u8 = 5;
const MAILBOXES: usize = 2_010;
const ENVELOPES: usize = 92_000;
/// Accounts that fill the mailboxes, so that none exceeds its rate of envelopes.
const SENDERS: usize = 4;
/// Concurrent requests while the mailboxes are opened and filled.
const CONCURRENT_REQUESTS: usize = 8;
/// Mailboxes that are opened in a burst; afterwards the rate limit applies.
const BURST: usize = 900;
const REQUEST_INTERVAL: Duration = Duration::from_micros(5_500);
/// Time after which the attack no longer waits for the response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Account with a long queue, which is prepared before all attacks.
pub(crate) struct QueuedAccount {
    account: Account,
    /// Its partners are registered until the end.
    _senders: Vec<Account>,
}

impl QueuedAccount {
    /// Registers the account, opens its mailboxes and fills them.
    pub(crate) async fn new(relay: &Origin) -> anyhow::Result<Self> {
        let account = Account::with_pull(relay, attacker_address(NETWORK, 0)).await?;
        // One address alone would exceed its rate of requests.
        let openers = (0..CONCURRENT_REQUESTS)
            .map(|number| account.client_from(attacker_address(NETWORK, 100 + number)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mailboxes: Vec<Mailbox> = stream::iter(0..MAILBOXES)
            .map(|number| open(&openers[number % CONCURRENT_REQUESTS], number))
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        let mut senders = Vec::new();
        for number in 0..SENDERS {
            let source = attacker_address(NETWORK, 1 + number);
            senders.push(Account::with_pull(relay, source).await?);
        }
        stream::iter(
            (0..ENVELOPES)
                .step_by(ENVELOPES_PER_REQUEST_MAX)
                .map(anyhow::Ok),
        )
        .try_for_each_concurrent(CONCURRENT_REQUESTS, |first| {
            let sender = &senders[first / ENVELOPES_PER_REQUEST_MAX % SENDERS];
            fill(sender, &mailboxes, first)
        })
        .await?;
        Ok(Self {
            account,
            _senders: senders,
        })
    }
}

async fn open(client: &RelayClient, number: usize) -> anyhow::Result<Mailbox> {
    if number > BURST {
        sleep(REQUEST_INTERVAL * u32::try_from(CONCURRENT_REQUESTS)?).await;
    }
    open_mailbox(client).await
}

async fn fill(sender: &Account, mailboxes: &[Mailbox], first: usize) -> anyhow::Result<()> {
    let envelopes = (first..first + ENVELOPES_PER_REQUEST_MAX)
        .map(|number| mailboxes[number % mailboxes.len()].envelope(ENVELOPE_BYTES_MIN));
    submit(&sender.client, envelopes.collect()).await
}

pub(super) fn prepare(queued: QueuedAccount) -> PreparedAttack {
    Box::pin(async move {
        let started = Instant::now();
        // A relay that takes too long is part of the finding.
        let _ = timeout(RESPONSE_TIMEOUT, queued.account.client.delete_account()).await;
        let millis = u64::try_from(started.elapsed().as_millis())?;
        sleep(ATTACK_TIME).await;
        Ok(vec![Finding::new(
            "milliseconds until the response",
            millis,
        )])
    })
}
