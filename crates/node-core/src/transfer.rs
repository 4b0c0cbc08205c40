//! Which parts of which files move next, and how many at a time; the same for uploads and downloads.
//!
//! | a file | event | then |
//! |---|---|---|
//! | (none) | [`Schedule::add`] | new |
//! | new | its turn | [`Step::Prepare`] is under way |
//! | beginning | [`Schedule::prepared`] | moving: each part is present, under way, or missing |
//! | moving | its turn | one more [`Step::Part`] is under way |
//! | moving | [`Schedule::succeeded`] with the last part, its turn | [`Step::Finish`] is under way |
//! | ending | [`Schedule::succeeded`] | (gone) |
//! | any | [`Schedule::failed`] | it is_draining: no step begins; (gone) once none is under way |
//! | any | [`Schedule::remove`] | (gone) |
//! | any | [`Schedule::drain`] | it is_draining, as after a failure |
//!
//! A file that is still being available is taken up with [`Schedule::add_early`]: of it moves what [`Schedule::set_available`] says is
//! present to be moved, and when all has moved it is gone, without an end. Once it is wanted, [`Schedule::promote`] makes it a
//! file like any other.
//!
//! How many steps are under way at a time falls to one with a failure and grows again by one with each full round that
//! succeeds. They are shared out fairly: the file with the fewest goes first, among equals the one whose turn was longest
//! ago. No part runs more than [`PARTS_IN_FLIGHT_MAX`] ahead of the first that is not present, so that whoever takes up a
//! file in the order of its parts has no more than that to do again.

use sealpost_proto::limits::{BLOB_PARTS_MAX, PARTS_IN_FLIGHT_MAX};

mod disk_space;
mod policy;

pub use disk_space::has_disk_space;
pub use policy::{DownloadPolicy, ParseDownloadPolicyError};

/// Some parts of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartSet(u64);

impl PartSet {
    /// The parts before `number`.
    #[must_use]
    pub fn before(number: u32) -> Self {
        (0..number).collect()
    }

    /// Whether a part is among them.
    #[must_use]
    pub const fn contains(self, number: u32) -> bool {
        self.0 & bit(number) != 0
    }

    /// How many they are.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether present are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first part that is not among them.
    #[must_use]
    pub const fn first_missing(self) -> u32 {
        self.0.trailing_ones()
    }

    /// Those of a blob that has `parts` parts.
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

/// No blob has a part of a number that is too large; it is never among them.
const fn bit(number: u32) -> u64 {
    if number < BLOB_PARTS_MAX {
        1 << number
    } else {
        0
    }
}

/// One thing to do for one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Finds out which parts are present.
    Prepare,
    /// Moves a part.
    Part(u32),
    /// All parts are present.
    Finish,
}

/// The files of one direction that are on the move.
#[derive(Debug)]
pub struct Schedule<K> {
    files: Vec<File<K>>,
    clock: u64,
    pace: Pace,
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
    Moving {
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
            Stage::Moving { present, .. } if present.len() == self.parts => {
                self.has_finish.then_some(Step::Finish)
            }
            Stage::Moving { present, in_flight } => {
                let first = present.first_missing();
                let mut reachable = first..(first + PARTS_IN_FLIGHT_MAX).min(self.available);
                reachable
                    .find(|part| !present.contains(*part) && !in_flight.contains(*part))
                    .map(Step::Part)
            }
            Stage::Preparing | Stage::Finishing => None,
        }
    }

    /// Whether nothing more is to be done for it than to wait for what is under way.
    fn is_over(&self) -> bool {
        self.is_draining || (!self.has_finish && self.present().len() == self.parts)
    }

    const fn present(&self) -> PartSet {
        match self.stage {
            Stage::Moving { present, .. } => present,
            Stage::New | Stage::Preparing | Stage::Finishing => PartSet(0),
        }
    }

    fn start(&mut self, step: Step, now: u64) {
        self.running += 1;
        self.last_step_at = now;
        match (step, &mut self.stage) {
            (Step::Part(part), Stage::Moving { in_flight, .. }) => in_flight.add(part),
            (Step::Prepare, stage) => *stage = Stage::Preparing,
            (Step::Finish | Step::Part(_), stage) => *stage = Stage::Finishing,
        }
    }

    /// Takes a step back from what is under way; false when it was not.
    fn stop(&mut self, step: Step) -> bool {
        let was_under_way = match (step, &mut self.stage) {
            (Step::Prepare, Stage::Preparing) | (Step::Finish, Stage::Finishing) => true,
            (Step::Part(part), Stage::Moving { in_flight, .. }) => in_flight.remove(part),
            (Step::Prepare | Step::Part(_) | Step::Finish, _) => false,
        };
        self.running -= u32::from(was_under_way);
        was_under_way
    }
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            clock: 0,
            pace: Pace::default(),
        }
    }
}

