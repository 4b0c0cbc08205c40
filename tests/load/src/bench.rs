//! The programs under test and the measured rounds.

use crate::{
    account::Target,
    generator::{self, LoadModel, RoundReport},
    process::Process,
    receiver::{Received, ReceiverClient},
};
use anyhow::{Context as _, ensure};
use sealpost_service::create_private_directory;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

/// Limits of the relay that are lifted, so that the benchmark does not measure them.
const UNLIMITED_SETTINGS: [&str; 8] = [
    "SEALPOST_RELAY_QUOTAS_MAILBOX_ENVELOPES",
    "SEALPOST_RELAY_QUOTAS_MAILBOX_BYTES",
    "SEALPOST_RELAY_QUOTAS_ACCOUNT_ENVELOPES",
    "SEALPOST_RELAY_QUOTAS_ACCOUNT_BYTES",
    "SEALPOST_RELAY_RATES_REQUESTS_PER_SECOND",
    "SEALPOST_RELAY_RATES_REQUESTS_BURST",
    "SEALPOST_RELAY_RATES_ENVELOPES_PER_MINUTE",
    "SEALPOST_RELAY_RATES_ADDRESS_REQUESTS_PER_MINUTE",
];
/// Value for all of these settings; no round reaches it.
const UNLIMITED: &str = "4000000000";

/// Concurrent requests in a closed loop.
pub(crate) const IN_FLIGHT: u64 = 64;

/// Extent of the measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds of each kind, of which the median is reported.
    pub(crate) rounds: usize,
    /// Length of a round.
    pub(crate) round: Duration,
    /// Length of the warm-up round.
    pub(crate) warm_up: Duration,
    /// Length of a round at a fixed rate.
    pub(crate) paced_round: Duration,
    /// Number of accounts with one message each.
    pub(crate) many_accounts: usize,
    /// Number of envelopes that are queued while others are sent.
    pub(crate) queued: u64,
}

impl Plan {
    /// Full run.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        round: Duration::from_secs(8),
        warm_up: Duration::from_secs(3),
        paced_round: Duration::from_secs(15),
        many_accounts: 10_000,
        queued: 1_000_000,
    };
    /// Run of less than four minutes.
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        round: Duration::from_secs(3),
        warm_up: Duration::from_secs(1),
        paced_round: Duration::from_secs(5),
        many_accounts: 1_000,
        queued: 200_000,
    };
}

/// Benchmark environment: the programs and their data directory.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Extent of the measurement.
    pub(crate) plan: Plan,
    relay: PathBuf,
    this_program: PathBuf,
    directory: TempDir,
    rounds: AtomicU32,
    programs: AtomicU32,
}

/// Program under test with its sending accounts and its receiver.
#[derive(Debug)]
pub(crate) struct Rig {
    /// The program under test.
    pub(crate) process: Process,
    /// The sending accounts.
    pub(crate) target: Arc<Target>,
    /// The receiver that the program calls.
    pub(crate) receiver: Arc<ReceiverClient>,
    accepted: AtomicU64,
}

/// Result of a round.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    /// The result at the sender.
    pub(crate) report: RoundReport,
    /// The result at the receiver.
    pub(crate) received: Received,
}

impl Round {
    /// Returns the envelopes per second, from the first request until the last envelope has
    /// arrived.
    #[must_use]
    pub(crate) fn rate(&self) -> f64 {
        self.received.envelopes as f64
            / (self.received.last_ns.saturating_sub(self.report.started_ns) as f64 / 1e9)
    }

    /// Returns the average number of envelopes per webhook call.
    #[must_use]
    pub(crate) fn envelopes_per_call(&self) -> f64 {
        self.received.envelopes as f64 / self.received.calls.max(1) as f64
    }
}

impl Bench {
    /// Creates a benchmark for the relay at this path. The data is stored beside the relay until
    /// the benchmark is dropped.
    pub(crate) fn new(plan: Plan, relay: PathBuf) -> anyhow::Result<Self> {
        let directory = relay.parent().context("the relay's directory")?;
        ensure!(
            relay.is_file(),
            "there is no relay at {}: run ./tests/run load, which builds it",
            relay.display()
        );
        let directory = tempfile::Builder::new()
            .prefix("load-")
            .tempdir_in(directory)?;
        let this_program = std::env::current_exe()?;
        Ok(Self {
            plan,
            relay,
            this_program,
            directory,
            rounds: AtomicU32::new(1),
            programs: AtomicU32::new(0),
        })
    }

