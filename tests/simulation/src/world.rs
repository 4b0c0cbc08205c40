//! The world of one run: its processes, its time, its faults. Entries of the agenda happen one after the other; each leads
//! to commits and to new entries.

use crate::{
    Outcome,
    agenda::{Agenda, DAY, HOUR, MINUTE, SECOND},
    chance::Chance,
    fault::{Mutant, Rates},
    model::{Broken, Model, ensure},
    node::{self, Node, Task},
    people::{Act, People},
    relay::Relay,
    spoil::spoil,
    wire::{Answer, Request},
};
use sealpost_node::{fault::Fault, store::Tx};
use sealpost_proto::{
    EnvelopeState, Origin, Timestamp,
    wire::{DeliveryBatch, DeliveryResults},
};
use sealpost_relay::bare::BareRelay;
use sealpost_relay_core::classify::Class;
use sealpost_signatures::AccountKey;
use std::{fmt::Write as _, sync::Arc};

/// When virtual time begins.
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// How long things go wrong.
const STORM: u64 = HOUR;
/// How long everything may take after that. A clock that was put back by a day makes things wait for a day.
const CALM: u64 = 3 * DAY;
/// How much may happen in one run; many times what is usual.
const HAPPENINGS_MAX: u32 = 20_000;
/// How far a clock may be off to either side; it jumps by up to twice as much.
const SKEW_MAX: u64 = 12 * HOUR;

/// Something that happens.
pub(crate) enum Happening {
    /// A task of a node looks at what is due.
    Task { node: usize, life: u32, task: Task },
    /// A request reaches the relay.
    Request { node: usize, life: u32, ticket: u64, request: Request },
    /// An answer reaches a node.
    Answer { node: usize, life: u32, ticket: u64, answer: Answer },
    /// A node has waited long enough.
    Timeout { node: usize, life: u32, ticket: u64 },
    /// The relay looks which webhooks are to be called.
    Look { life: u32 },
    /// The relay sweeps.
    Sweep,
    /// A call reaches a node's webhook.
    Call { node: usize, life: u32, number: u64, batch: DeliveryBatch },
    /// A call ends for the relay, with results or with a failure.
    CallEnds { life: u32, number: u64, class: Class, results: DeliveryResults },
    /// A node's process starts again.
    NodeStarts { node: usize },
    /// The relay's process starts again.
    RelayStarts,
    /// A clock jumps: a node's or the relay's.
    ClockJumps { node: Option<usize> },
    /// Somebody does something.
    Person(Act),
    /// Faults stop.
    Calm,
    /// Somebody looks whether all is done.
    Inspect,
}

/// One run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) chance: Chance,
    pub(crate) agenda: Agenda<Happening>,
    pub(crate) rates: Rates,
    pub(crate) nodes: Vec<Node>,
    pub(crate) relay: Relay,
    pub(crate) model: Model,
    pub(crate) people: People,
    pub(crate) tickets: u64,
    log: String,
    crashes: usize,
    pub(crate) set_aside: u64,
    is_over: bool,
}

