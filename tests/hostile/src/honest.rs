//! The honest client: an account and a pair of nodes that use relay and node at a steady low rate
//! and measure each operation.

use crate::{
    account::{Account, Mailbox, pull, submit},
    endpoint::{StoringEndpoint, store_all},
    measurement::{Measurement, Operation},
};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use sealpost_demo::{
    environment::send,
    node::{Home, Node},
};
use sealpost_node::{api::model::Message, cli::client::Client};
use sealpost_proto::{
    BlobId, BlobRef, DeliveryStatus, FetchToken, Origin,
    limits::ENVELOPE_BYTES_MIN,
    time::Timestamp,
    wire::{CompleteBlob, CreateBlob, DeliveryMode},
};
use sealpost_service::{Clock as _, SystemClock, random_array};
use sealpost_signatures::ContentDigest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Addresses of the honest account and of its blob's recipient.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Interval between two operations.
const INTERVAL: Duration = Duration::from_millis(50);
/// Time after which an operation counts as failed.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which the status of a message is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Size of the blob that the client downloads.
const BLOB_BYTES: usize = 200_000;
/// Messages on the page of the inbox that the recipient's user displays.
const INBOX_ITEMS: &str = "50";

/// Order of the operations.
const SCHEDULE: [Operation; 10] = [
    Operation::Account,
    Operation::Submit,
    Operation::Webhook,
    Operation::Pull,
    Operation::Message,
    Operation::Download,
    Operation::Submit,
    Operation::Webhook,
    Operation::Inbox,
    Operation::SignIn,
];

/// Account, nodes and everything else that the operations need.
pub(crate) struct HonestClient {
    account: Account,
    mailbox: Mailbox,
    webhook_account: Account,
    webhook_mailbox: Mailbox,
    endpoint: StoringEndpoint,
    blob: BlobRef,
    fetch_token: FetchToken,
    sender: Home,
    recipient: Home,
    /// Connection of the sender to the recipient.
    connection: String,
}

impl HonestClient {
    /// Sets up the accounts; the nodes are paired already.
    pub(crate) async fn new(
        relay: &Origin,
        sender: &Node,
        recipient: &Node,
        connection: String,
    ) -> anyhow::Result<Self> {
        let account = Account::with_pull(relay, SOURCE).await?;
        let mailbox = account.open_mailbox().await?;
        let (webhook_account, endpoint) = register_webhook(relay, SOURCE).await?;
        let webhook_mailbox = webhook_account.open_mailbox().await?;
        let (blob, fetch_token) = upload_blob(&account, BLOB_BYTES).await?;
        Ok(Self {
            account,
            mailbox,
            webhook_account,
            webhook_mailbox,
            endpoint,
            blob,
            fetch_token,
            sender: sender.home().clone(),
            recipient: recipient.home().clone(),
            connection,
        })
    }

    /// Performs operations until `until` completes, and waits for those that are running.
    pub(crate) async fn measure<T>(
        self: &Arc<Self>,
        until: impl Future<Output = T>,
    ) -> (Measurement, T) {
        let mut until = Box::pin(until);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut running = JoinSet::new();
        let mut operations = SCHEDULE.into_iter().cycle();
        let output = loop {
            tokio::select! {
                output = &mut until => break output,
                _ = ticks.tick() => {
                    let client = Arc::clone(self);
                    let operation = operations.next().unwrap_or(Operation::Account);
                    running.spawn(async move { client.perform(operation).await });
                }
            }
        };
        let mut measurement = Measurement::default();
        while let Some(performed) = running.join_next().await {
            match performed {
                Ok((operation, outcome)) => measurement.record(operation, outcome),
                Err(error) => measurement.record(Operation::Account, Err(error.into())),
            }
        }
        (measurement, output)
    }

    async fn perform(&self, operation: Operation) -> (Operation, anyhow::Result<Duration>) {
        let started = Instant::now();
        let outcome = match timeout(OPERATION_TIMEOUT, self.run(operation)).await {
            Ok(outcome) => outcome.map(|()| started.elapsed()),
            Err(_) => Err(anyhow::anyhow!(
                "no result within {} s",
                OPERATION_TIMEOUT.as_secs()
            )),
        };
        (operation, outcome)
    }

