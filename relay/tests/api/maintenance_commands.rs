//! Backup, migration, supervision and metrics.

use crate::{
    blobs::Upload,
    operator_commands::run_command as run_operator_command,
    process::Process,
    support::{DEADLINE, Node, Relay, TestWebhook, eventually, fills, private_directory},
};
use rustix::process::Signal;
use sealpost_proto::{EnvelopeId, limits::PART_BYTES_MAX};
use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

async fn run_command(args: &[&str], directory: &Path) -> Result<(), String> {
    let data = ["--data", directory.to_str().unwrap()];
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
async fn pull_everything(node: &Node) -> BTreeSet<EnvelopeId> {
    let mut pulled = BTreeSet::new();
    loop {
        let batch = node.pull_and_store(0).await;
        if batch.deliveries.is_empty() {
            return pulled;
        }
        pulled.extend(batch.deliveries.iter().map(|delivery| delivery.envelope));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_under_load_is_consistent() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let mut accepted_before = BTreeSet::new();
    for fill in 0..20 {
        accepted_before.insert(acme.submit_one(&mailbox, fill).await);
    }
    let upload = Upload::new(&[PART_BYTES_MAX, 1_000]);
    upload.send(&relay, &acme).await;
    let parent = tempfile::tempdir().unwrap();
    let copy = parent.path().join("copy");
    let is_done = AtomicBool::new(false);
    let load = async {
        let mut accepted = BTreeSet::new();
        while !is_done.load(Ordering::Relaxed) {
            accepted.insert(acme.submit_one(&mailbox, 100).await);
            let temporary = Upload::new(&[1_000]);
            temporary.send(&relay, &acme).await;
            acme.send_with_session(
                http::Method::DELETE,
                &format!("/v1/blobs/{}", temporary.id),
                "",
            )
            .await
            .assert_no_content();
        }
        accepted
    };
    let backup = async {
        let directory = relay.directory.path().to_owned();
        let (copy, is_done) = (copy.clone(), &is_done);
        let backup = move || {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(run_command(&["backup", copy.to_str().unwrap()], &directory))
        };
        let ended = tokio::task::spawn_blocking(backup).await;
        is_done.store(true, Ordering::Relaxed);
        ended.unwrap().unwrap();
    };
    let (accepted_meanwhile, ()) = tokio::join!(load, backup);
    assert!(
        run_command(&["backup", copy.to_str().unwrap()], relay.directory.path())
            .await
            .unwrap_err()
            .contains("exists")
    );

    let names = fs::read_dir(&copy)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        names.collect::<BTreeSet<_>>(),
        ["blobs", "relay.db", "relay.secret"]
            .map(str::to_owned)
            .into()
    );
    let restored = tempfile::tempdir().unwrap();
    fs::remove_dir(restored.path()).unwrap();
    fs::rename(&copy, restored.path()).unwrap();
    let relay = relay.restart_on(restored).await;
    let pulled = pull_everything(&bolt).await;
    assert!(
        pulled.is_superset(&accepted_before),
        "the backup contains everything accepted before it started"
    );
    assert!(
        pulled
            .iter()
            .all(|id| accepted_before.contains(id) || accepted_meanwhile.contains(id))
    );
    for (number, part) in upload.parts.iter().enumerate() {
        assert_eq!(upload.fetch(&bolt, number, None).await.body, part);
    }
    acme.submit_one(&mailbox, 7).await;
    assert_eq!(
        fills(&bolt.pull_and_store(0).await.deliveries),
        [7],
        "sessions remain valid, because the backup contains the secret"
    );
    drop(relay);
}

#[tokio::test]
async fn only_a_stopped_relay_can_be_migrated() {
    let relay = Relay::start().await;
    let directory = std::sync::Arc::clone(&relay.directory);
    assert!(
        run_command(&["migrate"], directory.path())
            .await
            .unwrap_err()
            .contains("in use by another process")
    );
    relay.stop().await;
    run_command(&["migrate", "--check"], directory.path())
        .await
        .unwrap();
    set_schema(directory.path(), 99);
    let error = run_command(&["migrate"], directory.path())
        .await
        .unwrap_err();
    assert!(
        error.contains("newer version") && error.contains("99"),
        "{error}"
    );
    let nothing = private_directory();
    assert!(
        run_command(&["migrate"], nothing.path())
            .await
            .unwrap_err()
            .contains("--data")
    );
}

/// A crash at the first start leaves a database without tables and schema version.
#[tokio::test]
async fn empty_database_is_migrated() {
    let directory = private_directory();
    fs::write(directory.path().join("relay.db"), "").unwrap();
    let error = run_command(&["migrate", "--check"], directory.path())
        .await
        .unwrap_err();
    assert!(
        error.contains("schema 0") && error.contains("sealpost-relay migrate"),
        "{error}"
    );
    run_command(&["migrate"], directory.path()).await.unwrap();
    run_command(&["migrate", "--check"], directory.path())
        .await
        .unwrap();
}

#[test]
fn unknown_variables_are_refused_with_the_nearest() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sealpost-relay"))
        .args(["config", "show"])
        .env("SEALPOST_RELAY_LISTNE", "127.0.0.1:1")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.contains("SEALPOST_RELAY_LISTEN"),
        "{error}"
    );
}

