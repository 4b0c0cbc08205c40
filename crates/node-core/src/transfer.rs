//! Scheduling of file transfers: which parts of which files are transferred next, and how many at a
//! time. Uploads and downloads each have a schedule.
//!
//! | file | event | next |
//! |---|---|---|
//! | (none) | [`Schedule::add`] | new |
//! | new | [`Schedule::next_step`] | preparing: [`Step::Prepare`] is running |
//! | preparing | [`Schedule::record_prepared`] | transferring: parts are present, in flight or missing |
//! | transferring | [`Schedule::next_step`] | transferring: one more [`Step::Part`] is running |
//! | transferring, all parts present | [`Schedule::next_step`] | finishing: [`Step::Finish`] is running |
//! | finishing | [`Schedule::record_success`] | (removed) |
//! | any | [`Schedule::record_failure`] | draining: no step starts; (removed) once none is running |
//! | any | [`Schedule::drain`] | draining |
//! | any | [`Schedule::remove`] | (removed) |
//!
//! A file that is still being sealed is added with [`Schedule::add_early`]. Its parts are
//! transferred as [`Schedule::set_available`] makes them available, and the file is removed without
//! a [`Step::Finish`] once all are transferred. [`Schedule::promote`] turns it into an ordinary
//! file when a message attaches it.
//!
//! A failure reduces the limit of concurrent steps to one. After as many successful steps as the
//! limit, the limit grows by one. The schedule is fair: the file with the fewest running steps is
//! next, and among equals the one that has waited longest. No part is transferred more than
//! [`PARTS_IN_FLIGHT_MAX`] ahead of the first missing one, which bounds the work that is repeated
//! after an interruption.

use sealpost_proto::limits::{BLOB_PARTS_MAX, PARTS_IN_FLIGHT_MAX};

mod disk_space;
mod policy;

pub use disk_space::has_disk_space;
pub use policy::DownloadPolicy;

/// Set of parts of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartSet(u64);

impl PartSet {
    /// Returns the parts before `number`.
    #[must_use]
    pub fn before(number: u32) -> Self {
        (0..number).collect()
    }

    /// Whether the set contains a part.
    #[must_use]
    pub const fn contains(self, number: u32) -> bool {
        self.0 & bit(number) != 0
    }

    /// Returns the number of parts.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the first part that is not in the set.
    #[must_use]
    pub const fn first_missing(self) -> u32 {
        self.0.trailing_ones()
    }

    /// Returns the parts that a blob of `parts` parts has.
    #[must_use]
    pub fn within(self, parts: u32) -> Self {
        Self(self.0 & Self::before(parts).0)
    }

    const fn add(&mut self, number: u32) {
        self.0 |= bit(number);
    }

    const fn remove(&mut self, number: u32) -> bool {
        let is_member = self.contains(number);
        self.0 &= !bit(number);
        is_member
    }
}

impl FromIterator<u32> for PartSet {
    fn from_iter<I: IntoIterator<Item = u32>>(parts: I) -> Self {
        let mut set = Self::default();
        set.extend(parts);
        set
    }
}

impl Extend<u32> for PartSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, parts: I) {
        parts.into_iter().for_each(|part| self.add(part));
    }
}

/// Returns the bit of a part, or 0 for a number that no blob has.
const fn bit(number: u32) -> u64 {
    if number < BLOB_PARTS_MAX {
        1 << number
    } else {
        0
    }
}

/// Step of a file transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Determines which parts are already present.
    Prepare,
    /// Transfers a part.
    Part(u32),
    /// Completes the transfer; all parts are present.
    Finish,
}

/// Schedule of the transfers in one direction.
#[derive(Debug)]
pub struct Schedule<K> {
    files: Vec<File<K>>,
    clock: u64,
    concurrency: Concurrency,
}

#[derive(Debug)]
struct File<K> {
    key: K,
    parts: u32,
    available: u32,
    has_finish: bool,
    stage: Stage,
    running: u32,
    last_step_at: u64,
    is_draining: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    New,
    Preparing,
    Transferring {
        present: PartSet,
        in_flight: PartSet,
    },
    Finishing,
}

impl<K> File<K> {
    fn next(&self) -> Option<Step> {
        match self.stage {
            _ if self.is_draining => None,
            Stage::New => Some(Step::Prepare),
            Stage::Transferring { present, .. } if present.len() == self.parts => {
                self.has_finish.then_some(Step::Finish)
            }
            Stage::Transferring { present, in_flight } => {
                let first = present.first_missing();
                let mut reachable = first..(first + PARTS_IN_FLIGHT_MAX).min(self.available);
                reachable
                    .find(|part| !present.contains(*part) && !in_flight.contains(*part))
                    .map(Step::Part)
            }
            Stage::Preparing | Stage::Finishing => None,
        }
    }

    /// Whether no further step will start.
    fn is_finished(&self) -> bool {
        self.is_draining || (!self.has_finish && self.present().len() == self.parts)
    }

    const fn present(&self) -> PartSet {
        match self.stage {
            Stage::Transferring { present, .. } => present,
            Stage::New | Stage::Preparing | Stage::Finishing => PartSet(0),
        }
    }

    fn start(&mut self, step: Step, now: u64) {
        self.running += 1;
        self.last_step_at = now;
        match (step, &mut self.stage) {
            (Step::Part(part), Stage::Transferring { in_flight, .. }) => in_flight.add(part),
            (Step::Prepare, stage) => *stage = Stage::Preparing,
            (Step::Finish | Step::Part(_), stage) => *stage = Stage::Finishing,
        }
    }

