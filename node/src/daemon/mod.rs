//! The daemon: the state in memory while the node runs, and the tasks that do what the database
//! lists as due.
//!
//! | task | waits for | does |
//! |---|---|---|
//! | [`ingest`] | the relay's calls and pulls | stores envelopes and reports their outcomes |
//! | [`submission`] | the outbox | seals, submits and records the responses |
//! | [`relay_jobs`] | relay jobs | opens mailboxes, publishes prekeys |
//! | [`transfer`] | files | uploads and downloads parts, deletes blobs that nobody needs |
//! | [`maintenance`] | the clock | expires invites, renews prekeys, deletes old rows |
//!
//! Each task reads what is due from the database after every wake-up, so a lost wake-up loses
//! nothing. They share one loop, [`worker::run`].

pub mod ingest;
mod init;
pub mod maintenance;
mod relay_jobs;
mod serve;
mod status;
mod submission;
pub mod transfer;
mod vault;
mod webhook;
mod worker;

pub use init::{Initialised, NewNode, init};
pub(crate) use serve::serve;
pub use serve::{ADDRESS_FILE, TOKEN_FILE};
pub use status::RelayHealth;

use crate::{
    fault::Fault,
    files::Files,
    identity::NodeIdentity,
    progress::Progress,
    store::{Store, Tx, events},
};
use sealpost_proto::{ErrorCode, Timestamp, limits};
use sealpost_relay_client::{ClientError, RelayClient};
use sealpost_service::{SharedClock, Shutdown};
use status::Contact;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use transfer::EarlyUploads;

/// The state that all tasks share.
pub struct Daemon {
    /// Who this node is.
    pub identity: Arc<NodeIdentity>,
    /// The database.
    pub store: Store,
    /// Sealed files on disk.
    pub files: Files,
    /// Which of them move.
    pub progress: Progress,
    /// Which go out before a message needs them.
    pub early: EarlyUploads,
    /// The home relay.
    pub relay: RelayClient,
    /// The clock.
    pub clock: SharedClock,
    /// How this run was started.
    pub running: Running,
    /// Ends the tasks.
    pub shutdown: Shutdown,
    contact: Mutex<Contact>,
    notifier: Notifier,
    latest_event: watch::Sender<i64>,
    registration: watch::Sender<Registration>,
}

/// How this run was started, for those who ask.
#[derive(Debug, Clone)]
pub struct Running {
    /// The data directory.
    pub directory: PathBuf,
    /// Where the local API listens.
    pub address: std::net::SocketAddr,
    /// The webhook's URL, when the relay calls one.
    pub webhook_url: Option<String>,
    /// Plaintext bytes of all files of one message.
    pub files_bytes_max: u64,
}

/// Registration of this node's account, which runs in the background after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registration {
    /// No attempt has ended yet.
    Pending,
    /// The last attempt failed; it is retried.
    Failed,
    Done,
}

/// Wakes the tasks after changes.
#[derive(Default)]
struct Notifier {
    submission: Notify,
    relay_jobs: Notify,
    upload: Notify,
    download: Notify,
    blob_maintenance: Arc<Notify>,
    sealed: Arc<Notify>,
}

impl Daemon {
    /// Waits for the end of the first attempt to register with the relay, up to the given time, and
    /// returns whether the account is registered. The relay refuses other requests until then.
    pub(crate) async fn wait_for_registration(&self, timeout: Duration) -> bool {
        let mut registration = self.registration.subscribe();
        let attempted = registration.wait_for(|state| *state != Registration::Pending);
        tokio::time::timeout(timeout, attempted)
            .await
            .is_ok_and(|state| state.is_ok_and(|state| *state == Registration::Done))
    }

    /// Returns the time of our own clock: a relay with a wrong clock must not make us expire or
    /// delete anything.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the time of the relay's clock as far as it is known, to check what the relay signs.
    #[must_use]
    pub fn relay_now(&self) -> Timestamp {
        let offset = self.relay.clock_offset_ms();
        Timestamp::from_millis(self.clock.now().as_millis().saturating_add_signed(offset))
    }

    /// Runs a change, notifies the subscribers of events, and wakes all tasks.
    pub async fn write<T, F>(&self, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let value = self.commit(job).await?;
        self.wake_all();
        Ok(value)
    }

