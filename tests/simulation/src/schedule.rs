//! The event queue: virtual time jumps from one event to the next.

use std::collections::BTreeMap;

/// A second of virtual time, in milliseconds.
pub(crate) const SECOND: u64 = 1_000;
/// A minute of virtual time.
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// An hour of virtual time.
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// A day of virtual time.
pub(crate) const DAY: u64 = 24 * HOUR;

/// Events ordered by time; events at the same time keep the order in which they were added.
pub(crate) struct Schedule<T> {
    events: BTreeMap<(u64, u64), T>,
    added: u64,
    now: u64,
}

impl<T> Schedule<T> {
    pub(crate) const fn new() -> Self {
        Self {
            events: BTreeMap::new(),
            added: 0,
            now: 0,
        }
    }

    /// Returns the virtual milliseconds since the start.
    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    /// Adds an event `after` milliseconds from now.
    pub(crate) fn add(&mut self, after: u64, event: T) {
        self.added += 1;
        self.events.insert((self.now + after, self.added), event);
    }

    /// Advances the time to the next event and removes that event.
    pub(crate) fn pop_next(&mut self) -> Option<T> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// Returns whether any pending event matches.
    pub(crate) fn contains(&self, matches: impl Fn(&T) -> bool) -> bool {
        self.events.values().any(matches)
    }
}
