//! Latencies of the honest client and what they mean: its slowdown and the bounds that hold during
//! every attack.

use sealpost_bench_support::{Figure, median};
use std::{collections::BTreeMap, time::Duration};

/// Longest time that an operation of the honest client may take.
pub(crate) const LATENCY_MAX: Duration = Duration::from_secs(2);

/// Operation of the honest client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Show the account, a request without a body.
    Account,
    /// Submit an envelope.
    Submit,
    /// Pull and acknowledge deliveries.
    Pull,
    /// Submit an envelope until it has arrived at a webhook.
    Webhook,
    /// Download a part of a blob.
    Download,
    /// Sign in with the account key.
    SignIn,
    /// Send a message from node to node until it is delivered.
    Message,
    /// Display a page of the recipient's inbox and its newest message.
    Inbox,
}

/// Operations of the honest client over some time.
#[derive(Debug, Default)]
pub(crate) struct Measurement {
    millis: BTreeMap<Operation, Vec<f64>>,
    failures: Vec<String>,
}

impl Measurement {
    /// Records an operation.
    pub(crate) fn record(&mut self, operation: Operation, outcome: anyhow::Result<Duration>) {
        match outcome {
            Ok(latency) => {
                let millis = latency.as_secs_f64() * 1e3;
                self.millis.entry(operation).or_default().push(millis);
            }
            Err(error) => self.failures.push(format!("{operation:?}: {error:#}")),
        }
    }

    /// Returns the number of operations, including those that failed.
    pub(crate) fn operations(&self) -> usize {
        self.millis.values().map(Vec::len).sum::<usize>() + self.failures.len()
    }

    /// Returns the reasons of the failed operations.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Returns the slowest operation with its latency in milliseconds.
    pub(crate) fn slowest(&self) -> Option<(Operation, f64)> {
        let all = self.millis.iter();
        let all = all.flat_map(|(operation, millis)| millis.iter().map(|one| (*operation, *one)));
        all.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// Returns the median of the latencies, each divided by the median of the same operation
    /// before: operations differ too much to be mixed.
    pub(crate) fn slowdown(&self, before: &Self) -> Figure {
        let ratios = self.millis.iter().flat_map(|(operation, millis)| {
            let usual = before.median_of(*operation);
            millis.iter().map(move |one| one / usual)
        });
        Figure(median(ratios.filter(|ratio| ratio.is_finite())))
    }

    /// Returns the operation whose median grew most, with the ratio.
    pub(crate) fn largest_slowdown(&self, before: &Self) -> Option<(Operation, f64)> {
        let ratios = self.millis.keys().map(|operation| {
            let ratio = self.median_of(*operation) / before.median_of(*operation);
            (*operation, ratio)
        });
        ratios
            .filter(|(_, ratio)| ratio.is_finite())
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    fn median_of(&self, operation: Operation) -> f64 {
        let millis = self.millis.get(&operation).into_iter().flatten();
        median(millis.copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(entries: &[(Operation, u64)]) -> Measurement {
        let mut measurement = Measurement::default();
        for (operation, millis) in entries {
            measurement.record(*operation, Ok(Duration::from_millis(*millis)));
        }
        measurement
    }

    #[test]
    fn slowdown_compares_equal_operations() {
        let before = measured(&[(Operation::Account, 1), (Operation::Message, 100)]);
        let during = measured(&[
            (Operation::Account, 2),
            (Operation::Account, 2),
            (Operation::Message, 300),
        ]);
        assert_eq!(during.slowdown(&before), Figure(2.0));
        assert_eq!(during.slowest(), Some((Operation::Message, 300.0)));
        assert_eq!(
            during.largest_slowdown(&before),
            Some((Operation::Message, 3.0))
        );
    }

    #[test]
    fn failed_operations_are_counted() {
        let mut measurement = measured(&[(Operation::Pull, 1)]);
        measurement.record(Operation::Pull, Err(anyhow::anyhow!("refused")));
        assert_eq!(measurement.operations(), 2);
        assert_eq!(measurement.failures(), ["Pull: refused"]);
    }
}
