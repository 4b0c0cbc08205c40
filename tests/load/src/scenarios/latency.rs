//! 500 a second, whatever happens: how long an envelope is on its way, beside the ceiling's.

use super::{say, speed::line};
use crate::{
    bench::Bench,
    figures::{Figure, Figures, median},
    generator::Pace,
};

const RATE: f64 = 500.0;
const CONNECTIONS: u64 = 64;

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver, watch) = bench.receiver().await?;
    let (ours, ceiling) = (bench.relay(1, &watch).await?, bench.ceiling(&watch).await?);
    let (mut halves, mut most) = (Vec::new(), Vec::new());
    for _ in 0..bench.plan.rounds {
        let pace = Pace::Open {
            rate: RATE,
            time: bench.plan.paced_round,
            connections: CONNECTIONS,
        };
        let (limit, round) = (
            bench.round(&ceiling, pace).await?,
            bench.round(&ours, pace).await?,
        );
        halves.push(round.seen.latency.p50_ms / limit.seen.latency.p50_ms);
        most.push(round.seen.latency.p99_ms / limit.seen.latency.p99_ms);
        say(&format!(
            "500 a second: {} beside the ceiling's {}",
            line(&round),
            line(&limit)
        ));
    }
    figures.p50_ratio_500 = Figure(median(halves));
    figures.p99_ratio_500 = Figure(median(most));
    let (p50, p99) = (figures.p50_ratio_500.0, figures.p99_ratio_500.0);
    say(&format!(
        "500 a second: p50 {p50:.2} times and p99 {p99:.2} times the ceiling's"
    ));
    Ok(())
}
