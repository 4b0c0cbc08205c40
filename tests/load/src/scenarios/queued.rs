//! A million envelopes wait for accounts that do not fetch them, while others are sent as if nothing were.

use super::{say, speed::line};
use crate::{
    account::Target,
    bench::{Bench, IN_FLIGHT},
    figures::{Figure, Figures, median},
    generator::{self, Pace},
};
use anyhow::ensure;
use std::{sync::Arc, time::Duration};

/// Accounts for which they wait.
const ABSENT: usize = 100;
const BATCH: u64 = 100;
const BATCHES_IN_FLIGHT: u64 = 8;

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver, watch) = bench.receiver().await?;
    let (empty, full) = (bench.relay(1, &watch).await?, bench.relay(1, &watch).await?);
    fill(&full.process.authority, bench.plan.queued).await?;
    // The log is folded into the database by the next commits; that is part of filling.
    bench
        .round(&full, Pace::closed(IN_FLIGHT, bench.plan.warm_up))
        .await?;
    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let pace = Pace::closed(IN_FLIGHT, bench.plan.round);
        let (none, round) = (
            bench.round(&empty, pace).await?,
            bench.round(&full, pace).await?,
        );
        ratios.push(round.rate() / none.rate());
        say(&format!(
            "{} queued: {}; none queued: {}",
            bench.plan.queued,
            line(&round),
            line(&none)
        ));
    }
    figures.million_queued_ratio = Figure(median(ratios));
    figures.rss_mb.million = Figure(full.process.memory()?.most_mb);
    say(&format!(
        "{} queued: {:.3} of the rate without, at most {:.0} MiB",
        bench.plan.queued, figures.million_queued_ratio.0, figures.rss_mb.million.0
    ));
    Ok(())
}

async fn fill(authority: &str, envelopes: u64) -> anyhow::Result<()> {
    let absent = Arc::new(Target::registered(authority, ABSENT, |_| None).await?);
    let pace = Pace::Closed {
        in_flight: BATCHES_IN_FLIGHT,
        time: Duration::MAX,
        requests: envelopes / BATCH,
        envelopes: BATCH,
    };
    let sent = generator::send(&absent, 0, pace).await?;
    ensure!(
        sent.accepted() == envelopes,
        "{} of {envelopes} envelopes were queued: {sent:?}",
        sent.accepted()
    );
    Ok(())
}
