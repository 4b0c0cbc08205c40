//! The posting task: seals what may go, submits it, records the relay's answers; waits and says so while the relay is away.

use super::Daemon;
use crate::{fault::Fault, outbox, store::outbox as rows};
use sealpost_proto::wire::{SubmitRequest, SubmittedEnvelope};
use std::{sync::Arc, time::Duration};

/// While the relay is away the wait grows no longer than this: a person may be watching.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Posts until the end.
pub async fn run(daemon: Arc<Daemon>) {
    let mut failures = 0;
    while !daemon.shutdown.is_triggered() {
        match round(&daemon).await {
            Ok(Round::Idle) => {
                let due = daemon.read(|tx| rows::next_due(tx)).await.unwrap_or_default();
                daemon.rest(&daemon.wakes.post, due).await;
            }
            Ok(Round::Posted) => failures = 0,
            Ok(Round::Silent { reason }) => {
                silent(&daemon, &reason, failures).await;
                failures += 1;
            }
            Err(fault) => {
                tracing::error!(%fault, "posting failed; it is tried again");
                daemon.rest(&daemon.wakes.post, Some(daemon.now().plus(LONGEST_SILENCE))).await;
            }
        }
    }
}

enum Round {
    Idle,
    Posted,
    Silent { reason: String },
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
            daemon.commit(move |tx| outbox::record(tx, &answer.results)).await?;
            Ok(Round::Posted)
        }
        Err(error) => Ok(Round::Silent { reason: error.to_string() }),
    }
}

/// The relay did not answer: what waits says so, and goes again by itself, at once when the relay is heard of.
async fn silent(daemon: &Daemon, reason: &str, failures: u32) {
    daemon.lost(reason).await;
    let next_at = daemon.now().plus(super::backoff(failures).min(LONGEST_SILENCE));
    let words = format!("the relay does not answer: {reason}");
    let explained = daemon.commit(move |tx| outbox::unreachable(tx, &words, next_at)).await;
    if let Err(fault) = explained {
        tracing::error!(%fault, "a reason could not be stored");
    }
    daemon.rest(&daemon.wakes.post, Some(next_at)).await;
}
