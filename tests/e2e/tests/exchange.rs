//! Exchanges between two or three businesses, with all processes up and with some of them down for
//! a while.

use crate::support::{program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    api::Api,
    checks::{self, Secret},
    environment::{Environment, pair, send},
    files::{self, CANARY, Sample},
    node::{Delivery, Node},
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
    compare(&recipient, &received, files).await?;
    sender
        .wait_for_status(&sent.id, DeliveryStatus::Delivered)
        .await?;
    ensure!(recipient.read(&received.id).await?.is_read);
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
async fn messages_and_files_pass_in_every_delivery_mode() -> anyhow::Result<()> {
    for (one, other) in [
        (Delivery::Pull, Delivery::Webhook),
        (Delivery::Pull, Delivery::Pull),
        (Delivery::Webhook, Delivery::Webhook),
    ] {
        let env = Environment::with_relay(program()).await?;
        let (acme, bolt) = (env.node("Acme", one).await?, env.node("Bolt", other).await?);
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
        checks::ensure_no_secrets(env.relay.directory(), &secrets)?;
        stop_all(env, [acme, bolt]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn users_accept_and_reject_connection_requests() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.node("Acme", Delivery::Pull).await?;
    let bolt = env.node("Bolt", Delivery::Webhook).await?;
    let cargo = env.node("Cargo", Delivery::Pull).await?;
    let (a, b, c) = (acme.api()?, bolt.api()?, cargo.api()?);

    let requested = b.connect(&a.invite(false).await?.1, "from Bolt").await?;
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

    let requested = c.connect(&a.invite(false).await?.1, "from Cargo").await?;
    let request = a.wait_for_request("from Cargo").await?;
    let rejected = acme
        .home()
        .cli(&["connections", "reject", &request.id])
        .await?;
    ensure!(rejected.status.success());
    wait_for("the peer learns of the rejection", async || {
        let one = c
            .connections()
            .await?
            .into_iter()
            .find(|one| one.id == requested.id)
            .context("the connection is gone")?;
        Ok((one.status == ConnectionStatus::Rejected).then_some(()))
    })
    .await?;
    stop_all(env, [acme, bolt, cargo]).await
}

#[tokio::test]
async fn shared_file_is_uploaded_once_and_deleted_afterwards() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.node("Acme", Delivery::Pull).await?;
    let mut others = [
        env.node("Bolt", Delivery::Webhook).await?,
        env.node("Cargo", Delivery::Pull).await?,
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
        wait_for("the message is at the relay", async || {
            let delivery = api.message(&message.id).await?.delivery;
            Ok(delivery
                .iter()
                .all(|one| one.status != DeliveryStatus::Pending)
                .then_some(()))
        })
        .await?;
    }
    let blobs = env.relay.directory().join("blobs");
    let parts: Vec<_> = checks::files_below(&blobs)?;
    ensure!(parts.len() == 1, "the relay holds {parts:?}");
    for other in &mut others {
        other.start().await?;
    }
    for other in &others {
        let received = other.api()?.wait_for_message(&sent[0].uuid).await?;
        compare(&other.api()?, &received, std::slice::from_ref(&file)).await?;
        other.api()?.read(&received.id).await?;
        ensure!(other.api()?.messages(Direction::In).await?.len() == 1);
    }
    for message in &sent {
        api.wait_for_status(&message.id, DeliveryStatus::Read)
            .await?;
    }
    ensure!(
        api.message(&sent[0].id).await?.delivery.len() == 2,
        "a message shows all its recipients"
    );
    wait_for("the relay has deleted the file", async || {
        Ok(checks::files_below(&blobs)?.is_empty().then_some(()))
    })
    .await?;
    stop_all(env, [acme].into_iter().chain(others)).await
}

/// Follows the transfer events of a file until it is complete, and checks that they are consistent.
async fn follow(
    events: &mut EventStream,
    file: &Attachment,
    direction: Direction,
) -> anyhow::Result<()> {
    let mut before = 0;
    loop {
        let event = timeout(WAIT_TIMEOUT, events.next())
            .await?
            .context("the events ended")?;
        if event.topic != EventTopic::Transfer || event.data["attachment"] != file.id {
            continue;
        }
        let transfer: Transfer = serde_json::from_value(event.data)?;
        ensure!(
            event.id.is_none() && transfer.direction == direction && transfer.total > file.size,
            "{transfer:?}"
        );
        ensure!(
            before <= transfer.bytes && transfer.bytes <= transfer.total,
            "{transfer:?} after {before}"
        );
        before = transfer.bytes;
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
async fn transfers_report_progress_and_pictures_have_previews() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.node("Acme", Delivery::Pull).await?,
        env.node("Bolt", Delivery::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    let (sender, recipient) = (acme.api()?, bolt.api()?);
    let (mut at_sender, mut at_recipient) = (sender.events().await?, recipient.events().await?);
    let [text, picture, _] = files::samples();
    let sent = send(&sender, &pair.inviter.id, "the seal", &[picture, text]).await?;
    follow(&mut at_sender, &sent.attachments[0], Direction::Out).await?;
    let received = recipient.wait_for_message(&sent.uuid).await?;
    follow(&mut at_recipient, &received.attachments[0], Direction::In).await?;

    let small = recipient.preview(&received.attachments[0].id).await?;
    ensure!(
        small == sender.preview(&sent.attachments[0].id).await?,
        "the previews differ"
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
    checks::ensure_no_secrets(
        env.relay.directory(),
        &[Secret::new("the preview", &small[small.len() / 2..][..48])],
    )?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn restarts_of_every_process_lose_nothing() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let mut acme = env.node("Acme", Delivery::Pull).await?;
    let mut bolt = env.node("Bolt", Delivery::Webhook).await?;
    let pair = pair(&acme, &bolt).await?;
    let texts: Vec<_> = (0..30).map(|number| format!("message {number}")).collect();
    let file = [Sample::new("late.csv", files::measurements(2_500_000))];

    bolt.stop().await?;
    let first = send(&acme.api()?, &pair.inviter.id, &texts[0], &file).await?;
    let delivery = wait_for("the relay reports a retry", async || {
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
    for sent in acme.api()?.messages(Direction::Out).await? {
        let received = api.wait_for_message(&sent.uuid).await?;
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
            .wait_for_status(&sent.id, DeliveryStatus::Delivered)
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
            env.node("Acme", Delivery::Pull).await?,
            env.node("Bolt", Delivery::Webhook).await?,
        );
        let pair = pair(&acme, &bolt).await?;
        exchange(&acme, &bolt, &pair.inviter.id, "at last", &[]).await?;
        exchange(&bolt, &acme, &pair.acceptor.id, "in time", &[]).await?;
        let offset = bolt.api()?.node().await?.relay.clock_offset_ms;
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