    /// Runs a change of a task's own round, which wakes no task.
    pub async fn commit<T, F>(&self, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let job = move |tx: &mut Tx<'_>| {
            let value = job(tx)?;
            Ok((value, events::latest(tx)?))
        };
        let (value, latest) = self.store.write(self.now(), job).await?;
        self.latest_event.send_if_modified(|seen| {
            let is_new = latest > *seen;
            *seen = (*seen).max(latest);
            is_new
        });
        Ok(value)
    }

    /// Runs a job that only reads.
    pub async fn read<T, F>(&self, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        self.store.read(self.now(), job).await
    }

    /// Subscribes to the number of the latest event.
    #[must_use]
    pub fn subscribe_events(&self) -> watch::Receiver<i64> {
        self.latest_event.subscribe()
    }

    /// Records a response of the relay. What waited because there was none, or because our clock was
    /// ahead, becomes due now.
    pub async fn reached(&self) {
        let is_back = self.lock_contact().reached(self.now());
        if is_back {
            tracing::info!(relay = %self.identity.relay, "the relay responds; what waited for it is due now");
            self.make_due_now().await;
        }
    }

    /// Records that the relay did not respond.
    async fn lost(&self, reason: &str) {
        let is_new = self.lock_contact().lost(reason);
        if is_new {
            tracing::warn!(relay = %self.identity.relay, reason, "the relay does not respond");
            self.announce_node().await;
        }
    }

    /// Records a failed request and returns the reason for what waits because of it. A relay that
    /// asks to wait has responded: it is not lost, and its next response makes nothing due.
    pub async fn failed(&self, error: &ClientError) -> String {
        if let ClientError::Problem(problem) = error
            && problem.retry_after_ms.is_some()
        {
            let reason = format!("the relay says: {}", problem.code.title());
            tracing::warn!(relay = %self.identity.relay, reason, "the relay asks to wait");
            self.lock_contact().asked_to_wait(self.now(), &reason);
            return reason;
        }
        self.lost(&error.to_string()).await;
        format!("the relay does not respond: {error}")
    }

    /// Returns whether the relay responds, and when it last did.
    #[must_use]
    pub fn relay_health(&self) -> RelayHealth {
        self.lock_contact().health(self.relay.clock_offset_ms())
    }

    fn lock_contact(&self) -> std::sync::MutexGuard<'_, Contact> {
        self.contact
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn make_due_now(&self) {
        let changed = self
            .write(|tx| {
                crate::store::outbox::make_due_now(tx)?;
                crate::store::relay_jobs::make_due_now(tx)?;
                crate::store::orphaned_blobs::make_due_now(tx)?;
                crate::store::files::make_due_now(tx)
            })
            .await;
        if let Err(fault) = changed {
            tracing::error!(%fault, "cannot make due what waits for the relay");
        }
        self.announce_node().await;
    }

    async fn announce_node(&self) {
        let announced = self
            .write(|tx| events::add(tx, events::Subject::Node))
            .await;
        if let Err(fault) = announced {
            tracing::error!(%fault, "cannot store an event");
        }
    }

    fn wake_all(&self) {
        self.notifier.submission.notify_one();
        self.notifier.relay_jobs.notify_one();
        self.notifier.upload.notify_one();
        self.notifier.download.notify_one();
        self.notifier.blob_maintenance.notify_one();
    }

    /// Waits for a wake-up, for `until` or for shutdown, whichever comes first.
    async fn wait(&self, wake: &Notify, until: Option<Timestamp>) {
        let pause = until.map_or(IDLE_WAIT_MAX, |at| at.since(self.now()).min(IDLE_WAIT_MAX));
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(pause.max(IDLE_WAIT_MIN)) => {}
            () = self.shutdown.triggered() => {}
        }
    }

    /// Waits for a fixed time or until shutdown.
    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shutdown.triggered() => {}
        }
    }

    /// Waits until an upload may be due.
    pub async fn wait_for_uploads(&self, until: Option<Timestamp>) {
        self.wait(&self.notifier.upload, until).await;
    }

    /// Wakes the uploads, because one may be due or cancelled.
    pub fn wake_upload(&self) {
        self.notifier.upload.notify_one();
    }

    /// Returns the wake-up of the maintenance of blobs.
    #[must_use]
    pub fn blob_maintenance(&self) -> Arc<Notify> {
        Arc::clone(&self.notifier.blob_maintenance)
    }

    /// Returns the wake-up for each part that is sealed.
    #[must_use]
    pub fn part_sealed(&self) -> Arc<Notify> {
        Arc::clone(&self.notifier.sealed)
    }

    /// Waits until a download may be due.
    pub async fn wait_for_downloads(&self, until: Option<Timestamp>) {
        self.wait(&self.notifier.download, until).await;
    }

    /// Waits until the maintenance of blobs may be due.
    pub async fn wait_for_blob_maintenance(&self, until: Option<Timestamp>) {
        self.wait(&self.notifier.blob_maintenance, until).await;
    }
}

