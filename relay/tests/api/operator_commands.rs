//! Operator commands of the binary, against a relay in this process.

use crate::support::{
    Node, Relay, ReservedAddress, TestWebhook, WebhookBehavior, eventually_some, private_directory,
    within_deadline,
};
use sealpost_proto::{EnvelopeState, wire::SubmitRequest};
use sealpost_relay::AdminListen;
use serde_json::Value;
use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    process::Command,
};

/// Exit code and output of a command.
pub(crate) struct CommandOutput {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl CommandOutput {
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, &*self.err), (0, ""), "{}", self.out);
        self.out
    }
}

pub(crate) async fn run_command(directory: &Path, args: &str) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealpost-relay"));
    command
        .args(args.split_whitespace())
        .env("SEALPOST_RELAY_DATA", directory)
        .env_remove("SEALPOST_RELAY_CONFIG");
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within_deadline(running).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    CommandOutput {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Replaces the ids of nodes by names, so that output can be compared.
fn replace_ids(text: &str, names: &[(&Node, &str)]) -> String {
    names.iter().fold(text.to_owned(), |text, (node, name)| {
        let id = node.account.unwrap().to_string();
        text.replace(&id, &format!("{name:<22}"))
            .replace(&id[..8], &format!("{name:<8}"))
    })
}

#[tokio::test]
async fn commands_without_relay_suggest_starting_it() {
    let directory = tempfile::tempdir().unwrap();
    let never = run_command(directory.path(), "stats").await;
    let path = directory.path().display();
    let expected = format!(
        "error: no relay is running on {path}\n\
         next:  start the relay: sealpost-relay serve --data {path}\n"
    );
    assert_eq!(
        (never.code, never.err, never.out),
        (3, expected, String::new())
    );
    let relay = Relay::start().await;
    let directory = relay.stop().await;
    let stopped = run_command(directory.path(), "queue list --json").await;
    let error: Value = serde_json::from_str(&stopped.err).unwrap();
    assert_eq!(
        (stopped.code, &error["code"]),
        (3, &"relay_unreachable".into()),
        "{error}"
    );
    let detail = format!("no relay is running on {}", directory.path().display());
    assert_eq!(error["detail"], detail);
}

#[tokio::test]
async fn exit_code_distinguishes_silent_and_incompatible_relays() {
    for (response, code, name, next) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
            1,
            "failed",
            "use the sealpost-relay version",
        ),
        ("", 3, "relay_unreachable", "check its log"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("admin-token"), "token").unwrap();
        let listener = UnixListener::bind(directory.path().join("admin.sock")).unwrap();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let _ = client.read(&mut [0; 4096]).await.unwrap();
            client.write_all(response.as_bytes()).await.unwrap();
        });
        let output = run_command(directory.path(), "stats --json").await;
        let error: Value = serde_json::from_str(&output.err).unwrap();
        assert_eq!(
            (output.code, &error["code"]),
            (code, &name.into()),
            "{error}"
        );
        assert!(error["next"].as_str().unwrap().starts_with(next), "{error}");
    }
}

#[tokio::test]
async fn accounts_commands_work() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let directory = relay.directory.path();
    assert!(
        run_command(directory, "accounts list")
            .await
            .ok()
            .starts_with("No accounts.")
    );
    let bolt = relay.node_with_webhook(&hook).await;
    let id = bolt.account.unwrap().to_string();
    let host = hook.url.split('/').nth(2).unwrap();
    let list = replace_ids(
        &run_command(directory, "accounts list").await.ok(),
        &[(&bolt, "BOLT")],
    )
    .replace(host, "HOST");
    assert_table(
        &list,
        "ACCOUNT   LABEL  TOKEN  STATE       WAITING  OLDEST  MAILBOXES  FILES  REGISTERED  ENDPOINT",
        "BOLT      -      -      unverified        0       -          0    0 B         0 s  HOST",
    );
    let suspended = run_command(directory, &format!("accounts suspend {}", &id[..8]))
        .await
        .ok();
    assert_eq!(
        suspended,
        format!("Suspended {id}. Its queue is kept (0 waiting).\n")
    );
    assert!(
        run_command(directory, &format!("accounts show {id}"))
            .await
            .ok()
            .contains("state       suspended\n")
    );
    let json: Value = serde_json::from_str(
        &run_command(directory, &format!("accounts show {id} --json"))
            .await
            .ok(),
    )
    .unwrap();
    assert_eq!(
        (&json["suspended"], &json["account_id"]),
        (&true.into(), &id.as_str().into())
    );
    assert_eq!(
        run_command(directory, &format!("accounts resume {id}"))
            .await
            .ok(),
        format!("Resumed {id}.\n")
    );
    let unconfirmed = run_command(directory, &format!("accounts delete {id}")).await;
    assert_eq!(
        (unconfirmed.code, &*unconfirmed.err),
        (
            2,
            "error: confirmation required: this cannot be undone\nnext:  pass --yes if you are sure\n"
        )
    );
    assert_eq!(
        run_command(directory, &format!("accounts delete {id} --yes"))
            .await
            .ok(),
        format!("Deleted {id}.\n")
    );
    let gone = run_command(directory, &format!("accounts show {id}")).await;
    assert_eq!(gone.code, 1);
    assert!(
        gone.err.contains("no account id starts with") && gone.err.contains("accounts list"),
        "{}",
        gone.err
    );
}

