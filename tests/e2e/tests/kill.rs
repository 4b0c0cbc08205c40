//! SIGKILL at random moments: three processes run a scenario from the invite to the last receipt,
//! and one of them is killed during it and restarted at once. No message may be lost or duplicated.
//!
//! `SEALPOST_SEED=… cargo test -p sealpost-e2e kill::` repeats the kills of a run.

use crate::support::{program, seed_from_env_or_clock};
use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, future::try_join_all, stream};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sealpost_demo::{
    environment::Environment,
    files::{self, Sample},
    node::{DeliveryMode, Home, Node},
    wait::wait_for,
};
use sealpost_node::{
    api::model::{ConnectionStatus, Direction, Message, SendMessage},
    cli::error::CliError,
};
use sealpost_proto::DeliveryStatus;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const KILLS: usize = 30;
/// Scenarios that run in parallel; more would only slow them down.
const PARALLEL_RUNS: usize = 3;
const NOTE: &str = "request from Bolt";

/// Process to kill, and the time of the kill.
#[derive(Debug, Clone, Copy)]
struct Kill {
    victim: usize,
    after: Duration,
}

/// Codes for which a program repeats a request. The token changes when the daemon restarts, which
/// may happen after the client has read it.
const RETRYABLE_CODES: [&str; 3] = ["unauthorized", "unavailable", "invite_unreachable"];

/// Retries a request, as the program of a business does, while the daemon or its relay is
/// unreachable. Any other refusal is an error.
async fn retry<T>(
    what: &str,
    mut request: impl AsyncFnMut() -> Result<T, CliError>,
) -> anyhow::Result<T> {
    wait_for(what, async || match request().await {
        Ok(response) => Ok(Some(response)),
        Err(CliError::Unreachable { .. }) => Ok(None),
        Err(error) if RETRYABLE_CODES.contains(&error.code()) => Ok(None),
        Err(error) => Err(error).with_context(|| what.to_owned()),
    })
    .await
}

/// Waits for a state; an unreachable daemon counts as a state that is not reached.
async fn wait_for_state<T>(
    what: &str,
    mut poll: impl AsyncFnMut() -> Result<Option<T>, CliError>,
) -> anyhow::Result<T> {
    wait_for(what, async || match poll().await {
        Ok(response) => Ok(response),
        Err(CliError::Unreachable { .. }) => Ok(None),
        Err(error) if RETRYABLE_CODES.contains(&error.code()) => Ok(None),
        Err(error) => Err(error).with_context(|| what.to_owned()),
    })
    .await
}

/// Runs the scenario of the demo: an invite, a request, its acceptance, and messages with files
/// both ways.
async fn perform_scenario(acme: &Home, bolt: &Home) -> anyhow::Result<()> {
    let invite = wait_for("an invite is created", async || match acme.api() {
        Ok(api) => Ok(api.create_invite(false).await.ok()),
        Err(_) => Ok(None),
    })
    .await?;
    retry("the connection is requested", async || {
        bolt.api()?.connect(&invite.1, NOTE).await
    })
    .await?;
    let request = wait_for_state("the request arrives", async || {
        let requests = acme.api()?.list_connections().await?;
        Ok(requests.into_iter().find(|one| one.note == NOTE))
    })
    .await?;
    let accepted = retry("the request is accepted", async || {
        match acme.api()?.accept(&request.id).await {
            // The daemon was killed after the commit and before the response.
            Err(error) if error.code() == "conflict" => Ok(()),
            other => other.map(drop),
        }
    });
    accepted.await?;
    let [order, protocol] = sample_files();
    let (first, second) = tokio::join!(
        exchange_message(
            acme,
            bolt,
            "**order**",
            "order-1",
            std::slice::from_ref(&order)
        ),
        exchange_message(bolt, acme, "before the reply", "hello-1", &[]),
    );
    first.and(second)?;
    exchange_message(bolt, acme, "the *reply*", "reply-1", &[protocol, order]).await
}

fn sample_files() -> [Sample; 2] {
    [
        Sample::new("order.csv", files::generate_measurements(6_000_000)),
        Sample::new("protocol.txt", "forty housings\n"),
    ]
}

