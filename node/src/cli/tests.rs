//! The commands against a daemon that answers from a script: what they print, what they ask, what they leave behind.

mod fake;
mod files;

use super::{args::WatchArgs, client::Client, commands, console::Format};
use crate::api::{model::AttachmentStatus, problem::ProblemCode};
use fake::{Fake, Script, attachment, connection, console, delivery, incoming, node, outgoing};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

const MESSAGE: &str = "CMG-1111-2222-3333-00001";

#[tokio::test]
async fn connections_are_a_table_with_what_to_do() {
    let mut asks = connection("CON-4444-5555-6666", "Cargo\u{1b}[2J", "pending", "in");
    asks["note"] = json!("it is us\nreally");
    let connections = vec![
        connection("CON-1111-2222-3333", "Bolt", "accepted", "out"),
        asks,
    ];
    let fake = Fake::start(Script {
        connections,
        ..Script::default()
    })
    .await;
    let expected = "\
ID                  CONTACT    STATUS    VERIFIED  HEALTH  LAST CONTACT
───────────────────────────────────────────────────────────────────────
CON-1111-2222-3333  Bolt       accepted  no        ok      1 h ago
CON-4444-5555-6666  Cargo␛[2J  asks you  no        ok      1 h ago

Cargo␛[2J asks for a connection, and says: it is us␊really
  sealpost connections accept CON-4444-5555-6666   or   sealpost connections reject CON-4444-5555-6666
";
    assert_eq!(fake.output(&["connections"]).await, expected);
}

#[tokio::test]
async fn the_inbox_fits_80_and_120_columns() {
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
    let fake = Fake::start(Script {
        messages,
        ..Script::default()
    })
    .await;
    for width in [80, 120] {
        let (text, outcome) = fake.run_wide(&["inbox"], width).await;
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
        fake.script().asked[0],
        "GET /v1/messages?direction=in&unread=true&order=desc&limit=50"
    );
}

#[tokio::test]
async fn a_message_cannot_act_on_the_terminal() {
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
    let fake = Fake::start(Script {
        messages: vec![hostile],
        ..Script::default()
    })
    .await;
    let expected = "\
Message  CMG-1111-2222-3333-00001
From     Bolt\u{fffd}
Sent     2026-11-20 14:02:00 UTC (3 min ago)

# Hi

␛]0;owned␇ ␛[2J bank <https://evil.example>

From     Acme

FILE   NAME             TYPE             SIZE  STATUS
─────────────────────────────────────────────────────
ATC-1  invoice\u{fffd}fdp.exe  application/pdf   5 B  ready

Save the files with: sealpost files save CMG-1111-2222-3333-00001
Mark it as read, and tell the sender, with: sealpost read CMG-1111-2222-3333-00001
";
    assert_eq!(fake.output(&["show", MESSAGE]).await, expected);
}

#[tokio::test]
async fn a_message_goes_to_several_with_files() {
    let fake = Fake::start(Script::default()).await;
    let (small, empty) = (
        fake.data.path().join("a.pdf"),
        fake.data.path().join("b c.txt"),
    );
    std::fs::write(&small, vec![7; 200_000]).unwrap();
    std::fs::write(&empty, "").unwrap();
    let files = [small.to_str().unwrap(), empty.to_str().unwrap()];
    let line = [
        "send",
        "--to",
        "Bolt",
        "Cargo",
        "-m",
        "hi",
        "--action-required",
        "--read-by",
        "1h",
        "-a",
        files[0],
        files[1],
    ];
    let text = fake.output(&line).await;
    assert!(
        text.starts_with("CMG-1111-2222-3333-00001 to Bolt: pending\nCMG-1111-2222-3333-00002 to Cargo: pending\n"),
        "{text}"
    );
    let script = fake.script();
    assert_eq!(
        script.staged,
        [("a.pdf".to_owned(), 200_000), ("b c.txt".to_owned(), 0)]
    );
    assert_eq!(script.sent[0].attachments, ["ATC-1", "ATC-2"]);
    assert_eq!(
        script.sent[0].read_by.unwrap().to_string(),
        "2026-11-20T15:05:00.000Z"
    );
    assert!(script.dropped.is_empty());
}

#[tokio::test]
async fn a_file_that_changes_is_taken_back() {
    let fake = Fake::start(Script::default()).await;
    let path = fake.data.path().join("a.log");
    std::fs::write(&path, "one").unwrap();
    fake.script().disturbs = Some(path.clone());
    let (_, outcome) = fake
        .run(&["send", "--to", "Bolt", "-a", path.to_str().unwrap()])
        .await;
    assert_eq!(outcome.unwrap_err().code(), "file_changed");
    assert_eq!(fake.script().dropped, ["ATC-1"]);
    assert!(fake.script().sent.is_empty());
}

#[tokio::test]
async fn a_refused_send_leaves_nothing_staged() {
    let fake = Fake::start(Script {
        refuses_sends: Some(ProblemCode::NotAccepted),
        ..Script::default()
    })
    .await;
    let path = fake.data.path().join("a.txt");
    std::fs::write(&path, "one").unwrap();
    let (text, outcome) = fake
        .run(&[
            "send",
            "--to",
            "Bolt",
            "-m",
            "x",
            "-a",
            path.to_str().unwrap(),
        ])
        .await;
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), text.as_str()), ("not_accepted", ""));
    assert!(error.next().contains("sealpost connections accept"));
    assert_eq!(fake.script().dropped, ["ATC-1"]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_anything_is_asked() {
    let fake = Fake::start(Script::default()).await;
    let letter = fake.data.path().join("letter.md");
    std::fs::write(&letter, "x".repeat(1_000_000)).unwrap();
    let six = ["/etc/hostname"; 6];
    for (line, code) in [
        (vec!["-m", " \n"], "text_empty"),
        (vec!["-t", letter.to_str().unwrap()], "text_too_long"),
        ([vec!["-a"], six.to_vec()].concat(), "too_many_files"),
        (vec!["-a", "/etc"], "refused"),
        (vec!["-t", "/nowhere/x"], "refused"),
    ] {
        let (_, outcome) = fake
            .run(&[vec!["send", "--to", "Bolt"], line.clone()].concat())
            .await;
        assert_eq!(outcome.unwrap_err().code(), code, "{line:?}");
    }
    assert!(fake.script().asked.is_empty());
}

#[tokio::test]
async fn a_relay_that_is_away_is_said_at_once() {
    let mut away = node("unreachable", 0);
    away.relay.reason = Some("connection refused".into());
    let fake = Fake::start(Script {
        node: Some(away),
        ..Script::default()
    })
    .await;
    let text = fake.output(&["send", "--to", "Bolt", "-m", "hi"]).await;
    let expected = "https://relay.example does not answer (connection refused); it goes out as soon as it does.";
    assert_eq!(text.lines().last(), Some(expected));
}

fn event(id: u64, delivery: &crate::api::model::Delivery) -> String {
    format!(
        "id: {id}\nevent: delivery\ndata: {}\n\n",
        serde_json::to_string(delivery).unwrap()
    )
}

#[tokio::test]
async fn waiting_shows_each_step_and_ends_with_the_last_recipient() {
    let other = "CMG-1111-2222-3333-00002";
    let mut retrying = delivery(MESSAGE, "Bolt", "retrying");
    retrying.reason = Some("connection refused".into());
    retrying.attempts = 2;
    retrying.next_attempt_at = Some("2026-11-20T14:05:05.000Z".parse().unwrap());
    let steps = [
        retrying,
        delivery(other, "Cargo", "read"),
        delivery("CMG-9", "Dock", "sent"),
        delivery(MESSAGE, "Bolt", "delivered"),
    ];
    let events = steps
        .iter()
        .zip(1..)
        .map(|(step, id)| event(id, step))
        .collect();
    let fake = Fake::start(Script {
        events,
        ..Script::default()
    })
    .await;
    let text = fake
        .output(&[
            "send",
            "--to",
            "Bolt",
            "Cargo",
            "-m",
            "hi",
            "--wait",
            "delivered",
        ])
        .await;
    let steps: Vec<&str> = text.lines().skip(3).collect();
    let expected = [
        "CMG-1111-2222-3333-00001 to Bolt: retrying (connection refused; attempt 2; next in 5 s)",
        "CMG-1111-2222-3333-00002 to Cargo: read",
        "CMG-1111-2222-3333-00001 to Bolt: delivered",
    ];
    assert_eq!(steps, expected);
    assert!(
        fake.script().asked[0].starts_with("GET /v1/events"),
        "it listens before it sends"
    );
}

#[tokio::test]
async fn waiting_ends_in_an_error_when_it_fails_or_takes_too_long() {
    let events = event(1, &delivery(MESSAGE, "Bolt", "failed"));
    let fake = Fake::start(Script {
        events,
        ..Script::default()
    })
    .await;
    let (_, outcome) = fake
        .run(&["send", "--to", "Bolt", "-m", "hi", "--wait", "read"])
        .await;
    assert_eq!(outcome.unwrap_err().to_string(), "1 of 1 deliveries failed");
    fake.script().events = event(1, &delivery(MESSAGE, "Bolt", "delivered"));
    let (text, outcome) = fake
        .run(&[
            "send",
            "--to",
            "Bolt",
            "-m",
            "hi",
            "--wait",
            "read",
            "--timeout",
            "3s",
            "--json",
        ])
        .await;
    assert_eq!(outcome.unwrap_err().to_string(), "not read yet: Bolt");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["items"][0]["delivery"][0]["status"], "delivered");
}

