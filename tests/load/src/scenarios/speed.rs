//! The rate with 64 requests in flight, one envelope per request and one account: compared with the
//! ceiling, with fsyncs and memory.

use crate::{
    bench::{Bench, IN_FLIGHT, Round},
    figures::Figures,
    generator::LoadModel,
};
use anyhow::Context as _;
use sealpost_bench_support::{Figure, median, report_progress};
use serde::Deserialize;
use std::time::Duration;

/// Time after which a new relay has settled.
const SETTLED: Duration = Duration::from_secs(2);

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver_process, receiver) = bench.start_receiver().await?;
    let process = bench.start_relay().await?;
    tokio::time::sleep(SETTLED).await;
    figures.rss_mb.idle = Figure(process.memory()?.current_mb);
    let relay = bench.register_accounts(process, 1, &receiver).await?;
    bench
        .run_round(&relay, LoadModel::closed(IN_FLIGHT, bench.plan.warm_up))
        .await?;
    let ceiling = bench.start_ceiling(&receiver).await?;

    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let model = LoadModel::closed(IN_FLIGHT, bench.plan.round);
        let (ceiling_round, round) = (
            bench.run_round(&ceiling, model).await?,
            bench.run_round(&relay, model).await?,
        );
        ratios.push(round.rate() / ceiling_round.rate());
        report_progress(&format!(
            "64 in flight, 1 account: {}; ceiling {}",
            format_round(&round),
            format_round(&ceiling_round)
        ));
    }
    figures.ratio_to_ceiling = Figure(median(ratios));
    figures.rss_mb.load = Figure(relay.process.memory()?.peak_mb);
    let (log, accepted) = relay.stop().await?;
    figures.fsyncs_per_message = Figure(parse_commits(&log)? as f64 / accepted as f64);
    report_progress(&format!(
        "64 in flight, 1 account: {:.3} of the ceiling, {:.3} commits per message, {:.0} MiB \
         idle, peak {:.0} MiB",
        figures.ratio_to_ceiling.0,
        figures.fsyncs_per_message.0,
        figures.rss_mb.idle.0,
        figures.rss_mb.load.0
    ));
    Ok(())
}

/// Formats the result of a round.
pub(super) fn format_round(round: &Round) -> String {
    let latency = round.received.latency;
    format!(
        "{:.0}/s (accepted p50 {:.2} ms; at the webhook p50 {:.2}, p99 {:.2} ms; {:.1} envelopes \
         a call)",
        round.rate(),
        round.report.latency.p50_ms,
        latency.p50_ms,
        latency.p99_ms,
        round.envelopes_per_call()
    )
}

/// Statistics that the relay logs at shutdown.
#[derive(Deserialize)]
struct ShutdownStatistics {
    commits: u64,
}

fn parse_commits(log: &str) -> anyhow::Result<u64> {
    let last = log
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<ShutdownStatistics>(line).ok());
    Ok(last
        .context("the relay did not log its number of commits")?
        .commits)
}
