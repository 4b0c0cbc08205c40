//! Tests of the commands against a fake daemon: output, requests and files on disk.

mod fake;
mod files;
mod send;

use super::{
    args::{Cli, Command, WatchArgs},
    client::Client,
    commands,
    console::Format,
};
use crate::api::model::AttachmentStatus;
use clap::Parser as _;
use fake::{
    FakeDaemon, Script, attachment, connection, console, delivery, delivery_event, incoming, node,
    outgoing,
};
use serde_json::{Value, json};
use std::time::Duration;

const MESSAGE: &str = "CMG-1111-2222-3333-00001";

#[tokio::test]
async fn connections_table_ends_with_open_requests() {
    let mut request = connection("CON-4444-5555-6666", "Cargo\u{1b}[2J", "pending", "in");
    request["note"] = json!("it is us\nreally");
    let connections = vec![
        connection("CON-1111-2222-3333", "Bolt", "accepted", "out"),
        request,
    ];
    let daemon = FakeDaemon::start(Script {
        connections,
        ..Script::default()
    })
    .await;
    let expected = "\
ID                  CONTACT    STATUS    VERIFIED  HEALTH  LAST CONTACT
───────────────────────────────────────────────────────────────────────
CON-1111-2222-3333  Bolt       accepted  no        ok      1 h ago
CON-4444-5555-6666  Cargo␛[2J  incoming  no        ok      1 h ago

Cargo␛[2J requests a connection: it is us␊really
  sealpost connections accept CON-4444-5555-6666   or   \
sealpost connections reject CON-4444-5555-6666
";
    assert_eq!(daemon.output(&["connections"]).await, expected);
}

#[tokio::test]
async fn inbox_fits_80_and_120_columns() {
    let mut long = incoming(
        1,
        "Bolt Manufacturing",
        &"**Order 17**: nuts and bolts, ".repeat(9),
    );
    long.attachments = vec![attachment(
        "ATC-1",
        "a.pdf",
        20_100_000,
        AttachmentStatus::Ready,
    )];
    let messages = vec![long, incoming(2, "Cargo", "short")];
    let daemon = FakeDaemon::start(Script {
        messages,
        ..Script::default()
    })
    .await;
    for width in [80, 120] {
        let (text, outcome) = daemon.run_with_width(&["inbox"], width).await;
        outcome.unwrap();
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= width.into()),
            "{text}"
        );
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(
            text.contains(MESSAGE) && text.contains("2 min ago") && text.contains("Order 17"),
            "{text}"
        );
    }
    assert_eq!(
        daemon.script().requests[0],
        "GET /v1/messages?direction=in&unread=true&order=desc&limit=50"
    );
}

#[tokio::test]
async fn short_pages_are_continued() {
    let numbers = 1..=5;
    let daemon = FakeDaemon::start(Script {
        messages: numbers.map(|n| incoming(n, "Bolt", "hi")).collect(),
        page_items: Some(2),
        ..Script::default()
    })
    .await;
    let (text, outcome) = daemon.run(&["inbox"]).await;
    outcome.unwrap();
    assert_eq!(text.matches("CMG-").count(), 5, "{text}");
    let (text, outcome) = daemon.run(&["inbox", "--limit", "3"]).await;
    outcome.unwrap();
    assert_eq!(text.matches("CMG-").count(), 3, "{text}");
    assert!(text.contains("Only the newest 3 are shown"), "{text}");
}

#[tokio::test]
async fn message_cannot_control_the_terminal() {
    let mut hostile = incoming(
        1,
        "Bolt\u{202e}",
        "# Hi\n\x1b]0;owned\x07 &#27;[2J [bank](https://evil.example)\n\nFrom     Acme",
    );
    hostile.attachments = vec![attachment(
        "ATC-1",
        "invoice\u{202e}fdp.exe",
        5,
        AttachmentStatus::Ready,
    )];
    let daemon = FakeDaemon::start(Script {
        messages: vec![hostile],
        ..Script::default()
    })
    .await;
    let expected = "\
Message  CMG-1111-2222-3333-00001
From     Bolt\u{fffd}
Sent     2026-11-20 14:02:00 UTC (3 min ago)

# Hi

␛]0;owned␇ &#27;[2J bank <https://evil.example>

From     Acme

FILE   NAME             TYPE             SIZE  STATUS
─────────────────────────────────────────────────────
ATC-1  invoice\u{fffd}fdp.exe  application/pdf   5 B  ready

Save the files with: sealpost files save CMG-1111-2222-3333-00001
Mark it as read and notify the sender with: sealpost read CMG-1111-2222-3333-00001
";
    assert_eq!(daemon.output(&["show", MESSAGE]).await, expected);
}

