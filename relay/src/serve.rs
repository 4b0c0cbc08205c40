//! Starting a relay, and its end.

use crate::{
    admin::{self, AdminError, AdminListen, AdminListener},
    blobs::{BlobError, Blobs},
    cache::AccountCache,
    config::Config,
    delivery,
    door::{self, Certificates, DoorError},
    health::Health,
    http,
    metrics::Metrics,
    relay::{Memory, Pulses, Relay},
    rules::Rules,
    storage::Storage,
    store::{Store, StoreError},
    sweeper,
    throughput::Minutes,
    wakes::Wakes,
};
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use sealpost_egress::CallError;
use sealpost_proto::{Origin, limits::ACCOUNT_CACHE_ENTRIES_MAX, origin::OriginError};
use sealpost_service::{
    DataFolder, FolderError, SecretError, SharedClock, Shutdown,
    http::{Endpoint, Listener, ListenerCounts, ListenerLimits, serve},
    random_array,
};
use sealpost_signatures::RelaySecret;
use sealpost_sqlite::OpenError;
use std::{fmt, io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};

/// The database in the data folder.
pub(crate) const DATABASE: &str = "relay.db";
/// The folder of blobs in it.
pub(crate) const BLOBS: &str = "blobs";
/// What session keys are made from.
pub(crate) const SECRET: &str = "relay.secret";

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret is there and is none.
    #[error("the file {SECRET} in the data folder is damaged: restore it from a backup")]
    SecretDamaged,
    /// Its database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// Its first commit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its folder of blobs.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The reserve on its disk.
    #[error("the file for the reserve cannot be opened in the data folder: {0}")]
    Reserve(#[source] io::Error),
    /// Its client for webhooks.
    #[error("webhooks cannot be called: {0}")]
    Client(#[from] CallError),
    /// The address.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// As it was given.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The operator's API.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// What lets people in.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// Nodes could not sign for it.
    #[error(
        "the relay listens on {address} and does not know its public address: set --public-url https://…"
    )]
    NoPublicUrl {
        /// Where it listens.
        address: SocketAddr,
    },
    /// The public address is none.
    #[error(transparent)]
    Origin(#[from] OriginError),
}

/// A relay that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the operator's API listens, unless it is off.
    pub admin: Option<AdminListen>,
    /// Where nodes find it.
    pub origin: Origin,
    relay: Arc<Relay>,
    ended: JoinHandle<()>,
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
    /// Where it listens, as a URL.
    #[must_use]
    pub fn address_url(&self) -> String {
        let scheme = if self.relay.certificates.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// Who has been connected.
    #[must_use]
    pub fn connections(&self) -> &ListenerCounts {
        &self.relay.connections
    }

    /// The relay itself.
    pub(crate) fn relay(&self) -> Arc<Relay> {
        Arc::clone(&self.relay)
    }

    /// Returns when the relay has ended in good order after its shutdown.
    pub async fn ended(self) {
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "the relay ended badly");
        }
    }
}

/// A relay that has everything it needs, and does nothing yet.
pub(crate) struct Opened {
    pub(crate) relay: Arc<Relay>,
    admin: Option<AdminListener>,
    listener: Listener,
    socket: TcpListener,
    address: SocketAddr,
    folder: DataFolder,
}

/// Starts a relay: opens its data folder, listens, and serves until the shutdown.
///
/// # Errors
/// [`StartError`], in words for the operator.
pub fn start(
    config: Config,
    clock: SharedClock,
    shutdown: Shutdown,
) -> BoxFuture<'static, Result<Running, StartError>> {
    // Boxed, so that the relay is compiled here once and not again in every program that starts one.
    Box::pin(begin(config, clock, shutdown))
}

async fn begin(
    config: Config,
    clock: SharedClock,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let Opened {
        relay,
        admin,
        listener,
        socket,
        address,
        folder,
    } = open(config, clock, shutdown).await?;
    relay.store.restarted(relay.now()).await?;
    sweeper::sweep(&relay).await?;
    sweeper::clear(&relay).await?;
    let (origin, place) = (
        relay.origin.clone(),
        admin.as_ref().map(|admin| admin.place.clone()),
    );
    tracing::info!(%address, %origin, admin = place.as_ref().map(tracing::field::display), "the relay listens");
    if let Some(certificates) = relay.certificates.clone() {
        tokio::spawn(certificates.tend(Arc::clone(&relay.clock), relay.shutdown.clone()));
    }
    let ended = tokio::spawn(work(
        Arc::clone(&relay),
        listener,
        socket.into(),
        admin,
        folder,
    ));
    Ok(Running {
        address,
        admin: place,
        origin,
        relay,
        ended,
    })
}

