//! Files: listed, waited for, saved, stopped.

use super::{
    MESSAGE,
    fake::{Fake, Script, attachment, incoming},
};
use crate::api::model::{Attachment, AttachmentStatus, DangerMark, ListedAttachment};
use sealpost_node_core::file_type::Danger;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

fn event(topic: &str, data: &Value) -> String {
    format!("event: {topic}\ndata: {data}\n\n")
}

fn attachment_event(file: &Attachment) -> String {
    event("attachment", &serde_json::to_value(file).unwrap())
}

fn transfer(attachment: &str, state: &str) -> String {
    let data = json!({
        "attachment": attachment, "direction": "in", "bytes": 3, "total": 5, "bytesPerSecond": 2, "state": state
    });
    event("transfer", &data)
}

/// A message whose file is on its way, and comes.
fn coming(end: AttachmentStatus) -> Script {
    let on_its_way = attachment("ATC-1", "report.pdf", 5, AttachmentStatus::Downloading);
    let mut message = incoming(1, "Bolt", "see the file");
    message.attachments = vec![on_its_way.clone()];
    let mut waits = on_its_way.clone();
    waits.reason = Some("the relay does not answer".into());
    let other = attachment("ATC-2", "other.pdf", 5, AttachmentStatus::Ready);
    let ended = attachment("ATC-1", "report.pdf", 5, end);
    let events = [
        attachment_event(&other),
        attachment_event(&waits),
        transfer("ATC-1", "moving"),
        transfer("ATC-1", "done"),
        attachment_event(&ended),
    ];
    Script {
        messages: vec![message],
        files: vec![on_its_way],
        content: b"hello".to_vec(),
        events: events.concat(),
        ..Script::default()
    }
}

#[tokio::test]
async fn saving_waits_for_what_is_on_its_way() {
    let (fake, folder) = (
        Fake::start(coming(AttachmentStatus::Ready)).await,
        tempfile::tempdir().unwrap(),
    );
    let to = folder.path().to_str().unwrap();
    let text = fake.output(&["files", "save", MESSAGE, "--to", to]).await;
    let saved = folder.path().join("report.pdf");
    let expected = format!(
        "report.pdf (ATC-1): downloading 100 %: the relay does not answer\nSaved {} (5 B).\n",
        saved.display()
    );
    assert_eq!(text, expected);
    assert_eq!(std::fs::read(&saved).unwrap(), b"hello");
    let asked = fake.script().asked.clone();
    let looked = asked
        .iter()
        .position(|line| line == "GET /v1/attachments/ATC-1")
        .unwrap();
    assert!(
        asked[looked - 1].starts_with("GET /v1/events"),
        "it listens before it looks"
    );
}

#[tokio::test]
async fn saving_says_when_a_file_does_not_come_or_nobody_wants_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    for (end, line, next) in [
        (
            AttachmentStatus::Failed,
            vec!["files", "save", MESSAGE, "--to", to],
            "ask the sender to send it again",
        ),
        (
            AttachmentStatus::Ready,
            vec!["files", "save", MESSAGE, "--to", to, "--no-wait"],
            "leave out --no-wait",
        ),
    ] {
        let fake = Fake::start(coming(end)).await;
        let (_, outcome) = fake.run(&line).await;
        let error = outcome.unwrap_err();
        assert!(error.next().starts_with(next), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn fetching_asks_for_the_file_and_waits_for_it() {
    let fake = Fake::start(coming(AttachmentStatus::Ready)).await;
    let text = fake.output(&["files", "fetch", "atc-1"]).await;
    let expected = "\
report.pdf (ATC-1): downloading 100 %: the relay does not answer
report.pdf (ATC-1): ready
Save with: sealpost files save atc-1
";
    assert_eq!(text, expected);
    assert!(
        fake.script()
            .asked
            .contains(&"POST /v1/attachments/ATC-1/download".to_owned())
    );
    let text = fake
        .output(&["files", "fetch", "ATC-1", "--no-wait", "--json"])
        .await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["items"][0]["status"], "downloading");
}

#[tokio::test]
async fn a_file_is_stopped() {
    let fake = Fake::start(coming(AttachmentStatus::Failed)).await;
    let text = fake.output(&["files", "cancel", "ATC-1"]).await;
    assert_eq!(text, "report.pdf (ATC-1): downloading 100 %\n");
    assert_eq!(fake.script().asked, ["POST /v1/attachments/ATC-1/cancel"]);
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
async fn what_is_dangerous_is_said_before_it_is_saved_and_cannot_run() {
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
    let (fake, folder) = (Fake::start(script).await, tempfile::tempdir().unwrap());
    let warning =
        "Careful with invoice\u{fffd}fdp.exe (ATC-1): a program; its name hides what it is.\n";
    let text = fake.output(&["show", MESSAGE]).await;
    assert!(
        text.contains(warning) && text.contains("! application/pdf"),
        "{text}"
    );
    let text = fake
        .output(&[
            "files",
            "save",
            MESSAGE,
            "--to",
            folder.path().to_str().unwrap(),
        ])
        .await;
    assert!(text.starts_with(warning), "{text}");
    let saved = folder.path().join("invoice_fdp.exe");
    assert_eq!(
        std::fs::metadata(saved).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn files_are_listed_with_whom_they_are_shared() {
    let listed = |file: Attachment, contacts: &[&str], message_count| ListedAttachment {
        attachment: file,
        message: Some(MESSAGE.into()),
        contacts: contacts.iter().map(|&contact| contact.into()).collect(),
        message_count,
        created_at: "2026-11-20T14:03:00.000Z".parse().unwrap(),
    };
    let mut ours = attachment(
        "ATC-2",
        "plan.pdf",
        100_000_000,
        AttachmentStatus::Uploading,
    );
    ours.direction = crate::api::model::Direction::Out;
    ours.transferred = 25_000_000;
    let mut unsent = attachment("ATC-3", "draft.txt", 0, AttachmentStatus::Staged);
    unsent.content_type = "text/plain".into();
    let items = vec![
        listed(unsent, &[], 0),
        listed(ours, &["Bolt", "Cargo"], 200),
        listed(dangerous("setup.exe", &[Danger::Executable]), &["Bolt"], 1),
    ];
    let fake = Fake::start(Script {
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
    let (text, outcome) = fake.run_wide(&["files"], 200).await;
    outcome.unwrap();
    assert_eq!(text, expected);
    assert_eq!(
        fake.script().asked,
        ["GET /v1/attachments?order=desc&limit=50"]
    );
    assert!(
        fake.output(&["files", "list", "--json"])
            .await
            .contains("\"messageCount\": 200")
    );
}
