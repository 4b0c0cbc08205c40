//! Commands with the texts, names and invites that people type and paste.

use crate::support::{program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair},
    node::{DeliveryMode, Home},
    wait::wait_for,
};
use sealpost_node::api::model::{Direction, HealthState};

async fn run_cli(home: &Home, args: &[&str]) -> anyhow::Result<String> {
    let output = home.run_cli(args).await?;
    ensure!(output.status.success(), "{args:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn texts_and_names_are_sent_as_typed() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let other = env.start_node("MÜLLER GmbH", DeliveryMode::Pull).await?;
    pair(&acme, &other).await?;
    let names = ["Müller GmbH", "mu\u{308}ller gmbh", "MÜLLER GMBH"];
    let texts = ["- nuts", "-5 %", "--- x"];
    for (name, text) in names.into_iter().zip(texts) {
        let send = ["send", "--to", name, "-m", text, "--wait", "delivered"];
        run_cli(acme.home(), &send).await?;
    }
    let received = other.api()?.list_messages(Direction::In).await?;
    let contents: Vec<_> = received
        .iter()
        .map(|message| message.content.as_str())
        .collect();
    ensure!(contents == texts, "{contents:?}");
    let output = acme
        .home()
        .run_cli(&["send", "--to", "Muller GmbH", "-m", "x"])
        .await?;
    ensure!(!output.status.success(), "an umlaut is another letter");
    stop_all(env, [acme, other]).await
}

#[tokio::test]
async fn status_shows_the_own_account() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    pair(&acme, &bolt).await?;
    let mut accounts = Vec::new();
    for node in [&acme, &bolt] {
        let json = run_cli(node.home(), &["status", "--json"]).await?;
        let json: serde_json::Value = serde_json::from_str(&json)?;
        let account = json["node"]["relay"]["accountId"]
            .as_str()
            .context("no account id")?
            .to_owned();
        let text = run_cli(node.home(), &["status"]).await?;
        ensure!(text.contains(&account), "{text}");
        accounts.push(account);
    }
    ensure!(accounts[0] != accounts[1], "{accounts:?}");
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn pasted_invites_connect() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let (_, invite) = acme.api()?.create_invite(true).await?;
    let wrap = |separator: &str, chars: usize| {
        let lines: Vec<_> = invite.as_bytes().chunks(chars).collect();
        let lines = lines.iter().map(|line| String::from_utf8_lossy(line));
        lines.collect::<Vec<_>>().join(separator)
    };
    let forms = [
        wrap("\n", 76),
        wrap("\r\n", 76),
        wrap("=\r\n", 75),
        wrap(" ", 100),
        format!("{invite}."),
        format!("{invite},"),
        format!("<{invite}>"),
        format!("\u{201c}{invite}\u{201d}"),
        format!("'{invite}'"),
        invite.replace('#', "%23"),
        invite.replace('#', "&#35;"),
        format!("Our invite: {invite}. See you soon"),
    ];
    for form in &forms {
        run_cli(bolt.home(), &["connect", form]).await?;
    }
    let connections = bolt.api()?.list_connections().await?;
    ensure!(connections.len() == 1, "one invite, one connection");
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn invite_page_recognises_real_invites() -> anyhow::Result<()> {
    const PAGE: &str = include_str!("../../../relay/src/http/invite.html");
    // Without its origin and token, the pattern of the field is the start of every invite's path.
    let pattern = PAGE.split_once("pattern=\"https?://[^\\s#]+");
    let (_, pattern) = pattern.context("no pattern for the origin")?;
    let (start, rest) = pattern
        .split_once("[A-Za-z0-9_\\-]{")
        .context("no pattern for the token")?;
    let (chars_min, _) = rest.split_once(",}").context("no minimum")?;
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let (_, invite) = acme.api()?.create_invite(true).await?;
    let (origin, token) = invite
        .split_once(&start.replace('\\', ""))
        .with_context(|| format!("{invite} does not match {start}"))?;
    ensure!(origin == env.relay.origin());
    let is_base64url = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    ensure!(token.chars().all(is_base64url) && token.len() >= chars_min.parse()?);
    stop_all(env, [acme]).await
}

#[tokio::test]
async fn repeated_sends_with_files_are_recognised() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    pair(&acme, &bolt).await?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("order.csv");
    let file = path.to_str().context("a path in UTF-8")?;
    let send = [
        "send",
        "--to",
        "Bolt",
        "-m",
        "x",
        "-a",
        file,
        "--client-id",
        "A",
        "--deliver-by",
        "2h",
        "--json",
    ];
    std::fs::write(&path, "forty housings")?;
    let first = run_cli(acme.home(), &send).await?;
    let id = &acme.api()?.list_messages(Direction::Out).await?[0].id;
    ensure!(first.contains(id));
    let again = run_cli(acme.home(), &send).await?;
    ensure!(again.contains(id), "{again}");
    std::fs::write(&path, "fifty housings")?;
    let refused = acme.home().run_cli(&send).await?;
    ensure!(!refused.status.success(), "another file is another request");
    let sent = acme.api()?.list_messages(Direction::Out).await?;
    ensure!(sent.len() == 1);
    let empty = ["send", "--to", "Bolt", "-m", "x", "--client-id", ""];
    ensure!(!acme.home().run_cli(&empty).await?.status.success());
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn sender_sees_that_the_partner_closed_the_connection() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let pair = pair(&acme, &bolt).await?;
    run_cli(bolt.home(), &["connections", "block", &pair.invitee.id]).await?;
    run_cli(acme.home(), &["send", "--to", "Bolt", "-m", "hello"]).await?;
    wait_for("the connection is shown as closed", async || {
        let connections = acme.api()?.list_connections().await?;
        let health = &connections.first().context("no connection")?.health;
        Ok((health.state == HealthState::Broken).then_some(()))
    })
    .await?;
    let listed = run_cli(acme.home(), &["connections"]).await?;
    ensure!(
        listed.contains("the partner closed the connection"),
        "{listed}"
    );
    stop_all(env, [acme, bolt]).await
}
