//! Disturbances of a year: processes that are down for days, and databases that are rolled back to
//! an old backup, with or without the node's knowledge.

use crate::{
    model::{ModelBackup, Violation},
    node::Node,
    pace::Span,
    schedule::{DAY, HOUR, MINUTE},
    simulation::{Event, Simulation},
};
use sealpost_node::{fault::Fault, recovery, store::Tx, store::postings::Cursor};
use sealpost_sqlite::Contents;

/// Age up to which backups are restored. A sender can send messages again for 30 days.
const BACKUP_AGE_MAX: u64 = 12 * DAY;
/// Longest time for which a process is down: longer than envelopes and sessions last.
const OUTAGE_MAX: u64 = 10 * DAY;
/// Outage after which messages may have expired.
const LONG_OUTAGE: u64 = 5 * DAY;

/// Backup of a node, with what the model knew at that time.
pub(crate) struct NodeBackup {
    at: u64,
    contents: Contents,
    last_seen: Option<Cursor>,
    model: ModelBackup,
}

/// Backup of the relay.
pub(crate) struct RelayBackup {
    at: u64,
    contents: Contents,
    accepted: usize,
}

/// How a node is rolled back to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restore {
    /// The node knows it, and starts new sessions.
    Noticed,
    /// The node continues as if nothing had happened.
    Unnoticed,
}

impl Simulation {
    pub(crate) async fn back_up_node(&mut self, node: usize) -> Result<Option<u64>, Violation> {
        if self.nodes[node].is_deleted || self.schedule.now() > self.pace.fault_phase {
            return Ok(None);
        }
        let contents = self
            .read(node, |tx: &mut Tx<'_>| Ok(Contents::read(tx.sql)?))
            .await?;
        let at = self.schedule.now();
        let backup = NodeBackup {
            at,
            contents,
            last_seen: self.nodes[node].last_seen,
            model: self.model.back_up(node),
        };
        let backups = &mut self.nodes[node].backups;
        backups.retain(|backup| backup.at + BACKUP_AGE_MAX > at);
        backups.push(backup);
        Ok(Some(self.random.between(20 * HOUR, 4 * DAY)))
    }

    pub(crate) async fn restore_node(
        &mut self,
        node: usize,
        restore: Restore,
    ) -> Result<Option<u64>, Violation> {
        let now = self.schedule.now();
        let Node {
            backups,
            is_deleted,
            ..
        } = &mut self.nodes[node];
        backups.retain(|backup| backup.at + BACKUP_AGE_MAX > now);
        if *is_deleted || backups.is_empty() {
            return Ok(None);
        }
        let index = self.random.index(backups.len());
        // Later backups belong to a time that has not happened.
        backups.truncate(index + 1);
        let backup = &backups[index];
        let (contents, last_seen, age) =
            (backup.contents.clone(), backup.last_seen, now - backup.at);
        self.model.restore(node, &backup.model, now);
        self.nodes[node].stop();
        self.nodes[node].last_seen = last_seen;
        let identity = self.identity(node);
        let job = move |tx: &mut Tx<'_>| {
            contents.write(tx.sql)?;
            match restore {
                Restore::Noticed => recovery::recover(tx, &identity).map(|_| ()),
                Restore::Unnoticed => Ok(()),
            }
        };
        let written = self.nodes[node].store.write(self.node_now(node), job).await;
        written.map_err(|fault: Fault| Violation(format!("node-{node}: {fault}")))?;
        self.log(&format!(
            "node-{node} is rolled back by {} hours, {restore:?}",
            age / HOUR
        ));
        let pause = self.random.between(MINUTE, HOUR);
        self.schedule.add(pause, Event::NodeStart { node });
        Ok(None)
    }

    pub(crate) async fn back_up_relay(&mut self) -> Result<Option<u64>, Violation> {
        if self.schedule.now() > self.pace.fault_phase {
            return Ok(None);
        }
        self.relay.backup = Some(RelayBackup {
            at: self.schedule.now(),
            contents: self.relay.inner.back_up().await?,
            accepted: self.relay.accepted.len(),
        });
        Ok(Some(self.random.between(HOUR, 5 * DAY)))
    }

    /// Sets the relay back to its latest backup; envelopes that it accepted since are lost.
    pub(crate) async fn restore_relay(&mut self) -> Result<Option<u64>, Violation> {
        let Some(backup) = self.relay.backup.take() else {
            return Ok(None);
        };
        let age = self.schedule.now() - backup.at;
        self.relay.stop();
        self.relay
            .inner
            .restore(self.relay_now(), backup.contents)
            .await?;
        let lost = self.relay.forget_accepted(backup.accepted);
        self.model.record_relay_restore(self.schedule.now());
        self.log(&format!(
            "the relay is rolled back by {} hours and loses {lost} envelopes",
            age / HOUR
        ));
        self.schedule.add(MINUTE, Event::RelayStart);
        Ok(None)
    }

    /// Makes the relay refuse the envelopes of most requests for some time.
    pub(crate) fn begin_refusals(&mut self) -> Option<u64> {
        let length = match self.span {
            Span::Hour => self.random.between(MINUTE, HOUR / 2),
            Span::Year => self.random.between(HOUR, 12 * HOUR),
        };
        self.relay.refuses_until = Some(self.schedule.now() + length);
        let minutes = length / MINUTE;
        self.log(&format!(
            "the relay refuses envelopes for {minutes} minutes"
        ));
        None
    }

    /// Stops a node, or the relay, for hours or days.
    pub(crate) fn begin_outage(&mut self, node: Option<usize>) -> Result<Option<u64>, Violation> {
        let length = self.random.between(HOUR, OUTAGE_MAX);
        match node {
            Some(node) if self.nodes[node].is_deleted => return Ok(None),
            Some(node) => {
                self.nodes[node].stop();
                self.schedule.add(length, Event::NodeStart { node });
                self.log(&format!("node-{node} is down for {} hours", length / HOUR));
            }
            None => {
                self.relay.stop();
                self.schedule.add(length, Event::RelayStart);
                self.log(&format!("the relay is down for {} hours", length / HOUR));
            }
        }
        if length > LONG_OUTAGE {
            let end = self.schedule.now() + length;
            self.model.record_long_outage(node, end);
        }
        Ok(None)
    }
}
