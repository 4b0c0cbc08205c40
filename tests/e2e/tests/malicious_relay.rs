//! A malicious relay: its operator changes its database and its files. Changed data must be refused
//! and reported; replayed data must be stored once.

use crate::support::{
    program, stop_all,
    tampering_proxy::{Tampering, TamperingProxy},
};
use anyhow::{Context as _, ensure};
use rusqlite::Connection as Database;
use sealpost_demo::{
    api::digest,
    checks::list_files,
    environment::{Environment, Pair, pair, send},
    files::{self, Sample},
    node::{DeliveryMode, Node},
    wait::wait_for,
};
use sealpost_node::api::model::{AttachmentStatus, Direction, Message};
use sealpost_proto::{DeliveryStatus, b64};
use sealpost_service::create_private_directory;
use std::{fs, path::Path};

/// Starts a relay with Acme and Bolt and stops Bolt, so that messages from Acme stay at the relay.
async fn start_with_stopped_recipient() -> anyhow::Result<(Environment, Node, Node, Pair)> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let mut bolt = env.start_node("Bolt", DeliveryMode::Webhook).await?;
    let pair = pair(&acme, &bolt).await?;
    bolt.stop().await?;
    Ok((env, acme, bolt, pair))
}

/// Sends a message and waits until it is queued at the relay.
async fn send_and_queue(
    from: &Node,
    to: &str,
    text: &str,
    files: &[Sample],
) -> anyhow::Result<Message> {
    let sent = send(&from.api()?, to, text, files).await?;
    wait_for("the message is queued at the relay", async || {
        let delivery = from
            .api()?
            .fetch_message(&sent.id)
            .await?
            .deliveries
            .into_iter()
            .next()
            .context("no delivery")?;
        Ok((delivery.status == DeliveryStatus::Retrying).then_some(()))
    })
    .await?;
    Ok(sent)
}

/// Waits until the sender is notified that a message failed.
async fn wait_for_failure(node: &Node, message: &Message) -> anyhow::Result<()> {
    let delivery = wait_for("the sender is notified of the failure", async || {
        let delivery = node
            .api()?
            .fetch_message(&message.id)
            .await?
            .deliveries
            .into_iter()
            .next()
            .context("no delivery")?;
        Ok((delivery.status == DeliveryStatus::Failed).then_some(delivery))
    })
    .await?;
    ensure!(
        delivery.code.is_some() && delivery.advice.is_some(),
        "{delivery:?}"
    );
    Ok(())
}

/// Modifies the relay's database while the relay is stopped.
async fn modify_database(
    env: &mut Environment,
    change: impl FnOnce(&Database) -> rusqlite::Result<()>,
) -> anyhow::Result<()> {
    env.relay.stop().await?;
    let database = Database::open(env.relay.directory().join("relay.db"))?;
    change(&database)?;
    database.close().map_err(|(_, error)| error)?;
    env.relay.start().await
}

fn load_bodies(database: &Database) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let mut statement = database.prepare("SELECT id, bytes FROM envelope_bodies ORDER BY id")?;
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn write_body(database: &Database, id: i64, bytes: &[u8]) -> rusqlite::Result<()> {
    database
        .execute(
            "UPDATE envelope_bodies SET bytes = ?2 WHERE id = ?1",
            (id, bytes),
        )
        .map(drop)
}