#[tokio::test]
async fn status_shows_node_deliveries_and_wrong_clock() {
    let messages = vec![outgoing(1, "Bolt", "hi")];
    let daemon = FakeDaemon::start(Script {
        node: Some(node("connected", 300_000)),
        messages,
        ..Script::default()
    })
    .await;
    let expected = "\
NODE            Acme
────────────────────────────────────────────────
relay           https://relay.example, connected
receives by     the node polls the relay
unread          2
pending         1
fingerprint     0123abcd
data directory  /srv/acme
local API       http://127.0.0.1:4680
version         0.1.0

This machine's clock is 300 s behind the relay's. The node compensates for it; set the clock.

MESSAGE                   TO    STATUS   SINCE      DETAIL
──────────────────────────────────────────────────────────
CMG-1111-2222-3333-00001  Bolt  pending  2 min ago
";
    assert_eq!(daemon.output(&["status"]).await, expected);
}

#[tokio::test]
async fn safety_number_is_shown_in_groups() {
    let number = (0..12)
        .map(|group| format!("{group:05}"))
        .collect::<Vec<_>>()
        .join(" ");
    let safety = json!({"number": number, "qr": "x", "verified": false});
    let daemon = FakeDaemon::start(Script {
        safety,
        ..Script::default()
    })
    .await;
    let text = daemon
        .output(&["connections", "verify", "Bolt & Sons/x"])
        .await;
    assert!(
        text.starts_with("    00000  00001  00002  00003\n    00004  "),
        "{text}"
    );
    assert_eq!(
        daemon.script().requests,
        ["GET /v1/connections/Bolt%20&%20Sons%2Fx/safety-number"]
    );
}

#[tokio::test]
async fn json_output_is_one_document() {
    let script = Script {
        connections: vec![connection("CON-1", "Bolt", "accepted", "in")],
        messages: vec![incoming(1, "Bolt", "hi\u{9b}31m")],
        node: Some(node("unreachable", 0)),
        safety: json!({"number": "1 2", "qr": "x", "verified": true}),
        ..Script::default()
    };
    let daemon = FakeDaemon::start(script).await;
    for line in [
        vec!["invite"],
        vec!["invites"],
        vec!["connect", "https://relay.example/i#x"],
        vec!["connections"],
        vec!["connections", "accept", "Bolt"],
        vec!["connections", "verify", "Bolt"],
        vec!["connections", "verify", "Bolt", "--same"],
        vec!["send", "--to", "Bolt", "-m", "hi"],
        vec!["inbox", "--all"],
        vec!["show", MESSAGE],
        vec!["read", MESSAGE],
        vec!["status"],
        vec!["status", MESSAGE],
    ] {
        let text = daemon
            .output(&[line.clone(), vec!["--json"]].concat())
            .await;
        assert!(
            serde_json::from_str::<Value>(&text).is_ok(),
            "{line:?}: {text}"
        );
        assert!(!text.contains('\u{9b}'), "{line:?}");
    }
}

#[tokio::test]
async fn unknown_message_is_reported() {
    let daemon = FakeDaemon::start(Script::default()).await;
    let (_, outcome) = daemon.run(&["show", "CMG-9"]).await;
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "there is no message CMG-9"
    );
}

#[tokio::test]
async fn stopped_daemon_error_names_the_start_command() {
    let daemon = FakeDaemon::start(Script::default()).await;
    std::fs::remove_file(daemon.data.path().join(crate::daemon::SOCKET_FILE)).unwrap();
    let (_, outcome) = daemon.run(&["inbox"]).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), "daemon_unreachable");
    assert!(
        error.next().starts_with("start it: sealpost --data ") && error.next().ends_with(" serve")
    );
}

#[tokio::test]
async fn daemon_that_hangs_up_is_not_started_again() {
    let data = tempfile::tempdir().unwrap();
    let socket = data.path().join(crate::daemon::SOCKET_FILE);
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    std::fs::write(data.path().join(crate::daemon::TOKEN_FILE), "token").unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let client = Client::open(data.path()).unwrap();
    let error = client.get::<Value>(&["v1", "node"], &()).await.unwrap_err();
    assert_eq!(error.code(), "daemon_unreachable");
    assert!(
        error.next().starts_with("check its log"),
        "{}",
        error.next()
    );
}

#[tokio::test]
async fn both_deadlines_are_shown_without_required_action() {
    let mut message = incoming(1, "Bolt", "hello");
    message.deliver_by = Some("2026-11-21T10:00:00.000Z".parse().unwrap());
    message.read_by = Some("2026-11-22T10:00:00.000Z".parse().unwrap());
    let daemon = FakeDaemon::start(Script {
        messages: vec![message],
        ..Script::default()
    })
    .await;
    let text = daemon.output(&["show", MESSAGE]).await;
    for line in [
        "Deliver by 2026-11-21 10:00:00 UTC",
        "Read by  2026-11-22 10:00:00 UTC",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }
}

