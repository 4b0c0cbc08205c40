//! Limits that operators set, at the node and at the relay.

use super::{connected_nodes, create_file, expect_refusal, run_cli};
use crate::support::{program, stop_all};
use anyhow::ensure;
use sealpost_demo::{
    environment::{Environment, pair, send},
    node::DeliveryMode,
};
use sealpost_node::api::model::Direction;
use sealpost_proto::DeliveryStatus;
use std::fs;

#[tokio::test]
async fn lower_limit_of_the_operator_applies() -> anyhow::Result<()> {
    let (env, mut acme, bolt) = connected_nodes().await?;
    acme.stop().await?;
    fs::write(
        acme.home().directory().join("node.toml"),
        "[files]\nmessage_size_max = \"3 kB\"\n",
    )?;
    acme.start().await?;
    let files = [
        create_file(env.directory(), "one", 2_000)?,
        create_file(env.directory(), "two", 2_000)?,
    ];
    let both = [
        "send", "--to", "Bolt", "-m", "x", "-a", &files[0], &files[1],
    ];
    let message = expect_refusal(acme.home(), &both, "files_too_large").await?;
    ensure!(message.contains("several messages"));
    run_cli(
        acme.home(),
        &[
            "send",
            "--to",
            "Bolt",
            "-m",
            "x",
            "-a",
            &files[0],
            "--wait",
            "delivered",
        ],
    )
    .await?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn rate_limited_node_slows_down_without_loss() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        env.start_node("Bolt", DeliveryMode::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    env.relay.stop().await?;
    env.relay.set_extra_args(&[
        "--rates-requests-per-second",
        "2",
        "--rates-requests-burst",
        "2",
    ]);
    env.relay.start().await?;
    let mut sent = vec![send(&acme.api()?, &pair.inviter.id, "number 0", &[]).await?];
    acme.api()?
        .wait_for_status(&sent[0].id, DeliveryStatus::Delivered)
        .await?;
    let before = fs::read_to_string(env.directory().join("acme.log"))?.len();
    for number in 1..12 {
        sent.push(
            send(
                &acme.api()?,
                &pair.inviter.id,
                &format!("number {number}"),
                &[],
            )
            .await?,
        );
    }
    for message in &sent {
        acme.api()?
            .wait_for_status(&message.id, DeliveryStatus::Delivered)
            .await?;
    }
    let texts: Vec<_> = bolt
        .api()?
        .list_messages(Direction::In)
        .await?
        .into_iter()
        .map(|message| message.content)
        .collect();
    ensure!(texts.len() == sent.len(), "{texts:?}");
    let log = fs::read_to_string(env.directory().join("acme.log"))?;
    ensure!(
        log.contains("too many requests") && !log[before..].contains("does not respond"),
        "{log}"
    );
    stop_all(env, [acme, bolt]).await
}