    async fn run(&self, operation: Operation) -> anyhow::Result<()> {
        let client = &self.account.client;
        match operation {
            Operation::Account => client.fetch_account().await.map(drop)?,
            Operation::Submit => {
                submit(client, vec![self.mailbox.envelope(ENVELOPE_BYTES_MIN)]).await?;
            }
            Operation::Pull => {
                let batch = pull(client, Duration::ZERO).await?;
                client.acknowledge(&store_all(&batch)).await?;
            }
            Operation::Webhook => self.deliver_to_webhook().await?,
            Operation::Download => self.download().await?,
            Operation::SignIn => self.webhook_account.sign_in().await.map(drop)?,
            Operation::Message => self.send_message().await?,
            Operation::Inbox => self.display_inbox().await?,
        }
        Ok(())
    }

    async fn deliver_to_webhook(&self) -> anyhow::Result<()> {
        let envelope = self.webhook_mailbox.envelope(ENVELOPE_BYTES_MIN);
        let delivered = self.endpoint.expect(envelope.id);
        submit(&self.account.client, vec![envelope]).await?;
        delivered.await.context("the endpoint stopped")
    }

    async fn download(&self) -> anyhow::Result<()> {
        let client = &self.account.client;
        let mut body = client
            .fetch_part(&self.blob, 0, &self.fetch_token, Arc::new(|_| ()))
            .await?;
        let mut received = 0;
        while let Some(chunk) = body.next().await? {
            received += chunk.len();
        }
        ensure!(received == BLOB_BYTES, "{received} bytes of a part arrived");
        Ok(())
    }

    async fn send_message(&self) -> anyhow::Result<()> {
        let api = self.sender.api()?;
        let sent = send(&api, &self.connection, "The invoice is **paid**.", &[]).await?;
        loop {
            let message: Message = api.fetch_message(&sent.id).await?;
            let delivery = message.deliveries.first().context("no delivery")?;
            ensure!(
                delivery.status != DeliveryStatus::Failed,
                "a message failed: {:?}",
                delivery.reason
            );
            if delivery.status.progress_rank() >= DeliveryStatus::Delivered.progress_rank() {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn display_inbox(&self) -> anyhow::Result<()> {
        let client = Client::open(self.recipient.directory())?;
        let query = [
            ("direction", "in"),
            ("order", "desc"),
            ("limit", INBOX_ITEMS),
        ];
        let page: Value = client.get(&["v1", "messages"], &query).await?;
        if let Some(id) = page["items"][0]["id"].as_str() {
            client.get::<Value>(&["v1", "messages", id], &()).await?;
        }
        Ok(())
    }
}

/// Registers an account whose webhook is an endpoint of ours, and activates it.
pub(crate) async fn register_webhook(
    relay: &Origin,
    source: Ipv4Addr,
) -> anyhow::Result<(Account, StoringEndpoint)> {
    let endpoint = StoringEndpoint::start().await?;
    let delivery = DeliveryMode::Webhook {
        url: endpoint.url(),
    };
    let account = Account::register(relay, source, delivery).await?;
    endpoint.set_secret(account.registered.webhook_secret.clone());
    let test = account.client.test_webhook().await?;
    ensure!(
        test.ok,
        "the webhook does not become active: {:?}",
        test.steps
    );
    Ok((account, endpoint))
}

/// Uploads a blob of one part.
pub(crate) async fn upload_blob(
    account: &Account,
    bytes: usize,
) -> anyhow::Result<(BlobRef, FetchToken)> {
    let (id, token) = (
        BlobId::from_bytes(random_array()),
        FetchToken::from_bytes(random_array()),
    );
    let now: Timestamp = SystemClock.now();
    let part = Bytes::from(vec![7; bytes]);
    let digest = ContentDigest::of(&part);
    let blob = CreateBlob {
        id,
        size_bytes: bytes as u64,
        fetch_token_hash: Sha256::digest(token.expose()).to_vec().into(),
        expires_at: now.plus(Duration::from_secs(3_600)),
    };
    let client = &account.client;
    client.create_blob(&blob).await?;
    client
        .upload_part(id, 0, part, digest, Arc::new(|_| ()))
        .await?;
    let digest = Sha256::digest(digest.as_bytes()).to_vec().into();
    client.complete_blob(id, &CompleteBlob { digest }).await?;
    let relay = client.origin().clone();
    Ok((BlobRef { relay, id }, token))
}
