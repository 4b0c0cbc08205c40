//! What happens when: virtual time moves from one entry to the next.

use std::collections::BTreeMap;

/// A second of virtual time, in its unit.
pub(crate) const SECOND: u64 = 1_000;
/// A minute of virtual time.
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// An hour of virtual time.
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// A day of virtual time.
pub(crate) const DAY: u64 = 24 * HOUR;

/// Entries in the order of their time; those of one time in the order in which they were made.
pub(crate) struct Agenda<T> {
    entries: BTreeMap<(u64, u64), T>,
    made: u64,
    now: u64,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            made: 0,
            now: 0,
        }
    }

    /// Virtual milliseconds since the beginning.
    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    /// Enters something that happens `after` milliseconds from now.
    pub(crate) fn enter(&mut self, after: u64, entry: T) {
        self.made += 1;
        self.entries.insert((self.now + after, self.made), entry);
    }

    /// Moves to the next entry and takes it.
    pub(crate) fn next(&mut self) -> Option<T> {
        let ((at, _), entry) = self.entries.pop_first()?;
        self.now = at;
        Some(entry)
    }

    /// Whether something of that sort is to come.
    pub(crate) fn any(&self, sort: impl Fn(&T) -> bool) -> bool {
        self.entries.values().any(sort)
    }
}
