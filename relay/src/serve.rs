//! Start and shutdown of a relay. This module assembles its parts and gives each task and each API
//! the ones it needs.

use crate::{
    accounts::Accounts,
    activity::Activity,
    admin::{self, AdminError, AdminListeners, AdminParts},
    blobs::{BlobError, Blobs},
    config::{AdminListen, Config},
    data_layout::{BLOBS_DIR, DATABASE_FILE, SECRET_FILE},
    delivery::{
        self, DeliveryContext, challenge::WebhookTester, test_slots::WebhookTestSlots,
        webhook::WebhookClient,
    },
    health::Health,
    http::{self, ApiParts},
    listener::{Certificates, ListenerError, create_listener},
    memory::{DeliveryMemory, RequestMemory, ResponseMemory, TransferSlots},
    notifier::Notifier,
    settings::{LiveSettings, Settings, SettingsError},
    storage::Storage,
    store::{Store, StoreError},
    sweeper::Sweeper,
};
use futures_util::future::{BoxFuture, join_all};
use sealpost_proto::{Origin, Timestamp, origin::ParseOriginError};
use sealpost_service::{
    Clock as _, DataDir, DataDirError, SecretError, SharedClock, Shutdown,
    http::{Endpoint, Listener, ListenerCounts, ListenerLimits, serve},
    random_array,
    supervisor::Heartbeat,
};
use sealpost_signatures::RelaySecret;
use sealpost_sqlite::OpenError;
use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinHandle};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// The secret cannot be read or written.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret has the wrong length.
    #[error("the file {SECRET_FILE} in the data directory is damaged: restore it from a backup")]
    SecretDamaged,
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The first commit failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory of blobs cannot be used.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The reserve's file cannot be opened.
    #[error("the reserve file in the data directory cannot be opened: {0}")]
    Reserve(#[source] io::Error),
    /// The HTTP client for webhooks cannot be created.
    #[error("webhooks cannot be called: {0}")]
    Client(#[from] SettingsError),
    /// The relay cannot listen on its address.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Configured address.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The admin API cannot start.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The listener or its certificate is misconfigured.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The public URL is missing, so that nodes could not sign requests.
    #[error(
        "the relay listens on {address} without a known public address: set --public-url https://…"
    )]
    NoPublicUrl {
        /// Address of the listener.
        address: SocketAddr,
    },
    /// The address of the listener is not a valid origin.
    #[error(transparent)]
    Origin(#[from] ParseOriginError),
}

pub struct Running {
    /// Address of the listener.
    pub address: SocketAddr,
    /// Address of the admin API, in addition to its socket in the data directory.
    pub admin: AdminListen,
    /// Public origin of the relay.
    pub origin: Origin,
    connections: Arc<ListenerCounts>,
    certificates: Option<Certificates>,
    settings: LiveSettings,
    liveness: Liveness,
    task: JoinHandle<()>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("address", &self.address)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Returns the address of the listener as a URL.
    #[must_use]
    pub fn address_url(&self) -> String {
        let scheme = if self.certificates.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the connection counts of the listener.
    #[must_use]
    pub fn connections(&self) -> &ListenerCounts {
        &self.connections
    }

    pub(crate) fn settings(&self) -> LiveSettings {
        self.settings.clone()
    }

    pub(crate) fn certificates(&self) -> Option<Certificates> {
        self.certificates.clone()
    }

    pub(crate) fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Returns after the graceful shutdown of the relay.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the relay failed");
        }
    }
}

/// Heartbeats of the tasks that must never hang.
#[derive(Clone)]
pub(crate) struct Liveness {
    /// Beats with each commit of the sweeper.
    store: Arc<Heartbeat>,
    scheduler: Arc<Heartbeat>,
    shutdown: Shutdown,
}

impl Liveness {
    /// Returns whether the store committed and the scheduler ran within this time, or the relay is
    /// shutting down.
    #[must_use]
    pub(crate) fn is_alive(&self, timeout: Duration) -> bool {
        self.shutdown.is_triggered()
            || (self.store.elapsed() < timeout && self.scheduler.elapsed() < timeout)
    }
}

/// Parts of a relay. Each task and each API receives only the ones it needs.
pub(crate) struct Parts {
    pub(crate) origin: Origin,
    secret: RelaySecret,
    directory: PathBuf,
    store: Store,
    accounts: Accounts,
    blobs: Blobs,
    notifier: Arc<Notifier>,
    health: Arc<Health>,
    storage: Arc<Storage>,
    settings: LiveSettings,
    webhooks: WebhookClient,
    request_memory: RequestMemory,
    response_memory: ResponseMemory,
    delivery_memory: DeliveryMemory,
    transfer_slots: TransferSlots,
    activity: Activity,
    liveness: Liveness,
    connections: Arc<ListenerCounts>,
    certificates: Option<Certificates>,
    clock: SharedClock,
    started_at: Timestamp,
    shutdown: Shutdown,
}

