//! Runs relay jobs: the requests to the relay that a change requires.

use super::{
    Database, HomeRelay,
    retry::{backoff, wait_after},
    worker::{NextRun, PeriodicTask, Worker},
};
use crate::{
    fault::Fault,
    healing,
    identity::NodeIdentity,
    refused_jobs,
    store::{
        Tx, connections,
        relay_jobs::{self, DueJob, JobKind, JobSubject, SessionStart},
    },
};
use sealpost_node_core::model::ConnectionId;
use sealpost_proto::{
    ErrorCode, SendKey, limits,
    wire::{OpenMailbox, SealedPrekeys},
};
use sealpost_relay_client::ClientError;
use sealpost_sqlite::Damaged;
use std::{sync::Arc, time::Duration};

/// Maximum number of jobs in one run.
const JOBS_PER_RUN_MAX: i64 = 32;

/// Runs relay jobs until shutdown.
pub(super) async fn run(
    database: Database,
    relay: Arc<HomeRelay>,
    identity: Arc<NodeIdentity>,
    worker: Worker,
) {
    let wake_ups = Arc::clone(database.wake_ups());
    let task = RelayJobs {
        database,
        relay,
        identity,
    };
    worker.run(&wake_ups.relay_jobs, task).await;
}

struct RelayJobs {
    database: Database,
    relay: Arc<HomeRelay>,
    identity: Arc<NodeIdentity>,
}

enum JobError {
    Relay(ClientError),
    Fault(Fault),
}

impl From<ClientError> for JobError {
    fn from(error: ClientError) -> Self {
        Self::Relay(error)
    }
}

impl From<Fault> for JobError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl PeriodicTask for RelayJobs {
    const ACTION: &'static str = "run relay jobs";
    const FAULT_RETRY_DELAY: Duration = limits::BACKOFF_FIRST;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let due = self
            .database
            .read(|tx| relay_jobs::load_due(tx, JOBS_PER_RUN_MAX))
            .await?;
        if due.is_empty() {
            let next = self
                .database
                .read(|tx| relay_jobs::find_next_due(tx))
                .await?;
            let now = self.database.now();
            return Ok(NextRun::Idle(next.filter(|at| *at > now)));
        }
        for job in due {
            let (id, attempt, kind, subject) = (job.id, job.attempt, job.kind, job.subject);
            match self.run_job(job).await {
                Ok(()) => {
                    self.relay.record_response().await;
                    self.database
                        .write(move |tx| relay_jobs::remove(tx, id))
                        .await?;
                }
                Err(JobError::Relay(ClientError::Problem(problem)))
                    if kind.is_ended_by(problem.code) =>
                {
                    let identity = Arc::clone(&self.identity);
                    let end =
                        move |tx: &mut Tx<'_>| refused_jobs::end(tx, &identity, id, kind, subject);
                    self.database.write_without_wake_up(end).await?;
                }
                Err(JobError::Fault(fault)) => return Err(fault),
                Err(JobError::Relay(error)) => self.postpone(id, attempt, &error).await?,
            }
        }
        Ok(NextRun::Continue)
    }
}

impl RelayJobs {
    async fn postpone(&self, id: i64, attempt: u32, error: &ClientError) -> Result<(), Fault> {
        let delay = if error.is_retryable() {
            self.relay.record_failure(error).await;
            wait_after(error, attempt)
        } else if is_mailbox_unknown(error) {
            // The peer's node may be opening its mailboxes again.
            backoff(attempt)
        } else {
            tracing::error!(%error, "the relay refuses a change permanently");
            limits::BACKOFF_MAX
        };
        let at = self.database.now().plus(delay);
        self.database
            .write_without_wake_up(move |tx| relay_jobs::postpone(tx, id, at))
            .await
    }

    async fn run_job(&self, job: DueJob) -> Result<(), JobError> {
        let client = &self.relay.client;
        match job.kind {
            JobKind::OpenMailbox => {
                let key = <[u8; 32]>::try_from(job.payload.as_slice())
                    .map_err(|_| Fault::Damaged(Damaged::new("relay_jobs", "payload")))?;
                // Everybody who has an invite can post into its mailbox, and only the relay can
                // tell senders apart.
                let sender_envelopes_max = match job.subject {
                    JobSubject::Invite(_) => Some(limits::INVITE_ENVELOPES_PER_SENDER_MAX),
                    JobSubject::Connection(_) => None,
                };
                let open = OpenMailbox {
                    send_keys: vec![SendKey::from_bytes(key)],
                    sender_envelopes_max,
                };
                client.open_mailbox(job.mailbox, &open).await?;
            }
            JobKind::PublishPrekeys => {
                let sealed = SealedPrekeys {
                    sealed: job.payload.to_vec().into(),
                };
                client.publish_prekeys(job.mailbox, &sealed).await?;
            }
            JobKind::StartSession => {
                if let JobSubject::Connection(id) = job.subject {
                    self.start_session(id, SessionStart::parse(&job.payload)?)
                        .await?;
                }
            }
            JobKind::CloseMailbox => client.close_mailbox(job.mailbox).await?,
        }
        Ok(())
    }

    /// Starts a new session from fresh prekeys of the peer.
    async fn start_session(
        &self,
        connection: ConnectionId,
        start: SessionStart,
    ) -> Result<(), JobError> {
        let peer_mailbox = self
            .database
            .read(move |tx| {
                Ok(connections::load_secrets(tx, connection)?
                    .secrets
                    .peer_mailbox)
            })
            .await?;
        let Some(peer_mailbox) = peer_mailbox else {
            return Ok(());
        };
        let prekeys = self
            .relay
            .client
            .fetch_prekeys(&peer_mailbox.mailbox, &peer_mailbox.send_key)
            .await?;
        let identity = Arc::clone(&self.identity);
        let started = self.database.write(move |tx| {
            healing::start_session(tx, &identity, connection, start, prekeys.sealed.as_slice())
        });
        started.await?;
        Ok(())
    }
}

/// Returns whether the relay does not know the mailbox of the request.
fn is_mailbox_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem(problem) if problem.code == ErrorCode::MailboxUnknown)
}