fn with_file(size: u64) -> Script {
    let mut message = incoming(1, "Bolt", "see the file");
    message.attachments = vec![attachment(
        "ATC-1",
        "../report.pdf",
        size,
        AttachmentStatus::Ready,
    )];
    Script {
        messages: vec![message],
        content: b"hello".to_vec(),
        ..Script::default()
    }
}

fn names(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[tokio::test]
async fn files_are_saved_under_a_safe_name_and_never_over_another() {
    let (fake, folder) = (
        Fake::start(with_file(5)).await,
        tempfile::tempdir().unwrap(),
    );
    let to = folder.path().to_str().unwrap();
    let saved = folder.path().join("_report.pdf");
    fake.output(&["files", "save", MESSAGE, "--to", to]).await;
    assert_eq!(std::fs::read(&saved).unwrap(), b"hello");
    std::fs::write(&saved, "mine").unwrap();
    let (_, outcome) = fake.run(&["files", "save", MESSAGE, "--to", to]).await;
    assert!(outcome.unwrap_err().next().contains("--force"));
    assert_eq!(std::fs::read(&saved).unwrap(), b"mine");
    let text = fake
        .output(&["files", "save", MESSAGE, "--to", to, "--force", "--json"])
        .await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["items"][0]["path"], saved.to_str().unwrap());
    assert_eq!(
        (std::fs::read(&saved).unwrap(), names(&folder).len()),
        (b"hello".to_vec(), 1)
    );
}