/// Sends one message, and reads it at the recipient.
async fn exchange_message(
    from: &Home,
    to: &Home,
    text: &str,
    client_id: &str,
    files: &[Sample],
) -> anyhow::Result<()> {
    wait_for_state("the connection is accepted", async || {
        let connections = from.api()?.list_connections().await?;
        Ok(connections
            .iter()
            .any(|one| one.status == ConnectionStatus::Accepted)
            .then_some(()))
    })
    .await?;
    let mut attachments = Vec::new();
    for file in files {
        let staged = retry("the file is staged", async || {
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
    let sent = retry("the message is sent", async || {
        from.api()?.send(&request).await
    })
    .await?;
    let uuid = &sent
        .first()
        .context("the response contains no message")?
        .uuid;
    let received = wait_for_state("the message arrives", async || {
        let messages = to.api()?.list_messages(Direction::In).await?;
        Ok(messages.into_iter().find(|one| one.uuid == *uuid))
    })
    .await?;
    retry("the message is marked as read", async || {
        to.api()?.mark_read(&received.id).await
    })
    .await?;
    Ok(())
}

/// Checks the final state: every message exactly once, with its text and files, read and confirmed.
async fn verify_final_state(acme: &Home, bolt: &Home) -> anyhow::Result<()> {
    let [order, protocol] = sample_files();
    verify_messages(acme, bolt, &[("**order**", std::slice::from_ref(&order))]).await?;
    verify_messages(
        bolt,
        acme,
        &[
            ("before the reply", &[]),
            ("the *reply*", &[protocol, order]),
        ],
    )
    .await?;
    for home in [acme, bolt] {
        let connections = home.api()?.list_connections().await?;
        let accepted = connections
            .iter()
            .filter(|one| one.status == ConnectionStatus::Accepted)
            .count();
        ensure!(accepted == 1, "{} has {connections:?}", home.name());
    }
    Ok(())
}

async fn verify_messages(
    from: &Home,
    to: &Home,
    expected: &[(&str, &[Sample])],
) -> anyhow::Result<()> {
    let (sender, recipient) = (from.api()?, to.api()?);
    let sent = sender.list_messages(Direction::Out).await?;
    ensure!(
        sent.len() == expected.len(),
        "{} sent {:?}",
        from.name(),
        texts(&sent)
    );
    for message in &sent {
        recipient.wait_for_message(&message.uuid).await?;
        sender
            .wait_for_status(&message.id, DeliveryStatus::Read)
            .await?;
    }
    let received = recipient.list_messages(Direction::In).await?;
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
                recipient.download_digest(&attachment.id).await? == file.digest(),
                "{} differs",
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

/// Runs the scenario with at most one kill; returns how long it took.
async fn run_scenario(kill: Option<Kill>) -> anyhow::Result<Duration> {
    let mut env = Environment::with_relay(program()).await?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let mut bolt = env.start_node("Bolt", DeliveryMode::Webhook).await?;
    let homes = (acme.home().clone(), bolt.home().clone());
    let start = Instant::now();
    let (outcome, killed) = tokio::join!(
        perform_scenario(&homes.0, &homes.1),
        kill_during(kill, &mut env, &mut acme, &mut bolt)
    );
    killed.context("killing and restarting the process")?;
    outcome?;
    let took = start.elapsed();
    verify_final_state(&homes.0, &homes.1).await?;
    acme.stop().await?;
    bolt.stop().await?;
    env.finish().await?;
    Ok(took)
}

/// Measures how long the scenario takes while others run.
async fn measure_duration() -> anyhow::Result<Duration> {
    let durations = try_join_all((0..PARALLEL_RUNS).map(|_| run_scenario(None))).await?;
    durations.into_iter().max().context("no run")
}

async fn kill_during(
    kill: Option<Kill>,
    env: &mut Environment,
    acme: &mut Node,
    bolt: &mut Node,
) -> anyhow::Result<()> {
    let Some(Kill { victim, after }) = kill else {
        return Ok(());
    };
    sleep(after).await;
    match victim {
        0 => {
            env.relay.kill().await?;
            env.relay.start().await
        }
        victim => {
            let node = if victim == 1 { acme } else { bolt };
            node.kill().await?;
            node.start().await
        }
    }
}

/// Generates kills throughout the scenario and shortly after its end.
fn generate_kills(seed: u64, duration: Duration) -> Vec<Kill> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let duration = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut generate_kill = |number: usize| Kill {
        victim: number % 3,
        after: Duration::from_micros(rng.next_u64() % (duration + duration / 10)),
    };
    (0..KILLS).map(&mut generate_kill).collect()
}

#[tokio::test]
async fn killed_processes_deliver_messages_exactly_once() -> anyhow::Result<()> {
    let seed = seed_from_env_or_clock()?;
    println!("SEALPOST_SEED={seed}");
    let duration = measure_duration().await.context("without a kill")?;
    println!("the scenario takes {duration:?}");
    let kills = generate_kills(seed, duration);
    let runs = stream::iter(kills).map(async |kill| {
        run_scenario(Some(kill))
            .await
            .with_context(|| format!("{kill:?}"))
    });
    let results: Vec<_> = runs.buffer_unordered(PARALLEL_RUNS).collect().await;
    let failed: Vec<_> = results
        .into_iter()
        .filter_map(|result| Some(format!("{:#}", result.err()?)))
        .collect();
    assert!(
        failed.is_empty(),
        "SEALPOST_SEED={seed}: {} of {KILLS} runs failed: {failed:#?}",
        failed.len()
    );
    Ok(())
}
