//! The rate while a million envelopes are queued for accounts that do not fetch them.

use super::speed::format_round;
use crate::{
    account::Target,
    bench::{Bench, IN_FLIGHT},
    figures::Figures,
    generator::{self, LoadModel},
};
use anyhow::ensure;
use sealpost_bench_support::{Figure, median, report_progress};
use std::{sync::Arc, time::Duration};

/// Number of accounts with queued envelopes.
const OFFLINE_ACCOUNTS: usize = 100;
const BATCH: u64 = 100;
const BATCHES_IN_FLIGHT: u64 = 8;

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver_process, receiver) = bench.start_receiver().await?;
    let (empty, full) = (
        bench.start_relay_with_accounts(1, &receiver).await?,
        bench.start_relay_with_accounts(1, &receiver).await?,
    );
    fill(&full.process.authority, bench.plan.queued).await?;
    // The next commits checkpoint the write-ahead log; that is part of filling.
    bench
        .run_round(&full, LoadModel::closed(IN_FLIGHT, bench.plan.warm_up))
        .await?;
    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let model = LoadModel::closed(IN_FLIGHT, bench.plan.round);
        let (none, round) = (
            bench.run_round(&empty, model).await?,
            bench.run_round(&full, model).await?,
        );
        ratios.push(round.rate() / none.rate());
        report_progress(&format!(
            "{} queued: {}; none queued: {}",
            bench.plan.queued,
            format_round(&round),
            format_round(&none)
        ));
    }
    figures.million_queued_ratio = Figure(median(ratios));
    figures.rss_mb.million = Figure(full.process.memory()?.peak_mb);
    report_progress(&format!(
        "{} queued: {:.3} of the rate without a queue, peak {:.0} MiB",
        bench.plan.queued, figures.million_queued_ratio.0, figures.rss_mb.million.0
    ));
    Ok(())
}

async fn fill(authority: &str, envelopes: u64) -> anyhow::Result<()> {
    let offline = Arc::new(Target::register(authority, OFFLINE_ACCOUNTS, |_| None).await?);
    let model = LoadModel::Closed {
        in_flight: BATCHES_IN_FLIGHT,
        duration: Duration::MAX,
        requests: envelopes / BATCH,
        envelopes: BATCH,
    };
    let report = generator::send(&offline, 0, model).await?;
    ensure!(
        report.total_accepted() == envelopes,
        "{} of {envelopes} envelopes were queued: {report:?}",
        report.total_accepted()
    );
    Ok(())
}