/// Asserts that a table has this header and this single row, with a line between them.
fn assert_table(table: &str, header: &str, row: &str) {
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(
        (lines[0], lines[2], lines.len()),
        (header, row, 3),
        "{table}"
    );
    assert!(
        lines[1].chars().all(|c| c == '─') && lines[1].chars().count() >= row.chars().count(),
        "{table}"
    );
}

#[tokio::test]
async fn quota_overrides_are_changed() {
    let relay = Relay::start().await;
    let bolt = relay.node().await;
    let directory = relay.directory.path();
    let id = bolt.account.unwrap();
    bolt.open_mailbox().await;
    let set = run_command(
        directory,
        &format!("accounts quota {id} account_mailboxes=1 blob_bytes=100kB account_blobs=100000"),
    )
    .await
    .ok();
    let row = |name: &str| {
        set.lines()
            .find(|line| line.starts_with(name))
            .map(|line| line.split_whitespace().collect())
    };
    let expected: Vec<&str> = vec!["account_mailboxes", "1", "100000", "1"];
    assert_eq!(row("account_mailboxes"), Some(expected), "{set}");
    let open = async || {
        let mailbox = sealpost_proto::MailboxId::from_bytes(sealpost_service::random_array());
        let send_keys = vec![sealpost_proto::SendKey::from_bytes([1; 32])];
        bolt.put_mailbox(mailbox, send_keys).await
    };
    assert_eq!(
        open().await.code(),
        sealpost_proto::ErrorCode::QuotaExceeded
    );
    let removed = run_command(
        directory,
        &format!("accounts quota {id} account_mailboxes=default --json"),
    )
    .await
    .ok();
    let json: Value = serde_json::from_str(&removed).unwrap();
    let overridden = json["quotas"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one.get("override_limit").is_some());
    let names: Vec<_> = overridden
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["account_blobs", "blob_bytes"],
        "other overrides are kept, even one that equals the default"
    );
    open().await.assert_no_content();
    let wrong = run_command(directory, &format!("accounts quota {id} color=1")).await;
    assert_eq!(wrong.code, 2, "{}", wrong.err);
}

