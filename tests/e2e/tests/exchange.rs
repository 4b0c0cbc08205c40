//! Exchanges between two or three businesses, with all processes running and with some of
//! them stopped for a while.

use crate::support::{program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    api::Api,
    checks::{self, Secret},
    environment::{Environment, pair, send},
    files::{self, CANARY, Sample},
    node::{DeliveryMode, Node},
    wait::{WAIT_TIMEOUT, wait_for},
};
use sealpost_node::{
    api::model::{
        Attachment, ConnectionStatus, Direction, EventTopic, Message, SendMessage, Transfer,
        TransferState,
    },
    cli::{error::CliError, events::EventStream},
};
use sealpost_proto::{
    DeliveryStatus, Timestamp, limits::PREVIEW_BYTES_MAX, wire::RegistrationPolicy,
};
use sealpost_service::{Clock, Shutdown, SystemClock};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

async fn ensure_files_match(api: &Api, message: &Message, files: &[Sample]) -> anyhow::Result<()> {
    ensure!(
        message.attachments.len() == files.len(),
        "{} files of {}",
        message.attachments.len(),
        files.len()
    );
    for (attachment, file) in message.attachments.iter().zip(files) {
        ensure!(attachment.filename == file.name && attachment.size == file.content.len() as u64);
        ensure!(
            api.download_digest(&attachment.id).await? == file.digest(),
            "{} differs",
            file.name
        );
    }
    Ok(())
}

