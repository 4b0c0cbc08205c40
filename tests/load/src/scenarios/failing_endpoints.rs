//! The service of healthy endpoints while others fail. Half of the failing endpoints refuse
//! connections, the other half accept them and never respond.

use crate::{
    account::Target,
    bench::{Bench, IN_FLIGHT, Rig, Round},
    figures::Figures,
    generator::LoadModel,
    process::Process,
    receiver::ReceiverClient,
};
use rustix::process::Signal;
use sealpost_bench_support::{Figure, median, report_progress};
use std::sync::Arc;

const ACCOUNTS: usize = 100;

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver_process, receiver) = bench.start_receiver().await?;
    let baseline = bench.start_relay_with_accounts(ACCOUNTS, &receiver).await?;
    figures.healthy_ratio_10 = Figure(measure_healthy_ratio(bench, &baseline, 10).await?);
    figures.healthy_ratio_50 = Figure(measure_healthy_ratio(bench, &baseline, 50).await?);
    Ok(())
}

/// Compares a relay whose first `failing` accounts have failing receivers with the baseline.
async fn measure_healthy_ratio(
    bench: &Bench,
    baseline: &Rig,
    failing: usize,
) -> anyhow::Result<f64> {
    let (refusing, hanging) = (bench.start_receiver().await?, bench.start_receiver().await?);
    let impaired = start_relay_with_failing_endpoints(
        bench,
        failing,
        &baseline.receiver,
        [&refusing.1, &hanging.1],
    )
    .await?;
    let _hanging = stop_receivers([refusing.0, hanging.0], bench, &impaired, failing).await?;

    let (mut rates, mut times) = (Vec::new(), Vec::new());
    for _ in 0..bench.plan.rounds {
        let model = LoadModel::closed(IN_FLIGHT, bench.plan.round);
        let before = bench.run_round(baseline, model).await?;
        let round = bench
            .run_round_with_refusals(&impaired, model, |account| account >= failing)
            .await?;
        rates.push(
            rate_per_endpoint(&round, ACCOUNTS - failing) / rate_per_endpoint(&before, ACCOUNTS),
        );
        times.push(before.received.latency.p99_ms / round.received.latency.p99_ms);
        report_progress(&format!(
            "{failing} of {ACCOUNTS} endpoints failing: {:.0}/s per healthy endpoint, p99 {:.2} \
             ms; none failing: {:.0}/s, p99 {:.2} ms",
            rate_per_endpoint(&round, ACCOUNTS - failing),
            round.received.latency.p99_ms,
            rate_per_endpoint(&before, ACCOUNTS),
            before.received.latency.p99_ms
        ));
    }
    let (rate, time) = (median(rates), median(times));
    report_progress(&format!(
        "{failing} of {ACCOUNTS} endpoints failing: {rate:.3} of the rate, {:.3} times the p99",
        1.0 / time
    ));
    Ok(rate.min(time))
}

async fn start_relay_with_failing_endpoints(
    bench: &Bench,
    failing: usize,
    healthy: &Arc<ReceiverClient>,
    failing_receivers: [&Arc<ReceiverClient>; 2],
) -> anyhow::Result<Rig> {
    let process = bench.start_relay().await?;
    let receiver_of = |account| {
        if account < failing {
            failing_receivers[account % 2]
        } else {
            healthy
        }
    };
    let target = Target::register(&process.authority, ACCOUNTS, |account| {
        Some(receiver_of(account))
    })
    .await?;
    Ok(Rig::new(process, target, healthy))
}

/// Stops the receivers during a round, so that connections to them are open. Returns the suspended
/// process, which must not be dropped before the end.
async fn stop_receivers(
    [refusing, hanging]: [Process; 2],
    bench: &Bench,
    impaired: &Rig,
    failing: usize,
) -> anyhow::Result<Process> {
    let model = LoadModel::closed(IN_FLIGHT, bench.plan.warm_up);
    bench
        .run_round_with_refusals(impaired, model, |account| account >= failing)
        .await?;
    drop(refusing);
    hanging.signal(Signal::STOP)?;
    bench
        .run_round_with_refusals(impaired, model, |account| account >= failing)
        .await?;
    Ok(hanging)
}

/// Returns the envelopes per second and endpoint.
fn rate_per_endpoint(round: &Round, endpoints: usize) -> f64 {
    round.rate() / endpoints as f64
}
