//! `files`: list, fetch, save and cancel.

use super::{
    MESSAGE,
    fake::{FakeDaemon, Script, attachment, incoming},
};
use crate::api::model::{Attachment, AttachmentListItem, AttachmentStatus, DangerMark};
use sealpost_node_core::file_type::Danger;
use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

fn event(topic: &str, data: &Value) -> String {
    format!("event: {topic}\ndata: {data}\n\n")
}

fn attachment_event(file: &Attachment) -> String {
    event("attachment", &serde_json::to_value(file).unwrap())
}

fn transfer(attachment: &str, state: &str) -> String {
    let data = json!({
        "attachment": attachment, "direction": "in", "bytes": 3, "total": 5, "bytesPerSecond": 2,
        "state": state
    });
    event("transfer", &data)
}

/// Script with a message whose file is being downloaded and ends in a status.
fn downloading_script(end: AttachmentStatus) -> Script {
    let in_transit = attachment("ATC-1", "report.pdf", 5, AttachmentStatus::Downloading);
    let mut message = incoming(1, "Bolt", "see the file");
    message.attachments = vec![in_transit.clone()];
    let mut delayed = in_transit.clone();
    delayed.reason = Some("the relay does not respond".into());
    let other = attachment("ATC-2", "other.pdf", 5, AttachmentStatus::Ready);
    let ended = attachment("ATC-1", "report.pdf", 5, end);
    let events = [
        attachment_event(&other),
        attachment_event(&delayed),
        transfer("ATC-1", "moving"),
        transfer("ATC-1", "done"),
        attachment_event(&ended),
    ];
    Script {
        messages: vec![message],
        files: vec![in_transit],
        content: b"hello".to_vec(),
        events: events.concat(),
        ..Script::default()
    }
}

#[tokio::test]
async fn saving_delayed_for_downloads() {
    let (daemon, directory) = (
        FakeDaemon::start(downloading_script(AttachmentStatus::Ready)).await,
        tempfile::tempdir().unwrap(),
    );
    let to = directory.path().to_str().unwrap();
    let text = daemon.output(&["files", "save", MESSAGE, "--to", to]).await;
    let saved = directory.path().join("report.pdf");
    let expected = format!(
        "report.pdf (ATC-1): downloading 100 %: the relay does not respond\nSaved {} (5 B).\n",
        saved.display()
    );
    assert_eq!(text, expected);
    assert_eq!(std::fs::read(&saved).unwrap(), b"hello");
    let requests = daemon.script().requests.clone();
    let loaded = requests
        .iter()
        .position(|line| line == "GET /v1/attachments/ATC-1")
        .unwrap();
    assert!(
        requests[loaded - 1].starts_with("GET /v1/events"),
        "it subscribes before it loads"
    );
}

