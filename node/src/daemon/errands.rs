//! Carries out chores: the calls of the relay that a change made necessary.

use super::Daemon;
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
    SendKey,
    wire::{OpenMailbox, SealedPrekeys},
};
use sealpost_relay_client::ClientError;
use sealpost_sqlite::Damaged;
use std::sync::Arc;

/// Chores taken up at a time.
const ROUND: i64 = 32;

/// Carries out chores until the end.
pub async fn run(daemon: Arc<Daemon>) {
    while !daemon.shutdown.is_triggered() {
        match round(&daemon).await {
            Ok(0) => {
                let due = daemon
                    .read(|tx| relay_jobs::next_due(tx))
                    .await
                    .unwrap_or_default();
                daemon
                    .rest(&daemon.wakes.errands, due.filter(|due| *due > daemon.now()))
                    .await;
            }
            Ok(_) => {}
            Err(fault) => {
                tracing::error!(%fault, "the relay could not be told of a change; it is tried again");
                daemon
                    .rest(
                        &daemon.wakes.errands,
                        Some(daemon.now().plus(super::backoff(0))),
                    )
                    .await;
            }
        }
    }
}

/// Carries out what is due now; returns how many there were.
async fn round(daemon: &Daemon) -> Result<usize, Fault> {
    let due = daemon.read(|tx| relay_jobs::due(tx, ROUND)).await?;
    let count = due.len();
    for job in due {
        if daemon.shutdown.is_triggered() {
            return Ok(0);
        }
        let (id, attempt, kind) = (job.id, job.attempt, job.kind);
        match carry_out(daemon, job).await {
            Ok(()) => {
                daemon.reached().await;
                daemon.write(move |tx| relay_jobs::remove(tx, id)).await?;
            }
            Err(Unfinished::Relay(ClientError::Problem(problem)))
                if kind.is_ended_by(problem.code) =>
            {
                daemon.commit(move |tx| relay_jobs::remove(tx, id)).await?;
            }
            Err(Unfinished::Fault(fault)) => return Err(fault),
            Err(Unfinished::Relay(error)) if error.is_retryable() => {
                daemon.failed(&error).await;
                let at = daemon.now().plus(super::wait_after(&error, attempt));
                daemon
                    .commit(move |tx| relay_jobs::postpone(tx, id, at))
                    .await?;
            }
            Err(Unfinished::Relay(error)) => {
                tracing::error!(%error, "the relay refuses a change for good");
                let at = daemon.now().plus(sealpost_proto::limits::BACKOFF_MAX);
                daemon
                    .commit(move |tx| relay_jobs::postpone(tx, id, at))
                    .await?;
            }
        }
    }
    Ok(count)
}

enum Unfinished {
    Relay(ClientError),
    Fault(Fault),
}

impl From<ClientError> for Unfinished {
    fn from(error: ClientError) -> Self {
        Self::Relay(error)
    }
}

impl From<Fault> for Unfinished {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn carry_out(daemon: &Daemon, job: DueJob) -> Result<(), Unfinished> {
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

async fn rotate(daemon: &Daemon, connection: ConnectionId) -> Result<(), Unfinished> {
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
    let me = Arc::clone(&daemon.me);
    Ok(daemon
        .commit(move |tx| outbox::rotate(tx, &me, connection, base.sealed.as_slice()))
        .await?)
}
