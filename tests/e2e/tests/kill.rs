//! Killed at any moment: three processes, a scenario from the invite to the last receipt, and a SIGKILL for one of them
//! somewhere in it. What was killed is started again at once; nothing may be lost, nothing may be shown twice.
//!
//! `SEALPOST_SEED=… cargo test -p sealpost-e2e --test kill` repeats a run's moments.

mod support;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, future::try_join_all, stream};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sealpost_demo::{
    files::{self, Sample},
    node::{Delivery, Home, Node},
    wait::until,
    world::World,
};
use sealpost_node::{
    api::model::{ConnectionStatus, Direction, Message, SendMessage},
    cli::error::CliError,
};
use sealpost_proto::DeliveryStatus;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::program;
use tokio::time::sleep;

const KILLS: usize = 30;
/// Worlds at a time: more would only make them slower.
const WORLDS: usize = 3;
const NOTE: &str = "Bolt asks";

/// Who is killed, and when.
#[derive(Debug, Clone, Copy)]
struct Kill {
    victim: usize,
    after: Duration,
}

/// Asks as the program of a business does: again while its daemon, or the relay that the daemon needs, is away; anything
/// else that is refused is an error.
async fn persist<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, CliError>,
) -> anyhow::Result<T> {
    until(what, async || match ask().await {
        Ok(answer) => Ok(Some(answer)),
        Err(CliError::Unreachable { .. }) => Ok(None),
        Err(error) if ["unavailable", "invite_unreachable"].contains(&error.code()) => Ok(None),
        Err(error) => Err(error).with_context(|| what.to_owned()),
    })
    .await
}

/// Waits for a state that needs no answer every time.
async fn settle<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, CliError>,
) -> anyhow::Result<T> {
    until(what, async || match look().await {
        Ok(answer) => Ok(answer),
        Err(CliError::Unreachable { .. }) => Ok(None),
        Err(error) => Err(error).with_context(|| what.to_owned()),
    })
    .await
}

/// The demo's scenario: an invite, a request, an answer, a message with files each way, both read.
async fn scenario(acme: &Home, bolt: &Home) -> anyhow::Result<()> {
    let invite = until("an invite", async || match acme.api() {
        Ok(api) => Ok(api.invite(false).await.ok()),
        Err(_) => Ok(None),
    })
    .await?;
    persist("a request", async || {
        bolt.api()?.connect(&invite.1, NOTE).await
    })
    .await?;
    let request = settle("the request", async || {
        let requests = acme.api()?.connections().await?;
        Ok(requests.into_iter().find(|one| one.note == NOTE))
    })
    .await?;
    let accepted = persist("an accept", async || {
        match acme.api()?.accept(&request.id).await {
            // Killed after it was committed and before it was answered.
            Err(error) if error.code() == "conflict" => Ok(()),
            other => other.map(drop),
        }
    });
    accepted.await?;
    let [order, protocol] = files();
    let (first, second) = tokio::join!(
        carry(
            acme,
            bolt,
            "**order**",
            "order-1",
            std::slice::from_ref(&order)
        ),
        carry(bolt, acme, "before the answer", "hello-1", &[]),
    );
    first.and(second)?;
    carry(bolt, acme, "the *answer*", "answer-1", &[protocol, order]).await
}

fn files() -> [Sample; 2] {
    [
        Sample::new("order.csv", files::measurements(6_000_000)),
        Sample::new("protocol.txt", "forty housings\n"),
    ]
}

/// One message from its sender's program to the reader on the other side, and the receipt back.
async fn carry(
    from: &Home,
    to: &Home,
    text: &str,
    client_id: &str,
    files: &[Sample],
) -> anyhow::Result<()> {
    settle("the connection", async || {
        let connections = from.api()?.connections().await?;
        Ok(connections
            .iter()
            .any(|one| one.status == ConnectionStatus::Accepted)
            .then_some(()))
    })
    .await?;
    let mut attachments = Vec::new();
    for file in files {
        let staged = persist("a file", async || {
            from.api()?.stage(&file.name, file.content.clone()).await
        })
        .await?;
        attachments.push(staged.id);
    }
    let request = SendMessage {
        to: vec![to.name().to_owned()],
        content: text.to_owned(),
        attachments,
        client_id: Some(client_id.to_owned()),
        ..SendMessage::default()
    };
    let sent = persist("a send", async || from.api()?.send(&request).await).await?;
    let uuid = &sent.first().context("a send without a message")?.uuid;
    let received = settle("the message", async || {
        let messages = to.api()?.messages(Direction::In).await?;
        Ok(messages.into_iter().find(|one| one.uuid == *uuid))
    })
    .await?;
    persist("a read", async || to.api()?.read(&received.id).await).await?;
    Ok(())
}