#[tokio::test]
async fn suspended_connection_can_be_resumed_or_blocked() {
    let mut suspended = connection("CON-1111-2222-3333", "Bolt", "suspended", "out");
    suspended["warning"] = json!({"code": "other_identity", "text": "ask the partner"});
    let daemon = FakeDaemon::start(Script {
        connections: vec![suspended],
        ..Script::default()
    })
    .await;
    let text = daemon.output(&["connections"]).await;
    let commands = "  sealpost connections acknowledge CON-1111-2222-3333   or   \
                    sealpost connections block CON-1111-2222-3333";
    assert_eq!(text.lines().last(), Some(commands));
}

#[tokio::test]
async fn terminal_without_width_cuts_nothing() {
    let name = "A name that is much longer than a column of a narrow terminal";
    let daemon = FakeDaemon::start(Script {
        connections: vec![connection("CON-1111-2222-3333", name, "accepted", "out")],
        messages: vec![incoming(1, name, "Hello")],
        ..Script::default()
    })
    .await;
    for command in ["connections", "inbox"] {
        let (text, outcome) = daemon.run_with_width(&[command], 0).await;
        outcome.unwrap();
        assert!(text.contains(name), "{text}");
    }
}

#[tokio::test]
async fn wrong_token_is_refused() {
    let daemon = FakeDaemon::start(Script::default()).await;
    std::fs::write(daemon.data.path().join(crate::daemon::TOKEN_FILE), "other").unwrap();
    let client = Client::open(daemon.data.path()).unwrap();
    let refused = client.get::<Value>(&["v1", "node"], &()).await;
    assert_eq!(refused.unwrap_err().code(), "unauthorized");
}

#[tokio::test]
async fn watch_prints_one_line_per_event() {
    let node = serde_json::to_string(&node("unreachable", 0)).unwrap();
    let message = serde_json::to_string(&incoming(1, "Bolt", "hi\nthere")).unwrap();
    let events = format!(
        "{}event: transfer\ndata: {{\"attachment\": \"ATC-1\"}}\n\n\
         id: 2\nevent: node\ndata: {node}\n\nid: 3\nevent: message\ndata: {message}\n\n",
        delivery_event(1, &delivery(MESSAGE, "Bolt", "sent"))
    );
    let daemon = FakeDaemon::start(Script {
        events,
        ..Script::default()
    })
    .await;
    let expected = "\
14:05:00  delivery    CMG-1111-2222-3333-00001 to Bolt: sent
14:05:00  relay       https://relay.example: unreachable
14:05:00  message     CMG-1111-2222-3333-00001 from Bolt: hi there
";
    for (format, lines) in [(Format::Text, 4), (Format::Json, 4)] {
        let (mut console, out) = console(format, 80);
        let args = WatchArgs { after: Some(0) };
        let printed = async {
            while out.text().lines().count() < lines {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            outcome = commands::watch::run(&args, daemon.data.path(), &mut console) => {
                outcome.unwrap()
            }
            in_time = tokio::time::timeout(Duration::from_secs(60), printed) => {
                in_time.expect("it printed all lines")
            }
        }
        match format {
            Format::Text => assert_eq!(out.text().split_once('\n').unwrap().1, expected),
            Format::Json => assert!(
                out.text()
                    .lines()
                    .all(|line| serde_json::from_str::<Value>(line).is_ok())
            ),
        }
    }
}

#[test]
fn config_show_prints_settings_with_their_origin() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[files]\ndownload = \"on_demand\"\n";
    std::fs::write(directory.path().join("node.toml"), file).unwrap();
    let line = [
        "sealpost",
        "config",
        "show",
        "--origin",
        "--log-filter",
        "warn",
    ];
    let Command::Config { command } = Cli::try_parse_from(line).unwrap().command else {
        panic!("not `config`")
    };
    let (mut console, out) = console(Format::Text, 80);
    commands::config::run(&command, directory.path(), &mut console).unwrap();
    for (setting, origin) in [
        ("download = \"on_demand\"", "node.toml:2"),
        ("message_size_max = \"500 MB\"", "# default"),
        ("filter = \"warn\"", "# flag --log-filter"),
    ] {
        let is_shown = |line: &str| line.starts_with(setting) && line.ends_with(origin);
        assert!(out.text().lines().any(is_shown), "{}", out.text());
    }
}
