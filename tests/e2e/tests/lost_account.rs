//! A relay that has lost accounts, because its operator has deleted them or has restored an old
//! backup.

use crate::support::{deliver, program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair},
    node::DeliveryMode,
    roles::Role,
    wait::wait_for,
};
use serde_json::Value;
use std::ffi::OsStr;

/// Runs a command of the relay's operator and returns its output as JSON.
async fn run_operator(env: &Environment, args: &[&str]) -> anyhow::Result<Value> {
    let args: Vec<&OsStr> = args
        .iter()
        .map(OsStr::new)
        .chain([
            OsStr::new("--json"),
            OsStr::new("--data"),
            env.relay.directory().as_os_str(),
        ])
        .collect();
    let output = env.program().output(Role::RelayCommand, &args).await?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

async fn delete_accounts(env: &Environment) -> anyhow::Result<usize> {
    let listed = run_operator(env, &["accounts", "list"]).await?;
    let accounts = listed["accounts"].as_array().context("no accounts")?;
    for account in accounts {
        let id = account["account_id"]
            .as_str()
            .context("an account without an id")?;
        run_operator(env, &["accounts", "delete", id, "--yes"]).await?;
    }
    Ok(accounts.len())
}

async fn count_mailboxes(env: &Environment) -> anyhow::Result<u64> {
    let listed = run_operator(env, &["accounts", "list"]).await?;
    let accounts = listed["accounts"].as_array().context("no accounts")?;
    Ok(accounts
        .iter()
        .filter_map(|account| account["mailboxes"].as_u64())
        .sum())
}

#[tokio::test]
async fn nodes_register_again_after_their_accounts_are_deleted() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Webhook).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let pair = pair(&acme, &bolt).await?;
    deliver(&acme, &bolt, &pair.inviter.id, "before").await?;
    let (_, invite) = acme.api()?.create_invite(true).await?;
    ensure!(delete_accounts(&env).await? == 2);
    // Envelopes for a mailbox that is not open yet are refused.
    wait_for("the nodes open their mailboxes again", async || {
        Ok((count_mailboxes(&env).await? == 3).then_some(()))
    })
    .await?;
    deliver(&acme, &bolt, &pair.inviter.id, "after").await?;
    deliver(&bolt, &acme, &pair.invitee.id, "and back").await?;
    // An invite that was handed out before remains valid.
    let cargo = env.start_node("Cargo", DeliveryMode::Pull).await?;
    let api = cargo.api()?;
    let connection = wait_for("the invite has prekeys again", async || {
        Ok(api.connect(&invite, "").await.ok())
    })
    .await?;
    cargo.api()?.wait_for_accepted(&connection.id).await?;
    deliver(&cargo, &acme, &connection.id, "from Cargo").await?;
    stop_all(env, [acme, bolt, cargo]).await
}
