//! Relay in this process, nodes that sign their own requests, and scripted webhooks.

mod client;
mod node;
mod webhook;

pub(crate) use client::{HttpClient, Reply, json};
pub(crate) use node::{Mailbox, Node};
pub(crate) use webhook::{TestWebhook, WebhookBehavior};

use sealpost_proto::{
    DeliveryId, Origin, Timestamp,
    wire::{
        DeliveredEnvelope, DeliveryBatch, DeliveryMode, DeliveryOutcome, DeliveryResult,
        RegistrationPolicy,
    },
};
use sealpost_relay::{AdminListen, Config, Running, start};
use sealpost_service::{Clock as _, ManualClock, Shutdown};
use std::{
    fs::Permissions, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// Timeout of everything that a test waits for, far longer than a slow and busy machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Loopback address that no other program can get, whether a test listens on it or not.
///
/// The socket is bound without listening: the kernel does not assign its port to others and refuses
/// connections to it.
#[derive(Clone)]
pub(crate) struct ReservedAddress {
    pub(crate) address: SocketAddr,
    _bound: Arc<TcpSocket>,
}

impl ReservedAddress {
    pub(crate) fn new() -> Self {
        let bound = TcpSocket::new_v4().unwrap();
        // Allows a listener on the same address.
        bound.set_reuseaddr(true).unwrap();
        bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self {
            address: bound.local_addr().unwrap(),
            _bound: Arc::new(bound),
        }
    }
}

/// Relay in this process, on a directory that outlives it.
pub(crate) struct Relay {
    pub(crate) clock: ManualClock,
    pub(crate) directory: Arc<TempDir>,
    pub(crate) origin: Origin,
    running: Running,
    shutdown: Shutdown,
    config: Config,
    /// Keeps the origin across restarts.
    address: ReservedAddress,
}

pub(crate) fn config(directory: &Path) -> Config {
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data: directory.to_owned(),
        ..Config::default()
    };
    config.admin.listen = "127.0.0.1:0".parse().unwrap();
    config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    config.registration.policy = RegistrationPolicy::Open;
    // Tests run many relays at a time, each with its own reserve.
    config.storage.reserve_bytes = "8 MiB".parse().unwrap();
    config
}

/// Creates an empty data directory.
pub(crate) fn private_directory() -> TempDir {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(private)
        .tempdir()
        .unwrap()
}

impl Relay {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = Arc::new(private_directory());
        let address = ReservedAddress::new();
        let mut config = Config {
            listen: address.address,
            ..config(directory.path())
        };
        change(&mut config);
        Self::open(directory, config, address, ManualClock::new(START)).await
    }

    async fn open(
        directory: Arc<TempDir>,
        config: Config,
        address: ReservedAddress,
        clock: ManualClock,
    ) -> Self {
        let shutdown = Shutdown::new();
        let running = start(config.clone(), Arc::new(clock.clone()), shutdown.clone())
            .await
            .unwrap();
        let origin = running.origin.clone();
        Self {
            clock,
            directory,
            origin,
            running,
            shutdown,
            config,
            address,
        }
    }

    /// Restarts gracefully on the same directory and address.
    pub(crate) async fn restart(self) -> Self {
        self.restart_while(|| {}).await
    }

    /// Like [`Self::restart`], but runs an action between the shutdown signal and its completion.
    pub(crate) async fn restart_while(self, action: impl FnOnce()) -> Self {
        self.restart_with_action(action, |_| {}).await
    }

    /// Like [`Self::restart`], but with a changed configuration.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        self.restart_with_action(|| {}, change).await
    }

    async fn restart_with_action(
        self,
        action: impl FnOnce(),
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let Self {
            clock,
            directory,
            running,
            shutdown,
            mut config,
            address,
            ..
        } = self;
        change(&mut config);
        shutdown.trigger();
        action();
        running.ended().await;
        // A command that another test is starting can hold a copy of the listener for a moment.
        eventually(|| std::net::TcpListener::bind(config.listen).is_ok()).await;
        Self::open(directory, config, address, clock).await
    }

    /// Restarts gracefully with the same address on another directory.
    pub(crate) async fn restart_on(mut self, directory: TempDir) -> Self {
        self.config.data = directory.path().to_owned();
        let before = std::mem::replace(&mut self.directory, Arc::new(directory));
        let relay = self.restart().await;
        drop(before);
        relay
    }

    /// Stops gracefully and returns the directory.
    pub(crate) async fn stop(self) -> Arc<TempDir> {
        self.shutdown.trigger();
        self.running.ended().await;
        self.directory
    }

    /// Waits until the scheduler has checked for due lanes, by causing a delivery that it has to
    /// start.
    pub(crate) async fn wait_for_scheduler_pass(&self) {
        let hook = TestWebhook::listen().await;
        let (sender, recipient) = (self.node().await, self.node_with_webhook(&hook).await);
        let mailbox = recipient.open_mailbox().await;
        assert!(recipient.test_webhook().await.ok);
        sender.submit_one(&mailbox, 0).await;
        hook.wait_for_calls(1).await;
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        match &self.running.admin {
            AdminListen::Tcp(address) => *address,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns a registered node that is signed in.
    pub(crate) async fn node(&self) -> Node {
        let mut node = Node::new(self);
        node.register(DeliveryMode::Pull).await;
        node.sign_in().await;
        node
    }

    pub(crate) async fn node_with_webhook(&self, hook: &TestWebhook) -> Node {
        let mut node = Node::new(self);
        node.register(DeliveryMode::Webhook {
            url: hook.url.clone(),
        })
        .await;
        node.sign_in().await;
        hook.set_secret(node.secret.clone());
        node
    }
}

pub(crate) fn outcome(id: DeliveryId, outcome: DeliveryOutcome) -> DeliveryResult {
    DeliveryResult { id, outcome }
}

/// Returns `stored` for all items of a batch.
pub(crate) fn stored(batch: &DeliveryBatch) -> Vec<DeliveryResult> {
    let deliveries = batch.deliveries.iter().map(|delivery| delivery.id);
    let ids = deliveries.chain(batch.events.iter().map(|event| event.id));
    ids.map(|id| outcome(id, DeliveryOutcome::Stored)).collect()
}

/// Returns the first byte of each delivery, which [`Node::new_envelope`] sets.
pub(crate) fn fills(deliveries: &[DeliveredEnvelope]) -> Vec<u8> {
    deliveries
        .iter()
        .map(|delivery| delivery.bytes.0[0])
        .collect()
}

/// Fails the test if the work is not finished in time.
pub(crate) async fn within_deadline<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .expect("finished in time")
}

/// Waits until a condition holds.
pub(crate) async fn eventually(holds: impl Fn() -> bool) {
    eventually_some(async || holds().then_some(())).await;
}

/// Repeats an operation until it returns a value.
pub(crate) async fn eventually_some<T>(operation: impl AsyncFn() -> Option<T>) -> T {
    within_deadline(async {
        loop {
            if let Some(value) = operation().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}
