//! Writes checkpoints to the local file and to the relay, and compares the database with what is
//! found there.

use super::{
    NodeComponents,
    checkpoint_file::CheckpointFile,
    retry::wait_after,
    worker::{NextRun, PeriodicTask},
};
use crate::{
    checkpoint::{self, WrittenCheckpoint},
    fault::Fault,
    outbox,
};
use sealpost_e2ee::Checkpoint;
use sealpost_node_core::checkpoint::Decision;
use sealpost_proto::{ErrorCode, limits, wire};
use sealpost_relay_client::{ClientError, StoredCheckpoint};
use std::{sync::Arc, time::Duration};

/// Consecutive attempts to replace the checkpoint at the relay: a second node can write one in
/// between, and a relay could claim so every time.
const STORE_ATTEMPTS_MAX: u32 = 3;

/// Checkpoints of a running node.
pub(super) struct Checkpoints {
    node: NodeComponents,
    file: CheckpointFile,
    every: Duration,
    /// Entity tag of the checkpoint at the relay.
    tag: Option<String>,
    /// Latest checkpoint, until the relay has it.
    unstored: Option<Vec<u8>>,
}

impl Checkpoints {
    pub(super) fn new(node: NodeComponents, file: CheckpointFile, every: Duration) -> Self {
        Self {
            node,
            file,
            every: every.max(limits::CHECKPOINT_INTERVAL_MIN),
            tag: None,
            unstored: None,
        }
    }

    /// Compares the database with the checkpoints in the local file and at the relay, recovers the
    /// node if the database was rolled back, and writes a new checkpoint. Waits until the relay has
    /// responded, because the time for new prekeys is that of the relay.
    pub(super) async fn check_at_start(&mut self) {
        let worker = self.node.worker();
        let wake_ups = Arc::clone(self.node.database.wake_ups());
        let mut failures = 0;
        loop {
            let delay = match self.node.relay.client.fetch_checkpoint().await {
                Ok(found) => {
                    self.node.relay.record_response().await;
                    match self.compare(found).await {
                        Ok(()) => break,
                        Err(fault) => {
                            tracing::error!(%fault, "the checkpoint cannot be compared");
                            limits::BACKOFF_FIRST
                        }
                    }
                }
                Err(error) => self.wait_for_relay(&error, failures).await,
            };
            failures += 1;
            let retry_at = self.node.database.now().plus(delay);
            // A new message is a reason to try again at once.
            worker.wait(&wake_ups.submission, Some(retry_at)).await;
        }
    }

    /// Stores why messages wait, and returns how long.
    async fn wait_for_relay(&self, error: &ClientError, failures: u32) -> Duration {
        let reason = self.node.relay.record_failure(error).await;
        let delay = wait_after(error, failures);
        let next_at = self.node.database.now().plus(delay);
        let database = &self.node.database;
        let stored = database
            .write_without_wake_up(move |tx| outbox::record_unreachable(tx, &reason, next_at));
        if let Err(fault) = stored.await {
            tracing::error!(%fault, "cannot store why messages wait");
        }
        delay
    }

    async fn compare(&mut self, found: Option<StoredCheckpoint>) -> Result<(), Fault> {
        let at_relay = found.as_ref().and_then(|found| self.open(found));
        self.tag = found.map(|found| found.tag);
        let in_file = self.file.read();
        let in_file = in_file.and_then(|sealed| self.open_bytes(&sealed, "the local file"));
        let found: Vec<_> = at_relay.into_iter().chain(in_file).collect();
        let identity = Arc::clone(&self.node.identity);
        let database = &self.node.database;
        let written = database.write(move |tx| checkpoint::start(tx, &identity, &found));
        self.write_file(written.await?).await?;
        self.store().await
    }

    fn open(&self, found: &StoredCheckpoint) -> Option<Checkpoint> {
        self.open_bytes(found.checkpoint.sealed.as_slice(), "the relay")
    }

    /// Opens a checkpoint. What cannot be opened counts as absent and is replaced.
    fn open_bytes(&self, sealed: &[u8], place: &str) -> Option<Checkpoint> {
        let opened = Checkpoint::open(&self.node.identity.keys, sealed);
        opened
            .inspect_err(|error| tracing::warn!(%error, place, "a checkpoint is ignored"))
            .ok()
    }