#[tokio::test]
async fn changed_envelope_is_reported_to_sender() -> anyhow::Result<()> {
    let (mut env, acme, mut bolt, pair) = start_with_stopped_recipient().await?;
    let sent = send_and_queue(&acme, &pair.inviter.id, "to be changed", &[]).await?;
    modify_database(&mut env, |database| {
        for (id, mut bytes) in load_bodies(database)? {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            write_body(database, id, &bytes)?;
        }
        Ok(())
    })
    .await?;
    bolt.start().await?;
    wait_for_failure(&acme, &sent).await?;
    let next = send(&acme.api()?, &pair.inviter.id, "unchanged", &[]).await?;
    acme.api()?
        .wait_for_status(&next.id, DeliveryStatus::Delivered)
        .await?;
    let received = bolt.api()?.list_messages(Direction::In).await?;
    ensure!(
        received.len() == 1 && received[0].content == "unchanged",
        "{received:?}"
    );
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn envelopes_open_only_in_their_own_mailbox() -> anyhow::Result<()> {
    let (mut env, acme, mut bolt, first) = start_with_stopped_recipient().await?;
    bolt.start().await?;
    let cargo = env.start_node("Cargo", DeliveryMode::Pull).await?;
    let second = pair(&cargo, &bolt).await?;
    bolt.stop().await?;
    let from_acme = send_and_queue(&acme, &first.inviter.id, "from Acme", &[]).await?;
    let from_cargo = send_and_queue(&cargo, &second.inviter.id, "from Cargo", &[]).await?;
    modify_database(&mut env, |database| {
        // Answers to the pairing may still be queued before them.
        let bodies = load_bodies(database)?;
        let [.., (first_id, first_body), (second_id, second_body)] = &bodies[..] else {
            return Err(rusqlite::Error::QueryReturnedNoRows);
        };
        write_body(database, *first_id, second_body)?;
        write_body(database, *second_id, first_body)
    })
    .await?;
    bolt.start().await?;
    wait_for_failure(&acme, &from_acme).await?;
    wait_for_failure(&cargo, &from_cargo).await?;
    ensure!(bolt.api()?.list_messages(Direction::In).await?.is_empty());
    stop_all(env, [acme, bolt, cargo]).await
}

#[tokio::test]
async fn deleted_file_is_uploaded_again() -> anyhow::Result<()> {
    let (mut env, acme, mut bolt, pair) = start_with_stopped_recipient().await?;
    let file = [Sample::new(
        "lost.csv",
        files::generate_measurements(3_000_000),
    )];
    let sent = send_and_queue(&acme, &pair.inviter.id, "with a file", &file).await?;
    modify_database(&mut env, |database| {
        database.execute_batch("DELETE FROM blobs; DELETE FROM blob_parts")
    })
    .await?;
    bolt.start().await?;
    let received = bolt.api()?.wait_for_message(&sent.uuid).await?;
    let attachment = &received.attachments[0];
    ensure!(bolt.api()?.download_digest(&attachment.id).await? == file[0].digest());
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn replayed_envelopes_are_stored_once() -> anyhow::Result<()> {
    let (mut env, acme, mut bolt, pair) = start_with_stopped_recipient().await?;
    let sent = send_and_queue(&acme, &pair.inviter.id, "once", &[]).await?;
    let old = env.directory().join("old-relay");
    env.relay.stop().await?;
    copy_directory(env.relay.directory(), &old)?;
    env.relay.start().await?;
    bolt.start().await?;
    bolt.api()?
        .mark_read(&bolt.api()?.wait_for_message(&sent.uuid).await?.id)
        .await?;
    acme.api()?
        .wait_for_status(&sent.id, DeliveryStatus::Read)
        .await?;

    env.relay.stop().await?;
    env.relay.set_data_directory(&old);
    env.relay.start().await?;
    for text in ["twice", "three times"] {
        let next = send(&acme.api()?, &pair.inviter.id, text, &[]).await?;
        bolt.api()?.wait_for_message(&next.uuid).await?;
        acme.api()?
            .wait_for_status(&next.id, DeliveryStatus::Delivered)
            .await?;
    }
    let received: Vec<_> = bolt
        .api()?
        .list_messages(Direction::In)
        .await?
        .into_iter()
        .map(|one| one.content)
        .collect();
    ensure!(received == ["once", "twice", "three times"], "{received:?}");
    stop_all(env, [acme, bolt]).await
}

fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in list_files(from)? {
        let target = to.join(file.strip_prefix(from)?);
        create_private_directory(
            target
                .parent()
                .context("the path has no parent directory")?,
        )?;
        fs::copy(&file, target)?;
    }
    Ok(())
}

#[tokio::test]
async fn changed_file_is_never_served() -> anyhow::Result<()> {
    let (mut env, acme, mut bolt, pair) = start_with_stopped_recipient().await?;
    let order = Sample::new("order.csv", files::generate_measurements(5_000_000));
    let sent = send_and_queue(&acme, &pair.inviter.id, "with a file", &[order]).await?;
    env.relay.stop().await?;
    let parts = list_files(&env.relay.directory().join("blobs"))?;
    let part = parts.first().context("no part")?;
    let mut bytes = fs::read(part)?;
    *bytes.last_mut().context("the part is empty")? ^= 1;
    fs::write(part, bytes)?;
    env.relay.start().await?;
    bolt.start().await?;
    acme.api()?
        .wait_for_status(&sent.id, DeliveryStatus::Delivered)
        .await?;
    let file = wait_for("the change is detected", async || {
        let message = bolt
            .api()?
            .list_messages(Direction::In)
            .await?
            .into_iter()
            .next();
        Ok(message
            .and_then(|one| one.attachments.into_iter().next())
            .filter(|file| file.reason.is_some()))
    })
    .await?;
    ensure!(file.status != AttachmentStatus::Ready, "{file:?}");
    ensure!(
        bolt.api()?.download_digest(&file.id).await.is_err(),
        "the file was served"
    );
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn invite_with_wrong_fingerprint_is_refused() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        env.start_node("Bolt", DeliveryMode::Pull).await?,
    );
    let (_, url) = acme.api()?.create_invite(true).await?;
    let (page, invite) = url.split_once("#sp1.").context("not an invite")?;
    let mut bytes = b64::parse(invite)?;
    // docs/e2ee-files-invites-vault.md: … fingerprint 32, expiry 8, checksum 4.
    let (checksum, fingerprint) = (bytes.len() - 4, bytes.len() - 44);
    bytes[fingerprint] ^= 1;
    let sum = digest(&bytes[..checksum]);
    for (byte, hex) in bytes[checksum..].iter_mut().zip(sum.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(hex)?, 16)?;
    }
    let forged = format!("{page}#sp1.{}", b64::encode(&bytes));
    let refusal = bolt
        .api()?
        .connect(&forged, "")
        .await
        .map(|connection| connection.status);
    ensure!(
        refusal
            .as_ref()
            .is_err_and(|error| error.code() == "invite_untrusted"),
        "{refusal:?}"
    );
    bolt.api()?.connect(&url, "").await?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn tampered_parts_are_never_served() -> anyhow::Result<()> {
    let mut env = Environment::new(program())?;
    let proxy = TamperingProxy::start(&env.relay).await?;
    env.relay.set_extra_args(&["--public-url", &proxy.origin()]);
    env.relay.start().await?;
    let mut nodes = Vec::new();
    for name in ["Acme", "Bolt"] {
        let mut node = Node::init(
            env.program(),
            env.directory(),
            name,
            &proxy.origin(),
            DeliveryMode::Pull,
        )
        .await?;
        node.start().await?;
        node.wait_until_connected().await?;
        nodes.push(node);
    }
    let [acme, bolt] = &nodes[..] else {
        unreachable!()
    };
    let pair = pair(acme, bolt).await?;
    let order = [Sample::new(
        "order.csv",
        files::generate_measurements(7_000_000),
    )];
    for tampering in [
        Tampering::Truncated,
        Tampering::Extended,
        Tampering::Swapped,
        Tampering::OtherBlob,
    ] {
        proxy.set_tampering(tampering);
        let sent = send(&acme.api()?, &pair.inviter.id, "tampered with", &order).await?;
        acme.api()?
            .wait_for_status(&sent.id, DeliveryStatus::Delivered)
            .await?;
        let file = wait_for("the tampering is detected", async || {
            let message = bolt
                .api()?
                .list_messages(Direction::In)
                .await?
                .into_iter()
                .find(|one| one.uuid == sent.uuid);
            Ok(message
                .and_then(|one| one.attachments.into_iter().next())
                .filter(|file| file.reason.is_some()))
        })
        .await
        .with_context(|| format!("{tampering:?}"))?;
        ensure!(
            file.status != AttachmentStatus::Ready,
            "{tampering:?}: {file:?}"
        );
        ensure!(
            bolt.api()?.download_digest(&file.id).await.is_err(),
            "{tampering:?}: the file was served"
        );
        proxy.set_tampering(Tampering::None);
        let untampered = send(&acme.api()?, &pair.inviter.id, "not tampered with", &order).await?;
        let received = bolt.api()?.wait_for_message(&untampered.uuid).await?;
        ensure!(
            bolt.api()?
                .download_digest(&received.attachments[0].id)
                .await?
                == order[0].digest(),
            "{tampering:?}"
        );
    }
    stop_all(env, nodes).await
}