#[tokio::test]
async fn saving_fails_for_failed_and_unfinished_downloads() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().to_str().unwrap();
    for (end, line, next) in [
        (
            AttachmentStatus::Failed,
            vec!["files", "save", MESSAGE, "--to", to],
            "download it again",
        ),
        (
            AttachmentStatus::Ready,
            vec!["files", "save", MESSAGE, "--to", to, "--no-wait"],
            "omit --no-wait",
        ),
    ] {
        let daemon = FakeDaemon::start(downloading_script(end)).await;
        let (_, outcome) = daemon.run(&line).await;
        let error = outcome.unwrap_err();
        assert!(error.next().starts_with(next), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn fetch_requests_a_download_and_delayed() {
    let daemon = FakeDaemon::start(downloading_script(AttachmentStatus::Ready)).await;
    let text = daemon.output(&["files", "fetch", "atc-1"]).await;
    let expected = "\
report.pdf (ATC-1): downloading 100 %: the relay does not respond
report.pdf (ATC-1): ready
Save with: sealpost files save atc-1
";
    assert_eq!(text, expected);
    assert!(
        daemon
            .script()
            .requests
            .contains(&"POST /v1/attachments/ATC-1/download".to_owned())
    );
    let text = daemon
        .output(&["files", "fetch", "ATC-1", "--no-wait", "--json"])
        .await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["items"][0]["status"], "downloading");
}

#[tokio::test]
async fn cancel_prints_the_new_status() {
    let daemon = FakeDaemon::start(downloading_script(AttachmentStatus::Failed)).await;
    let text = daemon.output(&["files", "cancel", "ATC-1"]).await;
    assert_eq!(text, "report.pdf (ATC-1): downloading 100 %\n");
    assert_eq!(
        daemon.script().requests,
        ["POST /v1/attachments/ATC-1/cancel"]
    );
}

fn dangerous(name: &str, dangers: &[Danger]) -> Attachment {
    let mut file = attachment("ATC-1", name, 5, AttachmentStatus::Ready);
    let mark = |&code: &Danger| DangerMark {
        code,
        reason: code.reason().to_owned(),
    };
    file.dangers = dangers.iter().map(mark).collect();
    file
}

#[tokio::test]
async fn dangerous_files_are_marked_and_not_executable() {
    let mut message = incoming(1, "Bolt", "see the file");
    message.attachments = vec![dangerous(
        "invoice\u{202e}fdp.exe",
        &[Danger::Executable, Danger::Disguised],
    )];
    let script = Script {
        messages: vec![message],
        content: b"hello".to_vec(),
        ..Script::default()
    };
    let (daemon, directory) = (
        FakeDaemon::start(script).await,
        tempfile::tempdir().unwrap(),
    );
    let warning =
        "Warning: invoice\u{fffd}fdp.exe (ATC-1): a program; its name hides what it is.\n";
    let text = daemon.output(&["show", MESSAGE]).await;
    assert!(
        text.contains(warning) && text.contains("! application/pdf"),
        "{text}"
    );
    let text = daemon
        .output(&[
            "files",
            "save",
            MESSAGE,
            "--to",
            directory.path().to_str().unwrap(),
        ])
        .await;
    assert!(text.starts_with(warning), "{text}");
    let saved = directory.path().join("invoice_fdp.exe");
    assert_eq!(
        std::fs::metadata(saved).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn file_list_shows_contacts() {
    let listed = |file: Attachment, contacts: &[&str], message_count| AttachmentListItem {
        attachment: file,
        message: Some(MESSAGE.into()),
        contacts: contacts.iter().map(|&contact| contact.into()).collect(),
        message_count,
        created_at: "2026-11-20T14:03:00.000Z".parse().unwrap(),
    };
    let mut outgoing = attachment(
        "ATC-2",
        "plan.pdf",
        100_000_000,
        AttachmentStatus::Uploading,
    );
    outgoing.direction = crate::api::model::Direction::Out;
    outgoing.transferred = 25_000_000;
    let mut unsent = attachment("ATC-3", "draft.txt", 0, AttachmentStatus::Staged);
    unsent.content_type = "text/plain".into();
    let items = vec![
        listed(unsent, &[], 0),
        listed(outgoing, &["Bolt", "Cargo"], 200),
        listed(dangerous("setup.exe", &[Danger::Executable]), &["Bolt"], 1),
    ];
    let daemon = FakeDaemon::start(Script {
        listed: items,
        ..Script::default()
    })
    .await;
    let expected = "\
FILE   WITH                  NAME       TYPE               SIZE      STATUS
───────────────────────────────────────────────────────────────────────────────────
ATC-3  -                     draft.txt  text/plain              0 B  staged
ATC-2  to Bolt and 199 more  plan.pdf   application/pdf    100.0 MB  uploading 25 %
ATC-1  from Bolt             setup.exe  ! application/pdf       5 B  ready
";
    let (text, outcome) = daemon.run_with_width(&["files"], 200).await;
    outcome.unwrap();
    assert_eq!(text, expected);
    assert_eq!(
        daemon.script().requests,
        ["GET /v1/attachments?order=desc&limit=50"]
    );
    assert!(
        daemon
            .output(&["files", "list", "--json"])
            .await
            .contains("\"messageCount\": 200")
    );
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

fn names(directory: &tempfile::TempDir) -> Vec<PathBuf> {
    std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[tokio::test]
async fn saving_uses_safe_names_and_never_overwrites() {
    let (daemon, directory) = (
        FakeDaemon::start(with_file(5)).await,
        tempfile::tempdir().unwrap(),
    );
    let to = directory.path().to_str().unwrap();
    let saved = directory.path().join("_report.pdf");
    daemon.output(&["files", "save", MESSAGE, "--to", to]).await;
    assert_eq!(std::fs::read(&saved).unwrap(), b"hello");
    std::fs::write(&saved, "mine").unwrap();
    let (_, outcome) = daemon.run(&["files", "save", MESSAGE, "--to", to]).await;
    assert!(outcome.unwrap_err().next().contains("--force"));
    assert_eq!(std::fs::read(&saved).unwrap(), b"mine");
    let text = daemon
        .output(&["files", "save", MESSAGE, "--to", to, "--force", "--json"])
        .await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["items"][0]["path"], saved.to_str().unwrap());
    assert_eq!(
        (std::fs::read(&saved).unwrap(), names(&directory).len()),
        (b"hello".to_vec(), 1)
    );
}

#[tokio::test]
async fn truncated_download_leaves_no_file() {
    let (daemon, directory) = (
        FakeDaemon::start(with_file(6)).await,
        tempfile::tempdir().unwrap(),
    );
    let (_, outcome) = daemon
        .run(&[
            "files",
            "save",
            MESSAGE,
            "--to",
            directory.path().to_str().unwrap(),
        ])
        .await;
    assert!(outcome.is_err());
    assert!(names(&directory).is_empty());
}
