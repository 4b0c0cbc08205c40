//! Metrics and health of relay and node, and the dashboard and alert rules that use them.

use crate::support::{deliver, program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair},
    node::DeliveryMode,
    wait::wait_for,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Directory of the dashboard and the alert rules.
fn monitoring_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../relay/packaging/monitoring")
}

/// Fetches a page without a token and returns its status and its body.
fn fetch(address: &str, path: &str, host: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").context(response.clone())?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

fn fetch_metrics(address: &str) -> anyhow::Result<String> {
    let (status, text) = fetch(address, "/metrics", address)?;
    ensure!(status == 200, "{status}: {text}");
    Ok(text)
}

fn read_address(directory: &Path, name: &str) -> anyhow::Result<String> {
    Ok(fs::read_to_string(directory.join(name))?.trim().to_owned())
}

/// Returns the value of a series.
fn value_of(metrics: &str, series: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// Returns the names of all series.
fn series_names(metrics: &str) -> BTreeSet<&str> {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect()
}

/// Runs promtool and fails if it finds a problem.
fn run_promtool(args: &[&str], input: &str) -> anyhow::Result<()> {
    let mut command = Command::new("promtool");
    let started = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child =
        started.context("DID NOT RUN: promtool is missing. `./tests/run metrics` downloads it")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "promtool {args:?}: {output:?}");
    Ok(())
}

#[tokio::test]
async fn metrics_pass_promtool_without_identities() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Webhook).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let pair = pair(&acme, &bolt).await?;
    deliver(&acme, &bolt, &pair.inviter.id, "nine hundred bolts").await?;
    deliver(&bolt, &acme, &pair.invitee.id, "confirmed").await?;
    let relay = fetch_metrics(&read_address(env.relay.directory(), "admin-address")?)?;
    run_promtool(&["check", "metrics"], &relay)?;
    for node in [&acme, &bolt] {
        let home = node.home();
        let address = read_address(home.directory(), "api-address")?;
        let metrics = fetch_metrics(&address)?;
        run_promtool(&["check", "metrics"], &metrics)?;
        for series in [
            "sealpost_node_relay_connected",
            "sealpost_node_unread_messages",
        ] {
            ensure!(value_of(&metrics, series) == Some(1.0), "{metrics}");
        }
        let shown = node.api()?.fetch_node().await?;
        let account = shown.relay.account_id.context("no account")?.to_string();
        let (origin, directory) = (env.relay.origin(), home.directory().display().to_string());
        for secret in [
            &*account,
            "Acme",
            "Bolt",
            "bolts",
            "127.0.0.1",
            &*origin,
            &*directory,
        ] {
            ensure!(!metrics.contains(secret), "{secret}: {metrics}");
            ensure!(!relay.contains(secret), "{secret}: {relay}");
        }
    }
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn node_health_follows_its_relay() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let address = read_address(acme.home().directory(), "api-address")?;
    let readiness = || fetch(&address, "/readyz", &address);
    ensure!(readiness()? == (200, "ready".to_owned()));
    let (status, _) = fetch(&address, "/metrics", "node.example:4680")?;
    ensure!(status == 403, "pages of other sites see nothing");
    let (status, _) = fetch(&address, "/v1/node", &address)?;
    ensure!(status == 401, "other paths need the token");
    env.relay.stop().await?;
    wait_for("the node notices that the relay is gone", async || {
        Ok((readiness()?.0 == 503).then_some(()))
    })
    .await?;
    ensure!(readiness()?.1 == "relay_unreachable");
    let metrics = fetch_metrics(&address)?;
    ensure!(value_of(&metrics, "sealpost_node_relay_connected") == Some(0.0));
    let health = fetch(&address, "/healthz", &address)?;
    ensure!(health == (200, "ok".to_owned()), "the process is running");
    env.relay.start().await?;
    stop_all(env, [acme]).await
}

#[tokio::test]
async fn undelivered_messages_are_counted() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let mut bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    pair(&acme, &bolt).await?;
    bolt.stop().await?;
    let output = acme
        .home()
        .run_cli(&["send", "--to", "Bolt", "-m", "x"])
        .await?;
    ensure!(output.status.success(), "{output:?}");
    let address = read_address(acme.home().directory(), "api-address")?;
    wait_for("the message is counted as sent", async || {
        let metrics = fetch_metrics(&address)?;
        let sent = value_of(&metrics, "sealpost_node_deliveries{status=\"sent\"}");
        Ok(sent.filter(|number| *number == 1.0))
    })
    .await?;
    let metrics = fetch_metrics(&address)?;
    let age = value_of(&metrics, "sealpost_node_delivery_oldest_age_seconds");
    ensure!(age.is_some_and(|seconds| seconds > 0.0), "{metrics}");
    bolt.start().await?;
    stop_all(env, [acme, bolt]).await
}

/// Returns all metrics of Sealpost that expressions name.
fn names_in(expressions: &str) -> BTreeSet<&str> {
    expressions
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("sealpost_") || word.starts_with("process_"))
        .collect()
}

/// Collects the expressions of a dashboard.
fn collect_expressions(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" || name == "query" => {
                        found.push(text.clone());
                    }
                    value => collect_expressions(value, found),
                }
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_expressions(item, found)),
        _ => {}
    }
}

/// Names that are absent from a new relay or node: refused envelopes, the certificate of a relay
/// that terminates TLS, and scheduled backups.
const ABSENT: [&str; 4] = [
    "sealpost_relay_envelopes_refused_total",
    "sealpost_relay_certificate_not_after_seconds",
    "sealpost_node_backup_last_timestamp_seconds",
    "sealpost_node_backup_failed",
];

#[tokio::test]
async fn dashboard_and_rules_name_existing_metrics() -> anyhow::Result<()> {
    let rules = fs::read_to_string(monitoring_directory().join("alerts.yml"))?;
    let path = monitoring_directory().join("alerts.yml");
    run_promtool(&["check", "rules", &path.to_string_lossy()], "")?;
    let dashboard = fs::read(monitoring_directory().join("dashboard.json"))?;
    let mut expressions = Vec::new();
    collect_expressions(&serde_json::from_slice(&dashboard)?, &mut expressions);
    let expressions = expressions.join("\n");
    let expected: Vec<_> = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with(['#', '-']))
        .collect();
    let rules = expected.join("\n");

    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Webhook).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let pair = pair(&acme, &bolt).await?;
    deliver(&bolt, &acme, &pair.invitee.id, "confirmed").await?;
    let relay = fetch_metrics(&read_address(env.relay.directory(), "admin-address")?)?;
    let node = fetch_metrics(&read_address(acme.home().directory(), "api-address")?)?;
    let mut known = &series_names(&relay) | &series_names(&node);
    known.extend(ABSENT);
    for (file, text) in [("alerts.yml", &rules), ("dashboard.json", &expressions)] {
        let names = names_in(text);
        ensure!(names.len() > 5, "{file}: {names:?}");
        for name in names {
            ensure!(known.contains(name), "{file} names {name}");
        }
    }
    stop_all(env, [acme, bolt]).await
}