impl Parts {
    pub(crate) fn delivery(&self) -> DeliveryContext {
        DeliveryContext {
            store: self.store.clone(),
            accounts: self.accounts.clone(),
            webhooks: self.webhooks.clone(),
            memory: self.delivery_memory.clone(),
            notifier: Arc::clone(&self.notifier),
            activity: self.activity.clone(),
            clock: Arc::clone(&self.clock),
            shutdown: self.shutdown.clone(),
        }
    }

    pub(crate) fn sweeper(&self) -> Sweeper {
        Sweeper {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            notifier: Arc::clone(&self.notifier),
            health: Arc::clone(&self.health),
            heartbeat: Arc::clone(&self.liveness.store),
            settings: self.settings.clone(),
            clock: Arc::clone(&self.clock),
        }
    }

    pub(crate) fn api(&self) -> ApiParts {
        ApiParts {
            origin: self.origin.clone(),
            secret: self.secret.clone(),
            store: self.store.clone(),
            accounts: self.accounts.clone(),
            blobs: self.blobs.clone(),
            notifier: Arc::clone(&self.notifier),
            health: Arc::clone(&self.health),
            storage: Arc::clone(&self.storage),
            settings: self.settings.clone(),
            webhook_tester: WebhookTester {
                store: self.store.clone(),
                accounts: self.accounts.clone(),
                webhooks: self.webhooks.clone(),
                notifier: Arc::clone(&self.notifier),
                clock: Arc::clone(&self.clock),
                slots: WebhookTestSlots::new(),
            },
            request_memory: self.request_memory.clone(),
            response_memory: self.response_memory.clone(),
            transfer_slots: self.transfer_slots.clone(),
            activity: self.activity.clone(),
            clock: Arc::clone(&self.clock),
            shutdown: self.shutdown.clone(),
        }
    }

    pub(crate) fn admin(&self) -> AdminParts {
        AdminParts {
            origin: self.origin.clone(),
            directory: self.directory.clone(),
            store: self.store.clone(),
            accounts: self.accounts.clone(),
            notifier: Arc::clone(&self.notifier),
            health: Arc::clone(&self.health),
            storage: Arc::clone(&self.storage),
            settings: self.settings.clone(),
            activity: self.activity.clone(),
            connections: Arc::clone(&self.connections),
            certificates: self.certificates.clone(),
            clock: Arc::clone(&self.clock),
            started_at: self.started_at,
        }
    }
}

/// Relay with open sockets whose tasks have not started.
pub(crate) struct BoundRelay {
    pub(crate) parts: Parts,
    admin: AdminListeners,
    listener: Listener,
    socket: TcpListener,
    address: SocketAddr,
    directory: DataDir,
}

/// Starts a relay: opens its data directory, listens, and serves until the shutdown.
///
/// # Errors
/// [`StartError`], with a message for the operator.
pub fn start(
    config: Config,
    clock: SharedClock,
    shutdown: Shutdown,
) -> BoxFuture<'static, Result<Running, StartError>> {
    // Boxed, so that the relay is compiled once here and not again in every program that starts
    // one.
    Box::pin(start_unboxed(config, clock, shutdown))
}

async fn start_unboxed(
    config: Config,
    clock: SharedClock,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let bound = open(config, clock, shutdown).await?;
    let Parts {
        store,
        clock,
        origin,
        certificates,
        ..
    } = &bound.parts;
    store.recover_leases(clock.now()).await?;
    let sweeper = bound.parts.sweeper();
    sweeper.sweep().await?;
    sweeper.delete_unfinished_parts().await?;
    let (address, origin) = (bound.address, origin.clone());
    let admin = bound.admin.address.clone();
    tracing::info!(%address, %origin, %admin, "the relay is listening");
    if let Some(certificates) = certificates.clone() {
        let (clock, shutdown) = (Arc::clone(clock), bound.parts.shutdown.clone());
        tokio::spawn(certificates.maintain(clock, shutdown));
    }
    Ok(Running {
        address,
        admin,
        origin,
        connections: Arc::clone(&bound.parts.connections),
        certificates: certificates.clone(),
        settings: bound.parts.settings.clone(),
        liveness: bound.parts.liveness.clone(),
        task: tokio::spawn(run(bound)),
    })
}

