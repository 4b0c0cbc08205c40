//! Mailboxes that the relay has for this account and the database does not know.
//!
//! They are left over if the node was restored from a backup, or its data directory was rolled back,
//! that is older than the mailbox. Their partners still send to them. Nothing is closed without a
//! person's word, because the mailboxes may also belong to a second node with this identity.

use super::{Database, HomeRelay, retry::wait_after, worker::Worker};
use crate::{
    fault::Fault,
    hex,
    store::{
        Tx,
        events::{self, Subject},
        mailboxes,
    },
};
use sealpost_proto::{MailboxId, limits, wire::Mailbox};
use sealpost_relay_client::ClientError;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Finds and closes mailboxes that the database does not know.
pub(crate) struct UnknownMailboxes {
    database: Database,
    relay: Arc<HomeRelay>,
    /// Number that was last found.
    count: AtomicU64,
}

/// Error of a request about mailboxes.
#[derive(Debug)]
pub(crate) enum MailboxError {
    /// The relay does not respond, or refuses the request.
    Relay(ClientError),
    Fault(Fault),
}

impl From<Fault> for MailboxError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl UnknownMailboxes {
    pub(super) const fn new(database: Database, relay: Arc<HomeRelay>) -> Self {
        Self {
            database,
            relay,
            count: AtomicU64::new(0),
        }
    }

    /// Returns the number that was last found.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Asks the relay for the mailboxes of the account, and returns those that the database does
    /// not know, up to [`limits::UNKNOWN_MAILBOXES_MAX`].
    pub(crate) async fn find(&self) -> Result<Vec<Mailbox>, MailboxError> {
        let mut unknown = Vec::new();
        let mut after = None;
        for _ in 0..limits::MAILBOX_PAGES_MAX {
            let page = self.relay.client.list_mailboxes(after).await;
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    self.relay.record_failure(&error).await;
                    return Err(MailboxError::Relay(error));
                }
            };
            self.relay.record_response().await;
            // The relay opens a mailbox only after its row was committed, so a row is not missed.
            unknown.extend(self.filter_unknown(page.mailboxes).await?);
            let is_full = unknown.len() >= limits::UNKNOWN_MAILBOXES_MAX;
            if is_full || page.next <= after {
                break;
            }
            after = page.next;
        }
        unknown.truncate(limits::UNKNOWN_MAILBOXES_MAX);
        self.set_count(unknown.len() as u64).await?;
        Ok(unknown)
    }

    /// Closes a mailbox that the database does not know, named as [`format_id`] does. Returns
    /// `false` if the database knows it or the relay does not.
    pub(crate) async fn close(&self, id: &str) -> Result<bool, MailboxError> {
        let found = self.find().await?.into_iter();
        let mut named = found.map(|mailbox| mailbox.id);
        let Some(mailbox) = named.find(|mailbox| format_id(mailbox) == id) else {
            return Ok(false);
        };
        if let Err(error) = self.relay.client.close_mailbox(mailbox).await {
            self.relay.record_failure(&error).await;
            return Err(MailboxError::Relay(error));
        }
        tracing::warn!(%mailbox, "a mailbox that this node does not know was closed");
        self.set_count(self.count().saturating_sub(1)).await?;
        Ok(true)
    }

    async fn filter_unknown(&self, listed: Vec<Mailbox>) -> Result<Vec<Mailbox>, Fault> {
        let filter = move |tx: &mut Tx<'_>| {
            let mut unknown = Vec::new();
            for mailbox in listed {
                if !mailboxes::is_known(tx, &mailbox.id)? {
                    unknown.push(mailbox);
                }
            }
            Ok(unknown)
        };
        self.database.read(filter).await
    }

    async fn set_count(&self, count: u64) -> Result<(), Fault> {
        if self.count.swap(count, Ordering::Relaxed) == count {
            return Ok(());
        }
        let publish = |tx: &mut Tx<'_>| events::add(tx, Subject::Node);
        self.database.write_without_wake_up(publish).await
    }
}

/// Formats the id of a mailbox for people. The form of the protocol can begin with a hyphen, which
/// a command line takes for a flag.
pub(crate) fn format_id(id: &MailboxId) -> String {
    hex::encode(id.as_bytes())
}

/// Looks for unknown mailboxes once after the start, until the relay has responded.
pub(super) async fn check_at_start(unknown: Arc<UnknownMailboxes>, worker: Worker) {
    let mut failures = 0;
    while !worker.is_shutting_down() {
        let wait = match unknown.find().await {
            Ok(found) => {
                if !found.is_empty() {
                    tracing::warn!(
                        mailboxes = found.len(),
                        "the relay has mailboxes that this node does not know; list them with \
                         `sealpost mailboxes`"
                    );
                }
                return;
            }
            Err(MailboxError::Relay(error)) => wait_after(&error, failures),
            Err(MailboxError::Fault(fault)) => {
                tracing::error!(%fault, "cannot look for unknown mailboxes");
                limits::BACKOFF_MAX
            }
        };
        failures += 1;
        worker.pause(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::scripted_relay::ScriptedRelay,
        store::relay_jobs::{self, JobKind},
    };
    use sealpost_node_core::model::InviteId;
    use sealpost_proto::Timestamp;

    fn mailbox(number: u8) -> Mailbox {
        Mailbox {
            id: MailboxId::from_bytes([number; 16]),
            created_at: Timestamp::from_millis(1),
            envelopes: 0,
            has_prekeys: false,
        }
    }

    fn ids(found: &[Mailbox]) -> Vec<u8> {
        found.iter().map(|one| one.id.as_bytes()[0]).collect()
    }

    #[tokio::test]
    async fn mailboxes_of_rows_and_jobs_are_known() {
        let relay = ScriptedRelay::start().await;
        relay.script().mailboxes = vec![mailbox(1), mailbox(2), mailbox(3), mailbox(4)];
        let unknown = &relay.node.unknown_mailboxes;
        let add = |tx: &mut Tx<'_>| {
            tx.execute(
                "INSERT INTO mailboxes (id, connection) VALUES (?1, NULL)",
                &[mailbox(2).id.as_bytes()],
            )?;
            let subject = "INV-1111-2222-3333".parse::<InviteId>().unwrap().into();
            let (closed, now) = (mailbox(4).id, tx.now);
            relay_jobs::add(tx, subject, JobKind::CloseMailbox, &closed, &[], now)
        };
        relay
            .node
            .database
            .write_without_wake_up(add)
            .await
            .unwrap();
        assert_eq!(ids(&unknown.find().await.unwrap()), [1, 3]);
        assert_eq!(unknown.count(), 2);
        assert!(!unknown.close(&format_id(&mailbox(2).id)).await.unwrap());
        assert!(!unknown.close(&format_id(&mailbox(9).id)).await.unwrap());
        assert!(unknown.close(&format_id(&mailbox(3).id)).await.unwrap());
        assert_eq!(unknown.count(), 1);
        let deletions = relay.script().requests.clone();
        let deletions: Vec<_> = deletions
            .iter()
            .filter(|request| request.starts_with("DELETE"))
            .collect();
        assert_eq!(
            deletions,
            [&format!("DELETE /v1/mailboxes/{}", mailbox(3).id)]
        );
    }

    #[tokio::test]
    async fn endless_lists_of_mailboxes_end() {
        let relay = ScriptedRelay::start().await;
        relay.script().mailboxes = vec![mailbox(7)];
        relay.script().repeats_pages = true;
        let found = relay.node.unknown_mailboxes.find().await.unwrap();
        assert_eq!(ids(&found), [7, 7]);
    }
}
