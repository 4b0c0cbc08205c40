//! The scenario: Acme and Bolt connect with an invite. Acme sends an order with three files while
//! Bolt is offline; Bolt starts again, reads it and replies. Every step goes through the nodes' own
//! APIs, and the demo ends at the first check that fails.

use crate::{
    api::Api,
    checks::{self, MEMORY_BYTES_MAX, Secret},
    environment::{Environment, Pair, send},
    files::{self, CANARY, Sample},
    node::{DeliveryMode, Node},
    screen::{Screen, Style},
    table::Table,
};
use anyhow::{Context as _, ensure};
use sealpost_node::api::model::{Direction, Message};
use sealpost_proto::DeliveryStatus;

const NOTE: &str = "Bolt here: we would like to talk about order 4711";
const ORDER: &str = "\
**Order 4711** is ready for inspection:

- 40 housings, anodised
- measurements and seal attached

See [the order](https://acme.example/orders/4711), or ask your system:

```
inspect --order 4711 --housings 40
```
";
const REPLY: &str = "All 40 housings are **accepted**. The signed protocol is attached.";
const PROTOCOL: &str = "protocol-4711.txt";

/// The nodes at the end of the scenario.
pub(crate) struct Nodes {
    pub(crate) acme: Node,
    pub(crate) bolt: Node,
}

impl Nodes {
    /// Stops both nodes gracefully.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.acme.stop().await?;
        self.bolt.stop().await
    }
}

/// Runs the scenario.
pub(crate) async fn run(screen: &mut Screen, env: &mut Environment) -> anyhow::Result<Nodes> {
    let title = screen.paint(Style::Heading, "Sealpost");
    screen.print_line(&format!(
        "\n{title}: two businesses exchange messages over a relay that cannot read them."
    ))?;
    let mut nodes = start_processes(screen, env).await?;
    let pair = pair_nodes(screen, &nodes).await?;
    let files = files::samples();
    send_order(screen, &mut nodes, &pair, &files).await?;
    send_reply(screen, &nodes, &pair).await?;
    check_results(screen, env, &nodes, &files).await?;
    Ok(nodes)
}

async fn start_processes(screen: &mut Screen, env: &mut Environment) -> anyhow::Result<Nodes> {
    screen.print_heading("Three processes")?;
    env.relay.start().await?;
    let relay = format!(
        "process {:<8}{}",
        env.relay.process()?.pid()?,
        env.relay.origin()
    );
    screen.print_field("Relay", &relay)?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    screen.print_field(
        "Acme",
        &format!(
            "process {:<8}polls the relay for messages",
            acme.process()?.pid()?
        ),
    )?;
    let bolt = env.start_node("Bolt", DeliveryMode::Webhook).await?;
    screen.print_field(
        "Bolt",
        &format!(
            "process {:<8}is called by the relay",
            bolt.process()?.pid()?
        ),
    )?;
    Ok(Nodes { acme, bolt })
}

/// Pairs the nodes with an invite, with the same steps as users.
async fn pair_nodes(screen: &mut Screen, nodes: &Nodes) -> anyhow::Result<Pair> {
    screen.print_heading("Pairing")?;
    let (acme, bolt) = (nodes.acme.api()?, nodes.bolt.api()?);
    let (_, url) = acme.create_invite(false).await?;
    screen.print_field(
        "Acme invites Bolt",
        &format!("{}…", url.chars().take(50).collect::<String>()),
    )?;
    let requested = bolt.connect(&url, NOTE).await?;
    screen.print_field("Bolt requests", &format!("\"{NOTE}\""))?;
    let request = acme.wait_for_request(NOTE).await?;
    acme.accept(&request.id).await?;
    let pair = Pair {
        inviter: acme.wait_for_accepted(&request.id).await?,
        invitee: bolt.wait_for_accepted(&requested.id).await?,
    };
    screen.print_field(
        "Acme accepts",
        &format!("a connection with {}", pair.inviter.contact),
    )?;
    let number = acme.fetch_safety_number(&pair.inviter.id).await?.number;
    bolt.verify(&pair.invitee.id, &number)
        .await
        .context("the safety numbers differ")?;
    let (half, rest) = number.split_at(number.len() / 2);
    screen.print_field("safety number", half.trim())?;
    screen.print_field("", rest.trim())?;
    Ok(pair)
}

/// Sends the order while Bolt is offline, and reads it after Bolt has restarted.
async fn send_order(
    screen: &mut Screen,
    nodes: &mut Nodes,
    pair: &Pair,
    files: &[Sample],
) -> anyhow::Result<()> {
    screen.print_heading("Bolt's node is stopped, and Acme sends it a message with three files")?;
    nodes.bolt.stop().await?;
    let acme = nodes.acme.api()?;
    let mut events = acme.subscribe_to_events().await?;
    let sent = send(&acme, &pair.inviter.id, ORDER, files).await?;
    let mut table = Table::default();
    table.add_row(&sent.id, "Acme → Bolt, 3 files");
    table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Retrying)
        .await?;
    nodes.bolt.start().await?;
    table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Delivered)
        .await?;
    let bolt = nodes.bolt.api()?;
    let received = bolt.wait_for_message(&sent.uuid).await?;
    bolt.mark_read(&received.id).await?;
    let statuses = table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Read)
        .await?;
    table.reset();
    ensure!(
        statuses.contains(&DeliveryStatus::Sent),
        "the message was never sent, only {statuses:?}"
    );
    ensure!(received.content == ORDER, "the text differs");
    screen.print_heading("Bolt reads the message with `sealpost show`")?;
    screen.print_quote(&show_message(&nodes.bolt, &received.id).await?)?;
    Ok(())
}

