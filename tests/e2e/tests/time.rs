//! Months that pass in minutes: a relay and two nodes whose clocks advance by a day every two
//! seconds while messages go both ways and every process is killed once. No message and no receipt
//! may be lost, whatever expires or is renewed in that time.
//!
//! `SIMULATED_DAYS=120 cargo test -p sealpost-e2e time::` lets more time pass.
//!
//! The processes run under libfaketime, which reads the time from a file. Their monotonic clocks
//! are real, so timeouts and periodic tasks keep their pace.

use crate::support::{faketime::Clock, program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair},
    node::{DeliveryMode, Home, Node},
    wait::wait_for,
};
use sealpost_node::{
    api::model::{Direction, HealthState, Message, SendMessage},
    cli::error::CliError,
};
use sealpost_proto::DeliveryStatus;
use std::{collections::BTreeMap, fs, ops::ControlFlow, time::Duration};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// Days that pass, unless `SIMULATED_DAYS` says otherwise.
const DAYS: u32 = 30;
/// Real time that a day takes.
const DAY_DURATION: Duration = Duration::from_secs(2);
/// Pause of each node between two messages.
const SEND_INTERVAL: Duration = Duration::from_millis(250);
/// Pause of each node before it reads what has arrived.
const READ_INTERVAL: Duration = Duration::from_secs(5);
/// Sessions rotate every seven or eight days.
const DAYS_PER_ROTATION_MAX: u32 = 8;

fn days_from_env() -> anyhow::Result<u32> {
    match std::env::var("SIMULATED_DAYS") {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(DAYS),
    }
}

/// Retries while the daemon is being restarted or its relay is unreachable.
async fn retry<T>(
    what: &str,
    mut request: impl AsyncFnMut() -> Result<T, CliError>,
) -> anyhow::Result<T> {
    wait_for(what, async || match request().await {
        Ok(response) => Ok(Some(response)),
        Err(CliError::Unreachable { .. }) => Ok(None),
        Err(error) if error.code() == "unavailable" => Ok(None),
        Err(error) => Err(error).with_context(|| what.to_owned()),
    })
    .await
}

/// Sends numbered messages until the time is over; returns how many.
async fn send_messages(
    from: &Home,
    to: &Home,
    mut is_over: watch::Receiver<bool>,
) -> anyhow::Result<usize> {
    let mut ticks = interval(SEND_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while number == 0 || wait_for_tick(&mut ticks, &mut is_over).await.is_continue() {
        number += 1;
        let request = SendMessage {
            to: vec![to.name().to_owned()],
            content: text(from, number),
            client_id: Some(number.to_string()),
            ..SendMessage::default()
        };
        retry("the message is sent", async || {
            from.api()?.send(&request).await
        })
        .await?;
    }
    Ok(number)
}

fn text(from: &Home, number: usize) -> String {
    format!("{} {number}", from.name())
}

/// Reads what has arrived, until the time is over.
async fn read_messages(at: &Home, mut is_over: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut ticks = interval(READ_INTERVAL);
    while wait_for_tick(&mut ticks, &mut is_over).await.is_continue() {
        read_latest(at).await?;
    }
    Ok(())
}

async fn read_latest(at: &Home) -> anyhow::Result<()> {
    let received = list_messages(at, Direction::In).await?;
    if let Some(latest) = received.last() {
        retry("the message is marked as read", async || {
            at.api()?.mark_read(&latest.id).await
        })
        .await?;
    }
    Ok(())
}

async fn list_messages(at: &Home, direction: Direction) -> anyhow::Result<Vec<Message>> {
    retry("the messages are listed", async || {
        at.api()?.list_messages(direction).await
    })
    .await
}

async fn wait_for_tick(
    ticks: &mut tokio::time::Interval,
    is_over: &mut watch::Receiver<bool>,
) -> ControlFlow<()> {
    tokio::select! {
        _ = is_over.wait_for(|is_over| *is_over) => ControlFlow::Break(()),
        _ = ticks.tick() => ControlFlow::Continue(()),
    }
}

/// Lets the days pass, and kills one process every few days, each at least once.
async fn pass_days(
    days: u32,
    clock: &Clock,
    env: &mut Environment,
    [acme, bolt]: [&mut Node; 2],
) -> anyhow::Result<()> {
    let mut ticks = interval(DAY_DURATION);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    for day in 1..=days {
        ticks.tick().await;
        clock.set_days(day)?;
        match day % DAYS {
            8 => {
                env.relay.kill().await?;
                env.relay.start().await?;
            }
            15 => restart(acme).await?,
            22 => restart(bolt).await?,
            _ => {}
        }
    }
    Ok(())
}

async fn restart(node: &mut Node) -> anyhow::Result<()> {
    node.kill().await?;
    node.start().await
}

/// Checks that everything that one node sent is at the other once, in order, and that the sender
/// knows.
async fn verify_direction(from: &Home, to: &Home, sent: usize) -> anyhow::Result<()> {
    let expected: Vec<_> = (1..=sent).map(|number| text(from, number)).collect();
    let received = wait_for("all messages arrive", async || {
        let received = list_messages(to, Direction::In).await?;
        Ok((received.len() >= sent).then_some(received))
    });
    let received: Vec<_> = match received.await {
        Ok(received) => received.into_iter().map(|one| one.content).collect(),
        Err(error) => return Err(error.context(describe(from, to, sent).await?)),
    };
    ensure!(
        received == expected,
        "{} has {} messages of {sent}, in this order: {received:?}",
        to.name(),
        received.len()
    );
    read_latest(to).await?;
    let all_read = wait_for("all messages are read", async || {
        let statuses = count_statuses(from).await?;
        let read = DeliveryStatus::Read.as_str();
        Ok((statuses.len() == 1 && statuses.contains_key(read)).then_some(()))
    });
    match all_read.await {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(describe(from, to, sent).await?)),
    }
}