    /// Removes a running step; returns whether it was running.
    fn stop(&mut self, step: Step) -> bool {
        let was_running = match (step, &mut self.stage) {
            (Step::Prepare, Stage::Preparing) | (Step::Finish, Stage::Finishing) => true,
            (Step::Part(part), Stage::Transferring { in_flight, .. }) => in_flight.remove(part),
            (Step::Prepare | Step::Part(_) | Step::Finish, _) => false,
        };
        self.running -= u32::from(was_running);
        was_running
    }
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            clock: 0,
            concurrency: Concurrency::default(),
        }
    }
}

impl<K: Copy + Eq> Schedule<K> {
    /// Adds a file of `parts` parts whose progress is unknown.
    pub fn add(&mut self, key: K, parts: u32) {
        self.insert(key, parts, parts, true);
    }

    /// Adds a file that will have `parts` parts and has none yet.
    pub fn add_early(&mut self, key: K, parts: u32) {
        self.insert(key, parts, 0, false);
    }

    fn insert(&mut self, key: K, parts: u32, available: u32, has_finish: bool) {
        let parts = parts.min(BLOB_PARTS_MAX);
        self.files.push(File {
            key,
            parts,
            available,
            has_finish,
            stage: Stage::New,
            running: 0,
            last_step_at: 0,
            is_draining: false,
        });
    }

    /// Sets the number of available parts of a file.
    pub fn set_available(&mut self, key: K, parts: u32) {
        if let Some(file) = self.find(key) {
            file.available = file.available.max(parts.min(file.parts));
        }
    }

    /// Turns a file that was added early, and is now fully available, into an ordinary one. Returns
    /// its present parts, or `None` if it is draining and has to be added again after its removal.
    pub fn promote(&mut self, key: K) -> Option<PartSet> {
        let file = self.find(key).filter(|file| !file.is_draining)?;
        (file.available, file.has_finish) = (file.parts, true);
        Some(file.present())
    }

    /// Starts no further step of a file, and removes it once none is running.
    pub fn drain(&mut self, key: K) {
        if let Some(file) = self.find(key) {
            file.is_draining = true;
        }
        self.remove_finished(key);
    }

    /// Whether the schedule contains a file.
    #[must_use]
    pub fn contains(&self, key: K) -> bool {
        self.files.iter().any(|file| file.key == key)
    }

    /// Starts the next step; call it until it returns `None`.
    pub fn next_step(&mut self) -> Option<(K, Step)> {
        let running: u32 = self.files.iter().map(|file| file.running).sum();
        if running >= self.concurrency.limit {
            return None;
        }
        let ready = self
            .files
            .iter_mut()
            .filter_map(|file| file.next().map(|step| (file, step)));
        let (file, step) = ready.min_by_key(|(file, _)| (file.running, file.last_step_at))?;
        self.clock += 1;
        file.start(step, self.clock);
        Some((file.key, step))
    }

    /// Records that [`Step::Prepare`] succeeded with these present parts.
    pub fn record_prepared(&mut self, key: K, present: PartSet) {
        let Some(file) = self.stop_step(key, Step::Prepare) else {
            return;
        };
        file.stage = Stage::Transferring {
            present: present.within(file.parts),
            in_flight: PartSet::default(),
        };
        self.concurrency.record_success();
        self.remove_finished(key);
    }

    /// Records that [`Step::Part`] or [`Step::Finish`] succeeded.
    pub fn record_success(&mut self, key: K, step: Step) {
        let Some(file) = self.stop_step(key, step) else {
            return;
        };
        match (step, &mut file.stage) {
            (Step::Part(part), Stage::Transferring { present, .. }) => present.add(part),
            (Step::Prepare | Step::Part(_) | Step::Finish, _) => file.is_draining = true,
        }
        self.concurrency.record_success();
        self.remove_finished(key);
    }

    /// Records that a step failed, and drains the file. Returns true for the first failure, which
    /// the caller has to report; steps that were still running can fail later.
    pub fn record_failure(&mut self, key: K, step: Step) -> bool {
        let Some(file) = self.stop_step(key, step) else {
            return false;
        };
        let is_first = !file.is_draining;
        file.is_draining = true;
        self.concurrency.record_failure();
        self.remove_finished(key);
        is_first
    }

    /// Removes a file immediately, even if steps of it are running.
    pub fn remove(&mut self, key: K) {
        self.files.retain(|file| file.key != key);
    }

    fn stop_step(&mut self, key: K, step: Step) -> Option<&mut File<K>> {
        self.find(key)
            .and_then(|file| file.stop(step).then_some(file))
    }

    fn find(&mut self, key: K) -> Option<&mut File<K>> {
        self.files.iter_mut().find(|file| file.key == key)
    }

    fn remove_finished(&mut self, key: K) {
        self.files
            .retain(|file| file.key != key || !file.is_finished() || file.running > 0);
    }
}

/// Limit of concurrent steps.
#[derive(Debug)]
struct Concurrency {
    limit: u32,
    succeeded: u32,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            limit: PARTS_IN_FLIGHT_MAX,
            succeeded: 0,
        }
    }
}

impl Concurrency {
    const fn record_success(&mut self) {
        self.succeeded += 1;
        if self.succeeded >= self.limit && self.limit < PARTS_IN_FLIGHT_MAX {
            self.limit += 1;
            self.succeeded = 0;
        }
    }

    const fn record_failure(&mut self) {
        *self = Self {
            limit: 1,
            succeeded: 0,
        };
    }
}

#[cfg(test)]
mod tests;