impl<K: Copy + Eq> Schedule<K> {
    /// Takes up a file of `parts` parts, of which nothing is known yet.
    pub fn add(&mut self, key: K, parts: u32) {
        self.insert(key, parts, parts, true);
    }

    /// Takes up a file that will have `parts` parts and has none yet.
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

    /// So many parts of a file are available by now.
    pub fn set_available(&mut self, key: K, parts: u32) {
        if let Some(file) = self.find(key) {
            file.available = file.available.max(parts.min(file.parts));
        }
    }

    /// A file that was taken up early is wanted and has all its parts: it goes on to its end. Returns those that have
    /// moved; none when it is_draining and has to be taken up anew once it is gone.
    pub fn promote(&mut self, key: K) -> Option<PartSet> {
        let file = self.find(key).filter(|file| !file.is_draining)?;
        (file.available, file.has_finish) = (file.parts, true);
        Some(file.present())
    }

    /// No step of a file begins any more; it is gone once none is under way.
    pub fn drain(&mut self, key: K) {
        if let Some(file) = self.find(key) {
            file.is_draining = true;
        }
        self.remove_finished(key);
    }

    /// Whether a file is on the move.
    #[must_use]
    pub fn contains(&self, key: K) -> bool {
        self.files.iter().any(|file| file.key == key)
    }

    /// What is to be done next; to be asked until present is nothing.
    pub fn next_step(&mut self) -> Option<(K, Step)> {
        let running: u32 = self.files.iter().map(|file| file.running).sum();
        if running >= self.pace.limit {
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

    /// A [`Step::Prepare`] came out: these parts are present.
    pub fn prepared(&mut self, key: K, present: PartSet) {
        let Some(file) = self.stop_step(key, Step::Prepare) else {
            return;
        };
        file.stage = Stage::Moving {
            present: present.within(file.parts),
            in_flight: PartSet::default(),
        };
        self.pace.succeeded();
        self.remove_finished(key);
    }

    /// A [`Step::Part`] or [`Step::Finish`] succeeded.
    pub fn succeeded(&mut self, key: K, step: Step) {
        let Some(file) = self.stop_step(key, step) else {
            return;
        };
        match (step, &mut file.stage) {
            (Step::Part(part), Stage::Moving { present, .. }) => present.add(part),
            (Step::Prepare | Step::Part(_) | Step::Finish, _) => file.is_draining = true,
        }
        self.pace.succeeded();
        self.remove_finished(key);
    }

    /// A step failed: the file is_draining as soon as nothing of it is under way. Returns whether this is its first failure.
    pub fn failed(&mut self, key: K, step: Step) -> bool {
        let Some(file) = self.stop_step(key, step) else {
            return false;
        };
        let is_first = !file.is_draining;
        file.is_draining = true;
        self.pace.failed();
        self.remove_finished(key);
        is_first
    }

    /// Forgets a file at once, whatever is under way of it.
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
            .retain(|file| file.key != key || !file.is_over() || file.running > 0);
    }
}

/// How many steps may be under way.
#[derive(Debug)]
struct Pace {
    limit: u32,
    succeeded: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            limit: PARTS_IN_FLIGHT_MAX,
            succeeded: 0,
        }
    }
}

impl Pace {
    const fn succeeded(&mut self) {
        self.succeeded += 1;
        if self.succeeded >= self.limit && self.limit < PARTS_IN_FLIGHT_MAX {
            self.limit += 1;
            self.succeeded = 0;
        }
    }

    const fn failed(&mut self) {
        *self = Self {
            limit: 1,
            succeeded: 0,
        };
    }
}

#[cfg(test)]
mod tests;
