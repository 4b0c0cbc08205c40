//! The operator's commands, against a relay that runs.

use crate::{
    blobs::Upload,
    process::Process,
    support::{DEADLINE, Hook, Node, Relay, eventually, fills},
};
use rustix::process::Signal;
use sealpost_proto::{EnvelopeId, limits::PART_BYTES_MAX};
use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

async fn command(args: &[&str], folder: &Path) -> Result<(), String> {
    let data = ["--data", folder.to_str().unwrap()];
    let args = ["sealpost-relay"]
        .iter()
        .chain(args)
        .chain(&data)
        .map(Into::into)
        .collect();
    sealpost_relay::run(args)
        .await
        .map_err(|error| format!("{error:#}"))
}

/// Pulls until nothing waits.
async fn take_everything(node: &Node) -> BTreeSet<EnvelopeId> {
    let mut taken = BTreeSet::new();
    loop {
        let batch = node.take_all(0).await;
        if batch.deliveries.is_empty() {
            return taken;
        }
        taken.extend(batch.deliveries.iter().map(|delivery| delivery.envelope));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_load_starts_delivers_what_waits_and_has_every_file_whole() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let mut accepted_before = BTreeSet::new();
    for fill in 0..20 {
        accepted_before.insert(acme.post_to(&mailbox, fill).await);
    }
    let upload = Upload::new(&[PART_BYTES_MAX, 1_000]);
    upload.send(&relay, &acme).await;
    let parent = tempfile::tempdir().unwrap();
    let copy = parent.path().join("copy");
    let made = AtomicBool::new(false);
    let load = async {
        let mut accepted = BTreeSet::new();
        while !made.load(Ordering::Relaxed) {
            accepted.insert(acme.post_to(&mailbox, 100).await);
            let passing = Upload::new(&[1_000]);
            passing.send(&relay, &acme).await;
            acme.session_call(
                http::Method::DELETE,
                &format!("/v1/blobs/{}", passing.id),
                "",
            )
            .await
            .done();
        }
        accepted
    };
    let backup = async {
        let folder = relay.folder.path().to_owned();
        let (copy, made) = (copy.clone(), &made);
        let backup = move || {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(command(&["backup", copy.to_str().unwrap()], &folder))
        };
        let ended = tokio::task::spawn_blocking(backup).await;
        made.store(true, Ordering::Relaxed);
        ended.unwrap().unwrap();
    };
    let (accepted_meanwhile, ()) = tokio::join!(load, backup);
    assert!(
        command(&["backup", copy.to_str().unwrap()], relay.folder.path())
            .await
            .unwrap_err()
            .contains("exists")
    );

    let names = std::fs::read_dir(&copy)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        names.collect::<BTreeSet<_>>(),
        ["blobs", "relay.db", "relay.secret"]
            .map(str::to_owned)
            .into()
    );
    let restored = tempfile::tempdir().unwrap();
    std::fs::remove_dir(restored.path()).unwrap();
    std::fs::rename(&copy, restored.path()).unwrap();
    let relay = relay.restart_on(restored).await;
    let taken = take_everything(&bolt).await;
    assert!(
        taken.is_superset(&accepted_before),
        "what was accepted before the backup began is in it"
    );
    assert!(
        taken
            .iter()
            .all(|id| accepted_before.contains(id) || accepted_meanwhile.contains(id))
    );
    for (number, part) in upload.parts.iter().enumerate() {
        assert_eq!(upload.fetch(&bolt, number, None).await.body, part);
    }
    acme.post_to(&mailbox, 7).await;
    assert_eq!(
        fills(&bolt.take_all(0).await.deliveries),
        [7],
        "sessions go on, for the secret is in it"
    );
    drop(relay);
}

#[tokio::test]
async fn a_running_relay_is_not_migrated_and_a_stopped_one_is_up_to_date() {
    let relay = Relay::start().await;
    let folder = std::sync::Arc::clone(&relay.folder);
    assert!(
        command(&["migrate"], folder.path())
            .await
            .unwrap_err()
            .contains("in use by another process")
    );
    relay.end().await;
    command(&["migrate", "--check"], folder.path())
        .await
        .unwrap();
    set_schema(folder.path(), 99);
    let error = command(&["migrate"], folder.path()).await.unwrap_err();
    assert!(
        error.contains("newer version") && error.contains("99"),
        "{error}"
    );
    let nothing = tempfile::tempdir().unwrap();
    assert!(
        command(&["migrate"], nothing.path())
            .await
            .unwrap_err()
            .contains("--data")
    );
}

