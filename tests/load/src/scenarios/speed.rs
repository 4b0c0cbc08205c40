//! 64 in flight, one envelope a request, one account: the rate beside the ceiling's, what it costs in fsyncs, and memory.

use super::say;
use crate::{
    bench::{Bench, IN_FLIGHT, Round},
    figures::{Figure, Figures, median},
    generator::Pace,
};
use anyhow::Context as _;
use serde::Deserialize;
use std::time::Duration;

/// A relay that has just started has settled after this.
const SETTLED: Duration = Duration::from_secs(2);

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver, watch) = bench.receiver().await?;
    let process = bench.bare_relay().await?;
    tokio::time::sleep(SETTLED).await;
    figures.rss_mb.idle = Figure(process.memory()?.now_mb);
    let ours = bench.with_accounts(process, 1, &watch).await?;
    bench
        .round(&ours, Pace::closed(IN_FLIGHT, bench.plan.warm_up))
        .await?;
    let ceiling = bench.ceiling(&watch).await?;

    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let pace = Pace::closed(IN_FLIGHT, bench.plan.round);
        let (limit, round) = (
            bench.round(&ceiling, pace).await?,
            bench.round(&ours, pace).await?,
        );
        ratios.push(round.rate() / limit.rate());
        say(&format!(
            "64 in flight, 1 account: {} beside the ceiling's {}",
            line(&round),
            line(&limit)
        ));
    }
    figures.ratio_to_ceiling = Figure(median(ratios));
    figures.rss_mb.load = Figure(ours.process.memory()?.most_mb);
    let (log, accepted) = ours.end().await?;
    figures.fsyncs_per_message = Figure(commits(&log)? as f64 / accepted as f64);
    say(&format!(
        "64 in flight, 1 account: {:.3} of the ceiling, {:.3} commits a message, {:.0} MiB idle, at most {:.0} MiB",
        figures.ratio_to_ceiling.0,
        figures.fsyncs_per_message.0,
        figures.rss_mb.idle.0,
        figures.rss_mb.load.0
    ));
    Ok(())
}

/// A round in words.
pub(super) fn line(round: &Round) -> String {
    let latency = round.seen.latency;
    format!(
        "{:.0}/s (accepted p50 {:.2} ms; at the webhook p50 {:.2}, p99 {:.2} ms; {:.1} envelopes a call)",
        round.rate(),
        round.sent.latency.p50_ms,
        latency.p50_ms,
        latency.p99_ms,
        round.envelopes_per_call()
    )
}

/// The relay's last words.
#[derive(Deserialize)]
struct LastWords {
    commits: u64,
}

fn commits(log: &str) -> anyhow::Result<u64> {
    let last = log
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<LastWords>(line).ok());
    Ok(last
        .context("the relay did not say how often it committed")?
        .commits)
}
