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
pub(crate) const STORM: u64 = HOUR;
/// How long everything may take after that. A clock that was put back by a day makes things wait for a day.
const CALM: u64 = 3 * DAY;
/// How much may happen in one run; many times what is usual.
const HAPPENINGS_MAX: u32 = 20_000;
/// How far a clock may be off to either side; it jumps by up to twice as much.
const SKEW_MAX: u64 = 12 * HOUR;

/// How far it may be off in a run where clocks jump by weeks.
const SKEW_WEEKS: u64 = 10 * DAY;
/// How long everybody rests at most in such a run.
const REST_MAX: u64 = 6 * DAY;
/// How long after the end of a storm the last lives end for which nobody can say how it went.
const LAST_REST: u64 = 10 * DAY;

/// Something that happens.
pub(crate) enum Happening {
    /// A task of a node looks at what is due.
    Task { node: usize, life: u32, task: Task },
    /// A request reaches the relay.
    Request {
        node: usize,
        life: u32,
        ticket: u64,
        request: Request,
    },
    /// An answer reaches a node.
    Answer {
        node: usize,
        life: u32,
        ticket: u64,
        answer: Answer,
    },
    /// A node has waited long enough.
    Timeout { node: usize, life: u32, ticket: u64 },
    /// The relay looks which webhooks are to be called.
    Look { life: u32 },
    /// The relay sweeps, as it does again and again, or because something happened.
    Sweep { is_habit: bool },
    /// A call reaches a node's webhook.
    Call {
        node: usize,
        life: u32,
        number: u64,
        batch: DeliveryBatch,
    },
    /// A call ends for the relay, with results or with a failure.
    CallEnds {
        life: u32,
        number: u64,
        class: Class,
        results: DeliveryResults,
    },
    /// A node's process starts again.
    NodeStarts { node: usize },
    /// The relay's process starts again.
    RelayStarts,
    /// A clock jumps: a node's or the relay's.
    ClockJumps { node: Option<usize> },
    /// Nothing happens anywhere for so long.
    Rest { time: u64 },
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
    /// Whether clocks jump by weeks in this run, and weeks pass.
    pub(crate) weeks: bool,
    /// Time that passed while nothing happened.
    rested: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) relay: Relay,
    pub(crate) model: Model,
    pub(crate) people: People,
    pub(crate) tickets: u64,
    log: String,
    crashes: usize,
    pub(crate) set_aside: u64,
    pub(crate) several: usize,
    pub(crate) mixed: usize,
    is_over: bool,
    has_rested: bool,
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
            bare.register(
                START,
                node.account,
                AccountKey::from_bytes(chance.bytes()),
                webhook,
            )
            .await?;
            nodes.push(node);
        }
        let weeks = chance.happens(300);
        let model = Model::new(nodes.iter().map(Node::fingerprint).collect(), weeks);
        let people = People::plan(nodes.len(), &mut chance);
        let rates = Rates {
            lost: chance.below(120),
            repeated: chance.below(80),
            late: chance.below(60),
            crashed: chance.below(40),
            stumbles: chance.below(400).saturating_sub(200),
            poisoned: chance.below(300).saturating_sub(50),
            unheard: chance.below(200),
            put_off: chance.below(600),
        };
        let mut world = Self {
            seed,
            mutant,
            chance,
            agenda: Agenda::new(),
            rates,
            weeks,
            rested: 0,
            nodes,
            relay: Relay::new(bare),
            model,
            people,
            tickets: 0,
            log: String::new(),
            crashes: 0,
            set_aside: 0,
            several: 0,
            mixed: 0,
            is_over: false,
            has_rested: false,
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        self.note(&format!(
            "seed {}, {} nodes, {:?}",
            self.seed,
            self.nodes.len(),
            self.rates
        ));
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
        if self.weeks {
            for time in [self.chance.below(REST_MAX), self.chance.below(REST_MAX)] {
                let at = self.chance.between(STORM / 3, STORM);
                self.agenda.enter(at, Happening::Rest { time });
            }
        }
        for (at, act) in self.people.acts(STORM, self.nodes.len(), &mut self.chance) {
            self.agenda.enter(at, Happening::Person(act));
        }
        self.agenda
            .enter(MINUTE, Happening::Sweep { is_habit: true });
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
            several: self.several,
            mixed: self.mixed,
            endings: self.model.endings(),
            joinings: self.model.joinings(),
        })
    }

    async fn play_on(&mut self) -> Result<(), Broken> {
        let mut happened = 0;
        while !self.is_over {
            happened += 1;
            ensure(happened < HAPPENINGS_MAX, || {
                "queues do not drain: there is no end of it".to_owned()
            })?;
            let Some(next) = self.agenda.next() else {
                return Err(Broken("nothing happens any more".to_owned()));
            };
            self.happen(next).await?;
        }
        Ok(())
    }

    async fn happen(&mut self, happening: Happening) -> Result<(), Broken> {
        match happening {
            Happening::Task { node, life, task } => self.run_task(node, life, task).await,
            Happening::Request {
                node,
                life,
                ticket,
                request,
            } => self.take_request(node, life, ticket, request).await,
            Happening::Answer {
                node,
                life,
                ticket,
                answer,
            } => self.take_answer(node, life, ticket, answer).await,
            Happening::Timeout { node, life, ticket } => self.time_out(node, life, ticket).await,
            Happening::Look { life } => self.call_webhooks(life).await,
            Happening::Call {
                node,
                life,
                number,
                batch,
            } => self.take_call(node, life, number, batch).await,
            Happening::CallEnds {
                life,
                number,
                class,
                results,
            } => self.end_call(life, number, class, results).await,
            Happening::Person(act) => self.act(act).await,
            Happening::Sweep { is_habit } => self.sweep(is_habit).await,
            Happening::NodeStarts { node } => self.start_node(node),
            Happening::RelayStarts => self.start_relay().await,
            Happening::ClockJumps { node } => {
                self.jump(node);
                Ok(())
            }
            Happening::Rest { time } => {
                self.rest_all(time);
                Ok(())
            }
            Happening::Calm => {
                self.calm();
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
        let true_ms = START.as_millis() + self.agenda.now() + self.rested;
        Timestamp::from_millis(true_ms.saturating_add_signed(skew_ms))
    }

    fn jump(&mut self, node: Option<usize>) {
        let most = if self.weeks && self.chance.happens(700) {
            SKEW_WEEKS
        } else {
            SKEW_MAX
        };
        let skew = self.chance.below(2 * most).cast_signed() - most.cast_signed();
        self.set_clock(node, skew);
    }

    fn set_clock(&mut self, node: Option<usize>, skew: i64) {
        match node {
            Some(node) => {
                self.nodes[node].skew_ms = skew;
                self.wake_all(node);
                self.wake(node, Task::Tend, MINUTE);
            }
            None => {
                self.relay.jump(self.agenda.now(), skew);
                self.wake_relay();
                self.agenda
                    .enter(MINUTE, Happening::Sweep { is_habit: false });
            }
        }
        self.note(&format!(
            "the clock of {} is off by {skew} ms",
            node.map_or("relay".to_owned(), |n| format!("node-{n}"))
        ));
    }

    /// Faults stop. Who has a clock that is off by weeks sets it.
    fn calm(&mut self) {
        self.rates = Rates::default();
        self.relay.poisoned.clear();
        self.note("faults stop");
        if self.weeks {
            (0..self.nodes.len()).for_each(|node| self.set_clock(Some(node), 0));
            self.set_clock(None, 0);
        }
    }

    /// Time passes everywhere while nothing happens.
    fn rest_all(&mut self, time: u64) {
        self.rested += time;
        self.note(&format!("{} hours pass", time / HOUR));
        (0..self.nodes.len()).for_each(|node| self.set_clock(Some(node), self.nodes[node].skew_ms));
        self.set_clock(None, self.relay.skew_ms);
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
        let (mutant, roll, fresh) = (
            self.mutant,
            self.chance.below(1_000),
            self.nodes[node].seen_position,
        );
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
        let outcome = self.nodes[node]
            .store
            .write(self.node_now(node), work)
            .await;
        let value = match outcome {
            Ok((value, sight)) => {
                let last = sight.messages.last().map(|message| message.position);
                self.nodes[node].seen_position = last.unwrap_or(fresh);
                (self.nodes[node].open_rows, self.nodes[node].unconfirmed) =
                    (sight.open_rows, sight.unconfirmed);
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
        self.nodes[node].end();
        let pause = self.chance.between(SECOND, MINUTE);
        self.agenda.enter(pause, Happening::NodeStarts { node });
    }

    fn start_node(&mut self, node: usize) -> Result<(), Broken> {
        if self.nodes[node].has_left {
            return Ok(());
        }
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

    async fn sweep(&mut self, is_habit: bool) -> Result<(), Broken> {
        if self.relay.is_up {
            self.relay.sweep(self.relay_now(), self.mutant).await?;
            self.wake_relay();
        }
        if is_habit {
            let pause = if self.agenda.now() < STORM {
                10 * MINUTE
            } else {
                HOUR
            };
            self.agenda.enter(pause, Happening::Sweep { is_habit });
        }
        Ok(())
    }

    /// Whether all is done; looks again later unless it took too long.
    async fn inspect(&mut self) -> Result<(), Broken> {
        let unconfirmed: u64 = self.nodes.iter().map(|node| node.unconfirmed).sum();
        let has_settled = self.has_settled().await?;
        if has_settled && unconfirmed == 0 {
            self.note("all is done");
            self.is_over = true;
            self.model.check_end(&self.people.wishes())?;
            return self.check_relay().await;
        }
        // Nobody will say any more what became of them: they fail when their time is over.
        if has_settled && self.model.has_disturbed() && !self.has_rested {
            self.has_rested = true;
            self.rest_all(LAST_REST);
        }
        if self.agenda.now() > STORM + CALM {
            let open: Vec<_> = self
                .nodes
                .iter()
                .map(|node| (node.open_rows, node.unconfirmed))
                .collect();
            return Err(Broken(format!(
                "queues do not drain: rows that wait at the nodes: {open:?}"
            )));
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
        if self
            .nodes
            .iter()
            .any(|node| node.open_rows > 0 || !node.is_up && !node.has_left)
            || self.agenda.any(is_open)
        {
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
            let has_ended = !matches!(
                state,
                None | Some(EnvelopeState::Queued | EnvelopeState::Retrying)
            );
            ensure(has_ended, || {
                format!("the relay accepted {envelope} and has it as {state:?}")
            })?;
        }
        for mailbox in &self.relay.closed {
            let is_closed = self.relay.bare.prekeys(*mailbox).await?.is_none();
            ensure(is_closed, || {
                format!("the relay said that {mailbox} is closed, and it is not")
            })?;
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
