//! Twice the capacity of the relay is offered. The relay must refuse the excess at once, and its
//! memory must stay bounded.

use super::speed::format_round;
use crate::{
    bench::{Bench, IN_FLIGHT},
    figures::Figures,
    generator::LoadModel,
};
use anyhow::ensure;
use sealpost_bench_support::{Figure, report_progress};

const ACCOUNTS: usize = 100;
/// Concurrent requests at which every commit is full and the rate no longer grows.
const SATURATING_IN_FLIGHT: u64 = 512;
/// Enough connections that the relay, not the generator, limits the requests.
const CONNECTIONS: u64 = 2_048;

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver_process, receiver) = bench.start_receiver().await?;
    let relay = bench.start_relay_with_accounts(ACCOUNTS, &receiver).await?;
    let capacity = bench
        .run_round(
            &relay,
            LoadModel::closed(SATURATING_IN_FLIGHT, bench.plan.round),
        )
        .await?;
    let offered = 2.0 * capacity.rate();
    let model = LoadModel::Open {
        rate: offered,
        duration: bench.plan.paced_round,
        connections: CONNECTIONS,
    };
    let round = bench
        .run_round_with_refusals(&relay, model, |_| true)
        .await?;
    figures.overload_rss_mb = Figure(relay.process.memory()?.peak_mb);
    let report = &round.report;
    report_progress(&format!(
        "{offered:.0}/s offered: {} accepted, {} refused with 429 or 503, {} failed, {} unsent; \
         {}; peak {:.0} MiB",
        report.total_accepted(),
        report.refused,
        report.failed,
        report.unsent,
        format_round(&round),
        figures.overload_rss_mb.0
    ));
    ensure!(
        report.failed == 0,
        "{} requests were neither accepted nor refused: {:?}",
        report.failed,
        report.first_failure
    );
    bench
        .run_round(&relay, LoadModel::closed(IN_FLIGHT, bench.plan.warm_up))
        .await?;
    Ok(())
}