/// A database without tables and a version is what a crash at the very first start leaves.
#[tokio::test]
async fn a_database_that_was_never_migrated_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("relay.db"), "").unwrap();
    let error = command(&["migrate", "--check"], folder.path())
        .await
        .unwrap_err();
    assert!(
        error.contains("schema 0") && error.contains("sealpost-relay migrate"),
        "{error}"
    );
    command(&["migrate"], folder.path()).await.unwrap();
    command(&["migrate", "--check"], folder.path())
        .await
        .unwrap();
}

fn set_schema(folder: &Path, version: u32) {
    let database = rusqlite::Connection::open(folder.join("relay.db")).unwrap();
    database
        .pragma_update(None, "user_version", version)
        .unwrap();
}

/// Reads what the supervisor is told until a message has all of these lines.
fn told(supervisor: &UnixDatagram, lines: &[&str]) {
    let mut buffer = [0; 4_096];
    loop {
        let length = supervisor
            .recv(&mut buffer)
            .expect("the supervisor was told in time");
        let message = std::str::from_utf8(&buffer[..length]).unwrap();
        if lines
            .iter()
            .all(|line| message.lines().any(|found| found.starts_with(line)))
        {
            return;
        }
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_supervisor_is_told_and_a_hangup_reads_the_settings_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, socket) = (
        folder.path().join("relay.toml"),
        folder.path().join("notify"),
    );
    std::fs::write(&file, "[registration]\npolicy = \"closed\"\n").unwrap();
    let supervisor = UnixDatagram::bind(&socket).unwrap();
    supervisor.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut relay, origin) = Process::serve(|command| {
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--config",
            file.to_str().unwrap(),
        ]);
        command.args(["--data", folder.path().join("data").to_str().unwrap()]);
        command
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "60000000");
    });
    let address = origin.authority();
    told(&supervisor, &["READY=1", "STATUS=serves http"]);
    told(&supervisor, &["WATCHDOG=1"]);
    assert!(get(address, "/.well-known/sealpost").contains("\"registration\":\"closed\""));
    std::fs::write(&file, "[registration]\npolicy = \"open\"\n").unwrap();
    relay.signal(Signal::HUP);
    told(&supervisor, &["RELOADING=1", "MONOTONIC_USEC="]);
    told(&supervisor, &["READY=1"]);
    assert!(get(address, "/.well-known/sealpost").contains("\"registration\":\"open\""));
    relay.signal(Signal::TERM);
    told(&supervisor, &["STOPPING=1"]);
    assert!(relay.0.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_stands_in_the_metrics_and_names_nobody() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt, cork) = (
        relay.node().await,
        relay.node_with_webhook(&hook).await,
        relay.node().await,
    );
    assert!(bolt.test_webhook().await.ok);
    let (called, pulled) = (bolt.open_mailbox().await, cork.open_mailbox().await);
    acme.post_to(&called, 1).await;
    acme.post_to(&pulled, 2).await;
    acme.post_to(&pulled, 3).await;
    let mut unknown = acme.envelope(&pulled, 4);
    unknown.mailbox.id = sealpost_proto::MailboxId::from_bytes([9; 16]);
    acme.submit(vec![unknown]).await;
    let metrics = || get(&relay.admin().to_string(), "/metrics");
    let has = |line: &str| metrics().lines().any(|found| found == line);
    eventually(|| has("sealpost_relay_deliveries_total{outcome=\"stored\"} 1")).await;
    for line in [
        "sealpost_relay_envelopes_total{outcome=\"accepted\"} 3",
        "sealpost_relay_envelopes_refused_total{code=\"mailbox_unknown\"} 1",
        "sealpost_relay_webhook_calls_total{outcome=\"answered\"} 1",
        "sealpost_relay_delivery_delay_seconds_count 1",
        "sealpost_relay_queue_items 2",
        "sealpost_relay_queues 1",
        "sealpost_relay_accounts 3",
    ] {
        assert!(has(line), "{line} is missing in\n{}", metrics());
    }
    relay.clock.advance(std::time::Duration::from_secs(90));
    assert!(
        has("sealpost_relay_queue_oldest_age_seconds 90.0"),
        "{}",
        metrics()
    );
    cork.take_all(0).await;
    assert!(
        has("sealpost_relay_deliveries_total{outcome=\"stored\"} 3")
            && has("sealpost_relay_queue_items 0")
    );
    let text = metrics();
    assert!(
        text.contains("application/openmetrics-text; version=1.0.0")
            && text.trim_end().ends_with("# EOF")
    );
    for node in [&acme, &bolt, &cork] {
        assert!(!text.contains(&node.account.unwrap().to_string()));
    }
    assert!(!text.contains("127.0.0.1"), "{text}");
}
