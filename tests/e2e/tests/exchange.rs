//! What two, three businesses do with each other on a good day, and on one on which something is away for a while.

mod support;

use anyhow::{Context as _, ensure};
use sealpost_demo::{
    api::Api,
    checks::{self, Secret},
    files::{self, CANARY, Sample},
    node::{Delivery, Node},
    wait::{PATIENCE, until},
    world::{World, pair, send},
};
use sealpost_node::{
    api::model::{
        Attachment, ConnectionStatus, Direction, EventTopic, Message, SendMessage, Transfer,
        TransferState,
    },
    cli::{error::CliError, events::Events},
};
use sealpost_proto::{
    DeliveryStatus, Timestamp, limits::PREVIEW_BYTES_MAX, wire::RegistrationPolicy,
};
use sealpost_service::{Clock, Shutdown, SystemClock};
use std::{sync::Arc, time::Duration};
use support::program;
use tokio::time::timeout;

async fn compare(api: &Api, message: &Message, files: &[Sample]) -> anyhow::Result<()> {
    ensure!(
        message.attachments.len() == files.len(),
        "{} files of {}",
        message.attachments.len(),
        files.len()
    );
    for (attachment, file) in message.attachments.iter().zip(files) {
        ensure!(attachment.filename == file.name && attachment.size == file.content.len() as u64);
        ensure!(
            api.content_digest(&attachment.id).await? == file.digest(),
            "{} is another file",
            file.name
        );
    }
    Ok(())
}

/// Sends, waits until it was read, and holds both sides against each other.
async fn exchange(
    from: &Node,
    to: &Node,
    connection: &str,
    text: &str,
    files: &[Sample],
) -> anyhow::Result<()> {
    let (sender, recipient) = (from.api()?, to.api()?);
    let sent = send(&sender, connection, text, files).await?;
    let received = recipient.received(&sent.uuid).await?;
    ensure!(
        received.content == text
            && received.sender.contact == from.home().name()
            && !received.is_read
    );
    compare(&recipient, &received, files).await?;
    sender.reached(&sent.id, DeliveryStatus::Delivered).await?;
    ensure!(recipient.read(&received.id).await?.is_read);
    let read = sender.reached(&sent.id, DeliveryStatus::Read).await?;
    let times = [
        Some(read.pending_at),
        read.sent_at,
        read.delivered_at,
        read.read_at,
    ];
    ensure!(
        times.iter().all(Option::is_some),
        "a status without its time: {times:?}"
    );
    Ok(())
}

async fn stop(world: World, nodes: impl IntoIterator<Item = Node>) -> anyhow::Result<()> {
    for mut node in nodes {
        node.stop().await?;
    }
    world.finish().await
}

