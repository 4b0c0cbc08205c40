//! Helpers shared by the tests of this package.

pub(crate) mod disk;
pub(crate) mod faketime;
pub(crate) mod proxy;
pub(crate) mod shell;
pub(crate) mod tampering_proxy;

use anyhow::ensure;
use sealpost_demo::{
    environment::{Environment, send},
    node::Node,
    process::Program,
};
use sealpost_proto::DeliveryStatus;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the program of this package, which runs every role.
pub(crate) fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_sealpost-e2e"))
}

/// Stops the nodes and the relay gracefully.
pub(crate) async fn stop_all(
    env: Environment,
    nodes: impl IntoIterator<Item = Node>,
) -> anyhow::Result<()> {
    for mut node in nodes {
        node.stop().await?;
    }
    env.finish().await
}

/// Sends a message and waits until the recipient has it and the sender knows.
pub(crate) async fn deliver(
    from: &Node,
    to: &Node,
    connection: &str,
    text: &str,
) -> anyhow::Result<()> {
    let sent = send(&from.api()?, connection, text, &[]).await?;
    let received = to.api()?.wait_for_message(&sent.uuid).await?;
    ensure!(received.content == text);
    from.api()?
        .wait_for_status(&sent.id, DeliveryStatus::Delivered)
        .await?;
    Ok(())
}

/// Returns the seed from `SEALPOST_SEED`, or one from the clock.
pub(crate) fn seed_from_env_or_clock() -> anyhow::Result<u64> {
    match std::env::var("SEALPOST_SEED") {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}
