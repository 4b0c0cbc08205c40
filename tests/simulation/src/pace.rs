//! How much time a run covers, and how long its processes pause when nothing happens.

use crate::schedule::{DAY, HOUR, MINUTE};

/// How much time a run covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// An hour of pairing and messages with many faults.
    Hour,
    /// A year in which sessions rotate, prekeys and envelopes expire, processes are down for days,
    /// and databases are rolled back to old backups.
    Year,
}

/// Times of a run, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long faults are injected.
    pub(crate) fault_phase: u64,
    /// Shortest time for settling after that. A year waits until lost receipts are asked for.
    pub(crate) settle_min: u64,
    /// Time limit for settling. A clock that is set back by days delays what is due by as much.
    pub(crate) settle_max: u64,
    /// Limit on events in one run, many times the usual number.
    pub(crate) events_max: u32,
    /// Longest time between two runs of a task.
    pub(crate) task_interval_max: u64,
    /// Time between two maintenance runs for invites and prekeys.
    pub(crate) maintenance_interval: u64,
    /// Power of two by which each empty pull in a row lengthens the pause after it.
    pub(crate) empty_pull_step: u32,
    /// Longest pause after an empty pull; a long poll returns at once when something arrives.
    pub(crate) empty_pull_pause_max: u64,
    /// Longest time until the relay checks its webhooks again.
    pub(crate) webhook_check_interval: u64,
    /// Time between two sweeps of the relay.
    pub(crate) sweep_interval: u64,
    /// Longest pause before the next submit or pull while the relay does not respond.
    pub(crate) retry_pause_max: u64,
    /// Time after which a user tries again while the node is down.
    pub(crate) user_retry_pause: u64,
    /// Time between two visits of a user who reads messages, and the end of these visits.
    pub(crate) reading_interval: u64,
    pub(crate) reading_end: u64,
}

impl Pace {
    pub(crate) const fn new(span: Span) -> Self {
        match span {
            Span::Hour => Self {
                fault_phase: HOUR,
                settle_min: HOUR,
                settle_max: 14 * DAY,
                events_max: 80_000,
                task_interval_max: HOUR,
                maintenance_interval: 5 * HOUR,
                empty_pull_step: 1,
                empty_pull_pause_max: 15 * MINUTE,
                webhook_check_interval: MINUTE,
                sweep_interval: 10 * MINUTE,
                retry_pause_max: MINUTE,
                user_retry_pause: 5 * MINUTE,
                reading_interval: 20 * MINUTE,
                reading_end: 4 * HOUR,
            },
            Span::Year => Self {
                fault_phase: 365 * DAY,
                settle_min: 20 * DAY,
                settle_max: 60 * DAY,
                events_max: 400_000,
                task_interval_max: 12 * HOUR,
                maintenance_interval: 7 * HOUR,
                empty_pull_step: 5,
                empty_pull_pause_max: 12 * HOUR,
                webhook_check_interval: 6 * HOUR,
                sweep_interval: 9 * HOUR,
                retry_pause_max: 3 * HOUR,
                user_retry_pause: 6 * HOUR,
                reading_interval: 11 * HOUR,
                reading_end: 367 * DAY,
            },
        }
    }
}
