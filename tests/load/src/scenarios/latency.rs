//! Delivery time at a fixed rate of 500 envelopes per second, compared with the ceiling.

use super::speed::format_round;
use crate::{bench::Bench, figures::Figures, generator::LoadModel};
use sealpost_bench_support::{Figure, median, report_progress};

const RATE: f64 = 500.0;
const CONNECTIONS: u64 = 64;

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver_process, receiver) = bench.start_receiver().await?;
    let (relay, ceiling) = (
        bench.start_relay_with_accounts(1, &receiver).await?,
        bench.start_ceiling(&receiver).await?,
    );
    let (mut p50_ratios, mut p99_ratios) = (Vec::new(), Vec::new());
    for _ in 0..bench.plan.rounds {
        let model = LoadModel::Open {
            rate: RATE,
            duration: bench.plan.paced_round,
            connections: CONNECTIONS,
        };
        let (ceiling_round, round) = (
            bench.run_round(&ceiling, model).await?,
            bench.run_round(&relay, model).await?,
        );
        p50_ratios.push(round.received.latency.p50_ms / ceiling_round.received.latency.p50_ms);
        p99_ratios.push(round.received.latency.p99_ms / ceiling_round.received.latency.p99_ms);
        report_progress(&format!(
            "500 per second: {}; ceiling {}",
            format_round(&round),
            format_round(&ceiling_round)
        ));
    }
    figures.p50_ratio_500 = Figure(median(p50_ratios));
    figures.p99_ratio_500 = Figure(median(p99_ratios));
    let (p50, p99) = (figures.p50_ratio_500.0, figures.p99_ratio_500.0);
    report_progress(&format!(
        "500 per second: p50 {p50:.2} times and p99 {p99:.2} times the ceiling's"
    ));
    Ok(())
}