async fn describe(from: &Home, to: &Home, sent: usize) -> anyhow::Result<String> {
    Ok(format!(
        "{} sent {sent}: {:?}; {} has {}",
        from.name(),
        count_statuses(from).await?,
        to.name(),
        list_messages(to, Direction::In).await?.len()
    ))
}

async fn count_statuses(home: &Home) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let mut counts = BTreeMap::new();
    for message in list_messages(home, Direction::Out).await? {
        for delivery in message.deliveries {
            *counts.entry(delivery.status.as_str()).or_default() += 1;
        }
    }
    Ok(counts)
}

async fn verify_connections(home: &Home) -> anyhow::Result<()> {
    for connection in home.api()?.list_connections().await? {
        let is_healthy = connection.health.state == HealthState::Ok && connection.warning.is_none();
        ensure!(is_healthy, "{} has {connection:?}", home.name());
    }
    Ok(())
}

/// Counts the sessions that a node has started.
fn count_started_sessions(env: &Environment, home: &Home) -> anyhow::Result<usize> {
    let log = env
        .directory()
        .join(format!("{}.log", home.name().to_lowercase()));
    let text = fs::read_to_string(log)?;
    Ok(text.matches("started a new session").count())
}

#[tokio::test]
async fn months_of_traffic_lose_no_message() -> anyhow::Result<()> {
    let days = days_from_env()?;
    let clock = Clock::create()?;
    let program = clock.control(program())?;
    let mut env = Environment::with_relay(program).await?;
    let mut acme = env.start_node("Acme", DeliveryMode::Webhook).await?;
    let mut bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    pair(&acme, &bolt).await?;
    let homes = [acme.home().clone(), bolt.home().clone()];
    let [at_acme, at_bolt] = &homes;
    let (end, is_over) = watch::channel(false);
    let passed = async {
        let passed = pass_days(days, &clock, &mut env, [&mut acme, &mut bolt]).await;
        end.send_replace(true);
        passed
    };
    let (passed, by_acme, by_bolt, acme_read, bolt_read) = tokio::join!(
        passed,
        send_messages(at_acme, at_bolt, is_over.clone()),
        send_messages(at_bolt, at_acme, is_over.clone()),
        read_messages(at_acme, is_over.clone()),
        read_messages(at_bolt, is_over.clone()),
    );
    passed.context("passing of time")?;
    acme_read.and(bolt_read)?;
    let (by_acme, by_bolt) = (by_acme?, by_bolt?);
    println!("{days} days, {by_acme} messages from Acme, {by_bolt} from Bolt");
    verify_direction(at_acme, at_bolt, by_acme).await?;
    verify_direction(at_bolt, at_acme, by_bolt).await?;
    for home in &homes {
        verify_connections(home).await?;
    }
    let sessions = count_started_sessions(&env, at_acme)? + count_started_sessions(&env, at_bolt)?;
    println!("{sessions} sessions");
    // One more is started right after pairing.
    ensure!(
        u32::try_from(sessions)? > days / DAYS_PER_ROTATION_MAX,
        "{sessions} sessions"
    );
    stop_all(env, [acme, bolt]).await
}
