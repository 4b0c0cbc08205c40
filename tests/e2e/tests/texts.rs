//! Texts of messages as the local API and the CLI display them. Nothing that a person
//! typed may be missing. `data/texts.jsonl` has one text a line, and what each view must contain.

use crate::support::{program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair},
    node::{DeliveryMode, Home},
};
use sealpost_node::api::model::{ContentType, Direction, Message, SendMessage};
use serde_json::Value;
use std::collections::HashMap;

const TEXTS: &str = include_str!("../data/texts.jsonl");

async fn run_cli(home: &Home, args: &[&str]) -> anyhow::Result<String> {
    let output = home.run_cli(args).await?;
    ensure!(output.status.success(), "{args:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the texts that a view must contain.
fn expected<'a>(case: &'a Value, view: &str) -> Vec<&'a str> {
    let texts = case["must"][view].as_array();
    texts
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn ensure_contains(case: &Value, view: &str, shown: &str) -> anyhow::Result<()> {
    for text in expected(case, view) {
        ensure!(
            shown.contains(text),
            "{}: {view} lacks {text:?}: {shown:?}",
            case["id"]
        );
    }
    Ok(())
}

fn ensure_html(case: &Value, message: &Message) -> anyhow::Result<()> {
    let html = message
        .content_html
        .as_deref()
        .context("the message has no HTML")?;
    ensure_contains(case, "html", html)?;
    if let Some(breaks) = case["must"]["html_breaks"].as_u64() {
        let actual = html.matches("<br").count() as u64;
        ensure!(
            actual == breaks,
            "{}: {actual} line breaks: {html}",
            case["id"]
        );
    }
    ensure!(
        !html.contains(['\u{1b}', '\u{202e}']),
        "{}: {html}",
        case["id"]
    );
    Ok(())
}

fn ensure_lines(case: &Value, shown: &str) -> anyhow::Result<()> {
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    for line in expected(case, "show_lines") {
        ensure!(
            lines.contains(&line),
            "{}: no line {line:?}: {shown:?}",
            case["id"]
        );
    }
    Ok(())
}

#[tokio::test]
async fn texts_are_shown_completely() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        env.start_node("Bolt", DeliveryMode::Webhook).await?,
    );
    pair(&acme, &bolt).await?;
    let (sender, recipient) = (acme.api()?, bolt.api()?);
    let cases: Vec<Value> = TEXTS
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let mut received = Vec::new();
    for case in &cases {
        let content_type = case["type"].as_str().map(ContentType::parse).transpose()?;
        let request = SendMessage {
            to: vec!["Bolt".to_owned()],
            content: case["text"].as_str().context("no text")?.to_owned(),
            content_type,
            ..SendMessage::default()
        };
        let sent = sender.send(&request).await?;
        let uuid = &sent.first().context("nothing was sent")?.uuid;
        received.push(recipient.wait_for_message(uuid).await?);
    }
    let inbox = run_cli(bolt.home(), &["inbox", "--all", "--limit", "500"]).await?;
    let rows: HashMap<&str, &str> = inbox
        .lines()
        .filter_map(|row| row.split_once(' '))
        .collect();
    for (case, message) in cases.iter().zip(&received) {
        let message = recipient.fetch_message(&message.id).await?;
        ensure!(
            message.content == case["text"],
            "{}: {}",
            case["id"],
            message.content
        );
        ensure_html(case, &message)?;
        let shown = run_cli(bolt.home(), &["show", &message.id]).await?;
        ensure_contains(case, "show", &shown)?;
        ensure_lines(case, &shown)?;
        let row = rows
            .get(message.id.as_str())
            .context("the inbox lacks a message")?;
        ensure_contains(case, "list", row)?;
    }
    ensure!(
        recipient
            .list_messages(Direction::In)
            .await?
            .iter()
            .all(|message| message.content_html.is_none()),
        "a list contains HTML"
    );
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn plain_text_is_sent_from_the_command_line() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        env.start_node("Bolt", DeliveryMode::Webhook).await?,
    );
    pair(&acme, &bolt).await?;
    let args = [
        "--json",
        "send",
        "--to",
        "Bolt",
        "--plain",
        "-m",
        "**12** <ab>",
    ];
    let sent: Value = serde_json::from_str(&run_cli(acme.home(), &args).await?)?;
    let uuid = sent["items"][0]["uuid"]
        .as_str()
        .context("nothing was sent")?;
    let received = bolt.api()?.wait_for_message(uuid).await?;
    ensure!(
        received.content_type == "text/plain",
        "{}",
        received.content_type
    );
    let shown = run_cli(bolt.home(), &["show", &received.id]).await?;
    ensure!(shown.contains("\n**12** <ab>\n"), "{shown}");
    stop_all(env, [acme, bolt]).await
}
