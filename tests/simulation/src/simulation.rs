//! One run: its processes, its virtual time and its faults. Events are handled one at a time; each
//! one leads to commits and to new events.

use crate::{
    Outcome,
    fault::{FaultRates, Mutant},
    model::{Model, Violation, ensure},
    mutation::apply_mutant,
    node::{self, Depth, Node, Task},
    pace::{Pace, Span},
    random::Random,
    relay::Relay,
    schedule::{DAY, HOUR, MINUTE, SECOND, Schedule},
    users::{Action, DisruptionRates, Users},
    wire::{Request, Response},
};
use sealpost_node::{fault::Fault, store::Tx};
use sealpost_proto::{
    EnvelopeState, Origin, Timestamp, WebhookUrl,
    wire::{DeliveryBatch, DeliveryResults},
};
use sealpost_relay::simulated::SimulatedRelay;
use sealpost_relay_core::classify::Class;
use sealpost_signatures::AccountKey;
use std::{fmt::Write as _, mem, sync::Arc};

/// Start of virtual time.
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// Largest clock error in either direction; one jump may be twice as large.
const SKEW_MAX: u64 = 12 * HOUR;
/// Largest clock error in a run with large clock jumps.
const LARGE_SKEW_MAX: u64 = 10 * DAY;
/// Longest pause in a run with large clock jumps.
const PAUSE_MAX: u64 = 6 * DAY;
/// Pause after which every message without a receipt has expired.
const FINAL_PAUSE: u64 = 10 * DAY;

/// Event in virtual time.
pub(crate) enum Event {
    /// A task of a node runs.
    Task {
        node: usize,
        generation: u32,
        task: Task,
    },
    /// A request reaches the relay.
    Request {
        node: usize,
        generation: u32,
        request_id: u64,
        request: Request,
    },
    /// A response reaches a node.
    Response {
        node: usize,
        generation: u32,
        request_id: u64,
        response: Response,
    },
    /// A request of a node times out.
    Timeout {
        node: usize,
        generation: u32,
        request_id: u64,
    },
    /// The relay checks which webhooks to call.
    WebhooksDue { generation: u32 },
    /// The relay sweeps, periodically or once after a clock jump.
    Sweep { is_recurring: bool },
    /// A call reaches a node's webhook.
    Call {
        node: usize,
        generation: u32,
        number: u64,
        batch: DeliveryBatch,
    },
    /// A call ends at the relay, with results or a failure.
    CallFinished {
        generation: u32,
        number: u64,
        class: Class,
        results: DeliveryResults,
    },
    /// A node's process starts again.
    NodeStart { node: usize },
    /// The relay's process starts again.
    RelayStart,
    /// The clock of a node or of the relay jumps.
    ClockJump { node: Option<usize> },
    /// Time passes without any event.
    Pause { millis: u64 },
    /// A user acts.
    UserAction(Action),
    /// Fault injection ends.
    FaultsEnd,
    /// The simulation checks whether everything has settled.
    CheckSettled,
}

/// State of one run.
pub(crate) struct Simulation {
    pub(crate) seed: u64,
    pub(crate) span: Span,
    pub(crate) pace: Pace,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) random: Random,
    pub(crate) schedule: Schedule<Event>,
    pub(crate) rates: FaultRates,
    /// Whether clocks jump by days and long pauses occur in this run.
    pub(crate) has_large_jumps: bool,
    /// What the next commit's snapshot covers.
    pub(crate) depth: Depth,
    commits: u64,
    /// Total length of the pauses.
    paused_ms: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) relay: Relay,
    pub(crate) model: Model,
    pub(crate) users: Users,
    pub(crate) last_id: u64,
    log: String,
    crashes: usize,
    pub(crate) set_aside: u64,
    pub(crate) multi_envelope_calls: usize,
    pub(crate) partially_stored_calls: usize,
    is_over: bool,
    has_paused: bool,
}

