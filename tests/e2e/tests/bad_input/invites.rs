//! Invites that cannot be used.

use super::{expect_refusal, run_cli};
use crate::support::{program, stop_all};
use anyhow::ensure;
use sealpost_demo::{
    environment::Environment,
    node::{DeliveryMode, Home},
    wait::wait_for,
};
use sealpost_node::api::model::{
    Connection, ConnectionStatus, CreateInvite, HealthState, InviteKind,
};

/// Waits until a node knows that its request was rejected, and why.
async fn wait_for_rejection(home: &Home, why: &[&str]) -> anyhow::Result<()> {
    let is_over = |one: &Connection| {
        one.status == ConnectionStatus::Rejected || one.health.state == HealthState::Broken
    };
    wait_for("the request is rejected", async || {
        Ok(home
            .api()?
            .list_connections()
            .await?
            .iter()
            .any(is_over)
            .then_some(()))
    })
    .await?;
    let words = run_cli(home, &["connections"]).await?;
    ensure!(why.iter().any(|why| words.contains(why)), "{words}");
    Ok(())
}

#[tokio::test]
async fn unusable_invite_is_refused_with_reason() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let (bolt, cargo) = (
        env.start_node("Bolt", DeliveryMode::Pull).await?,
        env.start_node("Cargo", DeliveryMode::Pull).await?,
    );
    let (api, home) = (acme.api()?, bolt.home());

    let (_, good) = api.create_invite(true).await?;
    for wrong in [
        "hello",
        "https://relay.example/i",
        &good[..good.len() - 3],
        &good.replacen("#sp1.A", "#sp1.B", 1),
    ] {
        expect_refusal(home, &["connect", wrong], "invite_invalid").await?;
    }
    let short = CreateInvite {
        kind: InviteKind::Single,
        lifetime_ms: Some(1),
        auto_accept: true,
    };
    expect_refusal(
        home,
        &["connect", &api.create_invite_with(&short).await?.1],
        "invite_expired",
    )
    .await?;
    let (revoked, url) = api.create_invite(true).await?;
    api.revoke_invite(&revoked.id).await?;
    // Until the relay has closed the mailbox, a request may still arrive; Acme then rejects it.
    match home.run_cli(&["connect", &url]).await?.status.success() {
        true => {
            wait_for_rejection(home, &["the invite was revoked", "ask for a new invite"]).await?
        }
        false => drop(expect_refusal(home, &["connect", &url], "invite_invalid").await?),
    }
    expect_refusal(acme.home(), &["connect", &good], "invite_own").await?;

    env.relay.stop().await?;
    let message = expect_refusal(home, &["connect", &good], "invite_unreachable").await?;
    ensure!(
        message.contains("again when the relay is reachable"),
        "{message}"
    );
    env.relay.start().await?;
    run_cli(
        home,
        &["connect", &good, "--note", "after the relay was away"],
    )
    .await?;
    let request = api.wait_for_request("after the relay was away").await?;
    api.wait_for_accepted(&request.id).await?;

    cargo
        .api()?
        .connect(&good, "the invite was for Bolt")
        .await?;
    wait_for_rejection(cargo.home(), &["the invite was used before"]).await?;
    stop_all(env, [acme, bolt, cargo]).await
}

#[tokio::test]
async fn invite_of_another_relay_is_refused() -> anyhow::Result<()> {
    let (env, other) = (
        Environment::with_relay(program()).await?,
        Environment::with_relay(program()).await?,
    );
    let (acme, bolt) = (
        env.start_node("Acme", DeliveryMode::Pull).await?,
        other.start_node("Bolt", DeliveryMode::Pull).await?,
    );
    let (_, url) = acme.api()?.create_invite(true).await?;
    let message = expect_refusal(bolt.home(), &["connect", &url], "invite_unreachable").await?;
    ensure!(message.contains("same relay"), "{message}");
    stop_all(other, [bolt]).await?;
    stop_all(env, [acme]).await
}