/// Opens the data directory and the sockets.
pub(crate) async fn open(
    config: Config,
    clock: SharedClock,
    shutdown: Shutdown,
) -> Result<BoundRelay, StartError> {
    let directory = DataDir::open(&config.data)?;
    let secret = load_secret(&directory)?;
    let health = Arc::new(Health::default());
    let reserve = config.storage.reserve();
    let storage = Storage::open(&directory, BLOBS_DIR, reserve, Arc::clone(&health))
        .map_err(StartError::Reserve)?;
    let storage = Arc::new(storage);
    let notifier = Arc::<Notifier>::default();
    let store = Store::open(&directory.join(DATABASE_FILE), Arc::clone(&health))?
        .with_reserve(Arc::clone(&storage))
        .with_notifier(Arc::clone(&notifier));
    let blobs = Blobs::open(&directory.join(BLOBS_DIR))?;
    let settings = LiveSettings::new(Settings::new(&config)?);
    let certificates = Certificates::open(&config, &directory)?;
    let listener = create_listener(&config.listener, certificates.as_ref())?;
    let socket = listen(config.listen).await?;
    let address = socket.local_addr().map_err(|source| StartError::Listen {
        address: config.listen,
        source,
    })?;
    let admin = AdminListeners::open(&config.admin.listen, &directory).await?;
    let accounts = Accounts::new(store.clone(), Arc::clone(&notifier), Arc::clone(&clock));
    let parts = Parts {
        origin: determine_origin(config.public_url, address)?,
        secret,
        directory: directory.path().to_owned(),
        accounts,
        store,
        blobs,
        notifier,
        health,
        storage,
        webhooks: WebhookClient {
            settings: settings.clone(),
            clock: Arc::clone(&clock),
        },
        settings,
        request_memory: RequestMemory::default(),
        response_memory: ResponseMemory::default(),
        delivery_memory: DeliveryMemory::default(),
        transfer_slots: TransferSlots::default(),
        activity: Activity::new(clock.now()),
        liveness: Liveness {
            store: Arc::default(),
            scheduler: Arc::default(),
            shutdown: shutdown.clone(),
        },
        connections: listener.counts(),
        certificates,
        started_at: clock.now(),
        clock,
        shutdown,
    };
    Ok(BoundRelay {
        parts,
        admin,
        listener,
        socket,
        address,
        directory,
    })
}

/// Runs all tasks until the shutdown. The order of the shutdown is: no new requests, calls finished
/// or their leases released, database closed.
async fn run(bound: BoundRelay) {
    let BoundRelay {
        parts,
        admin,
        listener,
        socket,
        directory,
        ..
    } = bound;
    let Parts {
        store,
        health,
        storage,
        liveness,
        shutdown,
        ..
    } = &parts;
    let router = http::router(parts.api());
    let scheduler = Arc::clone(&liveness.scheduler);
    let deliveries = tokio::spawn(delivery::run(Arc::new(parts.delivery()), scheduler));
    let sweeps = tokio::spawn(parts.sweeper().run(shutdown.clone()));
    let requests = listener.serve(Endpoint::from(socket), router, shutdown.clone());
    let admin = serve_admin(parts.admin(), admin, shutdown.clone());
    let stopping = async {
        shutdown.triggered().await;
        health.set_stopping();
    };
    let ((), (), deliveries, sweeps, (), ()) = tokio::join!(
        requests,
        admin,
        deliveries,
        sweeps,
        stopping,
        storage.monitor(shutdown)
    );
    for error in [deliveries.err(), sweeps.err()].into_iter().flatten() {
        tracing::error!(%error, "a task failed");
    }
    store.close().await;
    drop(directory);
    let sealpost_sqlite::Stats { commits, jobs } = store.stats();
    tracing::info!(commits, jobs, "the relay has shut down");
}

async fn serve_admin(parts: AdminParts, listeners: AdminListeners, shutdown: Shutdown) {
    let Some((_, guard)) = listeners.endpoints.first() else {
        return;
    };
    let router = admin::router(parts, guard.clone());
    let serve_endpoint = |(endpoint, guard)| {
        let router = admin::check_hosts(router.clone(), guard);
        serve(
            endpoint,
            router,
            ListenerLimits::default(),
            shutdown.clone(),
        )
    };
    join_all(listeners.endpoints.into_iter().map(serve_endpoint)).await;
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

fn determine_origin(configured: Option<Origin>, address: SocketAddr) -> Result<Origin, StartError> {
    match configured {
        Some(origin) => Ok(origin),
        None if address.ip().is_loopback() => Ok(Origin::parse(&format!("http://{address}"))?),
        None => Err(StartError::NoPublicUrl { address }),
    }
}

fn load_secret(directory: &DataDir) -> Result<RelaySecret, StartError> {
    if let Some(bytes) = directory.read_secret(SECRET_FILE)? {
        let bytes = bytes
            .as_slice()
            .try_into()
            .map_err(|_| StartError::SecretDamaged)?;
        return Ok(RelaySecret::from_bytes(bytes));
    }
    let generated = random_array();
    directory.write_secret(SECRET_FILE, &generated)?;
    Ok(RelaySecret::from_bytes(generated))
}
