//! Which parts of which files move next, and how many at a time; the same for uploads and downloads.
//!
//! | a file | event | then |
//! |---|---|---|
//! | (none) | [`Schedule::add`] | new |
//! | new | its turn | [`Step::Begin`] is under way |
//! | beginning | [`Schedule::begun`] | moving: each part is there, under way, or missing |
//! | moving | its turn | one more [`Step::Part`] is under way |
//! | moving | [`Schedule::done`] with the last part, its turn | [`Step::End`] is under way |
//! | ending | [`Schedule::done`] | (gone) |
//! | any | [`Schedule::failed`] | it leaves: no step begins; (gone) once none is under way |
//! | any | [`Schedule::remove`] | (gone) |
//! | any | [`Schedule::leave`] | it leaves, as after a failure |
//!
//! A file that is still being made is taken up with [`Schedule::add_early`]: of it moves what [`Schedule::made`] says is
//! there to be moved, and when all has moved it is gone, without an end. Once it is wanted, [`Schedule::keep`] makes it a
//! file like any other.
//!
//! How many steps are under way at a time falls to one with a failure and grows again by one with each full round that
//! succeeds. They are shared out fairly: the file with the fewest goes first, among equals the one whose turn was longest
//! ago. No part runs more than [`PARTS_IN_FLIGHT_MAX`] ahead of the first that is not there, so that whoever takes up a
//! file in the order of its parts has no more than that to do again.

use sealpost_proto::limits::{BLOB_PARTS_MAX, PARTS_IN_FLIGHT_MAX};

mod policy;
mod room;

pub use policy::{DownloadPolicy, NotAPolicy};
pub use room::has_room;

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

    /// Whether there are none.
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

    const fn take(&mut self, number: u32) -> bool {
        let was_there = self.contains(number);
        self.0 &= !bit(number);
        was_there
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
    /// Finds out which parts are there.
    Begin,
    /// Moves a part.
    Part(u32),
    /// All parts are there.
    End,
}

/// The files of one direction that are on the move.
#[derive(Debug)]
pub struct Schedule<K> {
    files: Vec<File<K>>,
    turns: u64,
    pace: Pace,
}

#[derive(Debug)]
struct File<K> {
    key: K,
    parts: u32,
    made: u32,
    ends: bool,
    stage: Stage,
    under_way: u32,
    last_turn: u64,
    leaves: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    New,
    Beginning,
    Moving { there: PartSet, going: PartSet },
    Ending,
}

impl<K> File<K> {
    fn next(&self) -> Option<Step> {
        match self.stage {
            _ if self.leaves => None,
            Stage::New => Some(Step::Begin),
            Stage::Moving { there, .. } if there.len() == self.parts => {
                self.ends.then_some(Step::End)
            }
            Stage::Moving { there, going } => {
                let first = there.first_missing();
                let mut reachable = first..(first + PARTS_IN_FLIGHT_MAX).min(self.made);
                reachable
                    .find(|part| !there.contains(*part) && !going.contains(*part))
                    .map(Step::Part)
            }
            Stage::Beginning | Stage::Ending => None,
        }
    }

    /// Whether nothing more is to be done for it than to wait for what is under way.
    fn is_over(&self) -> bool {
        self.leaves || (!self.ends && self.there().len() == self.parts)
    }

    const fn there(&self) -> PartSet {
        match self.stage {
            Stage::Moving { there, .. } => there,
            Stage::New | Stage::Beginning | Stage::Ending => PartSet(0),
        }
    }

    fn take(&mut self, step: Step, turn: u64) {
        self.under_way += 1;
        self.last_turn = turn;
        match (step, &mut self.stage) {
            (Step::Part(part), Stage::Moving { going, .. }) => going.add(part),
            (Step::Begin, stage) => *stage = Stage::Beginning,
            (Step::End | Step::Part(_), stage) => *stage = Stage::Ending,
        }
    }

    /// Takes a step back from what is under way; false when it was not.
    fn ended(&mut self, step: Step) -> bool {
        let was_under_way = match (step, &mut self.stage) {
            (Step::Begin, Stage::Beginning) | (Step::End, Stage::Ending) => true,
            (Step::Part(part), Stage::Moving { going, .. }) => going.take(part),
            (Step::Begin | Step::Part(_) | Step::End, _) => false,
        };
        self.under_way -= u32::from(was_under_way);
        was_under_way
    }
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            turns: 0,
            pace: Pace::default(),
        }
    }
}

impl<K: Copy + Eq> Schedule<K> {
    /// Takes up a file of `parts` parts, of which nothing is known yet.
    pub fn add(&mut self, key: K, parts: u32) {
        self.take_up(key, parts, parts, true);
    }

