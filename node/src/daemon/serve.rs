//! `sealpost serve`: opens the data directory, assembles the parts of the node, and runs the tasks
//! until Ctrl-C.

use super::{
    Database, HomeRelay, Ingest, NodeParts, RunInfo, ingest, maintenance,
    registration::{activate_webhook, register},
    relay_jobs, submission,
    transfer::{self, EarlyUploads},
    vault,
};
use crate::{
    config::Config,
    files::Files,
    identity::NodeIdentity,
    store::{
        MIGRATIONS, OPTIONS, Store, events, files,
        settings::{self, Settings},
    },
};
use anyhow::{Context as _, bail};
use axum::Router;
use ed25519_dalek::SigningKey;
use sealpost_e2ee::vault::DataKey;
use sealpost_proto::{WebhookSecret, b64, limits, wire::DeliveryMode};
use sealpost_relay_client::{RelayClient, build_http_client};
use sealpost_service::{
    DataDir, SharedClock, Shutdown, SystemClock,
    http::{self, ListenerLimits},
    logs, supervisor,
};
use sealpost_sqlite::OpenError;
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};
use zeroize::Zeroizing;

/// Name of the file that holds the address of the local API, as `host:port`.
pub(crate) const ADDRESS_FILE: &str = "api-address";
/// Name of the file that holds the token of the local API, mode 0600.
pub(crate) const TOKEN_FILE: &str = "api-token";

const DATABASE_FILE: &str = "node.db";
const FILES_DIR: &str = "files";

/// Routers of the HTTP interfaces. They belong to a layer above the daemon, so the caller of
/// [`serve`] passes them in.
#[derive(Clone, Copy)]
pub(crate) struct Routers {
    /// Builds the router of the local API from the parts of the node and the API's token.
    pub(crate) local_api: fn(NodeParts, &str) -> Router,
    /// Builds the router of the webhook that the relay calls.
    pub(crate) webhook: fn(Ingest, WebhookSecret) -> Router,
}

/// Runs the node until Ctrl-C or SIGTERM.
///
/// # Errors
/// The directory has no node or is in use, its database is newer than this program, or an address
/// is taken.
pub(crate) async fn serve(data: &Path, config: Config, routers: Routers) -> anyhow::Result<()> {
    if !data.is_dir() {
        bail!(
            "there is no node in {}; create one with `sealpost init`",
            data.display()
        );
    }
    let directory = DataDir::open(data)?;
    let data_key = vault::open(&directory)?;
    logs::init(config.log.format, &config.log.filter)?;
    let store = open_store(&directory, data_key)?;
    let bound = open(store, &directory, &config, Shutdown::on_signals()?).await?;
    let database = bound.parts.database.clone();
    let known = |file| database.read(move |tx| files::has_disk_file(tx, file));
    bound.parts.files.remove_leftovers(known).await?;
    let NodeIdentity { name, relay, .. } = &*bound.parts.identity;
    let address = bound.parts.run_info.address;
    tracing::info!(name, %address, %relay, "the node is running");
    let ready = format!("{name} at {relay}");
    let tasks = run(bound, routers);
    supervisor::notify_ready(&ready);
    // The result is ignored: a node whose disk is full must not be restarted.
    let is_alive = async |_| {
        let _ = database.write_without_wake_up(|_| Ok(())).await;
        true
    };
    tokio::select! {
        () = tasks => {}
        () = supervisor::run_watchdog(is_alive) => {}
    }
    database.close().await;
    tracing::info!("the node has shut down");
    Ok(())
}

/// Opens the database of a data directory, and creates it if it does not exist.
pub(super) fn open_store(directory: &DataDir, data_key: DataKey) -> Result<Store, OpenError> {
    let path = directory.join(DATABASE_FILE);
    let database = sealpost_sqlite::Database::open(&path, MIGRATIONS, OPTIONS)?;
    Ok(Store::new(database, Arc::new(data_key)))
}

/// Node with open listeners whose tasks have not started.
struct BoundNode {
    parts: NodeParts,
    settings: Settings,
    api_listener: TcpListener,
    api_token: Zeroizing<String>,
    webhook_listener: Option<TcpListener>,
}

