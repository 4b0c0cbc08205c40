//! Twice as much is offered as the relay can do with as many requests under way as it likes: it refuses the rest with words,
//! at once, and stays small.

use super::{say, speed::line};
use crate::{
    bench::{Bench, IN_FLIGHT},
    figures::{Figure, Figures},
    generator::Pace,
};
use anyhow::ensure;

const ACCOUNTS: usize = 100;
/// With more requests under way it does no more: every commit is as full as it gets.
const SATURATING: u64 = 512;
/// So many that the relay, and not their number, holds requests back.
const CONNECTIONS: u64 = 2_048;

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver, watch) = bench.receiver().await?;
    let ours = bench.relay(ACCOUNTS, &watch).await?;
    let able = bench
        .round(&ours, Pace::closed(SATURATING, bench.plan.round))
        .await?;
    let offered = 2.0 * able.rate();
    let pace = Pace::Open {
        rate: offered,
        time: bench.plan.paced_round,
        connections: CONNECTIONS,
    };
    let round = bench.rough_round(&ours, pace, |_| true).await?;
    figures.overload_rss_mb = Figure(ours.process.memory()?.most_mb);
    let sent = &round.sent;
    say(&format!(
        "{offered:.0}/s offered: {} accepted, {} refused with 429 or 503, {} failed, {} never sent; {}; at most {:.0} MiB",
        sent.accepted(),
        sent.refused,
        sent.failed,
        sent.unsent,
        line(&round),
        figures.overload_rss_mb.0
    ));
    ensure!(
        sent.failed == 0,
        "{} requests were neither accepted nor refused: {:?}",
        sent.failed,
        sent.failure
    );
    bench
        .round(&ours, Pace::closed(IN_FLIGHT, bench.plan.warm_up))
        .await?;
    Ok(())
}
