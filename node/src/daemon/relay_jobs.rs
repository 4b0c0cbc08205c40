//! Runs relay jobs: the relay calls that a change made necessary.

use super::{
    Daemon,
    worker::{self, Next, Round},
};
use crate::{
    fault::Fault,
    outbox,
    store::{
        connections,
        relay_jobs::{self, DueJob, JobKind, JobSubject},
    },
};
use sealpost_node_core::model::ConnectionId;
use sealpost_proto::{
    SendKey, limits,
    wire::{OpenMailbox, SealedPrekeys},
};
use sealpost_relay_client::ClientError;
use sealpost_sqlite::Damaged;
use std::sync::Arc;

/// Maximum number of jobs in one round.
const ROUND_JOBS_MAX: i64 = 32;

/// Runs relay jobs until shutdown.
pub(super) async fn run(daemon: Arc<Daemon>) {
    let (wake, retry_delay) = (&daemon.notifier.relay_jobs, super::backoff(0));
    worker::run(&daemon, wake, "run relay jobs", retry_delay, RelayJobs).await;
}

struct RelayJobs;

impl Round for RelayJobs {
    async fn run(&mut self, daemon: &Daemon) -> Result<Next, Fault> {
        run_due_jobs(daemon).await
    }
}

async fn run_due_jobs(daemon: &Daemon) -> Result<Next, Fault> {
    let due = daemon
        .read(|tx| relay_jobs::due(tx, ROUND_JOBS_MAX))
        .await?;
    if due.is_empty() {
        let next = daemon.read(|tx| relay_jobs::next_due(tx)).await?;
        return Ok(Next::Idle(next.filter(|at| *at > daemon.now())));
    }
    for job in due {
        let (id, attempt, kind) = (job.id, job.attempt, job.kind);
        match run_job(daemon, job).await {
            Ok(()) => {
                daemon.reached().await;
                daemon.write(move |tx| relay_jobs::remove(tx, id)).await?;
            }
            Err(JobError::Relay(ClientError::Problem(problem)))
                if kind.is_ended_by(problem.code) =>
            {
                daemon.commit(move |tx| relay_jobs::remove(tx, id)).await?;
            }
            Err(JobError::Fault(fault)) => return Err(fault),
            Err(JobError::Relay(error)) => {
                let delay = if error.is_retryable() {
                    daemon.failed(&error).await;
                    super::wait_after(&error, attempt)
                } else {
                    tracing::error!(%error, "the relay refuses a change permanently");
                    limits::BACKOFF_MAX
                };
                let at = daemon.now().plus(delay);
                daemon
                    .commit(move |tx| relay_jobs::postpone(tx, id, at))
                    .await?;
            }
        }
    }
    Ok(Next::Continue)
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

async fn run_job(daemon: &Daemon, job: DueJob) -> Result<(), JobError> {
    let relay = &daemon.relay;
    match job.kind {
        JobKind::OpenMailbox => {
            let key = <[u8; 32]>::try_from(job.payload.as_slice())
                .map_err(|_| Fault::Damaged(Damaged::new("relay_jobs", "payload")))?;
            Ok(relay
                .open_mailbox(
                    job.mailbox,
                    &OpenMailbox {
                        send_keys: vec![SendKey::from_bytes(key)],
                    },
                )
                .await?)
        }
        JobKind::PublishPrekeys => {
            let sealed = SealedPrekeys {
                sealed: job.payload.to_vec().into(),
            };
            Ok(relay.publish_prekeys(job.mailbox, &sealed).await?)
        }
        JobKind::RotateSession => match job.subject {
            JobSubject::Connection(id) => rotate(daemon, id).await,
            JobSubject::Invite(_) => Ok(()),
        },
        JobKind::CloseMailbox => Ok(relay.close_mailbox(job.mailbox).await?),
    }
}

async fn rotate(daemon: &Daemon, connection: ConnectionId) -> Result<(), JobError> {
    let outbound = daemon
        .read(move |tx| Ok(connections::load_secrets(tx, connection)?.secrets.outbound))
        .await?;
    let Some(outbound) = outbound else {
        return Ok(());
    };
    let base = daemon
        .relay
        .prekeys(&outbound.mailbox, &outbound.send_key)
        .await?;
    let identity = Arc::clone(&daemon.identity);
    Ok(daemon
        .commit(move |tx| outbox::rotate(tx, &identity, connection, base.sealed.as_slice()))
        .await?)
}
