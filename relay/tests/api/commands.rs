//! The operator's commands as they are typed: the binary, asked about a relay in this process.

use crate::support::{DEADLINE, Hook, Node, Relay, Script};
use sealpost_proto::{EnvelopeState, wire::SubmitRequest};
use serde_json::Value;
use std::{path::Path, process::Stdio};
use tokio::process::Command;

/// What a command left behind.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn ok(self) -> String {
        assert_eq!((self.code, &*self.err), (0, ""), "{}", self.out);
        self.out
    }
}

async fn typed(folder: &Path, args: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealpost-relay"));
    command
        .args(args.split_whitespace())
        .env("SEALPOST_RELAY_DATA", folder)
        .env_remove("SEALPOST_RELAY_CONFIG");
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, running)
        .await
        .expect("it ended in time")
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// The text with the node's id, whole or short, under a name, so that transcripts can be compared.
fn named(text: &str, names: &[(&Node, &str)]) -> String {
    names.iter().fold(text.to_owned(), |text, (node, name)| {
        let id = node.account.unwrap().to_string();
        text.replace(&id, &format!("{name:<22}"))
            .replace(&id[..8], &format!("{name:<8}"))
    })
}

#[tokio::test]
async fn without_a_relay_a_command_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let never = typed(folder.path(), "stats").await;
    let path = folder.path().display();
    let expected = format!(
        "error: no relay runs on {path}\nnext:  start the relay: sealpost-relay serve --data {path}\n"
    );
    assert_eq!(
        (never.code, never.err, never.out),
        (3, expected, String::new())
    );
    let relay = Relay::start().await;
    let folder = relay.stop().await;
    let stopped = typed(folder.path(), "queue list --json").await;
    let error: Value = serde_json::from_str(&stopped.err).unwrap();
    assert_eq!(
        (stopped.code, &error["code"]),
        (3, &"relay_unreachable".into()),
        "{error}"
    );
    assert!(
        error["detail"]
            .as_str()
            .unwrap()
            .starts_with("the relay does not answer at 127.0.0.1:"),
        "{error}"
    );
}

#[tokio::test]
async fn accounts_are_listed_shown_suspended_and_deleted() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let folder = relay.folder.path();
    assert!(
        typed(folder, "accounts list")
            .await
            .ok()
            .starts_with("No accounts.")
    );
    let bolt = relay.node_with_webhook(&hook).await;
    let id = bolt.account.unwrap().to_string();
    let host = hook.url.split('/').nth(2).unwrap();
    let list = named(
        &typed(folder, "accounts list").await.ok(),
        &[(&bolt, "BOLT")],
    )
    .replace(host, "HOST");
    is_table(
        &list,
        "ACCOUNT   STATE       WAITING  OLDEST  MAILBOXES  FILES  REGISTERED  ENDPOINT",
        "BOLT      unverified        0       -          0    0 B         0 s  HOST",
    );
    let suspended = typed(folder, &format!("accounts suspend {}", &id[..8]))
        .await
        .ok();
    assert_eq!(
        suspended,
        format!("Suspended {id}. What waits for it stays: 0.\n")
    );
    assert!(
        typed(folder, &format!("accounts show {id}"))
            .await
            .ok()
            .contains("state       suspended\n")
    );
    let json: Value = serde_json::from_str(
        &typed(folder, &format!("accounts show {id} --json"))
            .await
            .ok(),
    )
    .unwrap();
    assert_eq!(
        (&json["suspended"], &json["account_id"]),
        (&true.into(), &id.as_str().into())
    );
    assert_eq!(
        typed(folder, &format!("accounts resume {id}")).await.ok(),
        format!("Resumed {id}.\n")
    );
    let unsure = typed(folder, &format!("accounts delete {id}")).await;
    assert_eq!(
        (unsure.code, &*unsure.err),
        (
            2,
            "error: this cannot be taken back\nnext:  say --yes if you are sure\n"
        )
    );
    assert_eq!(
        typed(folder, &format!("accounts delete {id} --yes"))
            .await
            .ok(),
        format!("Deleted {id}.\n")
    );
    let gone = typed(folder, &format!("accounts show {id}")).await;
    assert_eq!(gone.code, 1);
    assert!(
        gone.err.contains("no account has an id that begins with")
            && gone.err.contains("accounts list"),
        "{}",
        gone.err
    );
}

