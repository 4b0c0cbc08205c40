//! What is measured. Each scenario starts its programs, runs its rounds side by side, and ends them.

mod accounts;
mod latency;
mod living;
mod overload;
mod queued;
mod speed;

use crate::{bench::Bench, figures::Figures};
use clap::ValueEnum;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 64 in flight, one account
    Speed,
    /// 500 a second
    Latency,
    /// 64 in flight, 100 accounts; many accounts with one message each; batches
    Accounts,
    /// A million waits
    Queued,
    /// Some endpoints are dead
    Living,
    /// Twice as much as it can do
    Overload,
}

impl Scenario {
    /// Measures it.
    ///
    /// # Errors
    /// When a program does not do what it should.
    pub(crate) async fn measure(self, bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::Speed => speed::measure(bench, figures).await,
            Self::Latency => latency::measure(bench, figures).await,
            Self::Accounts => accounts::measure(bench).await,
            Self::Queued => queued::measure(bench, figures).await,
            Self::Living => living::measure(bench, figures).await,
            Self::Overload => overload::measure(bench, figures).await,
        }
    }
}

/// Tells whoever watches; standard output is for the last line.
fn say(line: &str) {
    use std::io::Write as _;
    // Nobody has to watch.
    let _ = writeln!(std::io::stderr(), "{line}");
}