/// Opens the data folder and the sockets.
///
/// # Errors
/// [`StartError`], in words for the operator.
pub(crate) async fn open(
    config: Config,
    clock: SharedClock,
    shutdown: Shutdown,
) -> Result<Opened, StartError> {
    let folder = DataFolder::open(&config.data)?;
    let secret = relay_secret(&folder)?;
    let health = Arc::new(Health::default());
    let storage = Storage::open(
        &folder,
        BLOBS,
        config.storage.reserve(),
        Arc::clone(&health),
    )
    .map_err(StartError::Reserve)?;
    let storage = Arc::new(storage);
    let wakes = Arc::<Wakes>::default();
    let store = Store::open(&folder.join(DATABASE), Arc::clone(&health))?
        .with_reserve(Arc::clone(&storage))
        .with_wakes(Arc::clone(&wakes));
    let blobs = Blobs::open(&folder.join(BLOBS))?;
    let rules = Rules::new(&config)?;
    let certificates = Certificates::open(&config, &folder)?;
    let listener = door::listener(&config.listener, certificates.as_ref())?;
    let socket = listen(config.listen).await?;
    let address = socket.local_addr().map_err(|source| StartError::Listen {
        address: config.listen,
        source,
    })?;
    let admin = AdminListener::open(&config.admin.listen, &folder).await?;
    let relay = Arc::new(Relay {
        origin: origin(config.public_url, address)?,
        rules: ArcSwap::from_pointee(rules),
        store,
        blobs,
        secret,
        cache: Arc::new(AccountCache::new(ACCOUNT_CACHE_ENTRIES_MAX)),
        wakes,
        health,
        storage,
        memory: Memory::default(),
        metrics: Metrics::new(clock.now()),
        pulses: Pulses::default(),
        throughput: Minutes::default(),
        started_at: clock.now(),
        folder: folder.path().to_owned(),
        clock,
        connections: listener.counts(),
        certificates,
        shutdown,
    });
    Ok(Opened {
        relay,
        admin,
        listener,
        socket,
        address,
        folder,
    })
}

/// Everything at once, and the end in order: no new requests, calls finished or given back, the database closed.
async fn work(
    relay: Arc<Relay>,
    listener: Listener,
    endpoint: Endpoint,
    admin: Option<AdminListener>,
    folder: DataFolder,
) {
    let router = http::router(Arc::clone(&relay));
    let calls = tokio::spawn(delivery::run(Arc::clone(&relay)));
    let sweeps = tokio::spawn(sweeper::run(Arc::clone(&relay)));
    let requests = listener.serve(endpoint, router, relay.shutdown.clone());
    let operator = serve_operator(&relay, admin);
    let stopping = async {
        relay.shutdown.triggered().await;
        relay.health.stop();
    };
    let watch = relay.storage.watch(&relay.shutdown);
    let ((), (), calls, sweeps, (), ()) =
        tokio::join!(requests, operator, calls, sweeps, stopping, watch);
    for error in [calls.err(), sweeps.err()].into_iter().flatten() {
        tracing::error!(%error, "a task ended badly");
    }
    relay.store.close().await;
    drop(folder);
    let sealpost_sqlite::Stats { commits, jobs } = relay.store.stats();
    tracing::info!(commits, jobs, "the relay has ended");
}

async fn serve_operator(relay: &Arc<Relay>, admin: Option<AdminListener>) {
    if let Some(AdminListener {
        endpoint, guard, ..
    }) = admin
    {
        let router = admin::router(Arc::clone(relay), guard);
        serve(
            endpoint,
            router,
            ListenerLimits::default(),
            relay.shutdown.clone(),
        )
        .await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

fn origin(configured: Option<Origin>, address: SocketAddr) -> Result<Origin, StartError> {
    match configured {
        Some(origin) => Ok(origin),
        None if address.ip().is_loopback() => Ok(Origin::parse(&format!("http://{address}"))?),
        None => Err(StartError::NoPublicUrl { address }),
    }
}

fn relay_secret(folder: &DataFolder) -> Result<RelaySecret, StartError> {
    if let Some(bytes) = folder.read_secret(SECRET)? {
        let bytes = bytes
            .as_slice()
            .try_into()
            .map_err(|_| StartError::SecretDamaged)?;
        return Ok(RelaySecret::from_bytes(bytes));
    }
    let fresh = random_array();
    folder.write_secret(SECRET, &fresh)?;
    Ok(RelaySecret::from_bytes(fresh))
}
