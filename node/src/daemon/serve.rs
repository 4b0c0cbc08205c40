//! `sealpost serve`: opens the data directory, assembles the components of the node, and runs the
//! tasks until Ctrl-C or SIGTERM.

use super::{
    Database, HomeRelay, Ingest, NodeComponents, RunInfo,
    backup::{self, schedule::BackupSchedule},
    checkpoint_file::CheckpointFile,
    checkpoints::Checkpoints,
    error::DaemonError,
    ingest, maintenance,
    registration::{keep_registered, keep_webhook_active},
    relay_jobs, restored, submission,
    transfer::{self, EarlyUploads},
    unknown_mailboxes::{self, UnknownMailboxes},
    vault::{self, KeySecrets},
};
use crate::{
    config::Config,
    files::Files,
    hex,
    identity::NodeIdentity,
    store::{
        MIGRATIONS, OPTIONS, Store, Tx, events, files, restoration,
        settings::{self, Settings},
    },
};
use anyhow::Context as _;
use axum::Router;
use ed25519_dalek::SigningKey;
use sealpost_e2ee::vault::DataKey;
use sealpost_proto::{b64, limits, wire::DeliveryMode};
use sealpost_relay_client::{RelayClient, build_http_client};
use sealpost_service::{
    Clock as _, DataDir, SharedClock, Shutdown, SystemClock,
    http::{self, Endpoint, ListenerLimits, SocketAccess},
    logs, read_ca_file, supervisor,
};
use sealpost_sqlite::OpenError;
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};
use zeroize::Zeroizing;

/// Name of the file that holds the address of the local API, as `host:port`.
const ADDRESS_FILE: &str = "api-address";
/// Name of the file that holds the token of the local API, mode 0600.
pub(crate) const TOKEN_FILE: &str = "api-token";
/// Name of the Unix socket of the local API, mode 0600.
pub(crate) const SOCKET_FILE: &str = "api.sock";

pub(super) const DATABASE_FILE: &str = "node.db";
pub(super) const FILES_DIR: &str = "files";

/// Routers of the HTTP interfaces. They belong to a layer above the daemon, so the caller of
/// [`serve`] passes them in.
#[derive(Clone, Copy)]
pub(crate) struct Routers {
    /// Builds the routers of the local API from the components of the node and the API's token.
    pub(crate) local_api: fn(NodeComponents, &str) -> LocalApiRouters,
    /// Builds the router of the webhook that the relay calls.
    pub(crate) webhook: WebhookRouter,
}

/// Routers of the local API, which differ in their checks of `Host`.
pub(crate) struct LocalApiRouters {
    pub(crate) tcp: Router,
    pub(crate) unix_socket: Router,
}

/// Runs the node until Ctrl-C or SIGTERM.
///
/// # Errors
/// The directory has no node or is in use, its data key cannot be opened, its database is newer
/// than this program, or an address is taken.
pub(crate) async fn serve(
    data: &Path,
    config: Config,
    secrets: &dyn KeySecrets,
    registration_token: Option<Zeroizing<String>>,
    routers: Routers,
) -> anyhow::Result<()> {
    if !data.is_dir() {
        return Err(DaemonError::no_node(data).into());
    }
    let directory = DataDir::open(data)?;
    let data_key = vault::open_locked(&directory, secrets)?;
    logs::init(config.log.format, &config.log.filter)?;
    let store = open_store(&directory, data_key.clone())?;
    if let Some(token) = registration_token {
        let stored = move |tx: &mut Tx<'_>| settings::set_registration_token(tx, &token);
        store.write(SystemClock.now(), stored).await?;
    }
    let shutdown = Shutdown::on_signals()?;
    let bound = open(store, data_key, &directory, &config, shutdown).await?;
    let database = bound.components.database.clone();
    let known = |file| database.read(move |tx| files::has_disk_file(tx, file));
    bound.components.files.remove_leftovers(known).await?;
    restored::record_missing_files(&database, &bound.components.files).await?;
    let NodeIdentity { name, relay, .. } = &*bound.components.identity;
    let address = bound.components.run_info.address;
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
    open_store_at(&directory.join(DATABASE_FILE), data_key)
}

/// Opens a database, and creates it if it does not exist.
pub(super) fn open_store_at(path: &Path, data_key: DataKey) -> Result<Store, OpenError> {
    let database = sealpost_sqlite::Database::open(path, MIGRATIONS, OPTIONS)?;
    Ok(Store::new(database, Arc::new(data_key)))
}

/// Node with open listeners whose tasks have not started.
struct BoundNode {
    components: NodeComponents,
    settings: Settings,
    checkpoints: Checkpoints,
    api_listener: TcpListener,
    api_socket: Endpoint,
    api_token: Zeroizing<String>,
    webhook_listener: Option<TcpListener>,
    backup_schedule: Option<BackupSchedule>,
}

