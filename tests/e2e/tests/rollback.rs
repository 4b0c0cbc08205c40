//! Nodes that continue an older copy of their data directory, and two nodes with one identity.

use crate::support::{deliver, program, stop_all};
use anyhow::ensure;
use sealpost_demo::{
    environment::{Environment, pair, send},
    node::{DeliveryMode, Node},
    wait::wait_for,
};
use sealpost_node::api::model::{Direction, HealthState, NodeWarning};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Time within which a node that was rolled back has to exchange messages again.
const HEALING_TIME: Duration = Duration::from_secs(60);

async fn received_texts(node: &Node) -> anyhow::Result<Vec<String>> {
    let mut messages = node.api()?.list_messages(Direction::In).await?;
    messages.sort_by_key(|message| message.sent_at);
    Ok(messages
        .into_iter()
        .map(|message| message.content)
        .collect())
}

async fn wait_for_texts(node: &Node, expected: &[&str]) -> anyhow::Result<()> {
    wait_for("all messages have arrived", async || {
        Ok((received_texts(node).await? == expected).then_some(()))
    })
    .await
}

async fn warnings(node: &Node) -> anyhow::Result<Vec<NodeWarning>> {
    let node = node.api()?.fetch_node().await?;
    Ok(node.warnings.iter().map(|warning| warning.code).collect())
}

async fn wait_for_warning(node: &Node, warning: NodeWarning) -> anyhow::Result<()> {
    wait_for("the node shows the warning", async || {
        Ok(warnings(node).await?.contains(&warning).then_some(()))
    })
    .await
}

async fn wait_until_healed(node: &Node) -> anyhow::Result<()> {
    wait_for("no connection is being healed", async || {
        let is_healed = node.api()?.fetch_node().await?.healing_count == 0;
        Ok(is_healed.then_some(()))
    })
    .await
}

#[tokio::test]
async fn node_that_was_rolled_back_receives_everything_once() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let mut bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let pair = pair(&acme, &bolt).await?;
    let (to_bolt, to_acme) = (&pair.inviter.id, &pair.invitee.id);
    deliver(&acme, &bolt, to_bolt, "before").await?;
    deliver(&bolt, &acme, to_acme, "reply before").await?;
    bolt.stop().await?;
    let copy = bolt.copy("bolt-copy")?;
    bolt.start().await?;
    deliver(&acme, &bolt, to_bolt, "since").await?;
    deliver(&bolt, &acme, to_acme, "reply since").await?;
    deliver(&acme, &bolt, to_bolt, "since too").await?;
    bolt.stop().await?;
    send(&acme.api()?, to_bolt, "while it was rolled back", &[]).await?;
    bolt.roll_back(&copy)?;
    bolt.start().await?;
    let started = Instant::now();
    wait_for_warning(&bolt, NodeWarning::RolledBack).await?;
    let expected = ["before", "since", "since too", "while it was rolled back"];
    wait_for_texts(&bolt, &expected).await?;
    deliver(&bolt, &acme, to_acme, "reply afterwards").await?;
    deliver(&acme, &bolt, to_bolt, "afterwards").await?;
    for node in [&acme, &bolt] {
        wait_until_healed(node).await?;
        let connections = node.api()?.list_connections().await?;
        ensure!(connections[0].health.state == HealthState::Ok);
    }
    ensure!(started.elapsed() < HEALING_TIME, "{:?}", started.elapsed());
    let expected = [&expected[..], &["afterwards"]].concat();
    ensure!(received_texts(&bolt).await? == expected);
    let replies = ["reply before", "reply since", "reply afterwards"];
    ensure!(received_texts(&acme).await? == replies);
    ensure!(warnings(&acme).await?.is_empty());
    check_status(&bolt).await?;
    stop_all(env, [acme, bolt]).await
}

/// Checks that the status shows the warning until it is acknowledged, and not after a restart.
async fn check_status(node: &Node) -> anyhow::Result<()> {
    for (args, is_shown) in [
        (&["status"][..], true),
        (&["status", "--acknowledge"], false),
        (&["status"], false),
    ] {
        let output = node.home().run_cli(args).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success());
        ensure!(
            text.contains("older copy of its data") == is_shown,
            "{text}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn two_nodes_with_one_identity_show_an_alert() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let mut bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let pair = pair(&acme, &bolt).await?;
    let to_acme = &pair.invitee.id;
    bolt.stop().await?;
    let settings = bolt.home().directory().join("node.toml");
    fs::write(settings, "[checkpoint]\nevery = \"1 s\"\n")?;
    let mut copy = bolt.copy("bolt-copy")?;
    bolt.start().await?;
    deliver(&bolt, &acme, to_acme, "from the original").await?;
    copy.start().await?;
    wait_for_warning(&copy, NodeWarning::RolledBack).await?;
    for node in [&bolt, &copy] {
        send(&node.api()?, to_acme, "activity", &[]).await?;
        wait_for_warning(node, NodeWarning::SecondNode).await?;
    }
    // The original has not recovered against its copy.
    ensure!(warnings(&bolt).await? == [NodeWarning::SecondNode]);
    stop_all(env, [acme, bolt, copy]).await
}

#[tokio::test]
async fn node_recovers_on_request() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let pair = pair(&acme, &bolt).await?;
    deliver(&acme, &bolt, &pair.inviter.id, "before").await?;
    let refused = bolt.home().run_cli(&["recover"]).await?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    let recovered = bolt.home().run_cli(&["recover", "--yes"]).await?;
    let text = String::from_utf8_lossy(&recovered.stdout);
    ensure!(text.contains("1 connection"), "{text}");
    deliver(&bolt, &acme, &pair.invitee.id, "in a new session").await?;
    deliver(&acme, &bolt, &pair.inviter.id, "and back").await?;
    wait_until_healed(&bolt).await?;
    ensure!(received_texts(&bolt).await? == ["before", "and back"]);
    stop_all(env, [acme, bolt]).await
}
