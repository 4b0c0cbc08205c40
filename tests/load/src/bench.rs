//! What the scenarios share: the programs under test, and rounds.

use crate::{
    account::Target,
    generator::{self, Pace, Sent},
    process::Process,
    receiver::{Seen, Watch},
};
use anyhow::{Context as _, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

/// Settings of the relay that are lifted: what protects it from one account would only measure itself.
const LIFTED: [&str; 8] = [
    "SEALPOST_RELAY_QUOTAS_MAILBOX_ENVELOPES",
    "SEALPOST_RELAY_QUOTAS_MAILBOX_BYTES",
    "SEALPOST_RELAY_QUOTAS_ACCOUNT_ENVELOPES",
    "SEALPOST_RELAY_QUOTAS_ACCOUNT_BYTES",
    "SEALPOST_RELAY_RATES_REQUESTS_PER_SECOND",
    "SEALPOST_RELAY_RATES_REQUESTS_BURST",
    "SEALPOST_RELAY_RATES_ENVELOPES_PER_MINUTE",
    "SEALPOST_RELAY_RATES_ADDRESS_REQUESTS_PER_MINUTE",
];
/// To that: a number that all of them take, and that nothing here reaches but bytes.
const FAR: &str = "4000000000";

/// Requests under way in a closed loop.
pub(crate) const IN_FLIGHT: u64 = 64;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds of each kind; the median counts.
    pub(crate) rounds: usize,
    /// Length of a round.
    pub(crate) round: Duration,
    /// Length of the round before the first that counts.
    pub(crate) warm_up: Duration,
    /// Length of a round at a fixed rate.
    pub(crate) paced_round: Duration,
    /// Accounts with one message each.
    pub(crate) many_accounts: usize,
    /// Envelopes that wait while others are sent.
    pub(crate) queued: u64,
}

impl Plan {
    /// Everything.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        round: Duration::from_secs(8),
        warm_up: Duration::from_secs(3),
        paced_round: Duration::from_secs(15),
        many_accounts: 10_000,
        queued: 1_000_000,
    };
    /// Under four minutes.
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        round: Duration::from_secs(3),
        warm_up: Duration::from_secs(1),
        paced_round: Duration::from_secs(5),
        many_accounts: 1_000,
        queued: 200_000,
    };
}

/// The bench: where programs are, and where they keep what they keep.
#[derive(Debug)]
pub(crate) struct Bench {
    /// How much is done.
    pub(crate) plan: Plan,
    relay: PathBuf,
    this: PathBuf,
    folder: TempDir,
    rounds: AtomicU32,
    programs: AtomicU32,
}

/// A program under test, who sends to it, and the receiver that it calls.
#[derive(Debug)]
pub(crate) struct Rig {
    /// The program.
    pub(crate) process: Process,
    /// Who sends.
    pub(crate) target: Arc<Target>,
    /// What it calls.
    pub(crate) watch: Arc<Watch>,
    accepted: AtomicU64,
}

/// What came of a round.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    /// As the sender saw it.
    pub(crate) sent: Sent,
    /// As the receiver saw it.
    pub(crate) seen: Seen,
}

impl Round {
    /// Envelopes a second, from the first request until the last envelope was at the receiver.
    #[must_use]
    pub(crate) fn rate(&self) -> f64 {
        self.seen.envelopes as f64
            / (self.seen.last_ns.saturating_sub(self.sent.began_ns) as f64 / 1e9)
    }

    /// Envelopes that a call brought.
    #[must_use]
    pub(crate) fn envelopes_per_call(&self) -> f64 {
        self.seen.envelopes as f64 / self.seen.calls.max(1) as f64
    }
}

impl Bench {
    /// A bench with the relay at this path. What is kept stands on the disk beside it until the bench is dropped.
    ///
    /// # Errors
    /// When there is no relay.
    pub(crate) fn new(plan: Plan, relay: PathBuf) -> anyhow::Result<Self> {
        let beside = relay.parent().context("the relay's folder")?;
        ensure!(
            relay.is_file(),
            "there is no relay at {}: run ./tests/run load, which builds it",
            relay.display()
        );
        let folder = tempfile::Builder::new()
            .prefix("load-")
            .tempdir_in(beside)?;
        let this = std::env::current_exe()?;
        Ok(Self {
            plan,
            relay,
            this,
            folder,
            rounds: AtomicU32::new(1),
            programs: AtomicU32::new(0),
        })
    }