async fn send_reply(screen: &mut Screen, nodes: &Nodes, pair: &Pair) -> anyhow::Result<()> {
    screen.print_heading("Bolt replies")?;
    let (acme, bolt) = (nodes.acme.api()?, nodes.bolt.api()?);
    let mut events = bolt.subscribe_to_events().await?;
    let protocol = Sample::new(
        PROTOCOL,
        format!("Order 4711, 40 housings, accepted. {CANARY}\n"),
    );
    let sent = send(
        &bolt,
        &pair.invitee.id,
        REPLY,
        std::slice::from_ref(&protocol),
    )
    .await?;
    let mut table = Table::default();
    table.add_row(&sent.id, "Bolt → Acme, 1 file");
    table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Delivered)
        .await?;
    let received = acme.wait_for_message(&sent.uuid).await?;
    acme.mark_read(&received.id).await?;
    table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Read)
        .await?;
    ensure!(received.content == REPLY, "the reply differs");
    ensure_files_match(&acme, &received, &[protocol]).await?;
    Ok(())
}

async fn check_results(
    screen: &mut Screen,
    env: &Environment,
    nodes: &Nodes,
    files: &[Sample],
) -> anyhow::Result<()> {
    screen.print_heading("Checks")?;
    let (order, _) = (
        fetch_only_message(&nodes.bolt, ORDER).await?,
        fetch_only_message(&nodes.acme, REPLY).await?,
    );
    screen.print_passed("each side has exactly one message, read, with the right text")?;
    ensure_files_match(&nodes.bolt.api()?, &order, files).await?;
    screen.print_passed("every file arrived with its original SHA-256")?;
    let searched = checks::ensure_no_secrets(env.relay.directory(), &list_secrets(files))
        .context("the relay stores plaintext")?;
    let size = searched.bytes / 1_000_000;
    screen.print_passed(&format!(
        "no text, file name or file content in the relay's {} files ({size} MB)",
        searched.files
    ))?;
    let processes = [
        ("relay", env.relay.process()?),
        ("Acme", nodes.acme.process()?),
        ("Bolt", nodes.bolt.process()?),
    ];
    let mut peaks = Vec::new();
    for (name, process) in processes {
        let peak = process.peak_memory_bytes()?;
        ensure!(
            peak < MEMORY_BYTES_MAX,
            "{name} used {} MiB of memory",
            peak >> 20
        );
        peaks.push(format!("{name} {} MiB", peak >> 20));
    }
    screen.print_passed(&format!(
        "peak memory while 20 MB were transferred: {}",
        peaks.join(", ")
    ))?;
    Ok(())
}

/// Returns the only message that a node received, and checks it.
async fn fetch_only_message(node: &Node, text: &str) -> anyhow::Result<Message> {
    let mut messages = node.api()?.list_messages(Direction::In).await?;
    let (name, count) = (node.home().name(), messages.len());
    ensure!(count == 1, "{name} has {count} messages");
    let message = messages.pop().context("no message")?;
    ensure!(
        message.content == text && message.is_read,
        "{name} has a different or unread message"
    );
    Ok(message)
}

/// Downloads the files of a message and compares them with the sent ones, in order.
async fn ensure_files_match(api: &Api, message: &Message, files: &[Sample]) -> anyhow::Result<()> {
    ensure!(
        message.attachments.len() == files.len(),
        "{} files",
        message.attachments.len()
    );
    for (attachment, file) in message.attachments.iter().zip(files) {
        ensure!(
            attachment.filename == file.name,
            "{} arrived as {}",
            file.name,
            attachment.filename
        );
        ensure!(
            api.download_digest(&attachment.id).await? == file.digest(),
            "{} differs",
            file.name
        );
    }
    Ok(())
}

/// Returns everything that only Acme and Bolt may know.
fn list_secrets(files: &[Sample]) -> Vec<Secret> {
    let lines = [NOTE, ORDER, REPLY]
        .into_iter()
        .flat_map(str::lines)
        .filter(|line| line.len() > 10);
    let texts = lines.map(|line| Secret::new(format!("the text \"{line}\""), line));
    let names = files
        .iter()
        .map(|file| file.name.as_str())
        .chain([PROTOCOL]);
    let names = names.map(|name| Secret::new(format!("the file name {name}"), name));
    let contents = files
        .iter()
        .map(|file| Secret::new(format!("a part of {}", file.name), file.excerpt()));
    texts
        .chain(names)
        .chain(contents)
        .chain([Secret::new("the canary", CANARY)])
        .collect()
}

async fn show_message(node: &Node, message: &str) -> anyhow::Result<String> {
    let output = node.home().run_cli(&["show", message]).await?;
    ensure!(
        output.status.success(),
        "sealpost show: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
