//! A relay that does not play by the rules: whoever runs it has its database and its files, and changes what they like. What
//! they changed is refused and said to be; what they repeat is shown once.

#[path = "support/liar.rs"]
mod liar;
mod support;

use anyhow::{Context as _, ensure};
use liar::{Liar, Lie};
use rusqlite::Connection as Database;
use sealpost_demo::{
    api::digest,
    checks::files_below,
    files::{self, Sample},
    node::{Delivery, Node},
    wait::until,
    world::{Pair, World, pair, send},
};
use sealpost_node::api::model::{AttachmentStatus, Direction, Message};
use sealpost_proto::{DeliveryStatus, b64};
use std::{fs, path::Path};
use support::program;

/// A relay with Acme and Bolt, who is stopped, so that what Acme sends lies at the relay.
async fn begin() -> anyhow::Result<(World, Node, Node, Pair)> {
    let world = World::with_relay(program()).await?;
    let acme = world.node("Acme", Delivery::Pull).await?;
    let mut bolt = world.node("Bolt", Delivery::Webhook).await?;
    let pair = pair(&acme, &bolt).await?;
    bolt.stop().await?;
    Ok((world, acme, bolt, pair))
}

async fn stop(world: World, nodes: impl IntoIterator<Item = Node>) -> anyhow::Result<()> {
    for mut node in nodes {
        node.stop().await?;
    }
    world.finish().await
}

/// Sends, and returns when it lies at the relay.
async fn lay(from: &Node, to: &str, text: &str, files: &[Sample]) -> anyhow::Result<Message> {
    let sent = send(&from.api()?, to, text, files).await?;
    until("it lies at the relay", async || {
        let delivery = from
            .api()?
            .message(&sent.id)
            .await?
            .delivery
            .into_iter()
            .next()
            .context("no delivery")?;
        Ok((delivery.status == DeliveryStatus::Retrying).then_some(()))
    })
    .await?;
    Ok(sent)
}

