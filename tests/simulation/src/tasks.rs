//! A node's tasks, as the daemon runs them: each looks what its rows say is due, and carries it out.

use crate::{
    agenda::{HOUR, MINUTE, SECOND},
    model::Broken,
    network::until,
    node::{Purpose, Task},
    wire::{Answer, Request},
    world::{Happening, World},
};
use sealpost_e2ee::invite::Invite;
use sealpost_node::{
    api::problem::ProblemCode,
    daemon::tend,
    fault::Fault,
    outbox, pairing,
    store::{
        Tx,
        chores::{self, Chore, DueChore},
        outbox as rows,
    },
};
use sealpost_proto::{
    SendKey, Timestamp, backoff, limits, time,
    wire::{DeliveryBatch, SubmitRequest},
};

/// Tasks look again by themselves at least this often.
const LONGEST_REST: u64 = HOUR;
/// How often a node looks after its invites and prekeys.
const TEND_INTERVAL: u64 = 5 * HOUR;
/// What the post waits at most while the relay is silent.
const LONGEST_SILENCE: u64 = MINUTE;
/// The first pause of a node that pulled nothing; a long poll is answered at once when something comes.
const EMPTY_PULL: u64 = 25 * SECOND;
const EMPTY_PULL_MAX: u64 = 15 * MINUTE;

impl World {
    /// Has a task look again, unless it will do so earlier.
    pub(crate) fn wake(&mut self, node: usize, task: Task, after: u64) {
        let at = self.agenda.now() + after;
        let process = &mut self.nodes[node];
        let planned = &mut process.memory.wakes[task as usize];
        if process.is_up && planned.is_none_or(|planned| at < planned) {
            *planned = Some(at);
            self.agenda.enter(
                after,
                Happening::Task {
                    node,
                    life: process.life,
                    task,
                },
            );
        }
    }

    /// Wakes the tasks that may have something to do after a commit; now and then one does not hear it.
    pub(crate) fn wake_all(&mut self, node: usize) {
        for task in [Task::Post, Task::Errands] {
            if !self.chance.happens(self.rates.unheard) {
                let after = self.chance.between(1, 50);
                self.wake(node, task, after);
            }
        }
    }

    pub(crate) async fn run_task(
        &mut self,
        node: usize,
        life: u32,
        task: Task,
    ) -> Result<(), Broken> {
        let process = &mut self.nodes[node];
        if life != process.life || process.memory.wakes[task as usize] != Some(self.agenda.now()) {
            return Ok(());
        }
        process.memory.wakes[task as usize] = None;
        if process.memory.is_busy(task) {
            return Ok(());
        }
        match task {
            Task::Post => self.post(node).await,
            Task::Errands => self.run_errand(node).await,
            Task::Pull => {
                self.ask(node, &Request::Pull, Purpose::Pull);
                Ok(())
            }
            Task::Tend => self.tend(node).await,
        }
    }

    fn rest(&mut self, node: usize, task: Task, due: Option<Timestamp>) {
        let now = self.node_now(node);
        let pause = due.map_or(LONGEST_REST, |at| until(now, at).clamp(20, LONGEST_REST));
        self.wake(node, task, pause);
    }

    async fn post(&mut self, node: usize) -> Result<(), Broken> {
        let me = self.me(node);
        let Some(envelopes) = self
            .commit(node, move |tx| outbox::seal_round(tx, &me))
            .await?
        else {
            return Ok(());
        };
        if envelopes.is_empty() {
            let due = self.read(node, |tx| rows::next_due(tx)).await?;
            self.rest(node, Task::Post, due);
        } else {
            self.ask(
                node,
                &Request::Submit(SubmitRequest { envelopes }),
                Purpose::Post,
            );
        }
        Ok(())
    }

    async fn tend(&mut self, node: usize) -> Result<(), Broken> {
        let me = self.me(node);
        if self
            .commit(node, move |tx| tend::look_after(tx, &me).map(|_| ()))
            .await?
            .is_some()
        {
            self.wake_all(node);
            self.wake(node, Task::Tend, TEND_INTERVAL);
        }
        Ok(())
    }

    async fn run_errand(&mut self, node: usize) -> Result<(), Broken> {
        let due = self.read(node, |tx| chores::due(tx, 1)).await?.pop();
        let Some(due) = due else {
            let next = self.read(node, |tx| chores::next_due(tx)).await?;
            let now = self.node_now(node);
            self.rest(node, Task::Errands, next.filter(|next| *next > now));
            return Ok(());
        };
        self.carry_out(node, due).await
    }

