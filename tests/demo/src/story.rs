//! The story: Acme and Bolt meet by an invite, Acme sends an order with three files while Bolt is away, Bolt comes back,
//! reads and answers. Every step is asked of the nodes' own APIs, and whatever does not hold ends the demo.

use crate::{
    api::Api,
    checks::{self, MEMORY_BYTES_MAX, Secret},
    files::{self, CANARY, Sample},
    node::{Delivery, Node},
    screen::{Ink, Screen},
    table::Table,
    world::{Pair, World, send},
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
const ANSWER: &str = "All 40 housings are **accepted**. The signed protocol is attached.";
const PROTOCOL: &str = "protocol-4711.txt";

/// Who is on the stage at the end.
pub(crate) struct Cast {
    pub(crate) acme: Node,
    pub(crate) bolt: Node,
}

impl Cast {
    /// Both stop in good order.
    pub(crate) async fn leave(mut self) -> anyhow::Result<()> {
        self.acme.stop().await?;
        self.bolt.stop().await
    }
}

/// Tells it.
pub(crate) async fn tell(screen: &mut Screen, world: &mut World) -> anyhow::Result<Cast> {
    let title = screen.paint(Ink::Bold, "Sealpost");
    screen.line(&format!(
        "\n{title}: two businesses, and a relay between them that cannot read."
    ))?;
    let mut cast = enter(screen, world).await?;
    let pair = meet(screen, &cast).await?;
    let files = files::samples();
    send_order(screen, &mut cast, &pair, &files).await?;
    send_answer(screen, &cast, &pair).await?;
    check(screen, world, &cast, &files).await?;
    Ok(cast)
}

async fn enter(screen: &mut Screen, world: &mut World) -> anyhow::Result<Cast> {
    screen.heading("Three processes")?;
    world.relay.start().await?;
    let relay = format!(
        "process {:<8}{}",
        world.relay.process()?.pid()?,
        world.relay.origin()
    );
    screen.fact("the relay", &relay)?;
    let acme = world.node("Acme", Delivery::Pull).await?;
    screen.fact(
        "Acme",
        &format!(
            "process {:<8}asks the relay for its messages",
            acme.process()?.pid()?
        ),
    )?;
    let bolt = world.node("Bolt", Delivery::Webhook).await?;
    screen.fact(
        "Bolt",
        &format!(
            "process {:<8}is called by the relay",
            bolt.process()?.pid()?
        ),
    )?;
    Ok(Cast { acme, bolt })
}

/// Pairing by an invite, each step by a person's word.
async fn meet(screen: &mut Screen, cast: &Cast) -> anyhow::Result<Pair> {
    screen.heading("Pairing")?;
    let (acme, bolt) = (cast.acme.api()?, cast.bolt.api()?);
    let (_, url) = acme.invite(false).await?;
    screen.fact(
        "Acme makes an invite",
        &format!("{}…", url.chars().take(50).collect::<String>()),
    )?;
    let asked = bolt.connect(&url, NOTE).await?;
    screen.fact("Bolt asks", &format!("\"{NOTE}\""))?;
    let request = acme.request(NOTE).await?;
    acme.accept(&request.id).await?;
    let pair = Pair {
        inviter: acme.accepted(&request.id).await?,
        acceptor: bolt.accepted(&asked.id).await?,
    };
    screen.fact(
        "Acme accepts",
        &format!("a connection with {}", pair.inviter.contact),
    )?;
    let number = acme.safety_number(&pair.inviter.id).await?.number;
    bolt.verify(&pair.acceptor.id, &number)
        .await
        .context("the safety numbers differ")?;
    let (half, rest) = number.split_at(number.len() / 2);
    screen.fact("both compare", half.trim())?;
    screen.fact("", rest.trim())?;
    Ok(pair)
}

/// The order goes out while Bolt is away, and is read when Bolt is back.
async fn send_order(
    screen: &mut Screen,
    cast: &mut Cast,
    pair: &Pair,
    files: &[Sample],
) -> anyhow::Result<()> {
    screen.heading("Bolt's node is stopped, and Acme sends it a message with three files")?;
    cast.bolt.stop().await?;
    let acme = cast.acme.api()?;
    let mut events = acme.events().await?;
    let sent = send(&acme, &pair.inviter.id, ORDER, files).await?;
    let mut table = Table::default();
    table.begin(&sent.id, "Acme → Bolt, 3 files");
    table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Retrying)
        .await?;
    cast.bolt.start().await?;
    table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Delivered)
        .await?;
    let bolt = cast.bolt.api()?;
    let received = bolt.received(&sent.uuid).await?;
    bolt.read(&received.id).await?;
    let seen = table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Read)
        .await?;
    table.leave();
    ensure!(
        seen.contains(&DeliveryStatus::Sent),
        "it was never sent, only {seen:?}"
    );
    ensure!(received.content == ORDER, "the text is another one");
    screen.heading("What Bolt sees: sealpost show")?;
    screen.quote(&shown(&cast.bolt, &received.id).await?)?;
    Ok(())
}

