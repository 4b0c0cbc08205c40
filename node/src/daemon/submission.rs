//! Submits messages: seals what can be sent, submits it and records the relay's responses. While the
//! relay is away, what waits says so.

use super::{
    Daemon,
    worker::{self, Next, Round},
};
use crate::{fault::Fault, outbox, store::outbox as rows};
use sealpost_proto::wire::{SubmitRequest, SubmittedEnvelope};
use sealpost_relay_client::ClientError;
use std::sync::Arc;

/// Submits messages until shutdown.
pub(super) async fn run(daemon: Arc<Daemon>) {
    let wake = &daemon.notifier.submission;
    let task = Submission { failures: 0 };
    worker::run(
        &daemon,
        wake,
        "submit messages",
        super::SILENCE_WAIT_MAX,
        task,
    )
    .await;
}

struct Submission {
    /// Failed requests in a row.
    failures: u32,
}

impl Round for Submission {
    async fn run(&mut self, daemon: &Daemon) -> Result<Next, Fault> {
        submit_due(daemon, &mut self.failures).await
    }
}

async fn submit_due(daemon: &Daemon, failures: &mut u32) -> Result<Next, Fault> {
    let identity = Arc::clone(&daemon.identity);
    let envelopes = daemon
        .commit(move |tx| outbox::seal_round(tx, &identity))
        .await?;
    if envelopes.is_empty() {
        let due = daemon.read(|tx| rows::next_due(tx)).await?;
        return Ok(Next::Idle(due));
    }
    match submit(daemon, envelopes).await? {
        None => {
            *failures = 0;
            Ok(Next::Continue)
        }
        Some(error) => {
            let next = explain_failure(daemon, &error, *failures).await;
            *failures += 1;
            Ok(next)
        }
    }
}

/// Submits envelopes and records the relay's responses. Returns the error if there was no response.
async fn submit(
    daemon: &Daemon,
    envelopes: Vec<SubmittedEnvelope>,
) -> Result<Option<ClientError>, Fault> {
    let request = SubmitRequest { envelopes };
    match daemon.relay.submit(&request).await {
        Ok(response) => {
            daemon.reached().await;
            daemon
                .commit(move |tx| outbox::record(tx, &response.results))
                .await?;
            Ok(None)
        }
        Err(error) => Ok(Some(error)),
    }
}

/// Notes why messages wait. They are submitted again after a while: at once when a relay that was
/// silent is reached, but not before the time that a relay asked for.
async fn explain_failure(daemon: &Daemon, error: &ClientError, failures: u32) -> Next {
    let reason = daemon.failed(error).await;
    let wait = super::wait_after(error, failures);
    let next_at = daemon.now().plus(wait);
    let explained = daemon
        .commit(move |tx| outbox::unreachable(tx, &reason, next_at))
        .await;
    if let Err(fault) = explained {
        tracing::error!(%fault, "cannot store why messages wait");
    }
    if error.retry_after().is_some() {
        Next::Pause(wait)
    } else {
        Next::Idle(Some(next_at))
    }
}