#[tokio::test]
async fn rate_overrides_apply_to_one_account() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let id = bolt.account.unwrap();
    let policy =
        async |node: &Node| node.get("/v1/account").await.headers["ratelimit-policy"].clone();
    let default_policy = policy(&bolt).await;
    let rates =
        "requests_per_second=2 requests_burst=600 envelopes_per_minute=1000 blob_bytes_per_day=0";
    let set = run_command(
        relay.directory.path(),
        &format!("accounts quota {id} {rates}"),
    )
    .await
    .ok();
    assert!(
        set.lines().any(|line| line.split_whitespace().eq([
            "requests_per_second",
            "2",
            "200",
            "-"
        ])),
        "{set}"
    );
    assert_eq!(policy(&bolt).await, r#""requests";q=600;w=300"#);
    let mailbox = bolt.open_mailbox().await;
    let submit = SubmitRequest {
        envelopes: vec![bolt.new_envelope(&mailbox, 1)],
    };
    let limited = bolt.post("/v1/envelopes", &submit).await.headers["ratelimit-policy"].clone();
    assert!(
        limited
            .to_str()
            .unwrap()
            .ends_with(r#""envelopes";q=1000;w=60"#),
        "{limited:?}"
    );
    assert_eq!(
        policy(&acme).await,
        default_policy,
        "other accounts keep the default"
    );
    let relay = relay.restart().await;
    assert_eq!(policy(&bolt).await, r#""requests";q=600;w=300"#);
    let defaults = rates
        .split(' ')
        .map(|rate| format!("{}=default", rate.split_once('=').unwrap().0));
    let defaults = defaults.collect::<Vec<_>>().join(" ");
    run_command(
        relay.directory.path(),
        &format!("accounts quota {id} {defaults}"),
    )
    .await
    .ok();
    assert_eq!(policy(&bolt).await, default_policy);
    let overflow = run_command(
        relay.directory.path(),
        &format!("accounts quota {id} requests_per_second=5000000000"),
    )
    .await;
    assert_eq!(overflow.code, 1, "{}", overflow.err);
}

#[tokio::test]
async fn queue_commands_work() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let directory = relay.directory.path();
    assert_eq!(
        run_command(directory, "queue list").await.ok(),
        "All queues are empty.\n"
    );
    assert_eq!(
        run_command(directory, "queue list --failing").await.ok(),
        "No endpoint is failing.\n"
    );
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::Status(410));
    let envelope = acme.submit_one(&mailbox, 7).await;
    acme.wait_for_event(envelope, EnvelopeState::Retrying).await;
    let host = hook.url.split('/').nth(2).unwrap();
    let list = replace_ids(
        &run_command(directory, "queue list --failing").await.ok(),
        &[(&bolt, "BOLT")],
    );
    assert_table(
        &list,
        &format!(
            "ACCOUNT   LABEL  TOKEN  WAITING  OLDEST  STATE        NEXT ATTEMPT  {:<1$}  LAST REASON",
            "ENDPOINT",
            host.len()
        ),
        &format!(
            "BOLT      -      -            1     0 s  webhook off             -  {host}  the endpoint responded \
             with 410"
        ),
    );
    let id = bolt.account.unwrap();
    let shown = run_command(directory, &format!("queue show {id}"))
        .await
        .ok();
    assert!(
        shown.contains(&envelope.to_string())
            && shown.contains("2.0 kB")
            && shown.contains("retrying"),
        "{shown}"
    );
    assert_eq!(
        run_command(directory, &format!("queue retry {id}"))
            .await
            .ok(),
        "Retrying 1 queue now.\n"
    );
    assert_eq!(
        run_command(directory, "queue retry").await.code,
        2,
        "an account or --all is required"
    );
    let second = acme.submit_one(&mailbox, 8).await;
    let one = run_command(directory, &format!("queue drop {envelope} --yes"))
        .await
        .ok();
    assert_eq!(one, "Dropped 1 envelope; their senders are notified.\n");
    let all = run_command(directory, &format!("queue drop {id} --yes --json"))
        .await
        .ok();
    assert_eq!(
        serde_json::from_str::<Value>(&all).unwrap(),
        serde_json::json!({"dropped": 1})
    );
    for envelope in [envelope, second] {
        assert_eq!(
            acme.status(envelope).await.reason.as_deref(),
            Some("dropped_by_operator")
        );
    }
    let none = run_command(directory, &format!("queue drop {envelope} --yes")).await;
    assert_eq!(none.code, 1, "{}", none.err);
}

#[tokio::test]
async fn token_commands_work() {
    let relay = Relay::start().await;
    let directory = relay.directory.path();
    assert!(
        run_command(directory, "tokens list")
            .await
            .ok()
            .starts_with("No tokens.")
    );
    let token = run_command(directory, "tokens create customers --uses 5 --expires 30d")
        .await
        .ok();
    assert!(
        token.starts_with("sealpost_rt_") && token.lines().count() == 1,
        "{token}"
    );
    let list = run_command(directory, "tokens list").await.ok();
    assert_table(
        &list,
        "NAME       STATE  USED  LEFT  EXPIRES  CREATED  LAST USED",
        "customers  valid     0     5  in 30 d      0 s          -",
    );
    assert!(!list.contains("sealpost_rt_"));
    let twice = run_command(directory, "tokens create customers").await;
    let expected = "error: a token with this name already exists\n\
                    next:  choose another name, or revoke the existing token first\n";
    assert_eq!((twice.code, &*twice.err), (1, expected));
    assert_eq!(
        run_command(directory, "tokens revoke customers").await.ok(),
        "Revoked customers.\n"
    );
    assert_eq!(
        run_command(directory, "tokens revoke customers").await.code,
        1
    );
    assert_eq!(
        run_command(directory, "tokens create a --expires never")
            .await
            .code,
        2
    );
}

