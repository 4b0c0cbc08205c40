//! What is measured. Whatever is compared is measured round by round in turn, so that whatever else the machine does falls
//! on all of it alike.

use crate::{
    bench::{Bench, Sample, digest_of},
    figures::{Figure, Figures, median},
    one_core,
    passage::{OfEach, Passage},
};
use anyhow::ensure;
use clap::ValueEnum;
use sealpost_proto::limits::FILE_BYTES_MAX;
use std::{path::Path, time::Duration};

/// 10^6 bytes.
const MB: u64 = 1_000_000;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Sealing and opening on one core beside cipher and hash
    OneCore,
    /// One file of 100 MB beside rage, age and a plain server
    Beside,
    /// Five files of 100 MB from `send` until the last is ready
    Whole,
    /// The most memory of each process, for 1, 100 and 500 MB
    Memory,
}

impl Scenario {
    /// Measures it.
    ///
    /// # Errors
    /// When a program does not do what it should.
    pub(crate) async fn measure(self, bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::OneCore => one_core(bench, figures),
            Self::Beside => beside(bench, figures).await,
            Self::Whole => whole(bench, figures).await,
            Self::Memory => memory(bench, figures).await,
        }
    }
}

/// Tells whoever watches; standard output is for the last line.
fn say(line: &str) {
    use std::io::Write as _;
    // Nobody has to watch.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn one_core(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let core = one_core::measure(bench.plan.core_rounds)?;
    figures.seal_vs_bound = Figure(core.seal_vs_bound.min(core.open_vs_bound));
    say(&format!(
        "one core: seal {:.0} MB/s ({:.3} of the bound), open {:.0} MB/s ({:.3}); cipher {:.0} MB/s, SHA-256 {:.0} MB/s",
        core.seal_mb_s,
        core.seal_vs_bound,
        core.open_mb_s,
        core.open_vs_bound,
        core.cipher_mb_s,
        core.sha256_mb_s
    ));
    Ok(())
}

async fn beside(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (passage, others) = (bench.passage().await?, bench.others().await?);
    let file = bench.sample(0, FILE_BYTES_MAX)?;
    let one = std::slice::from_ref(&file);
    passage.send(one).await?;
    let (mut uploads, mut downloads, mut saved) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.plan.rounds {
        let ours = passage.send(one).await?;
        let (fetched, saving) = (ours.ready - ours.arrived, passage.save(one).await?);
        let upload = others.upload(&file.path).await?;
        let (there, durable) = others.download().await?;
        same(&others.opened, &file)?;
        uploads.push(ratio(upload, ours.uploaded));
        downloads.push(ratio(durable, fetched));
        saved.push(ratio(durable, fetched + saving));
        say(&format!(
            "upload {} MB/s beside rage's {}; download {} beside age's {} ({} before its fsync); the message {:.0} ms \
             behind the upload; saving {} MB/s",
            rate(ours.uploaded),
            rate(upload),
            rate(fetched),
            rate(durable),
            rate(there),
            (ours.arrived - ours.uploaded.min(ours.arrived)).as_secs_f64() * 1e3,
            rate(saving)
        ));
    }
    figures.upload_vs_rage = Figure(median(uploads));
    figures.download_vs_age = Figure(median(downloads));
    say(&format!(
        "upload {:.3} of rage's rate, download {:.3} of age's, with the saving {:.3}",
        figures.upload_vs_rage.0,
        figures.download_vs_age.0,
        median(saved)
    ));
    passage.close().await
}

fn same(path: &Path, file: &Sample) -> anyhow::Result<()> {
    ensure!(
        digest_of(path)? == file.digest,
        "what came back is another file"
    );
    Ok(())
}

/// How much faster `ours` is.
fn ratio(theirs: Duration, ours: Duration) -> f64 {
    theirs.as_secs_f64() / ours.as_secs_f64()
}

/// 10^6 bytes a second, for one file.
fn rate(took: Duration) -> String {
    format!(
        "{:.0}",
        FILE_BYTES_MAX as f64 / MB as f64 / took.as_secs_f64()
    )
}

async fn whole(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let files = bench.largest_samples()?;
    let bytes = FILE_BYTES_MAX * files.len() as u64;
    let passage = bench.passage().await?;
    let mut rates = Vec::new();
    for _ in 0..bench.plan.whole_rounds {
        let before = passage.processor_seconds()?;
        let passed = passage.send(&files).await?;
        let after = passage.processor_seconds()?;
        passage.save(&files).await?;
        rates.push(bytes as f64 / MB as f64 / passed.ready.as_secs_f64());
        say(&format!(
            "500 MB: at the relay after {:.2} s, the message at the recipient after {:.2} s, ready after {:.2} s; \
             processor: sender {:.2} s, relay {:.2} s, recipient {:.2} s",
            passed.uploaded.as_secs_f64(),
            passed.arrived.as_secs_f64(),
            passed.ready.as_secs_f64(),
            after.sender - before.sender,
            after.relay - before.relay,
            after.recipient - before.recipient
        ));
    }
    figures.end_to_end_mb_s = Figure(median(rates));
    say(&format!(
        "from end to end {:.0} MB/s",
        figures.end_to_end_mb_s.0
    ));
    passage.close().await
}

async fn memory(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let memory = &mut figures.vmhwm_mb;
    let [small, large] = [bench.sample(0, MB)?, bench.sample(0, FILE_BYTES_MAX)?];
    for (size, files) in [
        (1, vec![small]),
        (100, vec![large]),
        (500, bench.largest_samples()?),
    ] {
        let OfEach {
            sender,
            relay,
            recipient,
        } = peaks(bench.passage().await?, size, &files)
            .await?
            .map(Figure);
        for (of_one, peak) in [
            (&mut memory.sender, sender),
            (&mut memory.relay, relay),
            (&mut memory.recipient, recipient),
        ] {
            match size {
                1 => of_one.mb_1 = peak,
                100 => of_one.mb_100 = peak,
                _ => of_one.mb_500 = peak,
            }
        }
    }
    Ok(())
}

/// The most memory of three new processes after one message.
async fn peaks(passage: Passage, size: u32, files: &[Sample]) -> anyhow::Result<OfEach<f64>> {
    let idle = passage.peaks()?;
    passage.send(files).await?;
    passage.save(files).await?;
    let peaks = passage.peaks()?;
    say(&format!(
        "{size} MB: at most sender {:.1} MiB ({:.1} before), relay {:.1} ({:.1}), recipient {:.1} ({:.1})",
        peaks.sender, idle.sender, peaks.relay, idle.relay, peaks.recipient, idle.recipient
    ));
    passage.close().await?;
    Ok(peaks)
}