    /// Starts a receiver.
    pub(crate) async fn start_receiver(&self) -> anyhow::Result<(Process, Arc<ReceiverClient>)> {
        let process = Process::start(
            "receiver",
            &self.this_program,
            &["receiver"],
            &[],
            &self.create_directory()?,
        )
        .await?;
        let receiver = Arc::new(ReceiverClient::new(&process.authority));
        Ok((process, receiver))
    }

    /// Starts the ceiling and warms it up.
    pub(crate) async fn start_ceiling(
        &self,
        receiver: &Arc<ReceiverClient>,
    ) -> anyhow::Result<Rig> {
        let directory = self.create_directory()?;
        let args = [
            "ceiling",
            "--data",
            path_text(&directory)?,
            "--target",
            &receiver.webhook_url(0),
        ];
        let process = Process::start("ceiling", &self.this_program, &args, &[], &directory).await?;
        let target = Target::unregistered(&process.authority)?;
        self.warm_up(Rig::new(process, target, receiver)).await
    }

    /// Starts a relay with the given number of accounts and warms it up.
    pub(crate) async fn start_relay_with_accounts(
        &self,
        accounts: usize,
        receiver: &Arc<ReceiverClient>,
    ) -> anyhow::Result<Rig> {
        let process = self.start_relay().await?;
        self.warm_up(self.register_accounts(process, accounts, receiver).await?)
            .await
    }

    /// Registers accounts at a relay.
    pub(crate) async fn register_accounts(
        &self,
        process: Process,
        accounts: usize,
        receiver: &Arc<ReceiverClient>,
    ) -> anyhow::Result<Rig> {
        let target = Target::register(&process.authority, accounts, |_| Some(receiver)).await?;
        Ok(Rig::new(process, target, receiver))
    }

    /// Starts a relay without accounts.
    pub(crate) async fn start_relay(&self) -> anyhow::Result<Process> {
        let directory = self.create_directory()?;
        let data = directory.join("data");
        let args = [
            "serve",
            "--data",
            path_text(&data)?,
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
            &UNLIMITED_SETTINGS.map(|name| (name, UNLIMITED)),
            &directory,
        )
        .await
    }

    /// Runs a round in which every envelope must be accepted and must arrive.
    pub(crate) async fn run_round(&self, rig: &Rig, model: LoadModel) -> anyhow::Result<Round> {
        let round = self.run_round_with_refusals(rig, model, |_| true).await?;
        let RoundReport {
            refused,
            failed,
            unsent,
            first_failure,
            ..
        } = &round.report;
        ensure!(
            refused + failed + unsent == 0,
            "{refused} requests were refused, {failed} failed, {unsent} were not sent in time: \
             {first_failure:?}"
        );
        Ok(round)
    }

    /// Runs a round in which requests may be refused and only the envelopes of some accounts must
    /// arrive.
    pub(crate) async fn run_round_with_refusals(
        &self,
        rig: &Rig,
        model: LoadModel,
        arrives: impl Fn(usize) -> bool,
    ) -> anyhow::Result<Round> {
        let number = self.rounds.fetch_add(1, Ordering::Relaxed);
        rig.receiver.start_round(number).await?;
        let report = generator::send(&rig.target, number, model).await?;
        rig.accepted
            .fetch_add(report.total_accepted(), Ordering::Relaxed);
        let arriving = report
            .accepted_by_account
            .iter()
            .enumerate()
            .filter(|(account, _)| arrives(*account));
        let received = rig
            .receiver
            .wait_for(arriving.map(|(_, accepted)| accepted).sum())
            .await?;
        Ok(Round { report, received })
    }

    async fn warm_up(&self, rig: Rig) -> anyhow::Result<Rig> {
        self.run_round(&rig, LoadModel::closed(IN_FLIGHT, self.plan.warm_up))
            .await?;
        Ok(rig)
    }

    fn create_directory(&self) -> anyhow::Result<PathBuf> {
        let directory = self
            .directory
            .path()
            .join(self.programs.fetch_add(1, Ordering::Relaxed).to_string());
        create_private_directory(&directory)?;
        Ok(directory)
    }
}

impl Rig {
    /// Creates a rig to which nothing has been sent.
    #[must_use]
    pub(crate) fn new(process: Process, target: Target, receiver: &Arc<ReceiverClient>) -> Self {
        Self {
            process,
            target: Arc::new(target),
            receiver: Arc::clone(receiver),
            accepted: AtomicU64::new(0),
        }
    }

    /// Stops the program; returns its log and the number of envelopes that it accepted.
    pub(crate) async fn stop(self) -> anyhow::Result<(String, u64)> {
        Ok((self.process.stop().await?, self.accepted.into_inner()))
    }
}

fn path_text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not text")
}
