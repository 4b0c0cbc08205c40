//! What a person does after a restore: follows the hints of the commands, and decides about
//! mailboxes that the backup did not know.

use crate::support::{program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair},
    node::{DeliveryMode, Node},
    roles::Role,
    wait::wait_for,
};
use sealpost_node::api::model::HealthState;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Output, Stdio},
};
use tokio::process::Command;

/// A path that a shell splits and expands unless it is quoted.
const ODD_NAME: &str = "Müller & Söhne's $HOME";
/// A recipient, and the identity that belongs to it.
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

/// Shell on a terminal, in which `sealpost` is this program.
struct Shell<'a>(&'a Environment);

impl Shell<'_> {
    async fn run(&self, command: &str) -> anyhow::Result<Output> {
        let bin = self.0.directory().join("bin");
        if !bin.exists() {
            fs::create_dir(&bin)?;
            let script = bin.join("sealpost");
            self.0
                .program()
                .write_script(&script, Role::NodeCommand, &[])?;
        }
        let path = format!("{}:/usr/bin:/bin", bin.display());
        // Hints are printed on a terminal only.
        let mut shell = Command::new("script");
        shell
            .args(["--quiet", "--return", "--command", command, "/dev/null"])
            .envs([
                ("SHELL", "/bin/sh"),
                ("NO_COLOR", "1"),
                ("PATH", path.as_str()),
            ]);
        Ok(shell.stdin(Stdio::null()).output().await?)
    }

    async fn run_to_success(&self, command: &str) -> anyhow::Result<String> {
        let output = self.run(command).await?;
        let shown = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{command}: {shown}");
        Ok(shown)
    }
}

/// Returns the command after these words in the output of a command.
fn hint<'a>(output: &'a str, words: &str) -> anyhow::Result<&'a str> {
    let (_, hint) = output
        .split_once(words)
        .with_context(|| format!("no hint {words:?} in {output}"))?;
    Ok(hint.lines().next().unwrap_or_default().trim_end())
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    let private = fs::Permissions::from_mode(0o600);
    Ok(fs::set_permissions(path, private)?)
}

#[tokio::test]
async fn hints_of_backups_can_be_followed() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let shell = Shell(&env);
    let parent = env.directory().join(ODD_NAME);
    fs::create_dir(&parent)?;
    let passphrase = parent.join("pass phrase");
    write_secret(&passphrase, "correct horse\n")?;
    let identity = parent.join("identity");
    write_secret(&identity, IDENTITY)?;
    let quote = |name: &str| format!("\"$ODD/{name}\"");
    let sh = async |command: &str| {
        let odd = parent.display().to_string().replace('\'', "'\\''");
        shell
            .run_to_success(&format!("ODD='{odd}'; {command}"))
            .await
    };
    let data = quote("data dir");
    let init = format!(
        "sealpost --data {data} init --name Acme --relay {} --listen 127.0.0.1:0",
        env.relay.origin()
    );
    let created = sh(&init).await?;
    let serve = hint(&created, "Run it with: ")?.to_owned();
    ensure!(serve.ends_with("data dir' serve"), "{serve}");

    let with_passphrase = quote("pass phrase");
    let made = sh(&format!(
        "sealpost --data {data} backup \"$ODD/a backup\" --passphrase-file {with_passphrase}"
    ))
    .await?;
    let verified = shell
        .run_to_success(hint(&made, "Check it with: ")?)
        .await?;
    ensure!(verified.contains("is complete"), "{verified}");
    let made = sh(&format!(
        "sealpost --data {data} backup \"$ODD/another\" --recipient {RECIPIENT}"
    ))
    .await?;
    let check = hint(&made, "Check it with: ")?.replace("KEYFILE", &quote("identity"));
    sh(&check).await?;

    fs::create_dir(parent.join("new dir.unfinished"))?;
    let restore = format!(
        "sealpost --data \"$ODD/new dir\" restore \"$ODD/a backup\" --passphrase-file \
         {with_passphrase}"
    );
    let odd = parent.display().to_string().replace('\'', "'\\''");
    let output = shell.run(&format!("ODD='{odd}'; {restore}")).await?;
    let shown = String::from_utf8(output.stdout)?;
    let remove = hint(&shown, "run ")?;
    let (remove, _) = remove.split_once(", then").context("no command")?;
    shell.run_to_success(remove).await?;
    let restored = sh(&restore).await?;
    let serve = hint(&restored, "Start it with: ")?;
    ensure!(serve.ends_with("new dir' serve"), "{serve}");
    stop_all(env, []).await
}

#[tokio::test]
async fn unknown_mailboxes_close_on_request_only() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let identity = env.directory().join("identity");
    write_secret(&identity, IDENTITY)?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let core = env.start_node("Core", DeliveryMode::Pull).await?;
    pair(&acme, &core).await?;
    let backup = env.directory().join("acme.age").display().to_string();
    run(&acme, &["backup", &backup, "--recipient", RECIPIENT]).await?;
    pair(&acme, &bolt).await?;
    acme.stop().await?;
    fs::remove_dir_all(acme.home().directory())?;
    let key = identity.display().to_string();
    run(&acme, &["restore", &backup, "--identity", &key]).await?;
    acme.start().await?;

    let api = acme.api()?;
    let count = wait_for("the mailboxes are found", async || {
        let count = api.fetch_node().await?.unknown_mailboxes;
        Ok((count > 0).then_some(count))
    })
    .await?;
    let status = run(&acme, &["status"]).await?;
    ensure!(status.contains("that this node does not know"), "{status}");
    let listed = run(&acme, &["--json", "mailboxes"]).await?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let items = listed["items"].as_array().context("no list")?;
    // The mailboxes of the new connection and of its invite.
    ensure!(items.len() == 2 && count == 2, "{listed}");
    let ids: Vec<&str> = items.iter().filter_map(|one| one["id"].as_str()).collect();
    let close = [&["mailboxes", "close"][..], &ids[..]].concat();
    let refused = acme.home().run_cli(&close).await?;
    ensure!(
        refused.status.code() == Some(2),
        "closed without a question"
    );
    ensure!(api.fetch_node().await?.unknown_mailboxes == 2);
    run(&acme, &[&close[..], &["--yes"]].concat()).await?;
    let listed = run(&acme, &["mailboxes"]).await?;
    ensure!(listed.contains("has no mailbox"), "{listed}");
    ensure!(api.fetch_node().await?.unknown_mailboxes == 0);

    let sent = bolt.home().run_cli(&["send", "--to", "Acme", "-m", "lost"]);
    ensure!(sent.await?.status.success());
    let bolt_api = bolt.api()?;
    wait_for("Bolt sees that the connection is lost", async || {
        let connections = bolt_api.list_connections().await?;
        let is_broken = connections
            .iter()
            .any(|connection| connection.health.state == HealthState::Broken);
        Ok(is_broken.then_some(()))
    })
    .await?;
    let core_connections = core.api()?.list_connections().await?;
    ensure!(core_connections[0].health.state != HealthState::Broken);
    stop_all(env, [acme, bolt, core]).await
}

async fn run(node: &Node, args: &[&str]) -> anyhow::Result<String> {
    let output = node.home().run_cli(args).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{args:?}: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}