#[tokio::test]
async fn commands_work_with_any_admin_listener() {
    let sockets = tempfile::tempdir().unwrap();
    let place = format!("unix:{}", sockets.path().join("admin").display());
    let relay = Relay::start_with(|config| config.admin.listen = place.parse().unwrap()).await;
    let directory = relay.directory.path();
    assert!(
        run_command(directory, "stats")
            .await
            .ok()
            .contains("waiting    0 items")
    );
    let page = run_command(directory, "stats --page").await;
    assert_eq!(page.code, 2, "{}", page.err);
    let off = Relay::start_with(|config| config.admin.listen = "off".parse().unwrap()).await;
    run_command(off.directory.path(), "stats").await.ok();
    let page = run_command(off.directory.path(), "stats --page").await;
    assert_eq!(page.code, 2, "{}", page.err);
}

#[tokio::test]
async fn commands_send_no_token_to_a_squatted_port() {
    let reserved = ReservedAddress::new();
    let listen = AdminListen::Tcp(reserved.address);
    let relay = Relay::start_with(|config| config.admin.listen = listen).await;
    let directory = relay.stop().await;
    // A command that another test is starting can hold a copy of the relay's listener for a moment.
    let squatter =
        eventually_some(async || std::net::TcpListener::bind(reserved.address).ok()).await;
    squatter.set_nonblocking(true).unwrap();
    for command in ["stats", "stats --page", "accounts list"] {
        let outcome = run_command(directory.path(), command).await;
        assert_eq!(
            (outcome.code, &*outcome.out),
            (3, ""),
            "{command}: {}",
            outcome.err
        );
        let error = squatter.accept().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{command}");
    }
}

#[tokio::test]
async fn socket_in_a_deep_directory_is_reachable() {
    let parent = private_directory();
    let deep = parent.path().join("d".repeat(120));
    let relay = Relay::start_with(|config| config.data = deep.clone()).await;
    run_command(&deep, "stats").await.ok();
    let mode = |name| deep.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("admin.sock"), mode("blobs")), (0o600, 0o700));
    drop(relay);
}

#[tokio::test]
async fn stats_command_works() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    acme.submit_one(&mailbox, 1).await;
    let directory = relay.directory.path();
    let stats = run_command(directory, "stats").await.ok();
    let (connected, lines): (Vec<_>, Vec<_>) = stats
        .lines()
        .partition(|line| line.starts_with("connected  "));
    assert!(
        connected.len() == 1 && connected[0].contains(" connection"),
        "{stats}"
    );
    assert_eq!(
        lines[1..5],
        [
            "waiting    1 item for 1 account, the oldest for 0 s",
            "failing    0 endpoints",
            "accounts   2, 1 mailbox",
            "last hour  1 accepted, 0 delivered, 0 refused, 0 failed calls",
        ]
    );
    let ready = format!("relay      {}, ready, version ", relay.origin);
    assert!(
        lines[0].starts_with(&ready) && lines[5].starts_with("disk       "),
        "{stats}"
    );
    let json: Value =
        serde_json::from_str(&run_command(directory, "stats --json").await.ok()).unwrap();
    assert_eq!(json["queued"], 1);
    let token = std::fs::read_to_string(directory.join("admin-token")).unwrap();
    let page = run_command(directory, "stats --page").await.ok();
    assert_eq!(
        page,
        format!("http://{}/#token={token}\n", relay.admin_address())
    );
    let config_file = directory.join("relay.toml");
    std::fs::write(
        &config_file,
        format!(
            "data = {:?}\nlisten = \"127.0.0.1:1\"\n",
            directory.display().to_string()
        ),
    )
    .unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealpost-relay"));
    command
        .args(["stats", "--json", "--config"])
        .arg(config_file)
        .current_dir(elsewhere.path());
    let found = command
        .env_remove("SEALPOST_RELAY_DATA")
        .output()
        .await
        .unwrap();
    assert!(
        found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
}