async fn open(
    store: Store,
    data_key: DataKey,
    directory: &DataDir,
    config: &Config,
    shutdown: Shutdown,
) -> anyhow::Result<BoundNode> {
    let clock: SharedClock = Arc::new(SystemClock);
    let (settings, latest_event) = store
        .write(clock.now(), |tx| {
            settings::increment_start_count(tx)?;
            restoration::begin(tx)?;
            Ok((settings::load(tx)?, events::find_latest_id(tx)?))
        })
        .await?;
    let settings = settings.ok_or_else(|| DaemonError::no_node(directory.path()))?;
    let identity = NodeIdentity::from_settings(&settings, config.files.download.0)?;
    let fingerprint = hex::encode(identity.keys.fingerprint().as_bytes());
    let backup_schedule =
        BackupSchedule::from_settings(&config.backup, directory.path(), data_key, &fingerprint)
            .map_err(|error| DaemonError::Setting { error })?;
    let api_listener = listen(settings.listen).await?;
    let address = api_listener.local_addr()?;
    let api_token = write_api_access(directory, address)?;
    let api_socket = Endpoint::unix(&directory.join(SOCKET_FILE), SocketAccess::Owner)?;
    let (webhook_listener, webhook_url) = match (&settings.delivery, settings.webhook_listen) {
        (DeliveryMode::Webhook { url }, Some(address)) => {
            (Some(listen(address).await?), Some(url.clone()))
        }
        _ => (None, None),
    };
    let client = create_relay_client(&settings, config, &clock)?;
    let database = Database::new(store, Arc::clone(&clock), client.clone(), latest_event);
    let relay = HomeRelay::new(client, identity.relay.clone(), database.clone());
    let relay = Arc::new(relay);
    let message_files_bytes_max = config
        .files
        .message_size_max
        .bytes()
        .min(limits::MESSAGE_FILES_BYTES_MAX);
    let components = NodeComponents {
        identity: Arc::new(identity),
        unknown_mailboxes: Arc::new(UnknownMailboxes::new(database.clone(), Arc::clone(&relay))),
        relay,
        files: Files::open(directory.join(FILES_DIR))
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
        backups: Arc::default(),
        clock,
        shutdown,
    };
    let checkpoints = Checkpoints::new(
        components.clone(),
        CheckpointFile::locate(&config.checkpoint.directory, &components.identity),
        config.checkpoint.every.duration(),
    );
    Ok(BoundNode {
        components,
        settings,
        checkpoints,
        api_listener,
        api_socket,
        api_token,
        webhook_listener,
        backup_schedule,
    })
}

fn create_relay_client(
    settings: &Settings,
    config: &Config,
    clock: &SharedClock,
) -> anyhow::Result<RelayClient> {
    let authorities = match config.tls.ca_file.as_str() {
        "" => Vec::new(),
        path => read_ca_file(Path::new(path))
            .context("tls.ca_file")
            .map_err(|error| DaemonError::Setting { error })?,
    };
    let seed = <[u8; 32]>::try_from(settings.account_key.as_slice())
        .context("the account key is damaged")?;
    Ok(RelayClient::new(
        settings.relay.clone(),
        SigningKey::from_bytes(&Zeroizing::new(seed)),
        Arc::clone(clock),
        build_http_client(&authorities)?,
    )
    .with_request_limit())
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| DaemonError::Listen { address, error }.into())
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

/// Starts all tasks, and returns a future that runs until all of them have ended. The tasks that
/// need the relay wait for the registration.
fn run(bound: BoundNode, routers: Routers) -> impl Future<Output = ()> {
    let BoundNode {
        components,
        settings,
        checkpoints,
        api_listener,
        api_socket,
        api_token,
        webhook_listener,
        backup_schedule,
    } = bound;
    let shutdown = components.shutdown.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(maintenance::run(
        components.database.clone(),
        Arc::clone(&components.relay),
        components.files.clone(),
        Arc::clone(&components.identity),
        components.worker(),
    ));
    if let Some(schedule) = backup_schedule {
        tasks.spawn(backup::schedule::run(
            schedule,
            Arc::clone(&components.backups),
            components.database.clone(),
            components.worker(),
        ));
    }
    let webhook = webhook_listener.map(|listener| (listener, routers.webhook));
    tasks.spawn(run_relay_tasks(
        components.clone(),
        settings,
        checkpoints,
        webhook,
    ));
    let api = (routers.local_api)(components, &api_token);
    for (endpoint, router) in [
        (Endpoint::from(api_listener), api.tcp),
        (api_socket, api.unix_socket),
    ] {
        let limits = ListenerLimits::default();
        tasks.spawn(http::serve(endpoint, router, limits, shutdown.clone()));
    }
    wait_for_all(tasks, shutdown)
}

/// Builds the router that receives the relay's webhook calls.
type WebhookRouter = fn(Ingest) -> Router;