async fn open(
    store: Store,
    directory: &DataDir,
    config: &Config,
    shutdown: Shutdown,
) -> anyhow::Result<BoundNode> {
    let clock: SharedClock = Arc::new(SystemClock);
    let (settings, latest_event) = store
        .write(clock.now(), |tx| {
            settings::increment_generation(tx)?;
            Ok((settings::load(tx)?, events::find_latest_id(tx)?))
        })
        .await?;
    let settings =
        settings.context("the data directory holds no node; create one with `sealpost init`")?;
    let identity = NodeIdentity::from_settings(&settings, config.files.download.0)?;
    let api_listener = listen(settings.listen).await?;
    let address = api_listener.local_addr()?;
    let api_token = write_api_access(directory, address)?;
    let (webhook_listener, webhook_url) = match (&settings.delivery, settings.webhook_listen) {
        (DeliveryMode::Webhook { url }, Some(address)) => {
            (Some(listen(address).await?), Some(url.clone()))
        }
        _ => (None, None),
    };
    let database = Database::new(store, Arc::clone(&clock), latest_event);
    let client = create_relay_client(&settings, &clock)?;
    let relay = HomeRelay::new(client, identity.relay.clone(), database.clone());
    let message_files_bytes_max = config
        .files
        .message_size_max
        .bytes()
        .min(limits::MESSAGE_FILES_BYTES_MAX);
    let parts = NodeParts {
        identity: Arc::new(identity),
        relay: Arc::new(relay),
        files: Files::open(directory.join(FILES_DIR))
            .await
            .context("opening the directory of sealed files")?,
        progress: Arc::default(),
        early_uploads: Arc::new(EarlyUploads::new(database.clone(), message_files_bytes_max)),
        database,
        run_info: Arc::new(RunInfo {
            directory: directory.path().to_owned(),
            address,
            webhook_url,
            message_files_bytes_max,
        }),
        clock,
        shutdown,
    };
    Ok(BoundNode {
        parts,
        settings,
        api_listener,
        api_token,
        webhook_listener,
    })
}

fn create_relay_client(settings: &Settings, clock: &SharedClock) -> anyhow::Result<RelayClient> {
    let seed = <[u8; 32]>::try_from(settings.account_key.as_slice())
        .context("the account key is damaged")?;
    Ok(RelayClient::new(
        settings.relay.clone(),
        SigningKey::from_bytes(&Zeroizing::new(seed)),
        Arc::clone(clock),
        build_http_client()?,
    ))
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listening on {address}: stop what uses it, or choose another address")
    })
}

/// Writes a new token and the address of the local API to the data directory, for clients on this
/// machine.
fn write_api_access(directory: &DataDir, address: SocketAddr) -> anyhow::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(sealpost_service::random_array::<32>());
    let token = Zeroizing::new(b64::encode(&*bytes));
    directory.write_secret(TOKEN_FILE, token.as_bytes())?;
    directory.write_secret(ADDRESS_FILE, address.to_string().as_bytes())?;
    Ok(token)
}

/// Starts all tasks; those that need the relay wait for the registration, and returns a future that runs until all tasks have ended.
fn run(bound: BoundNode, routers: Routers) -> impl Future<Output = ()> {
    let BoundNode {
        parts,
        settings,
        api_listener,
        api_token,
        webhook_listener,
    } = bound;
    let shutdown = parts.shutdown.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(maintenance::run(
        parts.database.clone(),
        parts.files.clone(),
        Arc::clone(&parts.identity),
        parts.worker(),
    ));
    let webhook = webhook_listener.map(|listener| (listener, routers.webhook));
    tasks.spawn(run_relay_tasks(parts.clone(), settings, webhook));
    let router = (routers.local_api)(parts, &api_token);
    tasks.spawn(http::serve(
        api_listener,
        router,
        ListenerLimits::default(),
        shutdown.clone(),
    ));
    wait_for_all(tasks, shutdown)
}

/// Builds the router that receives the relay's webhook calls.
type WebhookRouter = fn(Ingest, WebhookSecret) -> Router;

/// Runs the tasks that need the relay, once the account is registered. That may take until the
/// relay is reachable.
async fn run_relay_tasks(
    parts: NodeParts,
    settings: Settings,
    webhook: Option<(TcpListener, WebhookRouter)>,
) {
    let (database, relay) = (parts.database.clone(), Arc::clone(&parts.relay));
    let Some(secret) = register(database, relay, &settings, &parts.worker()).await else {
        return;
    };
    let mut tasks = JoinSet::new();
    let has_webhook = webhook.is_some();
    if let Some((listener, router)) = webhook {
        tasks.spawn(http::serve(
            listener,
            router(parts.ingest(), secret),
            ListenerLimits::default(),
            parts.shutdown.clone(),
        ));
        tasks.spawn(activate_webhook(parts.relay.client.clone(), parts.worker()));
    }
    tasks.spawn(submission::run(
        parts.database.clone(),
        Arc::clone(&parts.relay),
        Arc::clone(&parts.identity),
        parts.worker(),
    ));
    tasks.spawn(relay_jobs::run(
        parts.database.clone(),
        Arc::clone(&parts.relay),
        Arc::clone(&parts.identity),
        parts.worker(),
    ));
    let transfers = parts.transfers();
    tasks.spawn(transfer::upload(Arc::clone(&transfers), parts.worker()));
    tasks.spawn(transfer::download(Arc::clone(&transfers), parts.worker()));
    tasks.spawn(transfer::maintain_blobs(transfers, parts.worker()));
    tasks.spawn(ingest::pull(parts.ingest(), has_webhook, parts.worker()));
    wait_for_all(tasks, parts.shutdown).await;
}

/// Waits for the end of all tasks. A panic of one of them shuts the node down.
async fn wait_for_all(mut tasks: JoinSet<()>, shutdown: Shutdown) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task panicked; the node shuts down");
            shutdown.trigger();
        }
    }
}
