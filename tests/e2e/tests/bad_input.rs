//! Invalid input and adverse conditions: each gets a clear error that names the next step, and
//! nothing is lost. What only an attacker can create (tampered envelopes, replays, forged prekeys)
//! is covered by the unit tests of `e2ee`, `node-core` and the relay.

mod data_directories;
mod disks;
mod files;
mod invites;
mod limits;
mod messages;

use crate::support::program;
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair},
    node::{DeliveryMode, Home, Node},
};
use serde_json::Value;
use std::{fs::File, path::Path};

/// Runs a command that must be refused with this code. Returns the detail and the next step, which
/// every refusal must have.
async fn expect_refusal(home: &Home, args: &[&str], code: &str) -> anyhow::Result<String> {
    let output = home.run_cli(&[&["--json"], args].concat()).await?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{args:?} was not refused");
    let error: Value = stderr
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .context(stderr)?;
    ensure!(error["code"] == code, "{args:?} was refused with {error}");
    let (detail, next) = (
        error["detail"].as_str().unwrap_or_default(),
        error["next"].as_str().unwrap_or_default(),
    );
    ensure!(!detail.is_empty() && !next.is_empty(), "{args:?}: {error}");
    Ok(format!("{detail}; {next}"))
}

async fn run_cli(home: &Home, args: &[&str]) -> anyhow::Result<String> {
    let output = home.run_cli(args).await?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn create_file(directory: &Path, name: &str, bytes: u64) -> anyhow::Result<String> {
    let path = directory.join(name);
    File::create(&path)?.set_len(bytes)?;
    Ok(path.to_str().context("the path is not UTF-8")?.to_owned())
}

async fn connected_nodes() -> anyhow::Result<(Environment, Node, Node)> {
    let env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        env.start_node("Bolt", DeliveryMode::Webhook).await?,
    );
    pair(&acme, &bolt).await?;
    Ok((env, acme, bolt))
}
