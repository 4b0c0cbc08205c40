//! Several lanes: 100 accounts, many accounts with one message each, and submission in batches.

use super::speed::format_round;
use crate::{
    bench::{Bench, IN_FLIGHT},
    generator::LoadModel,
};
use sealpost_bench_support::{median, report_progress};
use std::time::Duration;

const ACCOUNTS: usize = 100;
const BATCH: u64 = 100;
const BATCHES_IN_FLIGHT: u64 = 4;

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let (_receiver_process, receiver) = bench.start_receiver().await?;
    let ceiling = bench.start_ceiling(&receiver).await?;
    let relay = bench.start_relay_with_accounts(ACCOUNTS, &receiver).await?;
    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let model = LoadModel::closed(IN_FLIGHT, bench.plan.round);
        let (ceiling_round, round) = (
            bench.run_round(&ceiling, model).await?,
            bench.run_round(&relay, model).await?,
        );
        ratios.push(round.rate() / ceiling_round.rate());
        report_progress(&format!(
            "64 in flight, {ACCOUNTS} accounts: {}; ceiling {}",
            format_round(&round),
            format_round(&ceiling_round)
        ));
    }
    report_progress(&format!(
        "64 in flight, {ACCOUNTS} accounts: {:.3} of the ceiling",
        median(ratios)
    ));

    let batches = LoadModel::Closed {
        in_flight: BATCHES_IN_FLIGHT,
        duration: bench.plan.round,
        requests: u64::MAX,
        envelopes: BATCH,
    };
    let round = bench.run_round(&relay, batches).await?;
    report_progress(&format!(
        "batches of {BATCH}, {BATCHES_IN_FLIGHT} in flight, {ACCOUNTS} accounts: {}",
        format_round(&round)
    ));
    relay.stop().await?;

    let many = bench.plan.many_accounts;
    let relay = bench
        .register_accounts(bench.start_relay().await?, many, &receiver)
        .await?;
    let each = LoadModel::Closed {
        in_flight: IN_FLIGHT,
        duration: Duration::MAX,
        requests: u64::try_from(many)?,
        envelopes: 1,
    };
    let (ceiling_round, round) = (
        bench.run_round(&ceiling, each).await?,
        bench.run_round(&relay, each).await?,
    );
    report_progress(&format!(
        "64 in flight, {many} accounts with one message each: {}; ceiling {}",
        format_round(&round),
        format_round(&ceiling_round)
    ));
    report_progress(&format!(
        "64 in flight, {many} accounts with one message each: {:.3} of the ceiling",
        round.rate() / ceiling_round.rate()
    ));
    Ok(())
}