    /// Writes the local file, and marks the checkpoint to be stored at the relay.
    async fn write_file(&mut self, written: WrittenCheckpoint) -> Result<(), Fault> {
        let (file, sealed) = (self.file.clone(), written.sealed.clone());
        self.unstored = Some(written.sealed);
        tokio::task::spawn_blocking(move || file.write(&sealed))
            .await
            .map_err(|error| Fault::failed(error.to_string()))
    }

    /// Stores the latest checkpoint at the relay, unless it is there already.
    async fn store(&mut self) -> Result<(), Fault> {
        for _ in 0..STORE_ATTEMPTS_MAX {
            let Some(sealed) = self.unstored.clone() else {
                return Ok(());
            };
            let body = wire::Checkpoint {
                sealed: sealed.into(),
            };
            let client = &self.node.relay.client;
            match client.put_checkpoint(&body, self.tag.as_deref()).await {
                Ok(tag) => {
                    self.node.relay.record_response().await;
                    (self.tag, self.unstored) = (Some(tag), None);
                }
                Err(ClientError::Problem(problem))
                    if problem.code == ErrorCode::PreconditionFailed =>
                {
                    self.resolve_conflict().await?;
                }
                Err(error) => {
                    self.node.relay.record_failure(&error).await;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Compares the database with the checkpoint that the relay has instead of the expected one.
    async fn resolve_conflict(&mut self) -> Result<(), Fault> {
        let found = match self.node.relay.client.fetch_checkpoint().await {
            Ok(found) => found,
            Err(error) => {
                self.node.relay.record_failure(&error).await;
                return Ok(());
            }
        };
        let opened = found.as_ref().and_then(|found| self.open(found));
        self.tag = found.map(|found| found.tag);
        let identity = Arc::clone(&self.node.identity);
        let database = &self.node.database;
        let written = database.write(move |tx| checkpoint::resolve(tx, &identity, opened.as_ref()));
        match written.await? {
            Some(written) => {
                if written.decision == Decision::Write {
                    tracing::info!("the relay had an earlier checkpoint, which is replaced");
                }
                self.write_file(written).await?;
            }
            None => self.unstored = None,
        }
        Ok(())
    }
}

impl PeriodicTask for Checkpoints {
    const ACTION: &'static str = "write a checkpoint";
    const FAULT_RETRY_DELAY: Duration = limits::CHECKPOINT_INTERVAL;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let identity = Arc::clone(&self.node.identity);
        let database = &self.node.database;
        let written = database
            .write_without_wake_up(move |tx| checkpoint::write_if_active(tx, &identity))
            .await?;
        if let Some(written) = written {
            self.write_file(written).await?;
        }
        self.store().await?;
        Ok(NextRun::Pause(self.every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::scripted_relay::ScriptedRelay,
        store::{
            checkpoints,
            events::{self, Subject},
            node_warnings,
        },
    };
    use sealpost_node_core::model::NodeWarning;
    use sealpost_proto::B64;

    const NO_FILE: &str = "off";

    fn checkpoints_of(relay: &ScriptedRelay, directory: &str) -> Checkpoints {
        let file = CheckpointFile::locate(directory, &relay.node.identity);
        Checkpoints::new(relay.node.clone(), file, limits::CHECKPOINT_INTERVAL)
    }

    async fn started(relay: &ScriptedRelay) -> Checkpoints {
        let mut checkpoints = checkpoints_of(relay, NO_FILE);
        checkpoints.check_at_start().await;
        checkpoints
    }

    async fn own_generation(relay: &ScriptedRelay) -> u64 {
        let own = relay.node.database.read(|tx| checkpoints::load(tx)).await;
        own.unwrap().last().unwrap().generation
    }

    fn stored_generation(relay: &ScriptedRelay) -> u64 {
        let script = relay.script();
        let stored: wire::Checkpoint =
            serde_json::from_slice(script.checkpoint.as_ref().unwrap()).unwrap();
        let opened = Checkpoint::open(&relay.node.identity.keys, stored.sealed.as_slice());
        opened.unwrap().generation
    }

    /// Stores the checkpoint of a second node with this identity at the relay.
    fn store_foreign(relay: &ScriptedRelay, generation: u64) {
        let mut rng = sealpost_service::entropy();
        let foreign = Checkpoint {
            generation,
            mark: sealpost_e2ee::CheckpointMark::generate(&mut rng),
            written_at: relay.node.database.now(),
        };
        let body = wire::Checkpoint {
            sealed: B64(foreign.seal(&relay.node.identity.keys, &mut rng)),
        };
        relay.script().checkpoint = Some(serde_json::to_vec(&body).unwrap().into());
    }

    async fn act(relay: &ScriptedRelay) {
        let database = &relay.node.database;
        let added = database.write(|tx| events::add(tx, Subject::Node));
        added.await.unwrap();
    }

    async fn warnings(relay: &ScriptedRelay) -> Vec<NodeWarning> {
        let database = &relay.node.database;
        let loaded = database.read(|tx| node_warnings::load_all(tx)).await;
        loaded.unwrap().into_iter().map(|(code, _)| code).collect()
    }

    #[tokio::test]
    async fn active_nodes_replace_their_checkpoint() {
        let relay = ScriptedRelay::start().await;
        let mut checkpoints = started(&relay).await;
        assert_eq!(stored_generation(&relay), own_generation(&relay).await);
        act(&relay).await;
        let before = stored_generation(&relay);
        let next = checkpoints.run_once().await.unwrap();
        assert_eq!(next, NextRun::Pause(limits::CHECKPOINT_INTERVAL));
        assert_eq!(stored_generation(&relay), before + 1);
        let requests = relay.script().requests.len();
        checkpoints.run_once().await.unwrap();
        assert_eq!(relay.script().requests.len(), requests, "no activity");
        assert!(warnings(&relay).await.is_empty());
    }

    #[tokio::test]
    async fn checkpoint_ahead_recovers_the_node() {
        let relay = ScriptedRelay::start().await;
        store_foreign(&relay, 40);
        started(&relay).await;
        assert_eq!(warnings(&relay).await, [NodeWarning::RolledBack]);
        assert_eq!(stored_generation(&relay), 41);
    }

    #[tokio::test]
    async fn local_file_is_compared_too() {
        let relay = ScriptedRelay::start().await;
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().to_str().unwrap();
        checkpoints_of(&relay, directory).check_at_start().await;
        assert!(warnings(&relay).await.is_empty());
        // The database is rolled back, and the relay presents nothing.
        let database = &relay.node.database;
        database
            .write(|tx| checkpoints::delete_all(tx))
            .await
            .unwrap();
        relay.script().checkpoint = None;
        checkpoints_of(&relay, directory).check_at_start().await;
        assert_eq!(warnings(&relay).await, [NodeWarning::RolledBack]);
    }

    #[tokio::test]
    async fn second_node_is_noticed_while_running() {
        let relay = ScriptedRelay::start().await;
        let mut checkpoints = started(&relay).await;
        store_foreign(&relay, 40);
        checkpoints.run_once().await.unwrap();
        assert!(warnings(&relay).await.is_empty(), "no activity");
        act(&relay).await;
        checkpoints.run_once().await.unwrap();
        assert_eq!(warnings(&relay).await, [NodeWarning::SecondNode]);
        assert_eq!(stored_generation(&relay), 41);
    }

    #[tokio::test]
    async fn failed_write_is_repeated() {
        let relay = ScriptedRelay::start().await;
        let mut checkpoints = started(&relay).await;
        act(&relay).await;
        relay.script().fails_checkpoints = true;
        checkpoints.run_once().await.unwrap();
        assert!(stored_generation(&relay) < own_generation(&relay).await);
        relay.script().fails_checkpoints = false;
        checkpoints.run_once().await.unwrap();
        assert_eq!(stored_generation(&relay), own_generation(&relay).await);
    }

    #[tokio::test]
    async fn unreadable_checkpoint_is_replaced() {
        let relay = ScriptedRelay::start().await;
        relay.script().checkpoint = Some(br#"{"sealed":"AAAA"}"#.as_slice().into());
        started(&relay).await;
        assert!(warnings(&relay).await.is_empty());
        assert_eq!(stored_generation(&relay), own_generation(&relay).await);
    }

    #[tokio::test]
    async fn refusals_in_a_row_end_the_attempt() {
        let relay = ScriptedRelay::start().await;
        let mut checkpoints = started(&relay).await;
        act(&relay).await;
        relay.script().refuses_all_tags = true;
        let before = relay.script().requests.len();
        checkpoints.run_once().await.unwrap();
        let requests = u32::try_from(relay.script().requests.len() - before).unwrap();
        assert_eq!(requests, 2 * STORE_ATTEMPTS_MAX);
    }
}