/// What the sender is told in the end.
async fn failed(node: &Node, message: &Message) -> anyhow::Result<()> {
    let delivery = until("the sender hears that it failed", async || {
        let delivery = node
            .api()?
            .message(&message.id)
            .await?
            .delivery
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

/// Changes the relay's database behind its back.
async fn meddle(
    world: &mut World,
    change: impl FnOnce(&Database) -> rusqlite::Result<()>,
) -> anyhow::Result<()> {
    world.relay.stop().await?;
    let database = Database::open(world.relay.folder().join("relay.db"))?;
    change(&database)?;
    database.close().map_err(|(_, error)| error)?;
    world.relay.start().await
}

fn bodies(database: &Database) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let mut statement = database.prepare("SELECT id, bytes FROM bodies ORDER BY id")?;
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn put_body(database: &Database, id: i64, bytes: &[u8]) -> rusqlite::Result<()> {
    database
        .execute("UPDATE bodies SET bytes = ?2 WHERE id = ?1", (id, bytes))
        .map(drop)
}

#[tokio::test]
async fn one_changed_bit_is_refused_and_the_sender_told() -> anyhow::Result<()> {
    let (mut world, acme, mut bolt, pair) = begin().await?;
    let sent = lay(&acme, &pair.inviter.id, "to be changed", &[]).await?;
    meddle(&mut world, |database| {
        for (id, mut bytes) in bodies(database)? {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            put_body(database, id, &bytes)?;
        }
        Ok(())
    })
    .await?;
    bolt.start().await?;
    failed(&acme, &sent).await?;
    let next = send(&acme.api()?, &pair.inviter.id, "unchanged", &[]).await?;
    acme.api()?
        .reached(&next.id, DeliveryStatus::Delivered)
        .await?;
    let received = bolt.api()?.messages(Direction::In).await?;
    ensure!(
        received.len() == 1 && received[0].content == "unchanged",
        "{received:?}"
    );
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn an_envelope_opens_in_its_own_mailbox_alone() -> anyhow::Result<()> {
    let (mut world, acme, mut bolt, first) = begin().await?;
    bolt.start().await?;
    let cargo = world.node("Cargo", Delivery::Pull).await?;
    let second = pair(&cargo, &bolt).await?;
    bolt.stop().await?;
    let of_acme = lay(&acme, &first.inviter.id, "from Acme", &[]).await?;
    let of_cargo = lay(&cargo, &second.inviter.id, "from Cargo", &[]).await?;
    meddle(&mut world, |database| {
        let [(one, of_one), (other, of_other)] = &bodies(database)?[..] else {
            return Ok(());
        };
        put_body(database, *one, of_other)?;
        put_body(database, *other, of_one)
    })
    .await?;
    bolt.start().await?;
    failed(&acme, &of_acme).await?;
    failed(&cargo, &of_cargo).await?;
    ensure!(bolt.api()?.messages(Direction::In).await?.is_empty());
    stop(world, [acme, bolt, cargo]).await
}

#[tokio::test]
async fn what_is_handed_out_again_is_shown_once() -> anyhow::Result<()> {
    let (mut world, acme, mut bolt, pair) = begin().await?;
    let sent = lay(&acme, &pair.inviter.id, "once", &[]).await?;
    let old = world.folder().join("relay-of-yesterday");
    world.relay.stop().await?;
    copy(world.relay.folder(), &old)?;
    world.relay.start().await?;
    bolt.start().await?;
    bolt.api()?
        .read(&bolt.api()?.received(&sent.uuid).await?.id)
        .await?;
    acme.api()?.reached(&sent.id, DeliveryStatus::Read).await?;

    world.relay.stop().await?;
    world.relay.move_to(&old);
    world.relay.start().await?;
    for text in ["twice", "three times"] {
        let next = send(&acme.api()?, &pair.inviter.id, text, &[]).await?;
        bolt.api()?.received(&next.uuid).await?;
        acme.api()?
            .reached(&next.id, DeliveryStatus::Delivered)
            .await?;
    }
    let received: Vec<_> = bolt
        .api()?
        .messages(Direction::In)
        .await?
        .into_iter()
        .map(|one| one.content)
        .collect();
    ensure!(received == ["once", "twice", "three times"], "{received:?}");
    stop(world, [acme, bolt]).await
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in files_below(from)? {
        let target = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(target.parent().context("a folder")?)?;
        fs::copy(&file, target)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_file_is_never_handed_out() -> anyhow::Result<()> {
    let (mut world, acme, mut bolt, pair) = begin().await?;
    let order = Sample::new("order.csv", files::measurements(5_000_000));
    let sent = lay(&acme, &pair.inviter.id, "with a file", &[order]).await?;
    world.relay.stop().await?;
    let parts = files_below(&world.relay.folder().join("blobs"))?;
    let part = parts.first().context("no part")?;
    let mut bytes = fs::read(part)?;
    *bytes.last_mut().context("an empty part")? ^= 1;
    fs::write(part, bytes)?;
    world.relay.start().await?;
    bolt.start().await?;
    acme.api()?
        .reached(&sent.id, DeliveryStatus::Delivered)
        .await?;
    let file = until("the file is found out", async || {
        let message = bolt
            .api()?
            .messages(Direction::In)
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
        bolt.api()?.content_digest(&file.id).await.is_err(),
        "it was handed out"
    );
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn an_invite_with_another_fingerprint_is_not_trusted() -> anyhow::Result<()> {
    let world = World::with_relay(program()).await?;
    let (acme, bolt) = (
        world.node("Acme", Delivery::Pull).await?,
        world.node("Bolt", Delivery::Pull).await?,
    );
    let (_, url) = acme.api()?.invite(true).await?;
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
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn parts_that_are_not_what_was_sent_are_never_handed_out() -> anyhow::Result<()> {
    let mut world = World::begin(program())?;
    let liar = Liar::before(&world.relay).await?;
    world.relay.configure(&["--public-url", &liar.origin()]);
    world.relay.start().await?;
    let mut nodes = Vec::new();
    for name in ["Acme", "Bolt"] {
        let mut node = Node::init(
            world.program(),
            world.folder(),
            name,
            &liar.origin(),
            Delivery::Pull,
        )
        .await?;
        node.start().await?;
        node.connected().await?;
        nodes.push(node);
    }
    let [acme, bolt] = &nodes[..] else {
        unreachable!()
    };
    let pair = pair(acme, bolt).await?;
    let order = [Sample::new("order.csv", files::measurements(7_000_000))];
    for lie in [Lie::Short, Lie::Long, Lie::Swapped, Lie::OfAnotherBlob] {
        liar.tell(lie);
        let sent = send(&acme.api()?, &pair.inviter.id, "lied about", &order).await?;
        acme.api()?
            .reached(&sent.id, DeliveryStatus::Delivered)
            .await?;
        let file = until("the lie is found out", async || {
            let message = bolt
                .api()?
                .messages(Direction::In)
                .await?
                .into_iter()
                .find(|one| one.uuid == sent.uuid);
            Ok(message
                .and_then(|one| one.attachments.into_iter().next())
                .filter(|file| file.reason.is_some()))
        })
        .await
        .with_context(|| format!("{lie:?}"))?;
        ensure!(file.status != AttachmentStatus::Ready, "{lie:?}: {file:?}");
        ensure!(
            bolt.api()?.content_digest(&file.id).await.is_err(),
            "{lie:?}: it was handed out"
        );
        liar.tell(Lie::None);
        let honest = send(&acme.api()?, &pair.inviter.id, "not lied about", &order).await?;
        let received = bolt.api()?.received(&honest.uuid).await?;
        ensure!(
            bolt.api()?
                .content_digest(&received.attachments[0].id)
                .await?
                == order[0].digest(),
            "{lie:?}"
        );
    }
    stop(world, nodes).await
}