/// Runs the tasks that need the relay, once the account is registered and the checkpoint there was
/// compared with the database. That may take until the relay is reachable.
async fn run_relay_tasks(
    components: NodeComponents,
    settings: Settings,
    mut checkpoints: Checkpoints,
    webhook: Option<(TcpListener, WebhookRouter)>,
) {
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_registered(
        components.database.clone(),
        Arc::clone(&components.relay),
        Arc::clone(&components.identity),
        settings,
        components.worker(),
    ));
    tokio::select! {
        () = components.relay.registered() => {}
        () = components.shutdown.triggered() => return,
    }
    restored::recover_if_restored(
        &components.database,
        &components.relay,
        &components.identity,
        &components.worker(),
    )
    .await;
    // Nothing is sent or received with the sessions of a database that was rolled back.
    tokio::select! {
        () = checkpoints.check_at_start() => {}
        () = components.shutdown.triggered() => return,
    }
    let worker = components.worker();
    tasks.spawn(async move { worker.run_timed(checkpoints).await });
    tasks.spawn(unknown_mailboxes::check_at_start(
        Arc::clone(&components.unknown_mailboxes),
        components.worker(),
    ));
    let has_webhook = webhook.is_some();
    if let Some((listener, router)) = webhook {
        tasks.spawn(http::serve(
            listener,
            router(components.ingest()),
            ListenerLimits::default(),
            components.shutdown.clone(),
        ));
        tasks.spawn(keep_webhook_active(
            Arc::clone(&components.relay),
            components.worker(),
        ));
    }
    tasks.spawn(submission::run(
        components.database.clone(),
        Arc::clone(&components.relay),
        Arc::clone(&components.identity),
        components.worker(),
    ));
    tasks.spawn(relay_jobs::run(
        components.database.clone(),
        Arc::clone(&components.relay),
        Arc::clone(&components.identity),
        components.worker(),
    ));
    let transfers = components.transfers();
    tasks.spawn(transfer::upload(
        Arc::clone(&transfers),
        components.worker(),
    ));
    tasks.spawn(transfer::download(
        Arc::clone(&transfers),
        components.worker(),
    ));
    tasks.spawn(transfer::maintain_blobs(transfers, components.worker()));
    tasks.spawn(ingest::pull(
        components.ingest(),
        has_webhook,
        components.worker(),
    ));
    wait_for_all(tasks, components.shutdown).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::scripted_relay::ScriptedRelay;
    use sealpost_proto::{AccountId, WebhookSecret};
    use std::time::Duration;

    #[tokio::test]
    async fn occupied_port_is_named_with_its_cause() {
        let occupied = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = occupied.local_addr().unwrap();
        let error = listen(address).await.unwrap_err();
        let text = format!("{error:#}");
        let start = format!("cannot listen on {address}: ");
        assert!(
            text.starts_with(&start) && text.len() > start.len(),
            "{text}"
        );
        let next = crate::daemon::next_step(error.as_ref());
        assert!(next.contains("ss -ltnp"), "{next}");
    }

    /// Waits until the relay has received so many requests for a path.
    async fn wait_for_requests(relay: &ScriptedRelay, path: &str, count: usize) {
        let received = async {
            while count_requests(relay, path) < count {
                tokio::task::yield_now().await;
            }
        };
        let received = tokio::time::timeout(Duration::from_secs(60), received);
        received.await.expect("the relay receives the requests");
    }

    fn count_requests(relay: &ScriptedRelay, path: &str) -> usize {
        let script = relay.script();
        let requests = script.requests.iter();
        requests.filter(|request| request.contains(path)).count()
    }

    fn registered_settings(relay: &ScriptedRelay) -> Settings {
        Settings {
            name: "Acme".to_owned(),
            identity: Zeroizing::default(),
            card: Vec::new(),
            account_key: Zeroizing::default(),
            relay: relay.node.identity.relay.clone(),
            delivery: DeliveryMode::Pull,
            webhook_listen: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            registration_token: None,
            account: Some((
                AccountId::from_bytes([1; 16]),
                WebhookSecret::from_bytes([2; 32]),
            )),
        }
    }

    #[tokio::test]
    async fn nothing_is_received_before_checkpoints_are_compared() {
        let relay = ScriptedRelay::start().await;
        relay.script().fails_checkpoints = true;
        let file = CheckpointFile::locate("off", &relay.node.identity);
        let checkpoints = Checkpoints::new(relay.node.clone(), file, limits::CHECKPOINT_INTERVAL);
        let settings = registered_settings(&relay);
        let node = relay.node.clone();
        let tasks = tokio::spawn(run_relay_tasks(node, settings, checkpoints, None));
        wait_for_requests(&relay, "/v1/account/checkpoint", 1).await;
        let wake_ups = Arc::clone(relay.node.database.wake_ups());
        wake_ups.submission.notify_one();
        wait_for_requests(&relay, "/v1/account/checkpoint", 2).await;
        assert_eq!(count_requests(&relay, "/v1/deliveries"), 0);
        relay.script().fails_checkpoints = false;
        wake_ups.submission.notify_one();
        wait_for_requests(&relay, "/v1/deliveries", 1).await;
        relay.node.shutdown.trigger();
        tasks.await.unwrap();
    }
}
