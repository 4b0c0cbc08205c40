//! `sealpost serve`: opens the data directory, registers with the relay, and runs the tasks until Ctrl-C.

use super::{
    Daemon, Notifier, Registration, Running, ingest, maintenance, relay_jobs, status::Contact,
    submission, transfer, vault, webhook,
};
use crate::{
    config::Config,
    files::Files,
    identity::NodeIdentity,
    progress::Progress,
    store::{self, Store, events, files, settings},
};
use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use sealpost_proto::{
    WebhookSecret, b64, limits,
    wire::{DeliveryMode, RegisterRequest},
};
use sealpost_relay_client::{RelayClient, build_http_client};
use sealpost_service::{
    DataDir, Shutdown, SystemClock,
    http::{self, ListenerLimits},
    logs, supervisor,
};
use sealpost_sqlite::Database;
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use zeroize::Zeroizing;

/// The database's file in the data directory.
pub(super) const DATABASE: &str = "node.db";
const FILES: &str = "files";

/// Name of the file that holds the address of the local API, as `host:port`.
pub const ADDRESS_FILE: &str = "api-address";
/// Name of the file that holds the token of the local API, mode 0600.
pub const TOKEN_FILE: &str = "api-token";

/// Builds the router of the local API from the daemon and the API's token. The API is a layer above
/// the daemon, so the caller passes it in.
pub(crate) type ApiRouter = fn(Arc<Daemon>, &str) -> axum::Router;

/// Runs the node until Ctrl-C or SIGTERM.
///
/// # Errors
/// When the directory has no node or is in use, the schema is newer than this program, or an address is
/// taken.
pub(crate) async fn serve(data: &Path, config: Config, api: ApiRouter) -> anyhow::Result<()> {
    if !data.is_dir() {
        bail!(
            "there is no node in {}; create one with `sealpost init`",
            data.display()
        );
    }
    let directory = DataDir::open(data)?;
    let data_key = Arc::new(vault::open(&directory)?);
    logs::init(config.log.format, &config.log.filter)?;
    let database = Database::open(&directory.join(DATABASE), store::MIGRATIONS, store::OPTIONS)?;
    let store = Store::new(database, data_key);
    let shutdown = Shutdown::on_signals()?;
    let (daemon, mut start) = start(store, &directory, &config, shutdown).await?;
    let known = |file| daemon.read(move |tx| files::knows_disk_file(tx, file));
    daemon.files.remove_leftovers(known).await?;
    let mut tasks = JoinSet::new();
    spawn_tasks(&mut tasks, &daemon, &mut start, api);
    tracing::info!(name = daemon.identity.name, address = %daemon.running.address, relay = %daemon.identity.relay, "the node is running");
    tasks.spawn(run_relay_tasks(Arc::clone(&daemon), start));
    supervisor::ready(&format!(
        "{} at {}",
        daemon.identity.name, daemon.identity.relay
    ));
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task panicked; the node shuts down");
                daemon.shutdown.trigger();
            }
        }
    };
    // The result is ignored: a node whose disk is full must not be restarted.
    let is_alive = async |_| {
        let _ = daemon.commit(|_| Ok(())).await;
        true
    };
    tokio::select! {
        () = ended => {}
        () = supervisor::run_watchdog(is_alive) => {}
    }
    daemon.store.close().await;
    tracing::info!("the node has stopped");
    Ok(())
}

/// What is needed only to start the tasks.
struct Start {
    local: Option<(TcpListener, Zeroizing<String>)>,
    webhook: Option<TcpListener>,
    settings: settings::Settings,
}

async fn start(
    store: Store,
    directory: &DataDir,
    config: &Config,
    shutdown: Shutdown,
) -> anyhow::Result<(Arc<Daemon>, Start)> {
    let clock: sealpost_service::SharedClock = Arc::new(SystemClock);
    let (settings, latest) = store
        .write(clock.now(), |tx| {
            settings::raise_generation(tx)?;
            Ok((settings::load(tx)?, events::latest(tx)?))
        })
        .await?;
    let settings =
        settings.context("the data directory holds no node; create one with `sealpost init`")?;
    let identity = NodeIdentity::from_settings(&settings, config.files.download.0)?;
    let listener = listen(settings.listen).await?;
    let address = listener.local_addr()?;
    let token = write_access(directory, address)?;
    let (webhook_listener, webhook_url) = match (&settings.delivery, settings.webhook_listen) {
        (DeliveryMode::Webhook { url }, Some(address)) => {
            (Some(listen(address).await?), Some(url.clone()))
        }
        _ => (None, None),
    };
    let seed = Zeroizing::new(
        <[u8; 32]>::try_from(settings.account_key.as_slice())
            .context("the account key is broken")?,
    );
    let daemon = Arc::new(Daemon {
        relay: RelayClient::new(
            identity.relay.clone(),
            SigningKey::from_bytes(&seed),
            Arc::clone(&clock),
            build_http_client()?,
        ),
        identity: Arc::new(identity),
        store,
        files: Files::open(directory.join(FILES))
            .await
            .context("opening the directory of sealed files")?,
        progress: Progress::default(),
        early: transfer::EarlyUploads::default(),
        clock,
        running: Running {
            directory: directory.path().to_owned(),
            address,
            webhook_url,
            files_bytes_max: config
                .files
                .message_size_max
                .bytes()
                .min(limits::MESSAGE_FILES_BYTES_MAX),
        },
        shutdown,
        contact: Mutex::new(Contact::default()),
        notifier: Notifier::default(),
        latest_event: watch::channel(latest).0,
        registration: watch::channel(Registration::Pending).0,
    });
    Ok((
        daemon,
        Start {
            local: Some((listener, token)),
            webhook: webhook_listener,
            settings,
        },
    ))
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listening on {address}: stop what uses it, or choose another address")
    })
}