const IDLE_WAIT_MAX: Duration = Duration::from_secs(60);
const IDLE_WAIT_MIN: Duration = Duration::from_millis(20);

/// Returns how long a task waits after a failure: its backoff, but never less than the relay asks
/// for. While the relay is silent it is at most [`SILENCE_WAIT_MAX`], because a person may be
/// waiting. A rate limit says exactly when to retry; a little jitter keeps the tasks apart.
#[must_use]
pub fn wait_after(error: &ClientError, attempt: u32) -> Duration {
    let asked = error
        .retry_after()
        .unwrap_or_default()
        .min(limits::RETRY_AFTER_MAX);
    match error {
        ClientError::Problem(problem) if problem.code == ErrorCode::RateLimited => {
            asked.saturating_add(backoff(0) / 10)
        }
        _ => backoff(attempt).min(SILENCE_WAIT_MAX).max(asked),
    }
}

/// Maximum wait of anything while the relay is silent.
pub const SILENCE_WAIT_MAX: Duration = Duration::from_secs(60);

/// Returns the backoff of a task after `attempt` failures in a row.
#[must_use]
pub fn backoff(attempt: u32) -> Duration {
    let random = u64::from_be_bytes(sealpost_service::random_array());
    sealpost_proto::backoff::delay(attempt.saturating_add(1), random)
}

#[cfg(test)]
impl Daemon {
    /// A daemon with a database and a directory of its own, and no task.
    pub(crate) async fn for_test(
        directory: &std::path::Path,
        relay: sealpost_proto::Origin,
        clock: sealpost_service::ManualClock,
    ) -> Arc<Self> {
        use crate::store::{MIGRATIONS, OPTIONS};
        let mut rng = sealpost_service::entropy();
        let database =
            sealpost_sqlite::Database::open(&directory.join("node.db"), MIGRATIONS, OPTIONS)
                .unwrap();
        let data_key = Arc::new(sealpost_e2ee::vault::DataKey::generate(&mut rng));
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let clock: SharedClock = Arc::new(clock);
        let http = sealpost_relay_client::build_http_client().unwrap();
        Arc::new(Self {
            identity: Arc::new(NodeIdentity {
                relay: relay.clone(),
                ..crate::testing::TestNode::new("Acme", 1).identity
            }),
            store: Store::new(database, data_key),
            files: Files::open(directory.join("files")).await.unwrap(),
            progress: Progress::default(),
            early: EarlyUploads::default(),
            relay: RelayClient::new(relay, key, Arc::clone(&clock), http),
            clock,
            running: Running {
                directory: directory.to_owned(),
                address: ([127, 0, 0, 1], 1).into(),
                webhook_url: None,
                files_bytes_max: limits::MESSAGE_FILES_BYTES_MAX,
            },
            shutdown: Shutdown::new(),
            contact: Mutex::new(Contact::default()),
            notifier: Notifier::default(),
            latest_event: watch::channel(0).0,
            registration: watch::channel(Registration::Done).0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_service::ManualClock;

    async fn unregistered() -> (tempfile::TempDir, Arc<Daemon>) {
        let directory = tempfile::tempdir().unwrap();
        let relay = sealpost_proto::Origin::parse("http://127.0.0.1:1").unwrap();
        let clock = ManualClock::new(Timestamp::from_millis(1_766_000_000_000));
        let daemon = Daemon::for_test(directory.path(), relay, clock).await;
        daemon.registration.send_replace(Registration::Pending);
        (directory, daemon)
    }

    #[tokio::test]
    async fn requests_wait_for_registration() {
        let (_directory, daemon) = unregistered().await;
        let waiting = {
            let daemon = Arc::clone(&daemon);
            tokio::spawn(async move { daemon.wait_for_registration(Duration::from_secs(60)).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        daemon.registration.send_replace(Registration::Done);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn failed_registration_ends_the_wait() {
        let (_directory, daemon) = unregistered().await;
        daemon.registration.send_replace(Registration::Failed);
        assert!(!daemon.wait_for_registration(Duration::from_secs(60)).await);
        daemon.registration.send_replace(Registration::Pending);
        assert!(!daemon.wait_for_registration(Duration::ZERO).await);
    }
}
