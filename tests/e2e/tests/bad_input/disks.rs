//! Disks without space.

use crate::support::{disk::SmallDisk, program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair, send},
    files::{self, Sample},
    node::{DeliveryMode, Node},
    wait::wait_for,
};
use sealpost_node::api::model::AttachmentStatus;
use sealpost_proto::DeliveryStatus;

#[tokio::test]
async fn node_recovers_from_a_full_disk() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(48)? else {
        return Ok(());
    };
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let mut bolt = Node::init(
        env.program(),
        disk.path(),
        "Bolt",
        &env.relay.origin(),
        DeliveryMode::Webhook,
    )
    .await?;
    bolt.start().await?;
    let pair = pair(&acme, &bolt).await?;
    let order = Sample::new("order.csv", files::generate_measurements(5_000_000));

    disk.fill()?;
    let refusal = bolt
        .api()?
        .stage(&order.name, order.content.clone())
        .await
        .map(|file| file.id);
    ensure!(
        refusal
            .as_ref()
            .is_err_and(|error| error.code() == "disk_full"),
        "{refusal:?}"
    );
    let sent = send(
        &acme.api()?,
        &pair.inviter.id,
        "while Bolt's disk is full",
        std::slice::from_ref(&order),
    )
    .await?;
    wait_for("the message is at the relay", async || {
        let delivery = acme
            .api()?
            .fetch_message(&sent.id)
            .await?
            .deliveries
            .into_iter()
            .next()
            .context("no delivery")?;
        ensure!(
            delivery.status != DeliveryStatus::Failed,
            "the delivery failed: {:?}",
            delivery.reason
        );
        Ok((delivery.status != DeliveryStatus::Pending).then_some(()))
    })
    .await?;
    disk.free_space()?;
    let received = bolt.api()?.wait_for_message(&sent.uuid).await?;
    ensure!(
        bolt.api()?
            .download_digest(&received.attachments[0].id)
            .await?
            == order.digest()
    );
    let answer = send(
        &bolt.api()?,
        &pair.invitee.id,
        "the disk has space again",
        &[order],
    )
    .await?;
    acme.api()?.wait_for_message(&answer.uuid).await?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn full_relay_disk_delays_without_loss() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(48)? else {
        return Ok(());
    };
    let mut env = Environment::new(program())?;
    env.relay.set_data_directory(&disk.path().join("relay"));
    env.relay.start().await?;
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        env.start_node("Bolt", DeliveryMode::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    let order = Sample::new("order.csv", files::generate_measurements(9_000_000));

    disk.fill()?;
    let sent = send(
        &acme.api()?,
        &pair.inviter.id,
        "while the relay's disk is full",
        std::slice::from_ref(&order),
    )
    .await?;
    let waiting = wait_for("the upload waits", async || {
        let file = acme
            .api()?
            .fetch_attachment(&sent.attachments[0].id)
            .await?;
        ensure!(
            file.status != AttachmentStatus::Failed,
            "the file failed: {:?}",
            file.reason
        );
        Ok(file.reason)
    })
    .await?;
    ensure!(
        waiting.contains("full") || waiting.contains("room") || waiting.contains("storage"),
        "{waiting}"
    );
    env.relay.kill().await?;
    env.relay
        .start()
        .await
        .context("a killed relay must start on a full disk")?;
    disk.free_space()?;
    let received = bolt.api()?.wait_for_message(&sent.uuid).await?;
    ensure!(
        bolt.api()?
            .download_digest(&received.attachments[0].id)
            .await?
            == order.digest()
    );
    acme.api()?
        .wait_for_status(&sent.id, DeliveryStatus::Delivered)
        .await?;
    stop_all(env, [acme, bolt]).await
}