impl Simulation {
    /// Creates the processes and schedules user actions and clock jumps.
    pub(crate) async fn new(seed: u64, span: Span, mutant: Option<Mutant>) -> anyhow::Result<Self> {
        let mut random = Random::from_seed(seed);
        let origin = Origin::parse("https://relay.example")?;
        let inner = SimulatedRelay::new(origin.clone())?;
        let mut nodes = Vec::new();
        let more_nodes = if span == Span::Year { 2 } else { 3 };
        for number in 0..random.index(more_nodes) + 2 {
            let node = Node::new(number, &origin, START, &mut random)?;
            let webhook = node
                .has_webhook
                .then(|| WebhookUrl::parse("https://node.example/"))
                .transpose()?;
            inner
                .register(
                    START,
                    node.account,
                    AccountKey::from_bytes(random.bytes()),
                    webhook,
                )
                .await?;
            nodes.push(node);
        }
        let has_large_jumps = span == Span::Hour && random.happens_per_mille(300);
        let model = Model::new(
            nodes.iter().map(Node::fingerprint).collect(),
            has_large_jumps,
        );
        let users = match span {
            Span::Hour => Users::plan(nodes.len(), &mut random),
            Span::Year => Users::plan_year(nodes.len(), &mut random),
        };
        let rates = FaultRates::generate(span, &mut random);
        let mut simulation = Self {
            seed,
            span,
            pace: Pace::new(span),
            mutant,
            random,
            schedule: Schedule::new(),
            rates,
            has_large_jumps,
            depth: Depth::Complete,
            commits: 0,
            paused_ms: 0,
            nodes,
            relay: Relay::new(inner),
            model,
            users,
            last_id: 0,
            log: String::new(),
            crashes: 0,
            set_aside: 0,
            multi_envelope_calls: 0,
            partially_stored_calls: 0,
            is_over: false,
            has_paused: false,
        };
        simulation.schedule_initial_events();
        Ok(simulation)
    }

    fn schedule_initial_events(&mut self) {
        let fault_phase = self.pace.fault_phase;
        self.log(&format!(
            "seed {}, {} nodes, {:?}",
            self.seed,
            self.nodes.len(),
            self.rates
        ));
        for node in 0..self.nodes.len() {
            self.wake_all(node);
            self.wake(node, Task::Maintenance, MINUTE);
            self.wake(node, Task::Pull, SECOND);
        }
        for node in (0..self.nodes.len()).map(Some).chain([None]) {
            for _ in 0..self.random.below(3) {
                let at = self.random.below(fault_phase);
                self.schedule.add(at, Event::ClockJump { node });
            }
        }
        if self.has_large_jumps {
            for millis in [self.random.below(PAUSE_MAX), self.random.below(PAUSE_MAX)] {
                let at = self.random.between(fault_phase / 3, fault_phase);
                self.schedule.add(at, Event::Pause { millis });
            }
        }
        let (nodes, random) = (self.nodes.len(), &mut self.random);
        let actions = match self.span {
            Span::Hour => {
                let rates = DisruptionRates::for_mutant(self.mutant);
                self.users
                    .generate_actions(fault_phase, nodes, rates, random)
            }
            Span::Year => self.users.generate_year(fault_phase, nodes, random),
        };
        for (at, action) in actions {
            self.schedule.add(at, Event::UserAction(action));
        }
        self.schedule
            .add(MINUTE, Event::Sweep { is_recurring: true });
        self.schedule.add(fault_phase, Event::FaultsEnd);
        self.schedule
            .add(fault_phase + self.pace.settle_min, Event::CheckSettled);
    }

    /// Runs until everything has settled or a guarantee is violated.
    pub(crate) async fn run(mut self) -> anyhow::Result<Outcome> {
        let result = self.run_events().await;
        let violation = result.err().map(|Violation(message)| message);
        if let Some(message) = &violation {
            self.log(&format!("VIOLATION: {message}"));
        }
        for node in &self.nodes {
            node.store.close().await;
        }
        Ok(Outcome {
            log: self.log,
            violation,
            sent: self.model.sent_count(),
            crashes: self.crashes,
            set_aside: self.set_aside,
            multi_envelope_calls: self.multi_envelope_calls,
            partially_stored_calls: self.partially_stored_calls,
            message_outcomes: self.model.message_outcomes(),
            connection_outcomes: self.model.connection_outcomes(),
        })
    }