async fn send_answer(screen: &mut Screen, cast: &Cast, pair: &Pair) -> anyhow::Result<()> {
    screen.heading("Bolt answers")?;
    let (acme, bolt) = (cast.acme.api()?, cast.bolt.api()?);
    let mut events = bolt.events().await?;
    let protocol = Sample::new(
        PROTOCOL,
        format!("Order 4711, 40 housings, accepted. {CANARY}\n"),
    );
    let sent = send(
        &bolt,
        &pair.acceptor.id,
        ANSWER,
        std::slice::from_ref(&protocol),
    )
    .await?;
    let mut table = Table::default();
    table.begin(&sent.id, "Bolt → Acme, 1 file");
    table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Delivered)
        .await?;
    let received = acme.received(&sent.uuid).await?;
    acme.read(&received.id).await?;
    table
        .follow(screen, &mut events, &sent.id, DeliveryStatus::Read)
        .await?;
    ensure!(received.content == ANSWER, "the answer is another one");
    compare(&acme, &received, &[protocol]).await?;
    Ok(())
}

async fn check(
    screen: &mut Screen,
    world: &World,
    cast: &Cast,
    files: &[Sample],
) -> anyhow::Result<()> {
    screen.heading("Checked")?;
    let (order, _) = (
        only_message(&cast.bolt, ORDER).await?,
        only_message(&cast.acme, ANSWER).await?,
    );
    screen.holds("each side has one message, once, read, with its text")?;
    compare(&cast.bolt.api()?, &order, files).await?;
    screen.holds("every file has the SHA-256 that it was sent with")?;
    let searched = checks::ensure_blind(world.relay.folder(), &secrets(files))
        .context("the relay can read")?;
    let size = searched.bytes / 1_000_000;
    screen.holds(&format!(
        "no text, file name or file in the relay's {} files with {size} MB",
        searched.files
    ))?;
    let processes = [
        ("relay", world.relay.process()?),
        ("Acme", cast.acme.process()?),
        ("Bolt", cast.bolt.process()?),
    ];
    let mut peaks = Vec::new();
    for (name, process) in processes {
        let peak = process.peak_memory_bytes()?;
        ensure!(
            peak < MEMORY_BYTES_MAX,
            "{name} held {} MiB of memory",
            peak >> 20
        );
        peaks.push(format!("{name} {} MiB", peak >> 20));
    }
    screen.holds(&format!(
        "most memory held while 20 MB passed: {}",
        peaks.join(", ")
    ))?;
    Ok(())
}

/// The one message that came to a node.
async fn only_message(node: &Node, text: &str) -> anyhow::Result<Message> {
    let mut messages = node.api()?.messages(Direction::In).await?;
    let (name, count) = (node.home().name(), messages.len());
    ensure!(count == 1, "{name} has {count} messages");
    let message = messages.pop().context("no message")?;
    ensure!(
        message.content == text && message.is_read,
        "{name} has another message"
    );
    Ok(message)
}

/// Downloads the files of a message and compares them with what was sent, in order.
async fn compare(api: &Api, message: &Message, files: &[Sample]) -> anyhow::Result<()> {
    ensure!(
        message.attachments.len() == files.len(),
        "{} files",
        message.attachments.len()
    );
    for (attachment, file) in message.attachments.iter().zip(files) {
        ensure!(
            attachment.filename == file.name,
            "{} came as {}",
            file.name,
            attachment.filename
        );
        ensure!(
            api.content_digest(&attachment.id).await? == file.digest(),
            "{} is another file",
            file.name
        );
    }
    Ok(())
}

/// Everything that only Acme and Bolt may know.
fn secrets(files: &[Sample]) -> Vec<Secret> {
    let lines = [NOTE, ORDER, ANSWER]
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
        .map(|file| Secret::new(format!("a piece of {}", file.name), file.excerpt()));
    texts
        .chain(names)
        .chain(contents)
        .chain([Secret::new("the canary", CANARY)])
        .collect()
}

async fn shown(node: &Node, message: &str) -> anyhow::Result<String> {
    let output = node.home().cli(&["show", message]).await?;
    ensure!(
        output.status.success(),
        "sealpost show: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
