//! Two nodes and the relay between them, as real processes, and one message with files on its way from one to the other.

use crate::bench::{Sample, digest_of};
use anyhow::{Context as _, bail, ensure};
use sealpost_demo::{
    node::{Delivery, Node},
    process::{Process, Program},
    wait::PATIENCE,
    world::{World, pair},
};
use sealpost_node::{
    api::model::{Attachment, AttachmentStatus, Direction, EventTopic, Message},
    cli::events::Events,
};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// What the relay would ask of one account to go slowly.
const LIFTED: [&str; 4] = [
    "--rates-requests-per-second",
    "0",
    "--rates-blob-bytes-per-day",
    "0",
];

/// Two nodes and a relay.
#[derive(Debug)]
pub(crate) struct Passage {
    world: World,
    sender: Node,
    recipient: Node,
}

/// When a message was how far, from its `send` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    /// All its files are durable at the relay.
    pub(crate) uploaded: Duration,
    /// The recipient's node has the message and begins to fetch.
    pub(crate) arrived: Duration,
    /// All its files are durable at the recipient, and verified.
    pub(crate) ready: Duration,
}

/// Something of each of the three processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfEach<T> {
    /// The sender's node.
    pub(crate) sender: T,
    /// The relay.
    pub(crate) relay: T,
    /// The recipient's node.
    pub(crate) recipient: T,
}

impl<T> OfEach<T> {
    /// Turns each into something else.
    pub(crate) fn map<U>(self, mut turn: impl FnMut(T) -> U) -> OfEach<U> {
        OfEach {
            sender: turn(self.sender),
            relay: turn(self.relay),
            recipient: turn(self.recipient),
        }
    }
}

impl Passage {
    /// Starts everything anew and connects the nodes.
    ///
    /// # Errors
    /// When something does not start.
    pub(crate) async fn open(program: Program) -> anyhow::Result<Self> {
        let mut world = World::begin(program)?;
        world.relay.configure(&LIFTED);
        world.relay.start().await?;
        let sender = world.node("Acme", Delivery::Pull).await?;
        let recipient = world.node("Bolt", Delivery::Pull).await?;
        pair(&sender, &recipient).await?;
        Ok(Self {
            world,
            sender,
            recipient,
        })
    }

    /// Sends files by the command line and follows them until they are ready at the other side.
    ///
    /// # Errors
    /// When they do not get there, or are not the same there.
    pub(crate) async fn send(&self, files: &[Sample]) -> anyhow::Result<Passed> {
        let (outgoing, incoming) = (
            self.sender.api()?.events().await?,
            self.recipient.api()?.events().await?,
        );
        let mut args = vec!["send", "--to", "Bolt", "-m", "files", "-a"];
        for file in files {
            args.push(file.path.to_str().context("a path that is not text")?);
        }
        let began = Instant::now();
        let followed = timeout(PATIENCE, async {
            tokio::join!(
                self.sender.home().cli(&args),
                uploaded(outgoing, files.len()),
                ready(incoming, files.len())
            )
        });
        let (sent, uploaded, ready) = followed.await.context("the files do not get there")?;
        let sent = sent?;
        ensure!(
            sent.status.success(),
            "send: {}",
            String::from_utf8_lossy(&sent.stderr)
        );
        let (arrived, ready) = ready?;
        Ok(Passed {
            uploaded: uploaded? - began,
            arrived: arrived - began,
            ready: ready - began,
        })
    }

    /// Saves all files of the last message as a person does, compares them, and says how long the saving took.
    ///
    /// # Errors
    /// When one is another file.
    pub(crate) async fn save(&self, files: &[Sample]) -> anyhow::Result<Duration> {
        let messages = self.recipient.api()?.messages(Direction::In).await?;
        let message = messages.last().context("no message came")?;
        let folder = tempfile::tempdir()?;
        let to = folder.path().to_str().context("a path that is not text")?;
        let began = Instant::now();
        let saved = self
            .recipient
            .home()
            .cli(&["files", "save", &message.id, "--to", to])
            .await?;
        let took = began.elapsed();
        ensure!(
            saved.status.success(),
            "files save: {}",
            String::from_utf8_lossy(&saved.stderr)
        );
        for file in files {
            let name = file.path.file_name().context("a file without a name")?;
            ensure!(
                digest_of(&folder.path().join(name))? == file.digest,
                "{} is another file",
                name.display()
            );
        }
        Ok(took)
    }

    /// The most memory that each process ever had, in MiB.
    ///
    /// # Errors
    /// When one does not run.
    pub(crate) fn peaks(&self) -> anyhow::Result<OfEach<f64>> {
        let peaks = self.of_each(Process::peak_memory_bytes)?;
        Ok(peaks.map(|bytes| bytes as f64 / 1024.0 / 1024.0))
    }

    /// The processor time that each process has taken so far, in seconds.
    ///
    /// # Errors
    /// When one does not run.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<OfEach<f64>> {
        self.of_each(processor_seconds)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// When something does not end well.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.sender.stop().await?;
        self.recipient.stop().await?;
        self.world.finish().await
    }

    fn of_each<T>(
        &self,
        look: impl Fn(&Process) -> anyhow::Result<T>,
    ) -> anyhow::Result<OfEach<T>> {
        let (sender, recipient) = (
            look(self.sender.process()?)?,
            look(self.recipient.process()?)?,
        );
        Ok(OfEach {
            sender,
            relay: look(self.world.relay.process()?)?,
            recipient,
        })
    }
}

/// When so many files of ours were at the relay.
async fn uploaded(events: Events, files: usize) -> anyhow::Result<Instant> {
    follow(events, AttachmentStatus::Uploaded, files)
        .await
        .map(|(_, uploaded)| uploaded)
}

/// When their message came, and when so many of its files were ready.
async fn ready(events: Events, files: usize) -> anyhow::Result<(Instant, Instant)> {
    let (message, ready) = follow(events, AttachmentStatus::Ready, files).await?;
    Ok((message.context("files without a message")?, ready))
}

/// When the first message came by, and when so many files were that far.
async fn follow(
    mut events: Events,
    status: AttachmentStatus,
    files: usize,
) -> anyhow::Result<(Option<Instant>, Instant)> {
    let (mut message, mut there) = (None, BTreeSet::new());
    while let Some(event) = events.next().await {
        let now = Instant::now();
        if event.topic == EventTopic::Message {
            let _: Message = serde_json::from_value(event.data)?;
            message.get_or_insert(now);
        } else if event.topic == EventTopic::Attachment {
            let file: Attachment = serde_json::from_value(event.data)?;
            ensure!(
                file.status != AttachmentStatus::Failed,
                "{} failed: {:?}",
                file.filename,
                file.reason
            );
            if file.status == status {
                there.insert(file.id);
            }
            if there.len() == files {
                return Ok((message, now));
            }
        }
    }
    bail!("the events ended")
}

fn processor_seconds(process: &Process) -> anyhow::Result<f64> {
    /// `USER_HZ`, which Linux fixes for what it shows to programs.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid()?))?;
    // proc_pid_stat(5): the second field, which may hold anything, ends with the last parenthesis; utime and stime are 14 and 15.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("not as proc_pid_stat(5) says")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>)
        .sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}
