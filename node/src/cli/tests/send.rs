//! `send`, with files and `--wait`.

use super::{
    MESSAGE,
    fake::{FakeDaemon, Script, delivery, delivery_event, node},
};
use crate::api::problem::ProblemCode;
use serde_json::Value;

#[tokio::test]
async fn message_with_files_is_sent_to_several() {
    let daemon = FakeDaemon::start(Script::default()).await;
    let (small, empty) = (
        daemon.data.path().join("a.pdf"),
        daemon.data.path().join("b c.txt"),
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
    let text = daemon.output(&line).await;
    assert!(
        text.starts_with(
            "CMG-1111-2222-3333-00001 to Bolt: pending\n\
             CMG-1111-2222-3333-00002 to Cargo: pending\n"
        ),
        "{text}"
    );
    let script = daemon.script();
    assert_eq!(
        script.staged,
        [("a.pdf".to_owned(), 200_000), ("b c.txt".to_owned(), 0)]
    );
    assert_eq!(script.sent[0].attachments, ["ATC-1", "ATC-2"]);
    assert_eq!(script.sent[0].read_by.as_ref().unwrap().to_string(), "1h");
    assert!(script.deleted.is_empty());
}

#[tokio::test]
async fn file_changed_during_upload_is_deleted() {
    let daemon = FakeDaemon::start(Script::default()).await;
    let path = daemon.data.path().join("a.log");
    std::fs::write(&path, "one").unwrap();
    daemon.script().overwritten_on_upload = Some(path.clone());
    let (_, outcome) = daemon
        .run(&["send", "--to", "Bolt", "-a", path.to_str().unwrap()])
        .await;
    assert_eq!(outcome.unwrap_err().code(), "file_changed");
    assert_eq!(daemon.script().deleted, ["ATC-1"]);
    assert!(daemon.script().sent.is_empty());
}

#[tokio::test]
async fn refused_send_leaves_nothing_staged() {
    let daemon = FakeDaemon::start(Script {
        send_error: Some(ProblemCode::NotAccepted),
        ..Script::default()
    })
    .await;
    let path = daemon.data.path().join("a.txt");
    std::fs::write(&path, "one").unwrap();
    let (text, outcome) = daemon
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
    assert_eq!(error.next(), ProblemCode::NotAccepted.next());
    assert_eq!(daemon.script().deleted, ["ATC-1"]);
}

#[tokio::test]
async fn invalid_send_makes_no_request() {
    let daemon = FakeDaemon::start(Script::default()).await;
    let letter = daemon.data.path().join("letter.md");
    std::fs::write(&letter, "x".repeat(1_000_000)).unwrap();
    let six = ["/etc/hostname"; 6];
    for (line, code) in [
        (vec!["-m", " \n"], "text_empty"),
        (vec!["-t", letter.to_str().unwrap()], "text_too_long"),
        ([vec!["-a"], six.to_vec()].concat(), "too_many_files"),
        (vec!["-a", "/etc"], "failed"),
        (vec!["-t", "/nowhere/x"], "failed"),
    ] {
        let (_, outcome) = daemon
            .run(&[vec!["send", "--to", "Bolt"], line.clone()].concat())
            .await;
        assert_eq!(outcome.unwrap_err().code(), code, "{line:?}");
    }
    assert!(daemon.script().requests.is_empty());
}

#[tokio::test]
async fn unreachable_relay_is_reported_after_sending() {
    let mut away = node("unreachable", 0);
    away.relay.reason = Some("connection refused".into());
    let daemon = FakeDaemon::start(Script {
        node: Some(away),
        ..Script::default()
    })
    .await;
    let text = daemon.output(&["send", "--to", "Bolt", "-m", "hi"]).await;
    let expected = "https://relay.example does not respond (connection refused); the message will \
                    be sent once it does.";
    assert_eq!(text.lines().last(), Some(expected));
}

#[tokio::test]
async fn wait_prints_changes_until_all_are_delivered() {
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
        .map(|(step, id)| delivery_event(id, step))
        .collect();
    let daemon = FakeDaemon::start(Script {
        events,
        ..Script::default()
    })
    .await;
    let text = daemon
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
        daemon.script().requests[0].starts_with("GET /v1/events"),
        "it subscribes before it sends"
    );
}

#[tokio::test]
async fn lost_daemon_after_acceptance_warns_against_repeating() {
    let daemon = FakeDaemon::start(Script {
        loses_events_after_send: true,
        ..Script::default()
    })
    .await;
    let (_, outcome) = daemon
        .run(&["send", "--to", "Bolt", "-m", "hi", "--wait", "delivered"])
        .await;
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), "daemon_unreachable");
    let next = error.next();
    assert!(
        next.contains("do not send it again") && next.ends_with(MESSAGE),
        "{next}"
    );
}

#[tokio::test]
async fn wait_fails_on_failure_and_timeout() {
    let events = delivery_event(1, &delivery(MESSAGE, "Bolt", "failed"));
    let daemon = FakeDaemon::start(Script {
        events,
        ..Script::default()
    })
    .await;
    let (_, outcome) = daemon
        .run(&["send", "--to", "Bolt", "-m", "hi", "--wait", "read"])
        .await;
    assert_eq!(outcome.unwrap_err().to_string(), "1 of 1 deliveries failed");
    daemon.script().events = delivery_event(1, &delivery(MESSAGE, "Bolt", "delivered"));
    let (text, outcome) = daemon
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
    assert_eq!(document["items"][0]["deliveries"][0]["status"], "delivered");
}
