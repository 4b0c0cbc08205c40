//! The scenarios. Each one starts its programs, runs its rounds alternately and stops the programs.

mod accounts;
mod failing_endpoints;
mod latency;
mod overload;
mod queued;
mod speed;

use crate::{bench::Bench, figures::Figures};
use clap::ValueEnum;

/// Measured scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 64 requests in flight, one account
    Speed,
    /// 500 envelopes per second
    Latency,
    /// 64 requests in flight, 100 accounts; many accounts with one message each; batches
    Accounts,
    /// A million queued envelopes
    Queued,
    /// Some endpoints fail
    FailingEndpoints,
    /// Twice the capacity of the relay
    Overload,
}

impl Scenario {
    /// Runs the scenario.
    pub(crate) async fn measure(self, bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::Speed => speed::measure(bench, figures).await,
            Self::Latency => latency::measure(bench, figures).await,
            Self::Accounts => accounts::measure(bench).await,
            Self::Queued => queued::measure(bench, figures).await,
            Self::FailingEndpoints => failing_endpoints::measure(bench, figures).await,
            Self::Overload => overload::measure(bench, figures).await,
        }
    }
}