    async fn carry_out(&mut self, node: usize, due: DueChore) -> Result<(), Broken> {
        let DueChore {
            id,
            subject,
            chore,
            mailbox,
            payload,
            attempt,
        } = due;
        let request = match chore {
            Chore::OpenMailbox => {
                let key = <[u8; 32]>::try_from(payload.as_slice())
                    .map_err(|_| Broken("a chore is broken".to_owned()))?;
                Request::OpenMailbox(mailbox, SendKey::from_bytes(key))
            }
            Chore::PublishPrekeys => Request::PublishPrekeys(mailbox, payload.to_vec()),
            Chore::CloseMailbox => Request::CloseMailbox(mailbox),
            Chore::RotateSession => {
                let purpose = Purpose::Rotate {
                    id,
                    attempt,
                    connection: subject,
                };
                self.ask(node, &Request::Prekeys(mailbox), purpose);
                return Ok(());
            }
        };
        self.ask(node, &request, Purpose::Errand { id, attempt });
        Ok(())
    }

    /// The relay answered, so it is there: what waited because it was not goes at once.
    pub(crate) async fn reached(&mut self, node: usize) -> Result<(), Broken> {
        if !std::mem::take(&mut self.nodes[node].memory.relay_lost) {
            return Ok(());
        }
        let hurried = self
            .commit(node, |tx| rows::hurry(tx).and_then(|()| chores::hurry(tx)))
            .await?;
        if hurried.is_some() {
            self.wake_all(node);
        }
        Ok(())
    }

    pub(crate) async fn take_answer(
        &mut self,
        node: usize,
        life: u32,
        ticket: u64,
        answer: Answer,
    ) -> Result<(), Broken> {
        if life != self.nodes[node].life {
            return Ok(());
        }
        let Some(purpose) = self.nodes[node].memory.waits.remove(&ticket) else {
            return Ok(());
        };
        self.reached(node).await?;
        if life != self.nodes[node].life {
            return Ok(());
        }
        match (purpose, answer) {
            (Purpose::Post, Answer::Submitted(response)) => {
                if self
                    .commit(node, move |tx| outbox::record(tx, &response.results))
                    .await?
                    .is_some()
                {
                    self.nodes[node].memory.silences = 0;
                    self.wake(node, Task::Post, 1);
                }
                Ok(())
            }
            (Purpose::Pull, Answer::Pulled(batch)) => self.take_pulled(node, batch).await,
            (Purpose::Acknowledge, Answer::Done) => {
                self.wake(node, Task::Pull, 1);
                Ok(())
            }
            (Purpose::Errand { id, attempt }, answer) => {
                self.end_errand(node, id, attempt, answer).await
            }
            (Purpose::Rotate { id, connection, .. }, Answer::Prekeys(sealed)) => {
                let me = self.me(node);
                let rotated = self
                    .commit(node, move |tx| {
                        outbox::rotate(tx, &me, &connection, &sealed)
                    })
                    .await?;
                if rotated.is_none() {
                    return Ok(());
                }
                self.end_errand(node, id, 0, Answer::Done).await
            }
            (Purpose::Rotate { id, .. }, Answer::Refused(code))
                if Chore::RotateSession.is_over(code) =>
            {
                self.end_errand(node, id, 0, Answer::Done).await
            }
            (Purpose::Rotate { id, attempt, .. }, answer) => {
                self.end_errand(node, id, attempt, answer).await
            }
            (Purpose::Connect { pairing, invite }, Answer::Prekeys(sealed)) => {
                self.connect(node, pairing, *invite, sealed).await
            }
            (Purpose::Connect { pairing, .. }, Answer::Refused(_)) => {
                self.give_up(pairing);
                Ok(())
            }
            // A person sees why and tries again.
            (Purpose::Connect { .. }, _) => Ok(()),
            (Purpose::Post | Purpose::Pull | Purpose::Acknowledge, answer) => Err(Broken(format!(
                "the relay answers node-{node} with {answer}"
            ))),
        }
    }