impl World {
    /// Makes the processes and enters what people will do and where clocks will jump.
    pub(crate) async fn new(seed: u64, mutant: Option<Mutant>) -> anyhow::Result<Self> {
        let mut chance = Chance::from_seed(seed);
        let origin = Origin::parse("https://relay.example")?;
        let bare = BareRelay::open(origin.clone())?;
        let mut nodes = Vec::new();
        for number in 0..chance.index(3) + 2 {
            let node = Node::new(number, &origin, START, &mut chance)?;
            let webhook = node.has_webhook.then(|| "https://node.example/".to_owned());
            bare.register(START, node.account, AccountKey::from_bytes(chance.bytes()), webhook).await?;
            nodes.push(node);
        }
        let model = Model::new(nodes.iter().map(Node::fingerprint).collect());
        let people = People::plan(nodes.len(), &mut chance);
        let rates = Rates {
            lost: chance.below(120),
            repeated: chance.below(80),
            late: chance.below(60),
            crashed: chance.below(40),
            stumbles: chance.below(400).saturating_sub(200),
            poisoned: chance.below(250).saturating_sub(50),
            unheard: chance.below(200),
        };
        let mut world = Self {
            seed,
            mutant,
            chance,
            agenda: Agenda::new(),
            rates,
            nodes,
            relay: Relay::new(bare),
            model,
            people,
            tickets: 0,
            log: String::new(),
            crashes: 0,
            set_aside: 0,
            is_over: false,
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        self.note(&format!("seed {}, {} nodes, {:?}", self.seed, self.nodes.len(), self.rates));
        for node in 0..self.nodes.len() {
            self.wake_all(node);
            self.wake(node, Task::Tend, MINUTE);
            self.wake(node, Task::Pull, SECOND);
        }
        for node in (0..self.nodes.len()).map(Some).chain([None]) {
            for _ in 0..self.chance.below(3) {
                let at = self.chance.below(STORM);
                self.agenda.enter(at, Happening::ClockJumps { node });
            }
        }
        for (at, act) in self.people.acts(STORM, self.nodes.len(), &mut self.chance) {
            self.agenda.enter(at, Happening::Person(act));
        }
        self.agenda.enter(MINUTE, Happening::Sweep);
        self.agenda.enter(STORM, Happening::Calm);
        self.agenda.enter(STORM + HOUR, Happening::Inspect);
    }

    /// Plays to the end.
    pub(crate) async fn play(mut self) -> anyhow::Result<Outcome> {
        let played = self.play_on().await;
        let broken = played.err().map(|Broken(words)| words);
        if let Some(words) = &broken {
            self.note(&format!("BROKEN: {words}"));
        }
        for node in &self.nodes {
            node.store.close().await;
        }
        Ok(Outcome {
            log: self.log,
            broken,
            sent: self.model.sent_count(),
            crashes: self.crashes,
            set_aside: self.set_aside,
        })
    }

    async fn play_on(&mut self) -> Result<(), Broken> {
        let mut happened = 0;
        while !self.is_over {
            happened += 1;
            ensure(happened < HAPPENINGS_MAX, || "queues do not drain: there is no end of it".to_owned())?;
            let Some(next) = self.agenda.next() else { return Err(Broken("nothing happens any more".to_owned())) };
            self.happen(next).await?;
        }
        Ok(())
    }

    async fn happen(&mut self, happening: Happening) -> Result<(), Broken> {
        match happening {
            Happening::Task { node, life, task } => self.run_task(node, life, task).await,
            Happening::Request { node, life, ticket, request } => self.take_request(node, life, ticket, request).await,
            Happening::Answer { node, life, ticket, answer } => self.take_answer(node, life, ticket, answer).await,
            Happening::Timeout { node, life, ticket } => self.time_out(node, life, ticket).await,
            Happening::Look { life } => self.call_webhooks(life).await,
            Happening::Call { node, life, number, batch } => self.take_call(node, life, number, batch).await,
            Happening::CallEnds { life, number, class, results } => self.end_call(life, number, class, results).await,
            Happening::Person(act) => self.act(act).await,
            Happening::Sweep => self.sweep().await,
            Happening::NodeStarts { node } => self.start_node(node),
            Happening::RelayStarts => self.start_relay().await,
            Happening::ClockJumps { node } => {
                self.jump(node);
                Ok(())
            }
            Happening::Calm => {
                self.rates = Rates::default();
                self.relay.poisoned.clear();
                self.note("faults stop");
                Ok(())
            }
            Happening::Inspect => self.inspect().await,
        }
    }

    /// Writes a line into the log.
    pub(crate) fn note(&mut self, words: &str) {
        // A string takes all that is written to it.
        let _ = writeln!(self.log, "{:>10} {words}", self.agenda.now());
    }

    /// The time by the clock of a node.
    pub(crate) fn node_now(&self, node: usize) -> Timestamp {
        self.local(self.nodes[node].skew_ms)
    }

    /// The time by the relay's clock.
    pub(crate) fn relay_now(&self) -> Timestamp {
        self.local(self.relay.skew_ms)
    }

    /// How often an envelope is poisoned. What skips trouble shows only where there is some, once connections stand.
    pub(crate) fn poison(&self) -> u64 {
        match self.mutant {
            Some(Mutant::RelaySkipsTrouble) if self.agenda.now() < STORM / 2 => 0,
            Some(Mutant::RelaySkipsTrouble) if self.agenda.now() < STORM => 300,
            _ => self.rates.poisoned,
        }
    }

    fn local(&self, skew_ms: i64) -> Timestamp {
        let true_ms = START.as_millis() + self.agenda.now();
        Timestamp::from_millis(true_ms.saturating_add_signed(skew_ms))
    }

    fn jump(&mut self, node: Option<usize>) {
        let skew = self.chance.below(2 * SKEW_MAX).cast_signed() - SKEW_MAX.cast_signed();
        match node {
            Some(node) => {
                self.nodes[node].skew_ms = skew;
                self.wake_all(node);
            }
            None => {
                self.relay.jump(self.agenda.now(), skew);
                self.wake_relay();
            }
        }
        self.note(&format!(
            "the clock of {} is off by {skew} ms",
            node.map_or("relay".to_owned(), |n| format!("node-{n}"))
        ));
    }

    /// Runs a job as one transaction of a node and shows the model what it left behind. None when the process ended just
    /// before the commit or just after: then nobody learns what the job returned.
    pub(crate) async fn commit<T, F>(&mut self, node: usize, job: F) -> Result<Option<T>, Broken>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let crashes = self.chance.happens(self.rates.crashed);
        let loses = crashes && self.chance.happens(500);
        let (mutant, roll, fresh) = (self.mutant, self.chance.below(1_000), self.nodes[node].seen_position);
        let work = move |tx: &mut Tx<'_>| {
            let value = job(tx)?;
            if loses {
                return Err(Fault::failed(LOST));
            }
            if let Some(mutant) = mutant {
                spoil(tx, mutant, fresh, roll)?;
            }
            Ok((value, node::look(tx, fresh)?))
        };
        let outcome = self.nodes[node].store.write(self.node_now(node), work).await;
        let value = match outcome {
            Ok((value, sight)) => {
                let last = sight.messages.last().map(|message| message.position);
                self.nodes[node].seen_position = last.unwrap_or(fresh);
                self.nodes[node].open_rows = sight.open_rows;
                self.model.see(node, sight)?;
                Some(value)
            }
            Err(Fault::Failed { reason }) if reason == LOST => None,
            Err(fault) => return Err(Broken(format!("node-{node}: {fault}"))),
        };
        if crashes {
            self.crash_node(node, if loses { "before" } else { "after" });
            return Ok(None);
        }
        Ok(value)
    }

    /// Runs a job that only reads.
    pub(crate) async fn read<T, F>(&self, node: usize, job: F) -> Result<T, Broken>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let read = self.nodes[node].store.read(self.node_now(node), job).await;
        read.map_err(|fault| Broken(format!("node-{node}: {fault}")))
    }

    fn crash_node(&mut self, node: usize, when: &str) {
        self.crashes += 1;
        self.note(&format!("node-{node} ends just {when} a commit"));
        let process = &mut self.nodes[node];
        process.life += 1;
        process.is_up = false;
        process.memory = node::Memory::default();
        let pause = self.chance.between(SECOND, MINUTE);
        self.agenda.enter(pause, Happening::NodeStarts { node });
    }

    fn start_node(&mut self, node: usize) -> Result<(), Broken> {
        self.note(&format!("node-{node} starts"));
        self.nodes[node].is_up = true;
        for task in Task::ALL {
            self.wake(node, task, 10);
        }
        Ok(())
    }

    /// Whether the relay's process ends here, at the edge of a commit.
    pub(crate) fn relay_crashes(&mut self, when: &str) -> bool {
        if !self.chance.happens(self.rates.crashed / 2) {
            return false;
        }
        self.crashes += 1;
        self.note(&format!("the relay ends just {when} a commit"));
        self.relay.end();
        let pause = self.chance.between(SECOND, MINUTE);
        self.agenda.enter(pause, Happening::RelayStarts);
        true
    }

    async fn start_relay(&mut self) -> Result<(), Broken> {
        self.note("the relay starts");
        self.relay.is_up = true;
        self.relay.bare.restarted(self.relay_now()).await?;
        self.wake_relay();
        Ok(())
    }

    async fn sweep(&mut self) -> Result<(), Broken> {
        if self.relay.is_up {
            self.relay.bare.sweep(self.relay_now()).await?;
            self.wake_relay();
        }
        self.agenda.enter(HOUR, Happening::Sweep);
        Ok(())
    }

    /// Whether all is done; looks again later unless it took too long.
    async fn inspect(&mut self) -> Result<(), Broken> {
        if self.has_settled().await? {
            self.note("all is done");
            self.is_over = true;
            let pairings = self.people.pairings();
            self.model.check_end(&pairings)?;
            return self.check_relay().await;
        }
        if self.agenda.now() > STORM + CALM {
            let open: Vec<_> = self.nodes.iter().map(|node| node.open_rows).collect();
            return Err(Broken(format!("queues do not drain: rows that wait at the nodes: {open:?}")));
        }
        self.agenda.enter(HOUR, Happening::Inspect);
        Ok(())
    }

    async fn has_settled(&self) -> Result<bool, Broken> {
        let is_open = |happening: &Happening| {
            matches!(happening, Happening::Request { request, .. } if !matches!(request, Request::Pull))
                || matches!(happening, Happening::Call { .. })
                || matches!(happening, Happening::Person(act) if !act.is_a_habit())
        };
        if self.nodes.iter().any(|node| node.open_rows > 0 || !node.is_up) || self.agenda.any(is_open) {
            return Ok(false);
        }
        for node in &self.nodes {
            if self.relay.bare.has_waiting(node.account).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything that the relay accepted has ended in one way.
    async fn check_relay(&self) -> Result<(), Broken> {
        for (account, envelope) in &self.relay.accepted {
            let found = self.relay.bare.statuses(*account, vec![*envelope]).await?;
            let state = found.first().map(|status| status.state);
            let has_ended = !matches!(state, None | Some(EnvelopeState::Queued | EnvelopeState::Retrying));
            ensure(has_ended, || format!("the relay accepted {envelope} and has it as {state:?}"))?;
        }
        Ok(())
    }

    /// A node's clone of who it is, to be moved into a job.
    pub(crate) fn me(&self, node: usize) -> Arc<sealpost_node::me::Me> {
        Arc::clone(&self.nodes[node].me)
    }
}

/// How a job says that its commit was lost.
const LOST: &str = "the process ended before the commit";
