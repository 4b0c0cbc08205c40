//! The programs of `docs/examples`, run against real nodes.

use crate::support::{program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::{Environment, pair, send},
    node::{DeliveryMode, Node},
    process::log_tail,
    roles::Role,
    wait::{WAIT_TIMEOUT, wait_for},
};
use sealpost_node::api::model::Direction;
use sealpost_proto::DeliveryStatus;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples");

/// Returns the command that runs an example for a node, with `sealpost` on its path.
fn example_command(env: &Environment, node: &Node, name: &str) -> anyhow::Result<Command> {
    let bin = env.directory().join("bin");
    if !bin.exists() {
        fs::create_dir(&bin)?;
        program().write_script(&bin.join("sealpost"), Role::NodeCommand, &[])?;
    }
    let mut command = Command::new(Path::new(EXAMPLES).join(name));
    command
        .env(
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()),
        )
        .env("SEALPOST_DATA", node.home().directory())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true);
    Ok(command)
}

async fn run_to_end(command: &mut Command) -> anyhow::Result<Output> {
    let output = timeout(WAIT_TIMEOUT, command.output())
        .await
        .context("the example did not finish")??;
    ensure!(
        output.status.success(),
        "the example failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

async fn connected_nodes() -> anyhow::Result<(Environment, Node, Node)> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let bolt = env.start_node("Bolt", DeliveryMode::Webhook).await?;
    pair(&acme, &bolt).await?;
    Ok((env, acme, bolt))
}

#[tokio::test]
async fn shell_example_sends_text_and_file() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let file = env.directory().join("order.txt");
    fs::write(&file, "forty housings\n")?;
    let mut send = example_command(&env, &acme, "send.sh")?;
    run_to_end(send.args(["Bolt", "Please see order 4711."]).arg(&file)).await?;
    let received = bolt.api()?.list_messages(Direction::In).await?;
    ensure!(received.len() == 1 && received[0].content == "Please see order 4711.");
    ensure!(received[0].attachments[0].filename == "order.txt");
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn python_example_replies_to_each_message_once() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let question = send(&acme.api()?, "Bolt", "Is it in stock?", &[]).await?;
    bolt.api()?.wait_for_message(&question.uuid).await?;
    let first = run_to_end(&mut example_command(&env, &bolt, "reply.py")?).await?;
    let printed = String::from_utf8(first.stdout)?;
    ensure!(
        printed.contains("from Acme: replied with CMG-"),
        "{printed}"
    );
    let second = run_to_end(&mut example_command(&env, &bolt, "reply.py")?).await?;
    ensure!(second.stdout.is_empty(), "a second reply was sent");
    let reply = wait_for("the reply arrives", async || {
        let received = acme.api()?.list_messages(Direction::In).await?;
        Ok(received.into_iter().next())
    })
    .await?;
    ensure!(reply.content == "Received, 15 characters. Thank you.");
    ensure!(reply.reply_to.as_deref() == Some(&*question.id));
    acme.api()?
        .wait_for_status(&question.id, DeliveryStatus::Read)
        .await?;
    stop_all(env, [acme, bolt]).await
}

/// The example that follows events, with its output in a file.
struct Follower {
    child: Child,
    log: PathBuf,
}

impl Follower {
    fn start(env: &Environment, node: &Node, log: &str) -> anyhow::Result<Self> {
        let log = env.directory().join(log);
        let mut command = example_command(env, node, "follow.py")?;
        let child = command
            .arg(env.directory().join("position"))
            .stdout(Stdio::from(fs::File::create(&log)?))
            .spawn()?;
        Ok(Self { child, log })
    }

    async fn wait_for_line(&self, text: &str) -> anyhow::Result<()> {
        wait_for(text, async || {
            let printed = fs::read_to_string(&self.log)?;
            Ok(printed
                .lines()
                .any(|line| line.contains(text))
                .then_some(()))
        })
        .await
        .with_context(|| log_tail(&self.log))
    }
}

#[tokio::test]
async fn python_example_resumes_events_without_gap() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    // Without a stored position the stream starts now, so it must be open before the first message.
    fs::write(env.directory().join("position"), "0")?;
    let mut follower = Follower::start(&env, &bolt, "first.log")?;
    send(&acme.api()?, "Bolt", "the first", &[]).await?;
    follower.wait_for_line("in: 'the first'").await?;
    // The position of an event is stored before the next one is printed.
    send(&acme.api()?, "Bolt", "one more", &[]).await?;
    follower.wait_for_line("in: 'one more'").await?;
    follower.child.kill().await?;
    let second = send(&acme.api()?, "Bolt", "the second", &[]).await?;
    bolt.api()?.wait_for_message(&second.uuid).await?;
    let mut follower = Follower::start(&env, &bolt, "second.log")?;
    follower.wait_for_line("in: 'the second'").await?;
    ensure!(!fs::read_to_string(&follower.log)?.contains("the first"));
    follower.child.kill().await?;
    stop_all(env, [acme, bolt]).await
}