    /// Takes up a file that will have `parts` parts and has none yet.
    pub fn add_early(&mut self, key: K, parts: u32) {
        self.take_up(key, parts, 0, false);
    }

    fn take_up(&mut self, key: K, parts: u32, made: u32, ends: bool) {
        let parts = parts.min(BLOB_PARTS_MAX);
        self.files.push(File {
            key,
            parts,
            made,
            ends,
            stage: Stage::New,
            under_way: 0,
            last_turn: 0,
            leaves: false,
        });
    }

    /// So many parts of a file are made by now.
    pub fn made(&mut self, key: K, parts: u32) {
        if let Some(file) = self.find(key) {
            file.made = file.made.max(parts.min(file.parts));
        }
    }

    /// A file that was taken up early is wanted and has all its parts: it goes on to its end. Returns those that have
    /// moved; none when it leaves and has to be taken up anew once it is gone.
    pub fn keep(&mut self, key: K) -> Option<PartSet> {
        let file = self.find(key).filter(|file| !file.leaves)?;
        (file.made, file.ends) = (file.parts, true);
        Some(file.there())
    }

    /// No step of a file begins any more; it is gone once none is under way.
    pub fn leave(&mut self, key: K) {
        if let Some(file) = self.find(key) {
            file.leaves = true;
        }
        self.let_go(key);
    }

    /// Whether a file is on the move.
    #[must_use]
    pub fn knows(&self, key: K) -> bool {
        self.files.iter().any(|file| file.key == key)
    }

    /// What is to be done next; to be asked until there is nothing.
    pub fn turn(&mut self) -> Option<(K, Step)> {
        let under_way: u32 = self.files.iter().map(|file| file.under_way).sum();
        if under_way >= self.pace.at_a_time {
            return None;
        }
        let ready = self
            .files
            .iter_mut()
            .filter_map(|file| file.next().map(|step| (file, step)));
        let (file, step) = ready.min_by_key(|(file, _)| (file.under_way, file.last_turn))?;
        self.turns += 1;
        file.take(step, self.turns);
        Some((file.key, step))
    }

    /// A [`Step::Begin`] came out: these parts are there.
    pub fn begun(&mut self, key: K, there: PartSet) {
        let Some(file) = self.ended(key, Step::Begin) else {
            return;
        };
        file.stage = Stage::Moving {
            there: there.within(file.parts),
            going: PartSet::default(),
        };
        self.pace.succeeded();
        self.let_go(key);
    }

    /// A [`Step::Part`] or [`Step::End`] succeeded.
    pub fn done(&mut self, key: K, step: Step) {
        let Some(file) = self.ended(key, step) else {
            return;
        };
        match (step, &mut file.stage) {
            (Step::Part(part), Stage::Moving { there, .. }) => there.add(part),
            (Step::Begin | Step::Part(_) | Step::End, _) => file.leaves = true,
        }
        self.pace.succeeded();
        self.let_go(key);
    }

    /// A step failed: the file leaves as soon as nothing of it is under way. Returns whether this is its first failure.
    pub fn failed(&mut self, key: K, step: Step) -> bool {
        let Some(file) = self.ended(key, step) else {
            return false;
        };
        let is_first = !file.leaves;
        file.leaves = true;
        self.pace.failed();
        self.let_go(key);
        is_first
    }

    /// Forgets a file at once, whatever is under way of it.
    pub fn remove(&mut self, key: K) {
        self.files.retain(|file| file.key != key);
    }

    fn ended(&mut self, key: K, step: Step) -> Option<&mut File<K>> {
        self.find(key)
            .and_then(|file| file.ended(step).then_some(file))
    }

    fn find(&mut self, key: K) -> Option<&mut File<K>> {
        self.files.iter_mut().find(|file| file.key == key)
    }

    fn let_go(&mut self, key: K) {
        self.files
            .retain(|file| file.key != key || !file.is_over() || file.under_way > 0);
    }
}

/// How many steps may be under way.
#[derive(Debug)]
struct Pace {
    at_a_time: u32,
    succeeded: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            at_a_time: PARTS_IN_FLIGHT_MAX,
            succeeded: 0,
        }
    }
}

impl Pace {
    const fn succeeded(&mut self) {
        self.succeeded += 1;
        if self.succeeded >= self.at_a_time && self.at_a_time < PARTS_IN_FLIGHT_MAX {
            self.at_a_time += 1;
            self.succeeded = 0;
        }
    }

    const fn failed(&mut self) {
        *self = Self {
            at_a_time: 1,
            succeeded: 0,
        };
    }
}

#[cfg(test)]
mod tests;
