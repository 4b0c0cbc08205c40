//! Two nodes and the relay between them as real processes, and the transfer of one message with
//! files.

use crate::bench::{Sample, file_digest};
use anyhow::{Context as _, bail, ensure};
use sealpost_demo::{
    environment::{Environment, pair},
    node::{DeliveryMode, Node},
    process::{Process, Program},
    wait::WAIT_TIMEOUT,
};
use sealpost_node::{
    api::model::{Attachment, AttachmentStatus, Direction, EventTopic, Message},
    cli::events::EventStream,
};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Rate limits of the relay that are lifted.
const UNLIMITED_RATES: [&str; 4] = [
    "--rates-requests-per-second",
    "0",
    "--rates-blob-bytes-per-day",
    "0",
];

/// Two connected nodes and their relay.
#[derive(Debug)]
pub(crate) struct NodePair {
    env: Environment,
    sender: Node,
    recipient: Node,
}

/// Times of a transfer since the start of `send`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransferTimes {
    /// All files are durable at the relay.
    pub(crate) uploaded: Duration,
    /// The recipient's node has the message and starts to download.
    pub(crate) arrived: Duration,
    /// All files are durable and verified at the recipient.
    pub(crate) ready: Duration,
}

/// One value for each of the three processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PerProcess<T> {
    /// The sender's node.
    pub(crate) sender: T,
    /// The relay.
    pub(crate) relay: T,
    /// The recipient's node.
    pub(crate) recipient: T,
}

impl<T> PerProcess<T> {
    /// Converts each value.
    pub(crate) fn map<U>(self, mut convert: impl FnMut(T) -> U) -> PerProcess<U> {
        PerProcess {
            sender: convert(self.sender),
            relay: convert(self.relay),
            recipient: convert(self.recipient),
        }
    }
}

impl NodePair {
    /// Starts a new relay and two new nodes, and connects the nodes.
    pub(crate) async fn start(program: Program) -> anyhow::Result<Self> {
        let mut env = Environment::new(program)?;
        env.relay.set_extra_args(&UNLIMITED_RATES);
        env.relay.start().await?;
        let sender = env.start_node("Acme", DeliveryMode::Pull).await?;
        let recipient = env.start_node("Bolt", DeliveryMode::Pull).await?;
        pair(&sender, &recipient).await?;
        Ok(Self {
            env,
            sender,
            recipient,
        })
    }

    /// Sends files with the CLI and waits until they are ready at the recipient.
    pub(crate) async fn send(&self, files: &[Sample]) -> anyhow::Result<TransferTimes> {
        let (outgoing, incoming) = (
            self.sender.api()?.subscribe_to_events().await?,
            self.recipient.api()?.subscribe_to_events().await?,
        );
        let mut args = vec!["send", "--to", "Bolt", "-m", "files", "-a"];
        for file in files {
            args.push(file.path.to_str().context("a path that is not UTF-8")?);
        }
        let started = Instant::now();
        let followed = timeout(WAIT_TIMEOUT, async {
            tokio::join!(
                self.sender.home().run_cli(&args),
                wait_for_uploads(outgoing, files.len()),
                wait_for_ready_files(incoming, files.len())
            )
        });
        let (sent, uploaded, ready) = followed.await.context("the files do not arrive")?;
        let sent = sent?;
        ensure!(
            sent.status.success(),
            "send: {}",
            String::from_utf8_lossy(&sent.stderr)
        );
        let (arrived, ready) = ready?;
        Ok(TransferTimes {
            uploaded: uploaded? - started,
            arrived: arrived - started,
            ready: ready - started,
        })
    }

    /// Saves all files of the last message with the CLI and compares them; returns the
    /// time for saving.
    pub(crate) async fn save(&self, files: &[Sample]) -> anyhow::Result<Duration> {
        let messages = self.recipient.api()?.list_messages(Direction::In).await?;
        let message = messages.last().context("no message arrived")?;
        let directory = tempfile::tempdir()?;
        let to = directory
            .path()
            .to_str()
            .context("a path that is not UTF-8")?;
        let started = Instant::now();
        let saved = self
            .recipient
            .home()
            .run_cli(&["files", "save", &message.id, "--to", to])
            .await?;
        let took = started.elapsed();
        ensure!(
            saved.status.success(),
            "files save: {}",
            String::from_utf8_lossy(&saved.stderr)
        );
        for file in files {
            let name = file.path.file_name().context("the file has no name")?;
            ensure!(
                file_digest(&directory.path().join(name))? == file.digest,
                "{} differs",
                name.display()
            );
        }
        Ok(took)
    }

    /// Returns the peak memory of each process in MiB.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<PerProcess<f64>> {
        let peaks = self.per_process(Process::peak_memory_bytes)?;
        Ok(peaks.map(|bytes| bytes as f64 / 1024.0 / 1024.0))
    }

    /// Returns the processor time of each process so far in seconds.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<PerProcess<f64>> {
        self.per_process(read_processor_seconds)
    }

    /// Stops all processes.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.sender.stop().await?;
        self.recipient.stop().await?;
        self.env.finish().await
    }

    fn per_process<T>(
        &self,
        read: impl Fn(&Process) -> anyhow::Result<T>,
    ) -> anyhow::Result<PerProcess<T>> {
        let (sender, recipient) = (
            read(self.sender.process()?)?,
            read(self.recipient.process()?)?,
        );
        Ok(PerProcess {
            sender,
            relay: read(self.env.relay.process()?)?,
            recipient,
        })
    }
}

/// Waits until the given number of files is at the relay; returns the time of the last upload.
async fn wait_for_uploads(events: EventStream, files: usize) -> anyhow::Result<Instant> {
    follow_files(events, AttachmentStatus::Uploaded, files)
        .await
        .map(|(_, uploaded)| uploaded)
}

/// Waits until the given number of files is ready; returns the arrival times of their message and
/// of the last file.
async fn wait_for_ready_files(
    events: EventStream,
    files: usize,
) -> anyhow::Result<(Instant, Instant)> {
    let (message, ready) = follow_files(events, AttachmentStatus::Ready, files).await?;
    Ok((message.context("files without a message")?, ready))
}

/// Follows events until the given number of files has a status; returns the times of the first
/// message and of the last file.
async fn follow_files(
    mut events: EventStream,
    status: AttachmentStatus,
    files: usize,
) -> anyhow::Result<(Option<Instant>, Instant)> {
    let (mut message, mut reached) = (None, BTreeSet::new());
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
                reached.insert(file.id);
            }
            if reached.len() == files {
                return Ok((message, now));
            }
        }
    }
    bail!("the event stream ended")
}

fn read_processor_seconds(process: &Process) -> anyhow::Result<f64> {
    /// `USER_HZ`, the unit of times in `/proc`, which is fixed on Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid()?))?;
    // proc_pid_stat(5): the second field, which may hold anything, ends with the last parenthesis;
    // utime and stime are 14 and 15.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("an unexpected format of proc_pid_stat(5)")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>)
        .sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}
