//! Results of the attacks and the links, and the bounds that they must keep.

use crate::{
    attacks::{Attack, Finding},
    links::LinkResult,
    measurement::{LATENCY_MAX, Measurement},
    testbed::PeakMemory,
};
use clap::ValueEnum as _;
use sealpost_bench_support::Figure;
use serde::Serialize;

/// Peak memory of relay and node in MiB that no attack may exceed.
const MEMORY_MAX_MIB: f64 = 96.0;

/// All results; the last line of standard output.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// One result for each attack.
    pub(crate) attacks: Vec<AttackResult>,
    /// One result for each link.
    pub(crate) links: Vec<LinkResult>,
    /// Largest peak memory of the relay over all attacks, in MiB.
    pub(crate) relay_mib: Figure,
    /// The same for the nodes.
    pub(crate) node_mib: Figure,
    /// Every bound that was exceeded and every attack that could not be run.
    pub(crate) failures: Vec<String>,
}

/// Result of one attack.
#[derive(Debug, Serialize)]
pub(crate) struct AttackResult {
    /// Name of the attack.
    pub(crate) attack: String,
    /// Median latency of the honest client during the attack, divided by that before it.
    pub(crate) slowdown: Figure,
    /// The same for the operation that was slowed down most, with its name.
    pub(crate) worst_operation: Option<(String, Figure)>,
    /// Longest operation of the honest client in milliseconds, with its name.
    pub(crate) slowest: Option<(String, Figure)>,
    /// Number of operations of the honest client.
    pub(crate) operations: usize,
    /// Number of operations that failed.
    pub(crate) failures: usize,
    /// Reason of the first one that failed.
    pub(crate) first_failure: Option<String>,
    /// Peak memory of the relay in MiB.
    pub(crate) relay_mib: Figure,
    /// Peak memory of the nodes in MiB.
    pub(crate) node_mib: Figure,
    /// Other figures of the attack.
    pub(crate) findings: Vec<Finding>,
}

impl AttackResult {
    /// Compares the honest client before and during an attack.
    pub(crate) fn new(
        attack: Attack,
        before: &Measurement,
        during: &Measurement,
        peak: PeakMemory,
        findings: Vec<Finding>,
    ) -> Self {
        let named = |(operation, value)| (format!("{operation:?}"), Figure(value));
        Self {
            attack: attack_name(attack),
            slowdown: during.slowdown(before),
            worst_operation: during.largest_slowdown(before).map(named),
            slowest: during.slowest().map(named),
            operations: during.operations(),
            failures: during.failures().len(),
            first_failure: during.failures().first().cloned(),
            relay_mib: Figure(peak.relay),
            node_mib: Figure(peak.node),
            findings,
        }
    }

    /// Returns a one-line summary.
    pub(crate) fn summary(&self) -> String {
        let format = |named: &Option<(String, Figure)>| match named {
            Some((operation, Figure(value))) => format!("{value:.1} ({operation})"),
            None => "none".to_owned(),
        };
        let mut text = format!(
            "{:<24} slowdown {:.2}, largest {}; slowest {} ms; {} of {} failed; relay {:.0} MiB, \
             node {:.0} MiB",
            self.attack,
            self.slowdown.0,
            format(&self.worst_operation),
            format(&self.slowest),
            self.failures,
            self.operations,
            self.relay_mib.0,
            self.node_mib.0
        );
        for finding in &self.findings {
            text.push_str(&format!("; {}: {}", finding.name, finding.value));
        }
        if let Some(failure) = &self.first_failure {
            text.push_str(&format!("; first failure: {failure}"));
        }
        text
    }

    /// Returns the bounds that were exceeded.
    fn exceeded(&self) -> Vec<String> {
        let mut exceeded = Vec::new();
        if self.failures > 0 {
            exceeded.push(format!(
                "{} operations of the honest client failed",
                self.failures
            ));
        }
        if let Some((operation, Figure(millis))) = &self.slowest
            && *millis > LATENCY_MAX.as_secs_f64() * 1e3
        {
            exceeded.push(format!("{operation} took {millis:.0} ms"));
        }
        for (program, Figure(mib)) in [("relay", self.relay_mib), ("node", self.node_mib)] {
            if mib >= MEMORY_MAX_MIB {
                exceeded.push(format!("the {program} used {mib:.0} MiB"));
            }
        }
        let findings = self.findings.iter().filter(|one| !one.is_within_limit());
        exceeded.extend(findings.map(|one| format!("{}: {}", one.name, one.value)));
        exceeded
            .into_iter()
            .map(|bound| format!("{}: {bound}", self.attack))
            .collect()
    }
}

impl Report {
    /// Adds the result of an attack.
    pub(crate) fn add_attack(&mut self, result: AttackResult) {
        self.failures.extend(result.exceeded());
        self.relay_mib = Figure(self.relay_mib.0.max(result.relay_mib.0));
        self.node_mib = Figure(self.node_mib.0.max(result.node_mib.0));
        self.attacks.push(result);
    }

    /// Adds the result of a link.
    pub(crate) fn add_link(&mut self, result: LinkResult) {
        self.failures.extend(result.exceeded());
        self.links.push(result);
    }
}

/// Returns the name of an attack on the command line.
pub(crate) fn attack_name(attack: Attack) -> String {
    attack
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Operation;
    use std::time::Duration;

    fn result(millis: u64, peak_mib: f64, failure: Option<&str>) -> AttackResult {
        let mut during = Measurement::default();
        during.record(Operation::Pull, Ok(Duration::from_millis(millis)));
        if let Some(reason) = failure {
            during.record(Operation::Pull, Err(anyhow::anyhow!("{reason}")));
        }
        let peak = PeakMemory {
            relay: peak_mib,
            node: 1.0,
        };
        AttackResult::new(
            Attack::Floods,
            &Measurement::default(),
            &during,
            peak,
            Vec::new(),
        )
    }

    #[test]
    fn each_bound_is_checked() {
        assert!(result(2_000, 95.9, None).exceeded().is_empty());
        assert_eq!(
            result(2_001, 1.0, None).exceeded(),
            ["floods: Pull took 2001 ms"]
        );
        assert_eq!(
            result(1, 96.0, None).exceeded(),
            ["floods: the relay used 96 MiB"]
        );
        let failed = result(1, 1.0, Some("refused"));
        assert_eq!(
            failed.exceeded(),
            ["floods: 1 operations of the honest client failed"]
        );
    }

    #[test]
    fn findings_beyond_their_limit_are_reported() {
        let mut found = result(1, 1.0, None);
        found.findings = vec![Finding {
            name: "polls",
            value: 3,
            limit: Some(2),
        }];
        assert_eq!(found.exceeded(), ["floods: polls: 3"]);
    }
}
