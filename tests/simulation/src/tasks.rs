//! The tasks of a node, as the daemon runs them: each one processes the rows that are due.

use crate::{
    fault::Mutant,
    model::Violation,
    mutation::load_each_due,
    network::millis_until,
    node::{Purpose, Task},
    schedule::SECOND,
    simulation::{Event, Simulation},
    wire::{Request, Response},
};
use sealpost_e2ee::invite::Invite;
use sealpost_node::{
    daemon::maintenance,
    fault::Fault,
    healing, outbox, pairing, refused_jobs,
    store::{
        Tx, outbox as rows,
        relay_jobs::{self, DueJob, JobKind, JobSubject, SessionStart},
    },
};
use sealpost_node_core::model::{InviteId, RefusalCode};
use sealpost_proto::{
    SendKey, Timestamp, backoff, limits, time,
    wire::{DeliveryBatch, SubmitRequest},
};

/// First pause after an empty pull; a long poll returns at once when something arrives.
const EMPTY_PULL_PAUSE: u64 = 25 * SECOND;

impl Simulation {
    /// Schedules a run of a task, unless an earlier one is scheduled.
    pub(crate) fn wake(&mut self, node: usize, task: Task, after: u64) {
        let at = self.schedule.now() + after;
        let process = &mut self.nodes[node];
        let planned = &mut process.memory.wake_times[task as usize];
        if process.is_up && planned.is_none_or(|planned| at < planned) {
            *planned = Some(at);
            self.schedule.add(
                after,
                Event::Task {
                    node,
                    generation: process.generation,
                    task,
                },
            );
        }
    }

    /// Wakes the tasks that may have work after a commit; some wake-ups are lost.
    pub(crate) fn wake_all(&mut self, node: usize) {
        for task in [Task::Submit, Task::RelayJobs] {
            if !self.random.happens_per_mille(self.rates.lost_wakes) {
                let after = self.random.between(1, 50);
                self.wake(node, task, after);
            }
        }
    }

    pub(crate) async fn run_task(
        &mut self,
        node: usize,
        generation: u32,
        task: Task,
    ) -> Result<(), Violation> {
        let process = &mut self.nodes[node];
        if generation != process.generation
            || process.memory.wake_times[task as usize] != Some(self.schedule.now())
        {
            return Ok(());
        }
        process.memory.wake_times[task as usize] = None;
        if process.memory.is_busy(task) {
            return Ok(());
        }
        match task {
            Task::Submit => self.submit(node).await,
            Task::RelayJobs => self.run_relay_job(node).await,
            Task::Pull => {
                self.send_request(node, &Request::Pull, Purpose::Pull);
                Ok(())
            }
            Task::Maintenance => self.run_maintenance(node).await,
        }
    }

    fn wake_when_due(&mut self, node: usize, task: Task, due: Option<Timestamp>) {
        let now = self.node_now(node);
        let max = self.pace.task_interval_max;
        let pause = due.map_or(max, |at| millis_until(now, at).clamp(20, max));
        self.wake(node, task, pause);
    }