/// What must be true in the end, whatever happened: every message once, with its text and files, read and receipted.
async fn verify(acme: &Home, bolt: &Home) -> anyhow::Result<()> {
    let [order, protocol] = files();
    holds(acme, bolt, &[("**order**", std::slice::from_ref(&order))]).await?;
    holds(
        bolt,
        acme,
        &[
            ("before the answer", &[]),
            ("the *answer*", &[protocol, order]),
        ],
    )
    .await?;
    for home in [acme, bolt] {
        let connections = home.api()?.connections().await?;
        let accepted = connections
            .iter()
            .filter(|one| one.status == ConnectionStatus::Accepted)
            .count();
        ensure!(accepted == 1, "{} has {connections:?}", home.name());
    }
    Ok(())
}

async fn holds(from: &Home, to: &Home, expected: &[(&str, &[Sample])]) -> anyhow::Result<()> {
    let (sender, recipient) = (from.api()?, to.api()?);
    let sent = sender.messages(Direction::Out).await?;
    ensure!(
        sent.len() == expected.len(),
        "{} sent {:?}",
        from.name(),
        texts(&sent)
    );
    for message in &sent {
        recipient.received(&message.uuid).await?;
        sender.reached(&message.id, DeliveryStatus::Read).await?;
    }
    let received = recipient.messages(Direction::In).await?;
    ensure!(
        texts(&received) == expected.iter().map(|(text, _)| *text).collect::<Vec<_>>(),
        "{:?}",
        texts(&received)
    );
    for (message, (_, files)) in received.iter().zip(expected) {
        ensure!(message.attachments.len() == files.len());
        for (attachment, file) in message.attachments.iter().zip(*files) {
            ensure!(attachment.filename == file.name);
            ensure!(
                recipient.content_digest(&attachment.id).await? == file.digest(),
                "{} is another file",
                file.name
            );
        }
    }
    Ok(())
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message.content.as_str())
        .collect()
}

/// One world with at most one kill; returns how long its scenario took.
async fn live(kill: Option<Kill>) -> anyhow::Result<Duration> {
    let mut world = World::with_relay(program()).await?;
    let mut acme = world.node("Acme", Delivery::Pull).await?;
    let mut bolt = world.node("Bolt", Delivery::Webhook).await?;
    let homes = (acme.home().clone(), bolt.home().clone());
    let begin = Instant::now();
    let (told, killed) = tokio::join!(
        scenario(&homes.0, &homes.1),
        strike(kill, &mut world, &mut acme, &mut bolt)
    );
    killed.context("the kill")?;
    told?;
    let took = begin.elapsed();
    verify(&homes.0, &homes.1).await?;
    acme.stop().await?;
    bolt.stop().await?;
    world.finish().await?;
    Ok(took)
}

/// How long the scenario takes beside others.
async fn rehearse() -> anyhow::Result<Duration> {
    let takes = try_join_all((0..WORLDS).map(|_| live(None))).await?;
    takes.into_iter().max().context("no world")
}

async fn strike(
    kill: Option<Kill>,
    world: &mut World,
    acme: &mut Node,
    bolt: &mut Node,
) -> anyhow::Result<()> {
    let Some(Kill { victim, after }) = kill else {
        return Ok(());
    };
    sleep(after).await;
    match victim {
        0 => {
            world.relay.kill().await?;
            world.relay.start().await
        }
        victim => {
            let node = if victim == 1 { acme } else { bolt };
            node.kill().await?;
            node.start().await
        }
    }
}

fn seed() -> anyhow::Result<u64> {
    match std::env::var("SEALPOST_SEED") {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}

/// Moments all over the scenario, and a little behind its end.
fn kills(seed: u64, whole: Duration) -> Vec<Kill> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let whole = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
    let mut draw = |number: usize| Kill {
        victim: number % 3,
        after: Duration::from_micros(rng.next_u64() % (whole + whole / 10)),
    };
    (0..KILLS).map(&mut draw).collect()
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_shown_twice_at_30_random_moments() -> anyhow::Result<()> {
    let seed = seed()?;
    println!("SEALPOST_SEED={seed}");
    let whole = rehearse().await.context("without a kill")?;
    println!("the scenario takes {whole:?}");
    let kills = kills(seed, whole);
    let worlds = stream::iter(kills)
        .map(async |kill| live(Some(kill)).await.with_context(|| format!("{kill:?}")));
    let ends: Vec<_> = worlds.buffer_unordered(WORLDS).collect().await;
    let failed: Vec<_> = ends
        .into_iter()
        .filter_map(|end| Some(format!("{:#}", end.err()?)))
        .collect();
    assert!(
        failed.is_empty(),
        "SEALPOST_SEED={seed}: {} of {KILLS} worlds: {failed:#?}",
        failed.len()
    );
    Ok(())
}