fn set_schema(directory: &Path, version: u32) {
    let database = rusqlite::Connection::open(directory.join("relay.db")).unwrap();
    database
        .pragma_update(None, "user_version", version)
        .unwrap();
}

/// Reads notifications until one contains all of these lines.
fn wait_for_notification(supervisor: &UnixDatagram, lines: &[&str]) {
    let mut buffer = [0; 4_096];
    loop {
        let length = supervisor.recv(&mut buffer).expect("notified in time");
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
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn supervisor_is_notified_of_state_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (file, socket) = (
        directory.path().join("relay.toml"),
        directory.path().join("notify"),
    );
    fs::write(&file, "[registration]\npolicy = \"closed\"\n").unwrap();
    let supervisor = UnixDatagram::bind(&socket).unwrap();
    supervisor.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut relay, origin) = Process::serve(|command| {
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--config",
            file.to_str().unwrap(),
        ]);
        command.args(["--data", directory.path().join("data").to_str().unwrap()]);
        command
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "60000000");
    });
    let address = origin.authority();
    wait_for_notification(&supervisor, &["READY=1", "STATUS=serving http"]);
    wait_for_notification(&supervisor, &["WATCHDOG=1"]);
    assert!(get(address, "/.well-known/sealpost").contains("\"registration\":\"closed\""));
    fs::write(&file, "[registration]\npolicy = \"open\"\n").unwrap();
    relay.signal(Signal::HUP);
    wait_for_notification(&supervisor, &["RELOADING=1", "MONOTONIC_USEC="]);
    wait_for_notification(&supervisor, &["READY=1"]);
    assert!(get(address, "/.well-known/sealpost").contains("\"registration\":\"open\""));
    relay.signal(Signal::TERM);
    wait_for_notification(&supervisor, &["STOPPING=1"]);
    assert!(relay.0.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_events_without_identities() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt, cork) = (
        relay.node().await,
        relay.node_with_webhook(&hook).await,
        relay.node().await,
    );
    assert!(bolt.test_webhook().await.ok);
    let (called, pulled) = (bolt.open_mailbox().await, cork.open_mailbox().await);
    acme.submit_one(&called, 1).await;
    acme.submit_one(&pulled, 2).await;
    acme.submit_one(&pulled, 3).await;
    let mut unknown = acme.new_envelope(&pulled, 4);
    unknown.mailbox.id = sealpost_proto::MailboxId::from_bytes([9; 16]);
    acme.submit(vec![unknown]).await;
    let metrics = || get(&relay.admin_address().to_string(), "/metrics");
    let has = |line: &str| metrics().lines().any(|found| found == line);
    eventually(|| has("sealpost_relay_deliveries_total{outcome=\"stored\"} 1")).await;
    for line in [
        "sealpost_relay_envelopes_total{outcome=\"accepted\"} 3",
        "sealpost_relay_envelopes_refused_total{code=\"mailbox_unknown\"} 1",
        "sealpost_relay_webhook_calls_total{outcome=\"succeeded\"} 1",
        "sealpost_relay_delivery_delay_seconds_count 1",
        "sealpost_relay_queue_items 2",
        "sealpost_relay_queues 1",
        "sealpost_relay_accounts 3",
    ] {
        assert!(has(line), "{line} is missing from\n{}", metrics());
    }
    relay.clock.advance(std::time::Duration::from_secs(90));
    assert!(
        has("sealpost_relay_queue_oldest_age_seconds 90.0"),
        "{}",
        metrics()
    );
    cork.pull_and_store(0).await;
    assert!(
        has("sealpost_relay_deliveries_total{outcome=\"stored\"} 3")
            && has("sealpost_relay_queue_items 0")
    );
    let text = metrics();
    assert!(text.contains("content-type: text/plain; version=0.0.4"));
    for node in [&acme, &bolt, &cork] {
        assert!(!text.contains(&node.account.unwrap().to_string()));
    }
    assert!(!text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn check_says_what_to_do_about_problems() {
    let empty = private_directory();
    let directory = empty.path();
    let passed = run_operator_command(directory, "check").await;
    assert_eq!((passed.code, &*passed.err), (0, ""), "{}", passed.out);
    let expected = "ok       settings    valid\n";
    assert!(passed.out.starts_with(expected), "{}", passed.out);
    let expected = "warning  database    not found\n\
                    \x20                    next: start the relay; it creates the database\n";
    assert!(passed.out.contains(expected), "{}", passed.out);
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    let failed = run_operator_command(directory, "check").await;
    let path = directory.display();
    let expected = format!(
        "failed   directory   other users can access {path}\n\
         \x20                    next: run chmod 700 {path}\n"
    );
    assert!(
        failed.code == 1 && failed.out.contains(&expected),
        "{}",
        failed.out
    );
    assert!(failed.err.contains("checks failed"), "{}", failed.err);
    let json = run_operator_command(directory, "check --json").await;
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (json.code, &report["status"], &report["failed"]),
        (1, &"failed".into(), &1.into())
    );
    for check in report["checks"].as_array().unwrap() {
        let is_ok = check["status"] == "ok";
        assert_eq!(check.get("next").is_none(), is_ok, "{check}");
    }
    let error: serde_json::Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(error["code"], "checks_failed");
}