#[tokio::test]
async fn messages_and_files_go_both_ways_whoever_is_called_and_whoever_asks() -> anyhow::Result<()>
{
    for (one, other) in [
        (Delivery::Pull, Delivery::Webhook),
        (Delivery::Pull, Delivery::Pull),
        (Delivery::Webhook, Delivery::Webhook),
    ] {
        let world = World::with_relay(program()).await?;
        let (acme, bolt) = (
            world.node("Acme", one).await?,
            world.node("Bolt", other).await?,
        );
        let pair = pair(&acme, &bolt).await?;
        let files = [
            Sample::new("empty.txt", ""),
            Sample::new("byte.bin", [7]),
            Sample::new("über uns – naïve.csv", files::measurements(3_000_000)),
        ];
        exchange(
            &acme,
            &bolt,
            &pair.inviter.id,
            "**first**\n\n- a\n- b",
            &files,
        )
        .await?;
        exchange(
            &bolt,
            &acme,
            &pair.acceptor.id,
            &format!("second, with the {CANARY}"),
            &files[2..],
        )
        .await?;
        exchange(&acme, &bolt, "Bolt", &"x".repeat(64 * 1024), &[]).await?;
        exchange(&bolt, &acme, "acme", "", &files[..1]).await?;
        let secrets = [
            Secret::new("the canary", CANARY),
            Secret::new("a file's name", "naïve"),
        ];
        checks::ensure_blind(world.relay.folder(), &secrets)?;
        stop(world, [acme, bolt]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_person_decides_who_is_connected() -> anyhow::Result<()> {
    let world = World::with_relay(program()).await?;
    let acme = world.node("Acme", Delivery::Pull).await?;
    let bolt = world.node("Bolt", Delivery::Webhook).await?;
    let cargo = world.node("Cargo", Delivery::Pull).await?;
    let (a, b, c) = (acme.api()?, bolt.api()?, cargo.api()?);

    let asked = b.connect(&a.invite(false).await?.1, "from Bolt").await?;
    let request = a.request("from Bolt").await?;
    ensure!(
        (asked.status, request.status) == (ConnectionStatus::Pending, ConnectionStatus::Pending)
    );
    let early = send(&b, &asked.id, "too early", &[]).await.unwrap_err();
    ensure!(
        early
            .downcast_ref::<CliError>()
            .is_some_and(|error| error.code() == "not_accepted"),
        "{early}"
    );
    a.accept(&request.id).await?;
    let (at_acme, at_bolt) = (a.accepted(&request.id).await?, b.accepted(&asked.id).await?);
    ensure!(
        at_acme.fingerprint == b.node().await?.fingerprint
            && at_bolt.fingerprint == a.node().await?.fingerprint
    );
    let number = a.safety_number(&at_acme.id).await?.number;
    ensure!(number == b.safety_number(&at_bolt.id).await?.number);
    ensure!(
        b.verify(&at_bolt.id, &number.replace(' ', ""))
            .await?
            .verified
    );
    let differs = a
        .verify(&at_acme.id, &number.replace('1', "2"))
        .await
        .unwrap_err();
    ensure!(differs.code() == "safety_number_differs", "{differs}");

    let asked = c.connect(&a.invite(false).await?.1, "from Cargo").await?;
    let request = a.request("from Cargo").await?;
    let rejected = acme
        .home()
        .cli(&["connections", "reject", &request.id])
        .await?;
    ensure!(rejected.status.success());
    until("the other side hears of it", async || {
        let one = c
            .connections()
            .await?
            .into_iter()
            .find(|one| one.id == asked.id)
            .context("it is gone")?;
        Ok((one.status == ConnectionStatus::Rejected).then_some(()))
    })
    .await?;
    stop(world, [acme, bolt, cargo]).await
}

#[tokio::test]
async fn a_file_for_several_is_uploaded_once_and_deleted_when_all_have_it() -> anyhow::Result<()> {
    let world = World::with_relay(program()).await?;
    let acme = world.node("Acme", Delivery::Pull).await?;
    let mut others = [
        world.node("Bolt", Delivery::Webhook).await?,
        world.node("Cargo", Delivery::Pull).await?,
    ];
    for other in &mut others {
        pair(&acme, other).await?;
        other.stop().await?;
    }
    let api = acme.api()?;
    let file = Sample::new("order.csv", files::measurements(1_000_000));
    let staged = api.stage(&file.name, file.content.clone()).await?;
    let request = SendMessage {
        to: vec!["Bolt".to_owned(), "Cargo".to_owned()],
        content: "to both".to_owned(),
        attachments: vec![staged.id],
        client_id: Some("4711".to_owned()),
        ..SendMessage::default()
    };
    let sent = api.send(&request).await?;
    ensure!(sent.len() == 2 && sent[0].uuid == sent[1].uuid && sent[0].chat != sent[1].chat);
    let again = api.send(&request).await?;
    ensure!(
        again
            .iter()
            .map(|one| &one.id)
            .eq(sent.iter().map(|one| &one.id)),
        "the same client id sent it again"
    );
    for message in &sent {
        until("it is at the relay", async || {
            let delivery = api.message(&message.id).await?.delivery;
            Ok(delivery
                .iter()
                .all(|one| one.status != DeliveryStatus::Pending)
                .then_some(()))
        })
        .await?;
    }
    let blobs = world.relay.folder().join("blobs");
    let parts: Vec<_> = checks::files_below(&blobs)?;
    ensure!(parts.len() == 1, "the relay holds {parts:?}");
    for other in &mut others {
        other.start().await?;
    }
    for other in &others {
        let received = other.api()?.received(&sent[0].uuid).await?;
        compare(&other.api()?, &received, std::slice::from_ref(&file)).await?;
        other.api()?.read(&received.id).await?;
        ensure!(other.api()?.messages(Direction::In).await?.len() == 1);
    }
    for message in &sent {
        api.reached(&message.id, DeliveryStatus::Read).await?;
    }
    ensure!(
        api.message(&sent[0].id).await?.delivery.len() == 2,
        "a message shows all its recipients"
    );
    until("both have it, and the relay nothing", async || {
        Ok(checks::files_below(&blobs)?.is_empty().then_some(()))
    })
    .await?;
    stop(world, [acme].into_iter().chain(others)).await
}

/// Follows a node's events until all of a file has moved, and holds what is said of it on the way against each other.
async fn follow(
    events: &mut Events,
    file: &Attachment,
    direction: Direction,
) -> anyhow::Result<()> {
    let mut before = 0;
    loop {
        let event = timeout(PATIENCE, events.next())
            .await?
            .context("the events ended")?;
        if event.topic != EventTopic::Transfer || event.data["attachment"] != file.id {
            continue;
        }
        let told: Transfer = serde_json::from_value(event.data)?;
        ensure!(
            event.id.is_none() && told.direction == direction && told.total > file.size,
            "{told:?}"
        );
        ensure!(
            before <= told.bytes && told.bytes <= told.total,
            "{told:?} after {before}"
        );
        before = told.bytes;
        match told.state {
            TransferState::Moving => {}
            TransferState::Done => {
                ensure!(
                    told.bytes == told.total && told.bytes_per_second > 0,
                    "{told:?}"
                );
                return Ok(());
            }
            TransferState::Stopped => anyhow::bail!("nothing held it up: {told:?}"),
        }
    }
}

#[tokio::test]
async fn a_picture_is_followed_on_its_way_and_seen_small_by_both() -> anyhow::Result<()> {
    let world = World::with_relay(program()).await?;
    let (acme, bolt) = (
        world.node("Acme", Delivery::Pull).await?,
        world.node("Bolt", Delivery::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    let (sender, recipient) = (acme.api()?, bolt.api()?);
    let (mut at_sender, mut at_recipient) = (sender.events().await?, recipient.events().await?);
    let [text, picture, _] = files::samples();
    let sent = send(&sender, &pair.inviter.id, "the seal", &[picture, text]).await?;
    follow(&mut at_sender, &sent.attachments[0], Direction::Out).await?;
    let received = recipient.received(&sent.uuid).await?;
    follow(&mut at_recipient, &received.attachments[0], Direction::In).await?;

    let small = recipient.preview(&received.attachments[0].id).await?;
    ensure!(
        small == sender.preview(&sent.attachments[0].id).await?,
        "both see the same"
    );
    ensure!(
        small.starts_with(&[0xff, 0xd8, 0xff]) && small.len() <= PREVIEW_BYTES_MAX,
        "{} bytes",
        small.len()
    );
    ensure!(received.attachments[0].has_preview && !received.attachments[1].has_preview);
    let none = recipient
        .preview(&received.attachments[1].id)
        .await
        .unwrap_err();
    ensure!(
        none.downcast_ref::<CliError>()
            .is_some_and(|error| error.code() == "not_found"),
        "{none}"
    );
    checks::ensure_blind(
        world.relay.folder(),
        &[Secret::new(
            "the small picture",
            &small[small.len() / 2..][..48],
        )],
    )?;
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn what_is_away_for_a_while_loses_nothing() -> anyhow::Result<()> {
    let mut world = World::with_relay(program()).await?;
    let mut acme = world.node("Acme", Delivery::Pull).await?;
    let mut bolt = world.node("Bolt", Delivery::Webhook).await?;
    let pair = pair(&acme, &bolt).await?;
    let texts: Vec<_> = (0..30).map(|number| format!("message {number}")).collect();
    let file = [Sample::new("late.csv", files::measurements(2_500_000))];

    bolt.stop().await?;
    let first = send(&acme.api()?, &pair.inviter.id, &texts[0], &file).await?;
    let delivery = until("the relay says that it retries", async || {
        let delivery = acme
            .api()?
            .message(&first.id)
            .await?
            .delivery
            .into_iter()
            .next()
            .context("no delivery")?;
        Ok((delivery.status == DeliveryStatus::Retrying).then_some(delivery))
    })
    .await?;
    ensure!(
        delivery.attempts > 0 && delivery.reason.is_some() && delivery.next_attempt_at.is_some(),
        "{delivery:?}"
    );
    world.relay.stop().await?;
    for text in &texts[1..15] {
        send(&acme.api()?, &pair.inviter.id, text, &[]).await?;
    }
    acme.stop().await?;
    acme.start().await?;
    for text in &texts[15..] {
        send(&acme.api()?, &pair.inviter.id, text, &file).await?;
    }
    world.relay.start().await?;
    bolt.start().await?;

    let api = bolt.api()?;
    for sent in acme.api()?.messages(Direction::Out).await? {
        let received = api.received(&sent.uuid).await?;
        compare(
            &api,
            &received,
            if sent.attachments.is_empty() {
                &[]
            } else {
                &file
            },
        )
        .await?;
        acme.api()?
            .reached(&sent.id, DeliveryStatus::Delivered)
            .await?;
    }
    let received: Vec<_> = api
        .messages(Direction::In)
        .await?
        .into_iter()
        .map(|message| message.content)
        .collect();
    assert_eq!(
        received, texts,
        "each once, in the order in which they were sent"
    );
    stop(world, [acme, bolt]).await
}

/// More than a signature may be off.
const WRONG: Duration = Duration::from_secs(600);

/// A relay's clock, so that the nodes' own is wrong by as much.
enum Shifted {
    Ahead,
    Behind,
}

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        match self {
            Self::Ahead => now.plus(WRONG),
            Self::Behind => now.minus(WRONG),
        }
    }
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_is_called_and_heard() -> anyhow::Result<()> {
    for (clock, is_behind) in [(Shifted::Ahead, true), (Shifted::Behind, false)] {
        let world = World::begin(program())?;
        let mut config = sealpost_relay::Config {
            listen: world.relay.origin().trim_start_matches("http://").parse()?,
            data: world.relay.folder().to_owned(),
            ..sealpost_relay::Config::default()
        };
        config.egress.allow = vec!["127.0.0.0/8".parse()?];
        config.registration.policy = RegistrationPolicy::Open;
        let shutdown = Shutdown::new();
        let relay = sealpost_relay::start(config, Arc::new(clock), shutdown.clone()).await?;
        // Bolt pulls once, when it starts: whatever comes later comes by calls, which it holds against the relay's time.
        let (acme, bolt) = (
            world.node("Acme", Delivery::Pull).await?,
            world.node("Bolt", Delivery::Webhook).await?,
        );
        let pair = pair(&acme, &bolt).await?;
        exchange(&acme, &bolt, &pair.inviter.id, "at last", &[]).await?;
        exchange(&bolt, &acme, &pair.acceptor.id, "in time", &[]).await?;
        let offset = bolt.api()?.node().await?.relay.clock_offset_ms;
        ensure!(
            offset.abs() > 300_000 && (offset > 0) == is_behind,
            "the relay is {offset} ms ahead"
        );
        stop(world, [acme, bolt]).await?;
        shutdown.trigger();
        relay.ended().await;
    }
    Ok(())
}
