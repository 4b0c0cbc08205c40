//! The daemon: what stays in memory while it runs, and the tasks that carry out what the database says is due.
//!
//! | task | waits for | does |
//! |---|---|---|
//! | [`api`](crate::api::serve) | callers on loopback | answers the local API |
//! | [`deliver`] | the relay's calls and pulls | takes envelopes in, says what became of each |
//! | [`post`] | something in the outbox | seals, submits, records the answers |
//! | [`errands`] | chores | opens mailboxes, publishes prekeys |
//! | [`transfer`](crate::daemon::transfer) | files on the move | uploads and downloads parts, deletes blobs that nobody needs |
//! | [`tend`] | the hour | expiries, fresh prekeys, forgetting |
//!
//! Each task reads what is due from the database after every wake-up, so nothing is lost when a wake-up is.

pub mod deliver;
pub mod errands;
mod init;
pub mod post;
mod serve;
mod status;
pub mod tend;
pub mod transfer;
mod vault;
pub mod webhook;

pub use init::{Initialised, NewNode, init};
pub use serve::{ADDRESS_FILE, TOKEN_FILE};
pub(crate) use serve::serve;
pub use status::RelayHealth;

use crate::{
    fault::Fault,
    files::Files,
    me::Me,
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

/// What all tasks share.
pub struct Daemon {
    /// Who this node is.
    pub me: Arc<Me>,
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
    wakes: Wakes,
    latest_event: watch::Sender<i64>,
}

/// How this run was started, for those who ask.
#[derive(Debug, Clone)]
pub struct Running {
    /// The data folder.
    pub folder: PathBuf,
    /// Where the local API listens.
    pub address: std::net::SocketAddr,
    /// The webhook's URL, when the relay calls one.
    pub webhook_url: Option<String>,
    /// Plaintext bytes of all files of one message.
    pub files_bytes_max: u64,
}

#[derive(Default)]
struct Wakes {
    post: Notify,
    errands: Notify,
    upload: Notify,
    download: Notify,
    keeping: Arc<Notify>,
    sealed: Arc<Notify>,
}

impl Daemon {
    /// The time, by our own clock: a relay that lies about its own must not make us forget or expire anything.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time by the relay's clock, as far as it is known: what the relay signs is held to it.
    #[must_use]
    pub fn relay_now(&self) -> Timestamp {
        let offset = self.relay.clock_offset_ms();
        Timestamp::from_millis(self.clock.now().as_millis().saturating_add_signed(offset))
    }

    /// Runs a change, tells those who follow the events, and wakes the tasks that may have something to do because of it.
    ///
    /// # Errors
    /// The job's [`Fault`]; then nothing happened.
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
    ///
    /// # Errors
    /// The job's [`Fault`]; then nothing happened.
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

    /// Runs a reading job.
    ///
    /// # Errors
    /// The job's [`Fault`].
    pub async fn read<T, F>(&self, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        self.store.read(self.now(), job).await
    }

    /// Follows the number of the latest event.
    #[must_use]
    pub fn follow_events(&self) -> watch::Receiver<i64> {
        self.latest_event.subscribe()
    }

    /// Notes that the relay answered; what waited because it did not, or because our clock was ahead, goes at once.
    pub async fn reached(&self) {
        let hurries = self.lock_contact().reached(self.now());
        if hurries {
            tracing::info!(relay = %self.me.relay, "the relay answers; what waited for it goes");
            self.hurry().await;
        }
    }

    /// Notes that the relay did not answer.
    async fn lost(&self, reason: &str) {
        let is_new = self.lock_contact().lost(reason);
        if is_new {
            tracing::warn!(relay = %self.me.relay, reason, "the relay does not answer");
            self.announce_node().await;
        }
    }

    /// Notes that a request was not answered as wished; gives the words for what waits because of it. A relay that asks to
    /// wait has answered: it is not lost, and its next answer to something else hurries nothing.
    pub async fn failed(&self, error: &ClientError) -> String {
        if let ClientError::Problem(problem) = error
            && problem.retry_after_ms.is_some()
        {
            let words = format!("the relay says: {}", problem.code.title());
            tracing::warn!(relay = %self.me.relay, reason = words, "the relay asks to wait");
            self.lock_contact().asked_to_wait(self.now(), &words);
            return words;
        }
        self.lost(&error.to_string()).await;
        format!("the relay does not answer: {error}")
    }

    /// How this node stands with its relay.
    #[must_use]
    pub fn relay_health(&self) -> RelayHealth {
        self.lock_contact().health(self.relay.clock_offset_ms())
    }

    fn lock_contact(&self) -> std::sync::MutexGuard<'_, Contact> {
        self.contact
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn hurry(&self) {
        let hurried = self
            .write(|tx| {
                crate::store::outbox::make_due_now(tx)?;
                crate::store::relay_jobs::make_due_now(tx)?;
                crate::store::orphaned_blobs::make_due_now(tx)?;
                crate::store::files::make_due_now(tx)
            })
            .await;
        if let Err(fault) = hurried {
            tracing::error!(%fault, "what waits for the relay could not be hurried");
        }
        self.announce_node().await;
    }

    async fn announce_node(&self) {
        let announced = self
            .write(|tx| events::add(tx, events::Subject::Node))
            .await;
        if let Err(fault) = announced {
            tracing::error!(%fault, "an event could not be stored");
        }
    }

    fn wake_all(&self) {
        self.wakes.post.notify_one();
        self.wakes.errands.notify_one();
        self.wakes.upload.notify_one();
        self.wakes.download.notify_one();
        self.wakes.keeping.notify_one();
    }

    /// Waits for a wake-up, for `until`, or for the end, whichever comes first.
    async fn rest(&self, wake: &Notify, until: Option<Timestamp>) {
        let pause = until.map_or(LONGEST_REST, |at| at.since(self.now()).min(LONGEST_REST));
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(pause.max(SHORTEST_REST)) => {}
            () = self.shutdown.triggered() => {}
        }
    }

    /// Does nothing for so long, or until the end.
    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shutdown.triggered() => {}
        }
    }

    /// Rests until a file of ours may have to move.
    pub async fn rest_before_upload(&self, until: Option<Timestamp>) {
        self.rest(&self.wakes.upload, until).await;
    }

    /// A file of ours may have to move, or may not any more.
    pub fn wake_upload(&self) {
        self.wakes.upload.notify_one();
    }

    /// Is told that the relay may have to be asked something about a file of ours.
    #[must_use]
    pub fn keeping(&self) -> Arc<Notify> {
        Arc::clone(&self.wakes.keeping)
    }

    /// Is told of each part of a file of ours that is sealed.
    #[must_use]
    pub fn part_sealed(&self) -> Arc<Notify> {
        Arc::clone(&self.wakes.sealed)
    }

    /// Rests until a file of the peer's may have to move.
    pub async fn rest_before_download(&self, until: Option<Timestamp>) {
        self.rest(&self.wakes.download, until).await;
    }

    /// Rests until the relay may have to be asked something about a file of ours.
    pub async fn rest_before_keeping(&self, until: Option<Timestamp>) {
        self.rest(&self.wakes.keeping, until).await;
    }
}