#[tokio::test]
async fn a_wrong_file_leaves_nothing_behind() {
    let (fake, folder) = (
        Fake::start(with_file(6)).await,
        tempfile::tempdir().unwrap(),
    );
    let (_, outcome) = fake
        .run(&[
            "files",
            "save",
            MESSAGE,
            "--to",
            folder.path().to_str().unwrap(),
        ])
        .await;
    assert!(outcome.is_err());
    assert!(names(&folder).is_empty());
}

#[tokio::test]
async fn status_shows_the_node_what_is_on_its_way_and_a_wrong_clock() {
    let messages = vec![outgoing(1, "Bolt", "hi")];
    let fake = Fake::start(Script {
        node: Some(node("connected", 300_000)),
        messages,
        ..Script::default()
    })
    .await;
    let expected = "\
NODE         Acme
─────────────────────────────────────────────
relay        https://relay.example, connected
delivery     the node asks the relay
unread       2
on its way   1
fingerprint  0123abcd
data folder  /srv/acme
local API    http://127.0.0.1:4680
version      0.1.0

This machine's clock is 300 s behind the relay's. The node corrects it for itself; set the clock.

MESSAGE                   TO    STATUS   SINCE      DETAIL
──────────────────────────────────────────────────────────
CMG-1111-2222-3333-00001  Bolt  pending  2 min ago
";
    assert_eq!(fake.output(&["status"]).await, expected);
}