/// Writes a new token and the address of the API to the data directory, for clients on this machine.
fn write_access(directory: &DataDir, address: SocketAddr) -> anyhow::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(sealpost_service::random_array::<32>());
    let token = Zeroizing::new(b64::encode(&*bytes));
    directory.write_secret(TOKEN_FILE, token.as_bytes())?;
    directory.write_secret(ADDRESS_FILE, address.to_string().as_bytes())?;
    Ok(token)
}

fn spawn_tasks(tasks: &mut JoinSet<()>, daemon: &Arc<Daemon>, start: &mut Start, api: ApiRouter) {
    if let Some((listener, token)) = start.local.take() {
        let router = api(Arc::clone(daemon), &token);
        tasks.spawn(http::serve(
            listener,
            router,
            ListenerLimits::default(),
            daemon.shutdown.clone(),
        ));
    }
    tasks.spawn(maintenance::run(Arc::clone(daemon)));
}

/// Runs the tasks that need the relay, once the account is registered. That may take until the relay
/// is reachable.
async fn run_relay_tasks(daemon: Arc<Daemon>, start: Start) {
    let Some(secret) = register(&daemon, &start.settings).await else {
        return;
    };
    daemon.registration.send_replace(Registration::Done);
    let has_webhook = start.webhook.is_some();
    let mut tasks = JoinSet::new();
    if let Some(listener) = start.webhook {
        let router = webhook::router(Arc::clone(&daemon), secret);
        tasks.spawn(http::serve(
            listener,
            router,
            ListenerLimits::default(),
            daemon.shutdown.clone(),
        ));
        tasks.spawn(activate_webhook(Arc::clone(&daemon)));
    }
    tasks.spawn(submission::run(Arc::clone(&daemon)));
    tasks.spawn(relay_jobs::run(Arc::clone(&daemon)));
    tasks.spawn(transfer::upload(Arc::clone(&daemon)));
    tasks.spawn(transfer::download(Arc::clone(&daemon)));
    tasks.spawn(transfer::maintain_blobs(Arc::clone(&daemon)));
    tasks.spawn(ingest::pull(Arc::clone(&daemon), has_webhook));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task panicked; the node shuts down");
            daemon.shutdown.trigger();
        }
    }
}

/// Registers the account, unless it was registered before. The same key always gets the same account.
async fn register(daemon: &Daemon, settings: &settings::Settings) -> Option<WebhookSecret> {
    if let Some((_, secret)) = &settings.account {
        return Some(secret.clone());
    }
    let request = RegisterRequest {
        delivery: settings.delivery.clone(),
        token: settings.registration_token.clone(),
    };
    let mut failures = 0;
    loop {
        let wait = match daemon.relay.register(&request).await {
            Ok(registered) => {
                daemon.reached().await;
                let secret = registered.webhook_secret.clone();
                let stored = daemon
                    .write(move |tx| {
                        settings::set_account(
                            tx,
                            &registered.account_id,
                            &registered.webhook_secret,
                        )
                    })
                    .await;
                match stored {
                    Ok(()) => return Some(secret),
                    Err(fault) => {
                        tracing::error!(%fault, "cannot store the account; retrying");
                        super::backoff(failures).min(super::SILENCE_WAIT_MAX)
                    }
                }
            }
            Err(error) => {
                daemon.failed(&error).await;
                daemon.registration.send_replace(Registration::Failed);
                super::wait_after(&error, failures)
            }
        };
        if !pause(daemon, wait).await {
            return None;
        }
        failures += 1;
    }
}

/// Asks the relay to test the webhook until it succeeds; the relay calls it only after that.
async fn activate_webhook(daemon: Arc<Daemon>) {
    let mut failures = 0;
    loop {
        match daemon.relay.test_webhook().await {
            Ok(test) if test.ok => return tracing::info!("the relay calls the webhook"),
            Ok(test) => {
                let failed = test.steps.iter().find(|step| !step.ok);
                let detail = failed.map_or("", |step| step.detail.as_str());
                tracing::warn!(detail, "the relay cannot call the webhook yet");
            }
            Err(error) => tracing::warn!(%error, "the relay cannot test the webhook yet"),
        }
        if !pause(&daemon, super::backoff(failures)).await {
            return;
        }
        failures += 1;
    }
}

/// Waits; returns false when the node shuts down meanwhile.
async fn pause(daemon: &Daemon, pause: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        () = daemon.shutdown.triggered() => false,
    }
}
