//! The posting task: seals what may go, submits it, records the relay's answers; waits and says so while the relay is away.

use super::Daemon;
use crate::{fault::Fault, outbox, store::outbox as rows};
use sealpost_proto::wire::{SubmitRequest, SubmittedEnvelope};
use sealpost_relay_client::ClientError;
use std::sync::Arc;

/// Posts until the end.
pub async fn run(daemon: Arc<Daemon>) {
    let mut failures = 0;
    while !daemon.shutdown.is_triggered() {
        match round(&daemon).await {
            Ok(Round::Idle) => {
                let due = daemon
                    .read(|tx| rows::next_due(tx))
                    .await
                    .unwrap_or_default();
                daemon.rest(&daemon.wakes.post, due).await;
            }
            Ok(Round::Posted) => failures = 0,
            Ok(Round::Failed(error)) => {
                failed(&daemon, &error, failures).await;
                failures += 1;
            }
            Err(fault) => {
                tracing::error!(%fault, "posting failed; it is tried again");
                daemon
                    .rest(
                        &daemon.wakes.post,
                        Some(daemon.now().plus(super::LONGEST_SILENCE)),
                    )
                    .await;
            }
        }
    }
}

enum Round {
    Idle,
    Posted,
    Failed(ClientError),
}

async fn round(daemon: &Daemon) -> Result<Round, Fault> {
    let me = Arc::clone(&daemon.me);
    let envelopes = daemon.commit(move |tx| outbox::seal_round(tx, &me)).await?;
    if envelopes.is_empty() {
        return Ok(Round::Idle);
    }
    submit(daemon, envelopes).await
}

async fn submit(daemon: &Daemon, envelopes: Vec<SubmittedEnvelope>) -> Result<Round, Fault> {
    let request = SubmitRequest { envelopes };
    let answer = tokio::select! {
        answer = daemon.relay.submit(&request) => answer,
        () = daemon.shutdown.triggered() => return Ok(Round::Idle),
    };
    match answer {
        Ok(answer) => {
            daemon.reached().await;
            daemon
                .commit(move |tx| outbox::record(tx, &answer.results))
                .await?;
            Ok(Round::Posted)
        }
        Err(error) => Ok(Round::Failed(error)),
    }
}

/// The relay did not take it: what waits says so, and goes again by itself; at once when a relay that was silent is heard of,
/// and not before the time that a relay asked for.
async fn failed(daemon: &Daemon, error: &ClientError, failures: u32) {
    let words = daemon.failed(error).await;
    let wait = super::wait_after(error, failures);
    let next_at = daemon.now().plus(wait);
    let explained = daemon
        .commit(move |tx| outbox::unreachable(tx, &words, next_at))
        .await;
    if let Err(fault) = explained {
        tracing::error!(%fault, "a reason could not be stored");
    }
    if error.retry_after().is_some() {
        daemon.pause(wait).await;
    } else {
        daemon.rest(&daemon.wakes.post, Some(next_at)).await;
    }
}
