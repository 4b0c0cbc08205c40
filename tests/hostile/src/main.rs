//! Attacks on the release binaries of relay and node, each beside an honest client whose operations
//! must all succeed in time, and delivery over slow links through a proxy that shapes traffic.
//! `./tests/run hostile` builds and runs it.
//!
//! The relay and the nodes are processes of their own. The attackers and the honest client run in
//! this process; the attackers' threads have a low priority, because real attackers would not use
//! the processor of the relay. Start reading at `attacks`, then `honest` and `links`.

mod account;
mod attacks;
mod endpoint;
mod honest;
mod hostile_peer;
mod links;
mod measurement;
mod proxy;
mod report;
mod request_scanner;
mod resolver;
mod testbed;
mod texts;

use anyhow::Context as _;
use attacks::{Attack, QueuedAccount};
use clap::{Parser, ValueEnum as _};
use report::{AttackResult, Report, attack_name};
use rustix::process::nice;
use sealpost_bench_support::report_progress;
use sealpost_demo::process::Program;
use sealpost_service::raise_open_files_limit;
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use testbed::Testbed;
use tokio::{
    runtime::{self, Runtime},
    time::sleep,
};

/// Time for which the honest client is measured before each attack.
const BASELINE_TIME: Duration = Duration::from_millis(1_500);
/// Priority of the attackers' threads, below that of everything else.
const ATTACKER_NICENESS: i32 = 10;

/// Attacks relay and node; the last line of standard output holds the results as JSON
#[derive(Debug, Parser)]
#[command(name = "sealpost-hostile")]
struct Cli {
    /// Run only this attack (can be repeated)
    #[arg(long, value_name = "ATTACK")]
    only: Vec<Attack>,
    /// Test the links and run no attack
    #[arg(long, conflicts_with = "only")]
    links: bool,
    /// Messages that each link delivers
    #[arg(long, value_name = "COUNT", default_value_t = 60)]
    messages: usize,
    /// Directory with `sealpost` and `sealpost-relay` [default: the directory of this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    // An attack that needs more files fails and says so.
    let _ = raise_open_files_limit();
    let attackers = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(|| {
            // Without it, the measured latencies only include more of the attackers' work.
            let _ = nice(ATTACKER_NICENESS);
        })
        .enable_all()
        .build()?;
    let report = Runtime::new()?.block_on(run(&cli, &attackers));
    attackers.shutdown_background();
    let report = report?;
    for failure in &report.failures {
        report_progress(&format!("FAILED {failure}"));
    }
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(match report.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn run(cli: &Cli, attackers: &Runtime) -> anyhow::Result<Report> {
    let programs = match &cli.programs {
        Some(programs) => programs.clone(),
        None => std::env::current_exe()?
            .parent()
            .context("a program without a directory")?
            .to_owned(),
    };
    let directory = testbed::installed_programs(&programs)?;
    let mut report = Report::default();
    if cli.links {
        run_links(cli, &programs, &mut report).await?;
        return Ok(report);
    }
    let testbed = Testbed::start(&programs, directory.path()).await?;
    let mut queued = None;
    if cli.only.is_empty() {
        // The links need time but little work, so the long queue is filled meanwhile.
        let (links, filled) = tokio::join!(
            run_links(cli, &programs, &mut report),
            QueuedAccount::new(&testbed.relay)
        );
        links?;
        queued = Some(filled?);
    } else if cli.only.contains(&Attack::AccountDeletion) {
        queued = Some(QueuedAccount::new(&testbed.relay).await?);
    }
    for attack in Attack::value_variants() {
        if cli.only.is_empty() || cli.only.contains(attack) {
            let outcome = run_attack(*attack, &testbed, &mut queued, attackers, &mut report).await;
            if let Err(error) = outcome {
                let failure = format!("{}: {error:#}", attack_name(*attack));
                report.failures.push(failure);
            }
        }
    }
    testbed.stop().await?;
    Ok(report)
}

async fn run_links(cli: &Cli, programs: &Path, report: &mut Report) -> anyhow::Result<()> {
    for link in links::run(&Program::installed(programs), cli.messages).await? {
        report_progress(&link.summary());
        report.add_link(link);
    }
    Ok(())
}

/// Measures the honest client before and during an attack.
async fn run_attack(
    attack: Attack,
    testbed: &Testbed,
    queued: &mut Option<QueuedAccount>,
    attackers: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(prepared) = attack.prepare(testbed, queued).await? else {
        return Ok(());
    };
    let (before, ()) = testbed.honest.measure(sleep(BASELINE_TIME)).await;
    let (during, findings) = testbed.honest.measure(attackers.spawn(prepared)).await;
    let peak = testbed.reset_peak_memory()?;
    let result = AttackResult::new(attack, &before, &during, peak, findings??);
    report_progress(&result.summary());
    report.add_attack(result);
    Ok(())
}
