//! Rate of the repairs of a connection: new sessions after an envelope that cannot be opened,
//! requests to send messages again, and the answers to such requests. A peer or a relay can cause any
//! number of occasions.

use sealpost_proto::{Timestamp, limits};
use std::time::Duration;

/// Interval after which the count begins again.
const WINDOW: Duration = Duration::from_secs(86_400);

/// Repairs of one kind on one connection within a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairRate {
    pub(super) count: u32,
    pub(super) last_at: Timestamp,
}

/// Repair that was scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledRepair {
    /// When the repair may take place.
    pub at: Timestamp,
    /// Whether there were more than [`limits::REPAIRS_PER_DAY_BEFORE_WARNING`] in a day, of which
    /// users are warned.
    pub is_excessive: bool,
}

impl RepairRate {
    /// Schedules the next repair: the first of a day at once, each further one at least 60 s after
    /// the one before, which doubles up to an hour.
    pub fn schedule(&mut self, now: Timestamp) -> ScheduledRepair {
        self.schedule_after(1, now)
    }

    /// Like [`Self::schedule`], but the first `immediate` of a day take place at once.
    pub fn schedule_after(&mut self, immediate: u32, now: Timestamp) -> ScheduledRepair {
        // A time further ahead was set by a clock that has been set back since.
        let is_clock_set_back = self.last_at > now.plus(limits::REPAIR_INTERVAL_MAX);
        if is_clock_set_back || now.since(self.last_at) >= WINDOW {
            *self = Self::default();
        }
        let at = match self.count.checked_sub(immediate) {
            None => now,
            Some(doublings) => now.max(self.last_at.plus(interval(doublings))),
        };
        self.count = self.count.saturating_add(1);
        self.last_at = at;
        ScheduledRepair {
            at,
            is_excessive: self.count > limits::REPAIRS_PER_DAY_BEFORE_WARNING,
        }
    }
}

fn interval(doublings: u32) -> Duration {
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    limits::REPAIR_INTERVAL_FIRST
        .saturating_mul(factor)
        .min(limits::REPAIR_INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_766_000_000_000);

    #[test]
    fn interval_doubles_up_to_an_hour() {
        let mut rate = RepairRate::default();
        let mut now = START;
        for expected in [0, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            let before = now;
            now = rate.schedule(now).at;
            assert_eq!(now.since(before), Duration::from_secs(expected));
        }
    }

    #[test]
    fn many_repairs_in_a_day_are_excessive() {
        let mut rate = RepairRate::default();
        let mut schedule = |at| rate.schedule(at).is_excessive;
        let hours = |n: u32| START.plus(Duration::from_secs(3_600) * n);
        let excessive: Vec<_> = (0..7).map(|n| schedule(hours(n))).collect();
        assert_eq!(excessive, [false, false, false, false, false, true, true]);
        assert!(!schedule(hours(6 + 24)), "a day later");
    }

    #[test]
    fn first_answers_are_immediate() {
        let mut rate = RepairRate::default();
        for _ in 0..3 {
            assert_eq!(rate.schedule_after(3, START).at, START);
        }
        let delayed = rate.schedule_after(3, START).at;
        assert_eq!(delayed.since(START), Duration::from_secs(60));
    }

    #[test]
    fn clock_set_back_delays_at_most_an_hour() {
        let mut rate = RepairRate::default();
        rate.schedule(START.plus(WINDOW * 30));
        assert_eq!(rate.schedule(START).at, START);
    }
}