/// Sends a message, waits until it has been read, and compares both sides.
async fn exchange(
    from: &Node,
    to: &Node,
    connection: &str,
    text: &str,
    files: &[Sample],
) -> anyhow::Result<()> {
    let (sender, recipient) = (from.api()?, to.api()?);
    let sent = send(&sender, connection, text, files).await?;
    let received = recipient.wait_for_message(&sent.uuid).await?;
    ensure!(
        received.content == text
            && received.sender.contact == from.home().name()
            && !received.is_read
    );
    ensure_files_match(&recipient, &received, files).await?;
    sender
        .wait_for_status(&sent.id, DeliveryStatus::Delivered)
        .await?;
    ensure!(recipient.mark_read(&received.id).await?.is_read);
    let read = sender
        .wait_for_status(&sent.id, DeliveryStatus::Read)
        .await?;
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

#[tokio::test]
async fn every_delivery_mode_transfers_messages() -> anyhow::Result<()> {
    for (one, other) in [
        (DeliveryMode::Pull, DeliveryMode::Webhook),
        (DeliveryMode::Pull, DeliveryMode::Pull),
        (DeliveryMode::Webhook, DeliveryMode::Webhook),
    ] {
        let env = Environment::with_relay(program()).await?;
        let (acme, bolt) = (
            env.start_node("Acme", one).await?,
            env.start_node("Bolt", other).await?,
        );
        let pair = pair(&acme, &bolt).await?;
        let files = [
            Sample::new("empty.txt", ""),
            Sample::new("byte.bin", [7]),
            Sample::new(
                "über uns – naïve.csv",
                files::generate_measurements(3_000_000),
            ),
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
            &pair.invitee.id,
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
        checks::ensure_no_secrets(env.relay.directory(), &secrets)?;
        stop_all(env, [acme, bolt]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn users_answer_connection_requests() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Webhook).await?;
    let cargo = env.start_node("Cargo", DeliveryMode::Pull).await?;
    let (a, b, c) = (acme.api()?, bolt.api()?, cargo.api()?);

    let requested = b
        .connect(&a.create_invite(false).await?.1, "from Bolt")
        .await?;
    let request = a.wait_for_request("from Bolt").await?;
    ensure!(
        (requested.status, request.status)
            == (ConnectionStatus::Pending, ConnectionStatus::Pending)
    );
    let early = send(&b, &requested.id, "too early", &[]).await.unwrap_err();
    ensure!(
        early
            .downcast_ref::<CliError>()
            .is_some_and(|error| error.code() == "not_accepted"),
        "{early}"
    );
    a.accept(&request.id).await?;
    let (at_acme, at_bolt) = (
        a.wait_for_accepted(&request.id).await?,
        b.wait_for_accepted(&requested.id).await?,
    );
    ensure!(
        at_acme.fingerprint == b.fetch_node().await?.fingerprint
            && at_bolt.fingerprint == a.fetch_node().await?.fingerprint
    );
    let number = a.fetch_safety_number(&at_acme.id).await?.number;
    ensure!(number == b.fetch_safety_number(&at_bolt.id).await?.number);
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

    let requested = c
        .connect(&a.create_invite(false).await?.1, "from Cargo")
        .await?;
    let request = a.wait_for_request("from Cargo").await?;
    let rejected = acme
        .home()
        .run_cli(&["connections", "reject", &request.id])
        .await?;
    ensure!(rejected.status.success());
    wait_for("the peer learns of the rejection", async || {
        let one = c
            .list_connections()
            .await?
            .into_iter()
            .find(|one| one.id == requested.id)
            .context("the connection is not listed")?;
        Ok((one.status == ConnectionStatus::Rejected).then_some(()))
    })
    .await?;
    stop_all(env, [acme, bolt, cargo]).await
}

#[tokio::test]
async fn file_for_two_recipients_is_uploaded_once() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let mut others = [
        env.start_node("Bolt", DeliveryMode::Webhook).await?,
        env.start_node("Cargo", DeliveryMode::Pull).await?,
    ];
    for other in &mut others {
        pair(&acme, other).await?;
        other.stop().await?;
    }
    let api = acme.api()?;
    let file = Sample::new("order.csv", files::generate_measurements(1_000_000));
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
        wait_for("the message is at the relay", async || {
            let delivery = api.fetch_message(&message.id).await?.deliveries;
            Ok(delivery
                .iter()
                .all(|one| one.status != DeliveryStatus::Pending)
                .then_some(()))
        })
        .await?;
    }
    let blobs = env.relay.directory().join("blobs");
    let parts: Vec<_> = checks::list_files(&blobs)?;
    ensure!(parts.len() == 1, "the relay holds {parts:?}");
    for other in &mut others {
        other.start().await?;
    }
    for other in &others {
        let received = other.api()?.wait_for_message(&sent[0].uuid).await?;
        ensure_files_match(&other.api()?, &received, std::slice::from_ref(&file)).await?;
        other.api()?.mark_read(&received.id).await?;
        ensure!(other.api()?.list_messages(Direction::In).await?.len() == 1);
    }
    for message in &sent {
        api.wait_for_status(&message.id, DeliveryStatus::Read)
            .await?;
    }
    ensure!(
        api.fetch_message(&sent[0].id).await?.deliveries.len() == 2,
        "a message shows all its recipients"
    );
    wait_for("the relay has deleted the file", async || {
        Ok(checks::list_files(&blobs)?.is_empty().then_some(()))
    })
    .await?;
    stop_all(env, [acme].into_iter().chain(others)).await
}

/// Follows the transfer events of a file until it is complete, and checks that they are consistent.
async fn follow_transfer(
    events: &mut EventStream,
    file: &Attachment,
    direction: Direction,
) -> anyhow::Result<()> {
    let mut previous_bytes = 0;
    loop {
        let event = timeout(WAIT_TIMEOUT, events.next())
            .await?
            .context("the event stream ended")?;
        if event.topic != EventTopic::Transfer || event.data["attachment"] != file.id {
            continue;
        }
        let transfer: Transfer = serde_json::from_value(event.data)?;
        ensure!(
            event.id.is_none() && transfer.direction == direction && transfer.total > file.size,
            "{transfer:?}"
        );
        ensure!(
            previous_bytes <= transfer.bytes && transfer.bytes <= transfer.total,
            "{transfer:?} after {previous_bytes}"
        );
        previous_bytes = transfer.bytes;
        match transfer.state {
            TransferState::Moving => {}
            TransferState::Done => {
                ensure!(
                    transfer.bytes == transfer.total && transfer.bytes_per_second > 0,
                    "{transfer:?}"
                );
                return Ok(());
            }
            TransferState::Stopped => anyhow::bail!("the transfer stopped: {transfer:?}"),
        }
    }
}

#[tokio::test]
async fn transfers_report_consistent_progress() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        env.start_node("Bolt", DeliveryMode::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    let (sender, recipient) = (acme.api()?, bolt.api()?);
    let (mut at_sender, mut at_recipient) = (
        sender.subscribe_to_events().await?,
        recipient.subscribe_to_events().await?,
    );
    let [_, picture, _] = files::samples();
    let sent = send(&sender, &pair.inviter.id, "the seal", &[picture]).await?;
    follow_transfer(&mut at_sender, &sent.attachments[0], Direction::Out).await?;
    let received = recipient.wait_for_message(&sent.uuid).await?;
    follow_transfer(&mut at_recipient, &received.attachments[0], Direction::In).await?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn pictures_have_previews() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        env.start_node("Bolt", DeliveryMode::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    let (sender, recipient) = (acme.api()?, bolt.api()?);
    let [text, picture, _] = files::samples();
    let sent = send(&sender, &pair.inviter.id, "the seal", &[picture, text]).await?;
    let received = recipient.wait_for_message(&sent.uuid).await?;
    let small = recipient
        .download_preview(&received.attachments[0].id)
        .await?;
    ensure!(
        small == sender.download_preview(&sent.attachments[0].id).await?,
        "the previews differ"
    );
    ensure!(
        small.starts_with(&[0xff, 0xd8, 0xff]) && small.len() <= PREVIEW_BYTES_MAX,
        "{} bytes",
        small.len()
    );
    ensure!(received.attachments[0].has_preview && !received.attachments[1].has_preview);
    let none = recipient
        .download_preview(&received.attachments[1].id)
        .await
        .unwrap_err();
    ensure!(
        none.downcast_ref::<CliError>()
            .is_some_and(|error| error.code() == "not_found"),
        "{none}"
    );
    checks::ensure_no_secrets(
        env.relay.directory(),
        &[Secret::new("the preview", &small[small.len() / 2..][..48])],
    )?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn restarts_of_every_process_lose_nothing() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let mut bolt = env.start_node("Bolt", DeliveryMode::Webhook).await?;
    let pair = pair(&acme, &bolt).await?;
    let texts: Vec<_> = (0..30).map(|number| format!("message {number}")).collect();
    let file = [Sample::new(
        "late.csv",
        files::generate_measurements(2_500_000),
    )];

    bolt.stop().await?;
    let first = send(&acme.api()?, &pair.inviter.id, &texts[0], &file).await?;
    let delivery = wait_for("the relay reports a retry", async || {
        let delivery = acme
            .api()?
            .fetch_message(&first.id)
            .await?
            .deliveries
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
    env.relay.stop().await?;
    for text in &texts[1..15] {
        send(&acme.api()?, &pair.inviter.id, text, &[]).await?;
    }
    acme.stop().await?;
    acme.start().await?;
    for text in &texts[15..] {
        send(&acme.api()?, &pair.inviter.id, text, &file).await?;
    }
    env.relay.start().await?;
    bolt.start().await?;

    let api = bolt.api()?;
    for sent in acme.api()?.list_messages(Direction::Out).await? {
        let received = api.wait_for_message(&sent.uuid).await?;
        ensure_files_match(
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
            .wait_for_status(&sent.id, DeliveryStatus::Delivered)
            .await?;
    }
    let received: Vec<_> = api
        .list_messages(Direction::In)
        .await?
        .into_iter()
        .map(|message| message.content)
        .collect();
    assert_eq!(
        received, texts,
        "each message once, in the order of sending"
    );
    stop_all(env, [acme, bolt]).await
}

/// More than the accepted clock skew of a signature.
const CLOCK_OFFSET: Duration = Duration::from_secs(600);

/// Shifted clock of the relay, which makes the nodes' clocks wrong by the same amount.
enum ShiftedClock {
    Ahead,
    Behind,
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        match self {
            Self::Ahead => now.plus(CLOCK_OFFSET),
            Self::Behind => now.minus(CLOCK_OFFSET),
        }
    }
}

#[tokio::test]
async fn wrong_node_clocks_do_not_stop_delivery() -> anyhow::Result<()> {
    for (clock, is_behind) in [(ShiftedClock::Ahead, true), (ShiftedClock::Behind, false)] {
        let env = Environment::new(program())?;
        let mut config = sealpost_relay::Config {
            listen: env.relay.origin().trim_start_matches("http://").parse()?,
            data: env.relay.directory().to_owned(),
            ..sealpost_relay::Config::default()
        };
        config.egress.allow = vec!["127.0.0.0/8".parse()?];
        config.registration.policy = RegistrationPolicy::Open;
        let shutdown = Shutdown::new();
        let relay = sealpost_relay::start(config, Arc::new(clock), shutdown.clone()).await?;
        // Bolt pulls once, at its start. Everything later arrives in webhook calls, which Bolt
        // checks against the relay's time.
        let (acme, bolt) = (
            env.start_node("Acme", DeliveryMode::Pull).await?,
            env.start_node("Bolt", DeliveryMode::Webhook).await?,
        );
        let pair = pair(&acme, &bolt).await?;
        exchange(&acme, &bolt, &pair.inviter.id, "at last", &[]).await?;
        exchange(&bolt, &acme, &pair.invitee.id, "in time", &[]).await?;
        let offset = bolt.api()?.fetch_node().await?.relay.clock_offset_ms;
        ensure!(
            offset.abs() > 300_000 && (offset > 0) == is_behind,
            "the relay is {offset} ms ahead"
        );
        stop_all(env, [acme, bolt]).await?;
        shutdown.trigger();
        relay.ended().await;
    }
    Ok(())
}