    async fn run_events(&mut self) -> Result<(), Violation> {
        let mut event_count = 0;
        while !self.is_over {
            event_count += 1;
            ensure(event_count < self.pace.events_max, || {
                "the queues do not drain: too many events".to_owned()
            })?;
            let Some(next) = self.schedule.pop_next() else {
                return Err(Violation("no events are left".to_owned()));
            };
            self.handle_event(next).await?;
        }
        Ok(())
    }

    async fn handle_event(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Task {
                node,
                generation,
                task,
            } => self.run_task(node, generation, task).await,
            Event::Request {
                node,
                generation,
                request_id,
                request,
            } => {
                self.receive_request(node, generation, request_id, request)
                    .await
            }
            Event::Response {
                node,
                generation,
                request_id,
                response,
            } => {
                self.receive_response(node, generation, request_id, response)
                    .await
            }
            Event::Timeout {
                node,
                generation,
                request_id,
            } => self.handle_timeout(node, generation, request_id).await,
            Event::WebhooksDue { generation } => self.call_webhooks(generation).await,
            Event::Call {
                node,
                generation,
                number,
                batch,
            } => self.receive_call(node, generation, number, batch).await,
            Event::CallFinished {
                generation,
                number,
                class,
                results,
            } => self.finish_call(generation, number, class, results).await,
            Event::UserAction(action) => self.perform_action(action).await,
            Event::Sweep { is_recurring } => self.sweep(is_recurring).await,
            Event::NodeStart { node } => self.start_node(node),
            Event::RelayStart => self.start_relay().await,
            Event::ClockJump { node } => {
                self.jump_clock(node);
                Ok(())
            }
            Event::Pause { millis } => {
                self.pause_all(millis);
                Ok(())
            }
            Event::FaultsEnd => {
                self.end_faults();
                Ok(())
            }
            Event::CheckSettled => self.check_settled().await,
        }
    }

    /// Appends a line to the log.
    pub(crate) fn log(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.log, "{:>10} {line}", self.schedule.now());
    }

    /// Returns the time by the clock of a node.
    pub(crate) fn node_now(&self, node: usize) -> Timestamp {
        self.local_time(self.nodes[node].skew_ms)
    }

    /// Returns the time by the relay's clock.
    pub(crate) fn relay_now(&self) -> Timestamp {
        self.local_time(self.relay.skew_ms)
    }

    /// Returns how many envelopes per thousand are poisoned. `RelaySkipsPoison` only has an effect
    /// with many poison envelopes, and only once connections exist.
    pub(crate) fn poison_rate(&self) -> u64 {
        match self.mutant {
            Some(Mutant::RelaySkipsPoison) if self.schedule.now() < self.pace.fault_phase / 2 => 0,
            Some(Mutant::RelaySkipsPoison) if self.schedule.now() < self.pace.fault_phase => 300,
            _ => self.rates.poisoned,
        }
    }

    fn local_time(&self, skew_ms: i64) -> Timestamp {
        let true_ms = START.as_millis() + self.schedule.now() + self.paused_ms;
        Timestamp::from_millis(true_ms.saturating_add_signed(skew_ms))
    }

    fn jump_clock(&mut self, node: Option<usize>) {
        let max = if self.has_large_jumps && self.random.happens_per_mille(700) {
            LARGE_SKEW_MAX
        } else {
            SKEW_MAX
        };
        let skew = self.random.below(2 * max).cast_signed() - max.cast_signed();
        self.set_clock(node, skew);
    }

    fn set_clock(&mut self, node: Option<usize>, skew: i64) {
        match node {
            Some(node) => {
                self.nodes[node].skew_ms = skew;
                self.wake_all(node);
                self.wake(node, Task::Maintenance, MINUTE);
            }
            None => {
                self.relay.set_clock(self.schedule.now(), skew);
                self.wake_relay();
                self.schedule.add(
                    MINUTE,
                    Event::Sweep {
                        is_recurring: false,
                    },
                );
            }
        }
        self.log(&format!(
            "the clock of {} is now {skew} ms ahead",
            node.map_or("relay".to_owned(), |n| format!("node-{n}"))
        ));
    }

    /// Ends fault injection and corrects all clocks after large jumps.
    fn end_faults(&mut self) {
        self.rates = FaultRates::default();
        self.relay.poisoned.clear();
        self.log("faults end");
        if self.has_large_jumps {
            (0..self.nodes.len()).for_each(|node| self.set_clock(Some(node), 0));
            self.set_clock(None, 0);
        }
    }

    /// Lets time pass everywhere without any event.
    fn pause_all(&mut self, millis: u64) {
        self.paused_ms += millis;
        self.log(&format!("{} hours pass", millis / HOUR));
        (0..self.nodes.len()).for_each(|node| self.set_clock(Some(node), self.nodes[node].skew_ms));
        self.set_clock(None, self.relay.skew_ms);
    }

    /// Runs a job as one transaction of a node and passes a snapshot to the model. Returns `None`
    /// if the process crashed just before or just after the commit, so that the return value is
    /// lost.
    pub(crate) async fn commit<T, F>(&mut self, node: usize, job: F) -> Result<Option<T>, Violation>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let crashes = self.random.happens_per_mille(self.rates.crashed);
        let loses_commit = crashes && self.random.happens_per_mille(500);
        let (mutant, roll, last_seen) = (
            self.mutant,
            self.random.below(1_000),
            self.nodes[node].last_seen,
        );
        self.commits += 1;
        if self.span == Span::Hour || self.commits.is_multiple_of(50) {
            self.depth = Depth::Complete;
        }
        let depth = mem::replace(&mut self.depth, Depth::Recent);
        let work = move |tx: &mut Tx<'_>| {
            let value = job(tx)?;
            if loses_commit {
                return Err(Fault::failed(COMMIT_LOST));
            }
            if let Some(mutant) = mutant {
                apply_mutant(tx, mutant, last_seen, roll)?;
            }
            Ok((value, node::take_snapshot(tx, last_seen, depth)?))
        };
        let outcome = self.nodes[node]
            .store
            .write(self.node_now(node), work)
            .await;
        let value = match outcome {
            Ok((value, snapshot)) => {
                let last = snapshot.messages.last().map(|message| message.cursor);
                self.nodes[node].last_seen = last.or(last_seen);
                (self.nodes[node].pending_rows, self.nodes[node].unconfirmed) =
                    (snapshot.pending_rows, snapshot.unconfirmed);
                self.model.observe(node, snapshot, self.schedule.now())?;
                Some(value)
            }
            Err(Fault::Failed { reason }) if reason == COMMIT_LOST => None,
            Err(fault) => return Err(Violation(format!("node-{node}: {fault}"))),
        };
        if crashes {
            self.crash_node(node, if loses_commit { "before" } else { "after" });
            return Ok(None);
        }
        Ok(value)
    }

    /// Runs a job that only reads.
    pub(crate) async fn read<T, F>(&self, node: usize, job: F) -> Result<T, Violation>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let read = self.nodes[node].store.read(self.node_now(node), job).await;
        read.map_err(|fault| Violation(format!("node-{node}: {fault}")))
    }

    fn crash_node(&mut self, node: usize, when: &str) {
        self.crashes += 1;
        self.log(&format!("node-{node} crashes just {when} a commit"));
        self.nodes[node].stop();
        let pause = self.random.between(SECOND, MINUTE);
        self.schedule.add(pause, Event::NodeStart { node });
    }

    fn start_node(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].is_deleted || self.nodes[node].is_up {
            return Ok(());
        }
        self.log(&format!("node-{node} starts"));
        self.nodes[node].is_up = true;
        for task in Task::ALL {
            self.wake(node, task, 10);
        }
        Ok(())
    }

    /// Crashes the relay with the configured probability; returns whether it did.
    pub(crate) fn maybe_crash_relay(&mut self, when: &str) -> bool {
        if !self.random.happens_per_mille(self.rates.crashed / 2) {
            return false;
        }
        self.crashes += 1;
        self.log(&format!("the relay crashes just {when} a commit"));
        self.relay.stop();
        let pause = self.random.between(SECOND, MINUTE);
        self.schedule.add(pause, Event::RelayStart);
        true
    }

    async fn start_relay(&mut self) -> Result<(), Violation> {
        if self.relay.is_up {
            return Ok(());
        }
        self.log("the relay starts");
        self.relay.is_up = true;
        self.relay.inner.recover_leases(self.relay_now()).await?;
        self.wake_relay();
        Ok(())
    }

    async fn sweep(&mut self, is_recurring: bool) -> Result<(), Violation> {
        if self.relay.is_up {
            self.relay.sweep(self.relay_now(), self.mutant).await?;
            self.wake_relay();
        }
        if is_recurring {
            let pause = if self.schedule.now() < self.pace.fault_phase {
                self.pace.sweep_interval
            } else {
                HOUR
            };
            self.schedule.add(pause, Event::Sweep { is_recurring });
        }
        Ok(())
    }

    /// Checks whether everything has settled; checks again later unless the time is up.
    async fn check_settled(&mut self) -> Result<(), Violation> {
        let unconfirmed: u64 = self.nodes.iter().map(|node| node.unconfirmed).sum();
        let has_settled = self.has_settled().await?;
        if has_settled && unconfirmed == 0 {
            self.log("everything has settled");
            self.is_over = true;
            self.model
                .check_final_state(&self.users.planned_connections())?;
            return self.check_relay().await;
        }
        // No receipt will arrive for these messages: they fail at their expiry.
        if has_settled && self.model.has_disruptions() && !self.has_paused {
            self.has_paused = true;
            self.pause_all(FINAL_PAUSE);
        }
        if self.schedule.now() > self.pace.fault_phase + self.pace.settle_max {
            let mut open = Vec::new();
            for node in (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_deleted) {
                let rows = self.read(node, |tx| node::describe_pending(tx)).await?;
                open.extend(rows.into_iter().map(|row| format!("node-{node}: {row}")));
            }
            return Err(Violation(format!("the queues do not drain: {open:?}")));
        }
        self.schedule.add(HOUR, Event::CheckSettled);
        Ok(())
    }

    async fn has_settled(&self) -> Result<bool, Violation> {
        let is_open = |event: &Event| {
            matches!(event, Event::Request { request, .. } if !matches!(request, Request::Pull))
                || matches!(event, Event::Call { .. })
                || matches!(event, Event::UserAction(action) if !action.is_recurring())
        };
        if self
            .nodes
            .iter()
            .any(|node| node.pending_rows > 0 || !node.is_up && !node.is_deleted)
            || self.schedule.contains(is_open)
        {
            return Ok(false);
        }
        for node in &self.nodes {
            if self.relay.inner.has_waiting(node.account).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Checks that every accepted envelope has a final state and every closed mailbox is gone.
    async fn check_relay(&self) -> Result<(), Violation> {
        for (account, envelope) in &self.relay.accepted {
            let found = self
                .relay
                .inner
                .load_statuses(*account, vec![*envelope])
                .await?;
            let state = found.first().map(|status| status.state);
            // The relay forgets final states after some weeks.
            let is_final = match state {
                None => self.span == Span::Year,
                Some(state) => !matches!(state, EnvelopeState::Queued | EnvelopeState::Retrying),
            };
            ensure(is_final, || {
                format!("the relay accepted {envelope}, but its final state is {state:?}")
            })?;
        }
        for mailbox in &self.relay.closed {
            let is_closed = self.relay.inner.load_prekeys(*mailbox).await?.is_err();
            ensure(is_closed, || {
                format!("the relay reported {mailbox} as closed, but it is open")
            })?;
        }
        Ok(())
    }

    /// Returns the identity of a node, to be moved into a job.
    pub(crate) fn identity(&self, node: usize) -> Arc<sealpost_node::identity::NodeIdentity> {
        Arc::clone(&self.nodes[node].identity)
    }
}

/// Reason of the fault with which a job simulates a lost commit.
const COMMIT_LOST: &str = "the process crashed before the commit";