/// A table of one row, compared line by line; the rule under the header is as long as the longest.
fn is_table(table: &str, header: &str, row: &str) {
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
async fn the_quotas_of_an_account_are_set_and_taken_back() {
    let relay = Relay::start().await;
    let bolt = relay.node().await;
    let folder = relay.folder.path();
    let id = bolt.account.unwrap();
    bolt.open_mailbox().await;
    let set = typed(
        folder,
        &format!("accounts quota {id} account_mailboxes=1 blob_bytes=100 account_blobs=100000"),
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
    let open = || async {
        let mailbox = sealpost_proto::MailboxId::from_bytes(sealpost_service::random_array());
        let keys = sealpost_proto::wire::OpenMailbox {
            send_keys: vec![sealpost_proto::SendKey::from_bytes([1; 32])],
        };
        let body = serde_json::to_vec(&keys).unwrap();
        bolt.key_call(http::Method::PUT, &format!("/v1/mailboxes/{mailbox}"), body)
            .await
    };
    assert_eq!(
        open().await.code(),
        sealpost_proto::ErrorCode::QuotaExceeded
    );
    let back = typed(
        folder,
        &format!("accounts quota {id} account_mailboxes=default --json"),
    )
    .await
    .ok();
    let back: Value = serde_json::from_str(&back).unwrap();
    let own = back["quotas"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one.get("own").is_some());
    let own: Vec<_> = own.map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(
        own,
        ["account_blobs", "blob_bytes"],
        "the others stay, also the one that is as for all"
    );
    open().await.done();
    let wrong = typed(folder, &format!("accounts quota {id} colour=1")).await;
    assert_eq!(wrong.code, 2, "{}", wrong.err);
}

#[tokio::test]
async fn one_account_may_ask_more_or_less_often_than_the_others() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let id = bolt.account.unwrap();
    let policy =
        async |node: &Node| node.get("/v1/account").await.headers["ratelimit-policy"].clone();
    let for_all = policy(&bolt).await;
    let rates =
        "requests_per_second=2 requests_burst=600 envelopes_per_minute=1000 blob_bytes_per_day=0";
    let set = typed(relay.folder.path(), &format!("accounts quota {id} {rates}"))
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
        envelopes: vec![bolt.envelope(&mailbox, 1)],
    };
    let counted = bolt.post("/v1/envelopes", &submit).await.headers["ratelimit-policy"].clone();
    assert!(
        counted
            .to_str()
            .unwrap()
            .ends_with(r#""envelopes";q=1000;w=60"#),
        "{counted:?}"
    );
    assert_eq!(policy(&acme).await, for_all, "of this one nothing was said");
    let relay = relay.restart().await;
    assert_eq!(policy(&bolt).await, r#""requests";q=600;w=300"#);
    let back = rates
        .split(' ')
        .map(|rate| format!("{}=default", rate.split_once('=').unwrap().0));
    let back = back.collect::<Vec<_>>().join(" ");
    typed(relay.folder.path(), &format!("accounts quota {id} {back}"))
        .await
        .ok();
    assert_eq!(policy(&bolt).await, for_all);
    let much = typed(
        relay.folder.path(),
        &format!("accounts quota {id} requests_per_second=5000000000"),
    )
    .await;
    assert_eq!(much.code, 1, "{}", much.err);
}

#[tokio::test]
async fn a_queue_is_listed_shown_tried_again_and_dropped() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let folder = relay.folder.path();
    assert_eq!(typed(folder, "queue list").await.ok(), "Nothing waits.\n");
    assert_eq!(
        typed(folder, "queue list --failing").await.ok(),
        "No endpoint fails.\n"
    );
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(Script::Status(410));
    let envelope = acme.post_to(&mailbox, 7).await;
    acme.news(envelope, EnvelopeState::Retrying).await;
    let host = hook.url.split('/').nth(2).unwrap();
    let list = named(
        &typed(folder, "queue list --failing").await.ok(),
        &[(&bolt, "BOLT")],
    );
    is_table(
        &list,
        &format!(
            "ACCOUNT   WAITING  OLDEST  STATE        NEXT TRY  {:<1$}  LAST REASON",
            "ENDPOINT",
            host.len()
        ),
        &format!(
            "BOLT            1     0 s  webhook off         -  {host}  the endpoint answered 410"
        ),
    );
    let id = bolt.account.unwrap();
    let shown = typed(folder, &format!("queue show {id}")).await.ok();
    assert!(
        shown.contains(&envelope.to_string())
            && shown.contains("2.0 kB")
            && shown.contains("retrying"),
        "{shown}"
    );
    assert_eq!(
        typed(folder, &format!("queue retry {id}")).await.ok(),
        "Trying 1 queue again now.\n"
    );
    assert_eq!(
        typed(folder, "queue retry").await.code,
        2,
        "which one is to be said"
    );
    let second = acme.post_to(&mailbox, 8).await;
    let one = typed(folder, &format!("queue drop {envelope} --yes"))
        .await
        .ok();
    assert_eq!(one, "Dropped 1 envelope; senders are told.\n");
    let rest = typed(folder, &format!("queue drop {id} --yes --json"))
        .await
        .ok();
    assert_eq!(
        serde_json::from_str::<Value>(&rest).unwrap(),
        serde_json::json!({"dropped": 1})
    );
    for envelope in [envelope, second] {
        assert_eq!(
            acme.status(envelope).await.reason.as_deref(),
            Some("dropped_by_operator")
        );
    }
    let none = typed(folder, &format!("queue drop {envelope} --yes")).await;
    assert_eq!(none.code, 1, "{}", none.err);
}

#[tokio::test]
async fn a_token_is_made_for_a_script_listed_and_revoked() {
    let relay = Relay::start().await;
    let folder = relay.folder.path();
    assert!(
        typed(folder, "tokens list")
            .await
            .ok()
            .starts_with("No tokens.")
    );
    let token = typed(folder, "tokens create customers --uses 5 --expires 30d")
        .await
        .ok();
    assert!(
        token.starts_with("sealpost_rt_") && token.lines().count() == 1,
        "{token}"
    );
    let list = typed(folder, "tokens list").await.ok();
    is_table(
        &list,
        "NAME       STATE  USES  LEFT     ENDS  MADE  LAST USED",
        "customers  good      0     5  in 30 d   0 s          -",
    );
    assert!(!list.contains("sealpost_rt_"));
    let twice = typed(folder, "tokens create customers").await;
    let expected = "error: a token of this name exists already\nnext:  choose another name, or revoke the token of this name first\n";
    assert_eq!((twice.code, &*twice.err), (1, expected));
    assert_eq!(
        typed(folder, "tokens revoke customers").await.ok(),
        "Revoked customers.\n"
    );
    assert_eq!(typed(folder, "tokens revoke customers").await.code, 1);
    assert_eq!(
        typed(folder, "tokens create a --expires never").await.code,
        2
    );
}

#[tokio::test]
async fn a_relay_on_a_socket_is_asked_there() {
    let sockets = tempfile::tempdir().unwrap();
    let place = format!("unix:{}", sockets.path().join("admin").display());
    let relay = Relay::start_with(|config| config.admin.listen = place.parse().unwrap()).await;
    let folder = relay.folder.path();
    assert!(
        typed(folder, "stats")
            .await
            .ok()
            .contains("waiting    nothing")
    );
    let page = typed(folder, "stats --page").await;
    assert_eq!(page.code, 2, "{}", page.err);
    let off = Relay::start_with(|config| config.admin.listen = "off".parse().unwrap()).await;
    let error = typed(off.folder.path(), "stats").await;
    assert_eq!(
        (error.code, error.err.lines().next()),
        (3, Some("error: the operator's API of this relay is off"))
    );
}

#[tokio::test]
async fn the_figures_and_the_page_are_found() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    acme.post_to(&mailbox, 1).await;
    let folder = relay.folder.path();
    let stats = typed(folder, "stats").await.ok();
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
            "waiting    1 for 1 account, the oldest since 0 s",
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
    let json: Value = serde_json::from_str(&typed(folder, "stats --json").await.ok()).unwrap();
    assert_eq!(json["queued"], 1);
    let token = std::fs::read_to_string(folder.join("admin-token")).unwrap();
    let page = typed(folder, "stats --page").await.ok();
    assert_eq!(page, format!("http://{}/#token={token}\n", relay.admin()));
    let named_by_file = folder.join("relay.toml");
    std::fs::write(
        &named_by_file,
        format!(
            "data = {:?}\nlisten = \"127.0.0.1:1\"\n",
            folder.display().to_string()
        ),
    )
    .unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealpost-relay"));
    command
        .args(["stats", "--json", "--config"])
        .arg(named_by_file)
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
