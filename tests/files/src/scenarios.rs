//! The scenarios. Compared variants are measured alternately, round by round, so that other load on
//! the machine affects all of them equally.

use crate::{
    bench::{Bench, Sample, file_digest},
    figures::Figures,
    node_pair::{NodePair, PerProcess},
    one_core,
};
use anyhow::ensure;
use clap::ValueEnum;
use sealpost_bench_support::{Figure, median, report_progress};
use sealpost_proto::limits::FILE_BYTES_MAX;
use std::{path::Path, time::Duration};

/// 10^6 bytes.
const MB: u64 = 1_000_000;

/// Measured scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Sealing and opening on one core, compared with cipher and hash
    OneCore,
    /// One file of 100 MB, compared with rage, age and a plain server
    Comparison,
    /// Five files of 100 MB from `send` until the last one is ready
    EndToEnd,
    /// Peak memory of each process for 1, 100 and 500 MB
    Memory,
}

impl Scenario {
    /// Runs the scenario.
    pub(crate) async fn measure(self, bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::OneCore => measure_one_core(bench, figures),
            Self::Comparison => compare_with_reference(bench, figures).await,
            Self::EndToEnd => measure_end_to_end(bench, figures).await,
            Self::Memory => measure_memory(bench, figures).await,
        }
    }
}

fn measure_one_core(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let core = one_core::measure(bench.plan.core_rounds)?;
    figures.seal_vs_bound = Figure(core.seal_vs_bound.min(core.open_vs_bound));
    report_progress(&format!(
        "one core: seal {:.0} MB/s ({:.3} of the bound), open {:.0} MB/s ({:.3}); cipher {:.0} \
         MB/s, SHA-256 {:.0} MB/s",
        core.seal_mb_s,
        core.seal_vs_bound,
        core.open_mb_s,
        core.open_vs_bound,
        core.cipher_mb_s,
        core.sha256_mb_s
    ));
    Ok(())
}

async fn compare_with_reference(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (node_pair, reference) = (
        bench.start_node_pair().await?,
        bench.start_reference_tools().await?,
    );
    let file = bench.create_sample(0, FILE_BYTES_MAX)?;
    let one = std::slice::from_ref(&file);
    node_pair.send(one).await?;
    let (mut uploads, mut downloads, mut saved) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.plan.rounds {
        let own = node_pair.send(one).await?;
        let (fetched, saving) = (own.ready - own.arrived, node_pair.save(one).await?);
        let upload = reference.upload(&file.path).await?;
        let (written, durable) = reference.download().await?;
        ensure_content(&reference.opened, &file)?;
        uploads.push(speedup(upload, own.uploaded));
        downloads.push(speedup(durable, fetched));
        saved.push(speedup(durable, fetched + saving));
        report_progress(&format!(
            "upload {} MB/s (rage {}); download {} MB/s (age {}, {} before its fsync); the \
             message {:.0} ms after the upload ended; saving {} MB/s",
            format_rate(own.uploaded),
            format_rate(upload),
            format_rate(fetched),
            format_rate(durable),
            format_rate(written),
            (own.arrived - own.uploaded.min(own.arrived)).as_secs_f64() * 1e3,
            format_rate(saving)
        ));
    }
    figures.upload_vs_rage = Figure(median(uploads));
    figures.download_vs_age = Figure(median(downloads));
    report_progress(&format!(
        "upload {:.3} of rage's rate, download {:.3} of age's, {:.3} with saving",
        figures.upload_vs_rage.0,
        figures.download_vs_age.0,
        median(saved)
    ));
    node_pair.stop().await
}

fn ensure_content(path: &Path, file: &Sample) -> anyhow::Result<()> {
    ensure!(
        file_digest(path)? == file.digest,
        "the downloaded file differs"
    );
    Ok(())
}

/// Returns the rate of `own` relative to that of the reference.
fn speedup(reference: Duration, own: Duration) -> f64 {
    reference.as_secs_f64() / own.as_secs_f64()
}

/// Formats the rate for one file in 10^6 bytes per second.
fn format_rate(took: Duration) -> String {
    format!(
        "{:.0}",
        FILE_BYTES_MAX as f64 / MB as f64 / took.as_secs_f64()
    )
}

async fn measure_end_to_end(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let files = bench.create_largest_samples()?;
    let bytes = FILE_BYTES_MAX * files.len() as u64;
    let node_pair = bench.start_node_pair().await?;
    let mut rates = Vec::new();
    for _ in 0..bench.plan.end_to_end_rounds {
        let before = node_pair.processor_seconds()?;
        let times = node_pair.send(&files).await?;
        let after = node_pair.processor_seconds()?;
        node_pair.save(&files).await?;
        rates.push(bytes as f64 / MB as f64 / times.ready.as_secs_f64());
        report_progress(&format!(
            "500 MB: at the relay after {:.2} s, the message at the recipient after {:.2} s, \
             ready after {:.2} s; processor time: sender {:.2} s, relay {:.2} s, recipient {:.2} s",
            times.uploaded.as_secs_f64(),
            times.arrived.as_secs_f64(),
            times.ready.as_secs_f64(),
            after.sender - before.sender,
            after.relay - before.relay,
            after.recipient - before.recipient
        ));
    }
    figures.end_to_end_mb_s = Figure(median(rates));
    report_progress(&format!("end to end {:.0} MB/s", figures.end_to_end_mb_s.0));
    node_pair.stop().await
}

async fn measure_memory(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let memory = &mut figures.vmhwm_mb;
    let [small, large] = [
        bench.create_sample(0, MB)?,
        bench.create_sample(0, FILE_BYTES_MAX)?,
    ];
    for (size, files) in [
        (1, vec![small]),
        (100, vec![large]),
        (500, bench.create_largest_samples()?),
    ] {
        let PerProcess {
            sender,
            relay,
            recipient,
        } = measure_peaks(bench.start_node_pair().await?, size, &files)
            .await?
            .map(Figure);
        for (by_size, peak) in [
            (&mut memory.sender, sender),
            (&mut memory.relay, relay),
            (&mut memory.recipient, recipient),
        ] {
            match size {
                1 => by_size.mb_1 = peak,
                100 => by_size.mb_100 = peak,
                _ => by_size.mb_500 = peak,
            }
        }
    }
    Ok(())
}

/// Returns the peak memory of three new processes after one message.
async fn measure_peaks(
    node_pair: NodePair,
    size: u32,
    files: &[Sample],
) -> anyhow::Result<PerProcess<f64>> {
    let idle = node_pair.peak_memory()?;
    node_pair.send(files).await?;
    node_pair.save(files).await?;
    let peaks = node_pair.peak_memory()?;
    report_progress(&format!(
        "{size} MB: peak of sender {:.1} MiB ({:.1} before), relay {:.1} ({:.1}), recipient {:.1} \
         ({:.1})",
        peaks.sender, idle.sender, peaks.relay, idle.relay, peaks.recipient, idle.recipient
    ));
    node_pair.stop().await?;
    Ok(peaks)
}
