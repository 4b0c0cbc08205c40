//! More lanes than one: 100 accounts, and many accounts with one message each; and submission in batches.

use super::{say, speed::line};
use crate::{
    bench::{Bench, IN_FLIGHT},
    figures::median,
    generator::Pace,
};
use std::time::Duration;

const SOME: usize = 100;
const BATCH: u64 = 100;
const BATCHES_IN_FLIGHT: u64 = 4;

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let (_receiver, watch) = bench.receiver().await?;
    let ceiling = bench.ceiling(&watch).await?;
    let ours = bench.relay(SOME, &watch).await?;
    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let pace = Pace::closed(IN_FLIGHT, bench.plan.round);
        let (limit, round) = (
            bench.round(&ceiling, pace).await?,
            bench.round(&ours, pace).await?,
        );
        ratios.push(round.rate() / limit.rate());
        say(&format!(
            "64 in flight, {SOME} accounts: {} beside the ceiling's {}",
            line(&round),
            line(&limit)
        ));
    }
    say(&format!(
        "64 in flight, {SOME} accounts: {:.3} of the ceiling",
        median(ratios)
    ));

    let batches = Pace::Closed {
        in_flight: BATCHES_IN_FLIGHT,
        time: bench.plan.round,
        requests: u64::MAX,
        envelopes: BATCH,
    };
    let round = bench.round(&ours, batches).await?;
    say(&format!(
        "batches of {BATCH}, {BATCHES_IN_FLIGHT} in flight, {SOME} accounts: {}",
        line(&round)
    ));
    ours.end().await?;

    let many = bench.plan.many_accounts;
    let ours = bench
        .with_accounts(bench.bare_relay().await?, many, &watch)
        .await?;
    let each = Pace::Closed {
        in_flight: IN_FLIGHT,
        time: Duration::MAX,
        requests: u64::try_from(many)?,
        envelopes: 1,
    };
    let (limit, round) = (
        bench.round(&ceiling, each).await?,
        bench.round(&ours, each).await?,
    );
    say(&format!(
        "64 in flight, {many} accounts with one message each: {} beside the ceiling's {}",
        line(&round),
        line(&limit)
    ));
    say(&format!(
        "64 in flight, {many} accounts with one message each: {:.3} of the ceiling",
        round.rate() / limit.rate()
    ));
    Ok(())
}