const LONGEST_REST: Duration = Duration::from_secs(60);
const SHORTEST_REST: Duration = Duration::from_millis(20);

/// How long a task waits after a failure: by its own backoff, but never shorter than the relay asks, and while the relay is
/// silent no longer than [`LONGEST_SILENCE`], because a person may be watching. Who asked too often is told exactly when to
/// come again, and a little of chance keeps the tasks apart.
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
        _ => backoff(attempt).min(LONGEST_SILENCE).max(asked),
    }
}

/// While the relay is away nothing waits longer than this.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// What the tasks do about a failure of the relay client: how long to wait.
#[must_use]
pub fn backoff(attempt: u32) -> Duration {
    let random = u64::from_be_bytes(sealpost_service::random_array());
    sealpost_proto::backoff::delay(attempt.saturating_add(1), random)
}

#[cfg(test)]
impl Daemon {
    /// A daemon with a database and a folder of its own, and no task.
    pub(crate) async fn for_test(
        folder: &std::path::Path,
        relay: sealpost_proto::Origin,
        clock: sealpost_service::ManualClock,
    ) -> Arc<Self> {
        use crate::store::{MIGRATIONS, OPTIONS};
        let mut rng = sealpost_service::entropy();
        let database =
            sealpost_sqlite::Database::open(&folder.join("node.db"), MIGRATIONS, OPTIONS).unwrap();
        let data_key = Arc::new(sealpost_e2ee::vault::DataKey::generate(&mut rng));
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let clock: SharedClock = Arc::new(clock);
        let http = sealpost_relay_client::http_client().unwrap();
        Arc::new(Self {
            me: Arc::new(Me {
                relay: relay.clone(),
                ..crate::testing::TestNode::new("Acme", 1).me
            }),
            store: Store::new(database, data_key),
            files: Files::open(folder.join("files")).await.unwrap(),
            progress: Progress::default(),
            early: EarlyUploads::default(),
            relay: RelayClient::new(relay, key, Arc::clone(&clock), http),
            clock,
            running: Running {
                folder: folder.to_owned(),
                address: ([127, 0, 0, 1], 1).into(),
                webhook_url: None,
                files_bytes_max: limits::MESSAGE_FILES_BYTES_MAX,
            },
            shutdown: Shutdown::new(),
            contact: Mutex::new(Contact::default()),
            wakes: Wakes::default(),
            latest_event: watch::channel(0).0,
        })
    }
}