    async fn submit(&mut self, node: usize) -> Result<(), Violation> {
        let identity = self.identity(node);
        let is_out_of_order = self.mutant == Some(Mutant::NodeRetriesOutOfOrder);
        let seal = move |tx: &mut Tx<'_>| {
            let envelopes = outbox::seal_batch(tx, &identity, limits::DELIVERY_BATCH_BYTES_MAX)?;
            if is_out_of_order {
                return load_each_due(tx);
            }
            Ok(envelopes)
        };
        let Some(envelopes) = self.commit(node, seal).await? else {
            return Ok(());
        };
        if envelopes.is_empty() {
            let due = self.read(node, |tx| rows::find_next_due(tx)).await?;
            self.wake_when_due(node, Task::Submit, due);
        } else {
            self.send_request(
                node,
                &Request::Submit(SubmitRequest { envelopes }),
                Purpose::Submit,
            );
        }
        Ok(())
    }

    async fn run_maintenance(&mut self, node: usize) -> Result<(), Violation> {
        let identity = self.identity(node);
        if self
            .commit(node, move |tx| {
                maintenance::maintain(tx, &identity).map(|_| ())
            })
            .await?
            .is_some()
        {
            self.wake_all(node);
            self.wake(node, Task::Maintenance, self.pace.maintenance_interval);
        }
        Ok(())
    }

    async fn run_relay_job(&mut self, node: usize) -> Result<(), Violation> {
        let due = self
            .read(node, |tx| relay_jobs::load_due(tx, 1))
            .await?
            .pop();
        let Some(due) = due else {
            let next = self.read(node, |tx| relay_jobs::find_next_due(tx)).await?;
            let now = self.node_now(node);
            self.wake_when_due(node, Task::RelayJobs, next.filter(|next| *next > now));
            return Ok(());
        };
        self.start_relay_job(node, due).await
    }

    async fn start_relay_job(&mut self, node: usize, due: DueJob) -> Result<(), Violation> {
        let DueJob {
            id,
            subject,
            kind,
            mailbox,
            payload,
            attempt,
        } = due;
        let request = match kind {
            JobKind::OpenMailbox => {
                let key = <[u8; 32]>::try_from(payload.as_slice())
                    .map_err(|_| Violation("a relay job is broken".to_owned()))?;
                Request::OpenMailbox(mailbox, SendKey::from_bytes(key))
            }
            JobKind::PublishPrekeys => Request::PublishPrekeys(mailbox, payload.to_vec()),
            JobKind::CloseMailbox => Request::CloseMailbox(mailbox),
            JobKind::StartSession => {
                let JobSubject::Connection(connection) = subject else {
                    return Err(Violation("an invite has no session".to_owned()));
                };
                let start = SessionStart::parse(&payload)
                    .map_err(|_| Violation("a relay job is broken".to_owned()))?;
                let purpose = Purpose::StartSession {
                    id,
                    attempt,
                    connection,
                    start,
                };
                self.send_request(node, &Request::Prekeys(mailbox), purpose);
                return Ok(());
            }
        };
        let purpose = Purpose::RelayJob {
            id,
            attempt,
            kind,
            subject,
        };
        self.send_request(node, &request, purpose);
        Ok(())
    }

    /// Records that the relay is reachable, and makes the postponed rows due.
    pub(crate) async fn record_relay_contact(&mut self, node: usize) -> Result<(), Violation> {
        if !std::mem::take(&mut self.nodes[node].memory.is_relay_unreachable) {
            return Ok(());
        }
        let made_due = self
            .commit(node, |tx| {
                rows::make_due_now(tx).and_then(|()| relay_jobs::make_due_now(tx))
            })
            .await?;
        if made_due.is_some() {
            self.wake_all(node);
        }
        Ok(())
    }

    pub(crate) async fn receive_response(
        &mut self,
        node: usize,
        generation: u32,
        request_id: u64,
        response: Response,
    ) -> Result<(), Violation> {
        if generation != self.nodes[node].generation {
            return Ok(());
        }
        let Some(purpose) = self.nodes[node].memory.pending.remove(&request_id) else {
            return Ok(());
        };
        self.record_relay_contact(node).await?;
        if generation != self.nodes[node].generation {
            return Ok(());
        }
        match (purpose, response) {
            (Purpose::Submit, Response::Submitted(submitted)) => {
                if self
                    .commit(node, move |tx| {
                        outbox::record_results(tx, &submitted.results)
                    })
                    .await?
                    .is_some()
                {
                    self.nodes[node].memory.unanswered_submits = 0;
                    self.wake(node, Task::Submit, 1);
                }
                Ok(())
            }
            (Purpose::Pull, Response::Pulled(batch)) => self.receive_pulled(node, batch).await,
            (Purpose::Acknowledge, Response::Done) => {
                self.wake(node, Task::Pull, 1);
                Ok(())
            }
            (
                Purpose::RelayJob {
                    id, kind, subject, ..
                },
                Response::Refused(code),
            ) if kind.is_ended_by(code) => self.end_refused_job(node, id, kind, subject).await,
            (Purpose::RelayJob { id, attempt, .. }, response) => {
                self.finish_relay_job(node, id, attempt, response).await
            }
            (
                Purpose::StartSession {
                    id,
                    connection,
                    start,
                    ..
                },
                Response::Prekeys(sealed),
            ) => {
                let identity = self.identity(node);
                let started = self
                    .commit(node, move |tx| {
                        healing::start_session(tx, &identity, connection, start, &sealed)
                    })
                    .await?;
                let Some(is_started) = started else {
                    return Ok(());
                };
                if is_started {
                    self.log(&format!("node-{node} starts a session: {:?}", start.reason));
                    let at = self.schedule.now();
                    self.model
                        .observe_init(node, connection, start.reason, at)?;
                }
                self.finish_relay_job(node, id, 0, Response::Done).await
            }
            (Purpose::StartSession { id, connection, .. }, Response::Refused(code))
                if JobKind::StartSession.is_ended_by(code) =>
            {
                let kind = JobKind::StartSession;
                self.end_refused_job(node, id, kind, connection.into())
                    .await
            }
            (Purpose::StartSession { id, attempt, .. }, response) => {
                self.finish_relay_job(node, id, attempt, response).await
            }
            (Purpose::Connect { pairing, invite }, Response::Prekeys(sealed)) => {
                self.connect(node, pairing, *invite, sealed).await
            }
            (Purpose::Connect { pairing, .. }, Response::Refused(_)) => {
                self.abandon_pairing(pairing);
                Ok(())
            }
            // The user sees the error and tries again.
            (Purpose::Connect { .. }, _) => Ok(()),
            (Purpose::Submit | Purpose::Pull | Purpose::Acknowledge, response) => Err(Violation(
                format!("the relay responds to node-{node} with {response}"),
            )),
        }
    }

    async fn receive_pulled(&mut self, node: usize, batch: DeliveryBatch) -> Result<(), Violation> {
        self.nodes[node].memory.pull_failures = 0;
        if batch.deliveries.is_empty() && batch.events.is_empty() {
            let (step, pause_max) = (self.pace.empty_pull_step, self.pace.empty_pull_pause_max);
            let memory = &mut self.nodes[node].memory;
            let pause = (EMPTY_PULL_PAUSE << (step * memory.empty_pulls).min(12)).min(pause_max);
            memory.empty_pulls += 1;
            let pause = if self.nodes[node].has_webhook {
                pause_max
            } else {
                pause
            };
            self.wake(node, Task::Pull, pause);
            return Ok(());
        }
        self.nodes[node].memory.empty_pulls = 0;
        if let Some(results) = self.ingest(node, batch).await? {
            self.send_request(node, &Request::Acknowledge(results), Purpose::Acknowledge);
        }
        Ok(())
    }

    async fn finish_relay_job(
        &mut self,
        node: usize,
        id: i64,
        attempt: u32,
        response: Response,
    ) -> Result<(), Violation> {
        let finished = match response {
            Response::Refused(code) => {
                let backoff = backoff::delay(attempt + 1, self.random.next_u64());
                let wait = if code.is_retryable() {
                    backoff
                } else {
                    limits::BACKOFF_MAX
                };
                let at = self.node_now(node).plus(wait);
                self.commit(node, move |tx| relay_jobs::postpone(tx, id, at))
                    .await?
            }
            _ => {
                self.commit(node, move |tx| relay_jobs::remove(tx, id))
                    .await?
            }
        };
        if finished.is_some() {
            self.wake_all(node);
            self.wake(node, Task::RelayJobs, 1);
        }
        Ok(())
    }

    async fn end_refused_job(
        &mut self,
        node: usize,
        id: i64,
        kind: JobKind,
        subject: JobSubject,
    ) -> Result<(), Violation> {
        let identity = self.identity(node);
        let end = move |tx: &mut Tx<'_>| refused_jobs::end(tx, &identity, id, kind, subject);
        if self.commit(node, end).await?.is_some() {
            self.wake(node, Task::RelayJobs, 1);
        }
        Ok(())
    }

    async fn connect(
        &mut self,
        node: usize,
        number: usize,
        invite: Invite,
        sealed: Vec<u8>,
    ) -> Result<(), Violation> {
        let identity = self.identity(node);
        let job =
            move |tx: &mut Tx<'_>| match pairing::connect(tx, &identity, &invite, &sealed, None) {
                Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::InviteExpired => {
                    Ok(None)
                }
                connected => connected.map(Some),
            };
        match self.commit(node, job).await? {
            Some(Some(id)) => {
                self.log(&format!("node-{node} requests {id}"));
                self.wake_all(node);
            }
            // A user whose clock is wrong tries again once it is right.
            Some(None) if self.has_large_jumps => {}
            Some(None) => self.abandon_pairing(number),
            None => {}
        }
        Ok(())
    }

    pub(crate) async fn handle_timeout(
        &mut self,
        node: usize,
        generation: u32,
        request_id: u64,
    ) -> Result<(), Violation> {
        if generation != self.nodes[node].generation {
            return Ok(());
        }
        let Some(purpose) = self.nodes[node].memory.pending.remove(&request_id) else {
            return Ok(());
        };
        self.log(&format!(
            "node-{node} gets no response to request {request_id}"
        ));
        self.nodes[node].memory.is_relay_unreachable = true;
        match purpose {
            Purpose::Submit => self.record_missing_response(node).await,
            Purpose::Pull | Purpose::Acknowledge => {
                let memory = &mut self.nodes[node].memory;
                let failures = memory.pull_failures;
                memory.pull_failures += 1;
                let max = self.pace.retry_pause_max;
                let pause = self.backoff_ms(failures).min(max);
                self.wake(node, Task::Pull, pause);
                Ok(())
            }
            Purpose::RelayJob { id, attempt, .. } | Purpose::StartSession { id, attempt, .. } => {
                let at = self
                    .node_now(node)
                    .plus(std::time::Duration::from_millis(self.backoff_ms(attempt)));
                if self
                    .commit(node, move |tx| relay_jobs::postpone(tx, id, at))
                    .await?
                    .is_some()
                {
                    self.wake(node, Task::RelayJobs, 1);
                }
                Ok(())
            }
            Purpose::Connect { .. } => Ok(()),
        }
    }

    async fn record_missing_response(&mut self, node: usize) -> Result<(), Violation> {
        let failures = self.nodes[node].memory.unanswered_submits;
        self.nodes[node].memory.unanswered_submits += 1;
        let pause = self.backoff_ms(failures).min(self.pace.retry_pause_max);
        let next_at = self
            .node_now(node)
            .plus(std::time::Duration::from_millis(pause));
        if self
            .commit(node, move |tx| {
                outbox::record_unreachable(tx, "no response", next_at)
            })
            .await?
            .is_some()
        {
            self.wake(node, Task::Submit, pause);
        }
        Ok(())
    }

    fn backoff_ms(&mut self, failures: u32) -> u64 {
        time::millis(backoff::delay(failures + 1, self.random.next_u64()))
    }

    /// Returns whether the mailbox and prekeys of an invite have been published at the relay.
    pub(crate) async fn is_mailbox_ready(
        &self,
        node: usize,
        subject: InviteId,
    ) -> Result<bool, Violation> {
        self.read(node, move |tx| {
            relay_jobs::is_mailbox_ready(tx, subject.into())
        })
        .await
    }
}