    /// A receiver.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn receiver(&self) -> anyhow::Result<(Process, Arc<Watch>)> {
        let process = Process::start(
            "receiver",
            &self.this,
            &["receiver"],
            &[],
            &self.own_folder()?,
        )
        .await?;
        let watch = Arc::new(Watch::at(&process.authority));
        Ok((process, watch))
    }

    /// The ceiling.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn ceiling(&self, watch: &Arc<Watch>) -> anyhow::Result<Rig> {
        let folder = self.own_folder()?;
        let args = [
            "ceiling",
            "--data",
            path(&folder)?,
            "--target",
            &watch.hook(0),
        ];
        let process = Process::start("ceiling", &self.this, &args, &[], &folder).await?;
        let target = Target::made_up(&process.authority)?;
        self.warm(Rig::new(process, target, watch)).await
    }

    /// A relay with so many accounts, warm.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn relay(&self, accounts: usize, watch: &Arc<Watch>) -> anyhow::Result<Rig> {
        let process = self.bare_relay().await?;
        self.warm(self.with_accounts(process, accounts, watch).await?)
            .await
    }

    /// Registers accounts at a relay.
    ///
    /// # Errors
    /// When it does not take them.
    pub(crate) async fn with_accounts(
        &self,
        process: Process,
        accounts: usize,
        watch: &Arc<Watch>,
    ) -> anyhow::Result<Rig> {
        let target = Target::registered(&process.authority, accounts, |_| Some(watch)).await?;
        Ok(Rig::new(process, target, watch))
    }

    /// A relay without accounts.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn bare_relay(&self) -> anyhow::Result<Process> {
        let folder = self.own_folder()?;
        let data = folder.join("data");
        let args = [
            "serve",
            "--data",
            path(&data)?,
            "--listen",
            "127.0.0.1:0",
            "--registration",
            "open",
            "--egress-allow",
            "127.0.0.0/8",
            "--log",
            "json",
        ];
        Process::start(
            "relay",
            &self.relay,
            &args,
            &LIFTED.map(|name| (name, FAR)),
            &folder,
        )
        .await
    }

    /// A round in which everything is accepted and everything arrives.
    ///
    /// # Errors
    /// When something is not.
    pub(crate) async fn round(&self, rig: &Rig, pace: Pace) -> anyhow::Result<Round> {
        let round = self.rough_round(rig, pace, |_| true).await?;
        let Sent {
            refused,
            failed,
            unsent,
            failure,
            ..
        } = &round.sent;
        ensure!(
            refused + failed + unsent == 0,
            "{refused} requests were refused, {failed} failed, {unsent} were not sent in time: {failure:?}"
        );
        Ok(round)
    }

    /// A round of which only the envelopes of some accounts arrive, and requests may be refused.
    ///
    /// # Errors
    /// When what was accepted for those does not arrive.
    pub(crate) async fn rough_round(
        &self,
        rig: &Rig,
        pace: Pace,
        arrives: impl Fn(usize) -> bool,
    ) -> anyhow::Result<Round> {
        let number = self.rounds.fetch_add(1, Ordering::Relaxed);
        rig.watch.begin(number).await?;
        let sent = generator::send(&rig.target, number, pace).await?;
        rig.accepted.fetch_add(sent.accepted(), Ordering::Relaxed);
        let arriving = sent
            .accepted
            .iter()
            .enumerate()
            .filter(|(account, _)| arrives(*account));
        let seen = rig
            .watch
            .wait_for(arriving.map(|(_, accepted)| accepted).sum())
            .await?;
        Ok(Round { sent, seen })
    }

    async fn warm(&self, rig: Rig) -> anyhow::Result<Rig> {
        self.round(&rig, Pace::closed(IN_FLIGHT, self.plan.warm_up))
            .await?;
        Ok(rig)
    }

    fn own_folder(&self) -> anyhow::Result<PathBuf> {
        let folder = self
            .folder
            .path()
            .join(self.programs.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder)?;
        Ok(folder)
    }
}

impl Rig {
    /// Puts one together; nothing was sent yet.
    #[must_use]
    pub(crate) fn new(process: Process, target: Target, watch: &Arc<Watch>) -> Self {
        Self {
            process,
            target: Arc::new(target),
            watch: Arc::clone(watch),
            accepted: AtomicU64::new(0),
        }
    }

    /// Ends the program; gives its log and the envelopes that it accepted.
    ///
    /// # Errors
    /// When it does not end well.
    pub(crate) async fn end(self) -> anyhow::Result<(String, u64)> {
        Ok((self.process.end().await?, self.accepted.into_inner()))
    }
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not text")
}