#[tokio::test]
async fn the_safety_number_is_shown_to_be_compared() {
    let number = (0..12)
        .map(|group| format!("{group:05}"))
        .collect::<Vec<_>>()
        .join(" ");
    let safety = json!({"number": number, "qr": "x", "verified": false});
    let fake = Fake::start(Script {
        safety,
        ..Script::default()
    })
    .await;
    let text = fake
        .output(&["connections", "verify", "Bolt & Sons/x"])
        .await;
    assert!(
        text.starts_with("    00000  00001  00002  00003\n    00004  "),
        "{text}"
    );
    assert_eq!(
        fake.script().asked,
        ["GET /v1/connections/Bolt%20&%20Sons%2Fx/safety-number"]
    );
}

#[tokio::test]
async fn every_json_output_is_one_document() {
    let script = Script {
        connections: vec![connection("CON-1", "Bolt", "accepted", "in")],
        messages: vec![incoming(1, "Bolt", "hi\u{9b}31m")],
        node: Some(node("unreachable", 0)),
        safety: json!({"number": "1 2", "qr": "x", "verified": true}),
        ..Script::default()
    };
    let fake = Fake::start(script).await;
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
        let text = fake.output(&[line.clone(), vec!["--json"]].concat()).await;
        assert!(
            serde_json::from_str::<Value>(&text).is_ok(),
            "{line:?}: {text}"
        );
        assert!(!text.contains('\u{9b}'), "{line:?}");
    }
}

#[tokio::test]
async fn an_unknown_message_is_said_in_words() {
    let fake = Fake::start(Script::default()).await;
    let (_, outcome) = fake.run(&["show", "CMG-9"]).await;
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "there is no message CMG-9"
    );
}

#[tokio::test]
async fn a_daemon_that_stopped_is_said_with_the_command_that_starts_it() {
    let fake = Fake::start(Script::default()).await;
    // Bound, so that nobody else gets it, and not listening.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    std::fs::write(fake.data.path().join(super::client::ADDRESS_FILE), address).unwrap();
    let (_, outcome) = fake.run(&["inbox"]).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), "daemon_unreachable");
    assert!(
        error.next().starts_with("start it: sealpost --data ") && error.next().ends_with(" serve")
    );
}

#[tokio::test]
async fn a_wrong_token_is_refused() {
    let fake = Fake::start(Script::default()).await;
    std::fs::write(fake.data.path().join(super::client::TOKEN_FILE), "other").unwrap();
    let client = Client::open(fake.data.path()).unwrap();
    let refused = client.get::<Value>(&["v1", "node"], &()).await;
    assert_eq!(refused.unwrap_err().code(), "unauthorized");
}

#[tokio::test]
async fn watch_prints_a_line_for_each_event() {
    let node = serde_json::to_string(&node("unreachable", 0)).unwrap();
    let message = serde_json::to_string(&incoming(1, "Bolt", "hi\nthere")).unwrap();
    let events = format!(
        "{}event: transfer\ndata: {{\"attachment\": \"ATC-1\"}}\n\nid: 2\nevent: node\ndata: {node}\n\nid: 3\nevent: message\ndata: {message}\n\n",
        event(1, &delivery(MESSAGE, "Bolt", "sent"))
    );
    let fake = Fake::start(Script {
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
            outcome = commands::watch::run(&args, fake.data.path(), &mut console) => outcome.unwrap(),
            in_time = tokio::time::timeout(Duration::from_secs(60), printed) => in_time.expect("it printed all lines"),
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