    async fn take_pulled(&mut self, node: usize, batch: DeliveryBatch) -> Result<(), Broken> {
        self.nodes[node].memory.pull_failures = 0;
        if batch.deliveries.is_empty() && batch.events.is_empty() {
            let memory = &mut self.nodes[node].memory;
            let pause = (EMPTY_PULL << memory.empty_pulls.min(6)).min(EMPTY_PULL_MAX);
            memory.empty_pulls += 1;
            let pause = if self.nodes[node].has_webhook {
                EMPTY_PULL_MAX
            } else {
                pause
            };
            self.wake(node, Task::Pull, pause);
            return Ok(());
        }
        self.nodes[node].memory.empty_pulls = 0;
        if let Some(results) = self.take_in(node, batch).await? {
            self.ask(node, &Request::Acknowledge(results), Purpose::Acknowledge);
        }
        Ok(())
    }

    async fn end_errand(
        &mut self,
        node: usize,
        id: i64,
        attempt: u32,
        answer: Answer,
    ) -> Result<(), Broken> {
        let ended = match answer {
            Answer::Refused(code) => {
                let own = backoff::delay(attempt + 1, self.chance.number());
                let wait = if code.is_retryable() {
                    own
                } else {
                    limits::BACKOFF_MAX
                };
                let at = self.node_now(node).plus(wait);
                self.commit(node, move |tx| chores::postpone(tx, id, at))
                    .await?
            }
            _ => self.commit(node, move |tx| chores::finish(tx, id)).await?,
        };
        if ended.is_some() {
            self.wake_all(node);
            self.wake(node, Task::Errands, 1);
        }
        Ok(())
    }

    async fn connect(
        &mut self,
        node: usize,
        number: usize,
        invite: Invite,
        sealed: Vec<u8>,
    ) -> Result<(), Broken> {
        let me = self.me(node);
        let job = move |tx: &mut Tx<'_>| match pairing::connect(tx, &me, &invite, &sealed, None) {
            Err(Fault::Refused(problem)) if problem.code == ProblemCode::InviteExpired => Ok(None),
            connected => connected.map(Some),
        };
        match self.commit(node, job).await? {
            Some(Some(name)) => {
                self.note(&format!("node-{node} asks for {name}"));
                self.wake_all(node);
            }
            // With a clock that is off somebody tries again when it is right.
            Some(None) if self.weeks => {}
            Some(None) => self.give_up(number),
            None => {}
        }
        Ok(())
    }

    pub(crate) async fn time_out(
        &mut self,
        node: usize,
        life: u32,
        ticket: u64,
    ) -> Result<(), Broken> {
        if life != self.nodes[node].life {
            return Ok(());
        }
        let Some(purpose) = self.nodes[node].memory.waits.remove(&ticket) else {
            return Ok(());
        };
        self.note(&format!("node-{node} has no answer to {ticket}"));
        self.nodes[node].memory.relay_lost = true;
        match purpose {
            Purpose::Post => self.note_silence(node).await,
            Purpose::Pull | Purpose::Acknowledge => {
                let memory = &mut self.nodes[node].memory;
                let failures = memory.pull_failures;
                memory.pull_failures += 1;
                let pause = self.backoff(failures).min(LONGEST_SILENCE);
                self.wake(node, Task::Pull, pause);
                Ok(())
            }
            Purpose::Errand { id, attempt } | Purpose::Rotate { id, attempt, .. } => {
                let at = self
                    .node_now(node)
                    .plus(std::time::Duration::from_millis(self.backoff(attempt)));
                if self
                    .commit(node, move |tx| chores::postpone(tx, id, at))
                    .await?
                    .is_some()
                {
                    self.wake(node, Task::Errands, 1);
                }
                Ok(())
            }
            Purpose::Connect { .. } => Ok(()),
        }
    }

    async fn note_silence(&mut self, node: usize) -> Result<(), Broken> {
        let failures = self.nodes[node].memory.silences;
        self.nodes[node].memory.silences += 1;
        let pause = self.backoff(failures).min(LONGEST_SILENCE);
        let next_at = self
            .node_now(node)
            .plus(std::time::Duration::from_millis(pause));
        if self
            .commit(node, move |tx| {
                outbox::unreachable(tx, "no answer", next_at)
            })
            .await?
            .is_some()
        {
            self.wake(node, Task::Post, pause);
        }
        Ok(())
    }

    fn backoff(&mut self, failures: u32) -> u64 {
        time::millis(backoff::delay(failures + 1, self.chance.number()))
    }

    /// The secrets' own name of a peer's invite, once this node made it and the relay was told.
    pub(crate) async fn is_published(&self, node: usize, subject: String) -> Result<bool, Broken> {
        self.read(node, move |tx| chores::is_ready(tx, &subject))
            .await
    }
}
