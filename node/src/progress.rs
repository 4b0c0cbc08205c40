//! Files on the move, as people see them: how far each one is, and how fast it goes.
//!
//! Only in memory: what counts stands in the database, and nothing is decided by what stands here. The engine says
//! [`Progress::begin`] and [`Moving::moved`], as often as it likes; who watches follows with [`Progress::follow`] at a
//! pace of its own, so that nobody who watches can hold up what moves.

use crate::api::model::{Direction, Transfer, TransferState};
use sealpost_proto::limits::{TRANSFER_ENDED_KEPT, TRANSFER_RATE_WINDOW, TRANSFER_TOLD_EVERY};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The files that are on the move now, and those that ended a moment ago, so that nobody misses the end of a short one.
#[derive(Debug, Default)]
pub struct Progress {
    tracks: watch::Sender<Vec<Arc<Track>>>,
}

impl Progress {
    /// Says that a file moves, of which `bytes` of `total` sealed ones have moved before. It does until what is returned
    /// here is dropped, however that comes about.
    pub fn begin(&self, name: &str, direction: Direction, bytes: u64, total: u64) -> Moving {
        let now = Instant::now();
        let course = Mutex::new(Course::new(bytes, now));
        let track = Arc::new(Track {
            name: name.to_owned(),
            direction,
            total,
            course,
        });
        self.tracks.send_modify(|tracks| {
            tracks.retain(|track| {
                track
                    .lock()
                    .ended
                    .is_none_or(|ended| now - ended < TRANSFER_ENDED_KEPT)
            });
            tracks.push(Arc::clone(&track));
        });
        Moving(track)
    }

    /// Follows what moves now and later.
    #[must_use]
    pub fn follow(&self) -> Follower {
        let mut tracks = self.tracks.subscribe();
        let followed = tracks
            .borrow_and_update()
            .iter()
            .map(Followed::begin)
            .collect();
        Follower {
            tracks,
            followed,
            ready: VecDeque::new(),
            due: Instant::now(),
        }
    }
}

/// A file that moves; dropped when it does not any more.
#[derive(Debug)]
#[must_use]
pub struct Moving(Arc<Track>);

impl Moving {
    /// Says how many sealed bytes of the file have moved by now, those of before included.
    pub fn moved(&self, bytes: u64) {
        self.0.lock().note(bytes, Instant::now());
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.0.lock().end(Instant::now());
    }
}

#[derive(Debug)]
struct Track {
    name: String,
    direction: Direction,
    total: u64,
    course: Mutex<Course>,
}

impl Track {
    fn lock(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, now: Instant) -> Transfer {
        let mut course = self.lock();
        let bytes_per_second = course.bytes_per_second(now);
        let state = match course.ended {
            None => TransferState::Moving,
            Some(_) if course.bytes >= self.total => TransferState::Done,
            Some(_) => TransferState::Stopped,
        };
        Transfer {
            attachment: self.name.clone(),
            direction: self.direction,
            bytes: course.bytes.min(self.total),
            total: self.total,
            bytes_per_second,
            state,
        }
    }
}

/// Where a file was and when.
#[derive(Debug)]
struct Course {
    bytes: u64,
    first: Sample,
    /// Those of the last [`TRANSFER_RATE_WINDOW`], and one before; never empty.
    recent: VecDeque<Sample>,
    ended: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    bytes: u64,
}

impl Sample {
    fn rate(self, bytes: u64, now: Instant) -> u64 {
        let millis = (now - self.at).max(TRANSFER_TOLD_EVERY).as_millis();
        let rate = u128::from(bytes.saturating_sub(self.bytes)) * 1_000 / millis;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

impl Course {
    fn new(bytes: u64, now: Instant) -> Self {
        let first = Sample { at: now, bytes };
        Self {
            bytes,
            first,
            recent: VecDeque::from([first]),
            ended: None,
        }
    }

    fn note(&mut self, bytes: u64, now: Instant) {
        self.bytes = bytes;
        if self
            .recent
            .back()
            .is_some_and(|last| now - last.at < TRANSFER_TOLD_EVERY)
        {
            return;
        }
        self.recent.push_back(Sample { at: now, bytes });
        while self
            .recent
            .get(1)
            .is_some_and(|second| now - second.at >= TRANSFER_RATE_WINDOW)
        {
            self.recent.pop_front();
        }
    }

    fn end(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// Over the last moments; over the whole when it has ended.
    fn bytes_per_second(&mut self, now: Instant) -> u64 {
        if let Some(ended) = self.ended {
            return self.first.rate(self.bytes, ended);
        }
        self.note(self.bytes, now);
        self.recent
            .front()
            .map_or(0, |oldest| oldest.rate(self.bytes, now))
    }
}

/// Somebody who watches.
#[derive(Debug)]
pub struct Follower {
    tracks: watch::Receiver<Vec<Arc<Track>>>,
    followed: Vec<Followed>,
    ready: VecDeque<Transfer>,
    due: Instant,
}

/// A file that is watched, and what was told of it last; one whose end was told stays as long as it is remembered.
#[derive(Debug)]
struct Followed {
    track: Arc<Track>,
    told: Option<Transfer>,
    is_over: bool,
}

impl Followed {
    fn begin(track: &Arc<Track>) -> Self {
        Self {
            track: Arc::clone(track),
            told: None,
            is_over: track.lock().ended.is_some(),
        }
    }

    /// What there is to tell, if that is something else than before.
    fn look(&mut self, now: Instant) -> Option<Transfer> {
        if self.is_over {
            return None;
        }
        let transfer = self.track.look(now);
        self.is_over = transfer.state != TransferState::Moving;
        if self.told.as_ref() == Some(&transfer) {
            return None;
        }
        self.told = Some(transfer.clone());
        Some(transfer)
    }
}

impl Follower {
    /// Waits for the next thing to tell: of each file at once that it moves, then every [`TRANSFER_TOLD_EVERY`] what has
    /// changed, and always how it ended. Safe to drop while it waits.
    pub async fn next(&mut self) -> Transfer {
        loop {
            if let Some(transfer) = self.ready.pop_front() {
                return transfer;
            }
            let is_idle = self.followed.iter().all(|followed| followed.is_over);
            tokio::select! {
                Ok(()) = self.tracks.changed() => self.take_up(),
                () = sleep_until(self.due), if !is_idle => {
                    self.due = Instant::now() + TRANSFER_TOLD_EVERY;
                    self.ready.extend(self.followed.iter_mut().filter_map(|followed| followed.look(Instant::now())));
                }
                else => std::future::pending().await,
            }
        }
    }

    fn take_up(&mut self) {
        let tracks = self.tracks.borrow_and_update();
        self.followed.retain(|followed| {
            !followed.is_over
                || tracks
                    .iter()
                    .any(|track| Arc::ptr_eq(track, &followed.track))
        });
        for track in tracks.iter() {
            if !self
                .followed
                .iter()
                .any(|followed| Arc::ptr_eq(track, &followed.track))
            {
                let mut followed = Followed {
                    track: Arc::clone(track),
                    told: None,
                    is_over: false,
                };
                self.ready.extend(followed.look(Instant::now()));
                self.followed.push(followed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::{advance, timeout};

    const TOTAL: u64 = 100_000_000;

    async fn none_is_told(follower: &mut Follower) {
        // The paused clock runs ahead only while everything waits.
        assert_eq!(
            timeout(Duration::from_secs(3_600), follower.next())
                .await
                .ok(),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_told_of_four_times_a_second_however_often_it_moves() {
        let progress = Progress::default();
        let mut follower = progress.follow();
        let moving = progress.begin("ATC-1", Direction::Out, 0, TOTAL);
        let mut told = vec![follower.next().await];
        for step in 1..=1_000 {
            advance(Duration::from_millis(2)).await;
            moving.moved(step * 100_000);
            told.extend(timeout(Duration::ZERO, follower.next()).await);
        }
        drop(moving);
        told.push(follower.next().await);
        assert!((9..=10).contains(&told.len()), "{told:?}");
        assert!(told.windows(2).all(|two| two[0].bytes < two[1].bytes));
        let [first, .., last] = &told[..] else {
            panic!()
        };
        assert_eq!(
            (first.state, first.bytes, first.total),
            (TransferState::Moving, 0, TOTAL)
        );
        assert_eq!(
            (last.state, last.bytes, last.bytes_per_second),
            (TransferState::Done, TOTAL, 50_000_000)
        );
        none_is_told(&mut follower).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_the_last_moments_and_falls_when_nothing_moves() {
        let progress = Progress::default();
        let mut follower = progress.follow();
        // What moved before is not counted as fast.
        let moving = progress.begin("ATC-1", Direction::In, 50_000_000, TOTAL);
        assert_eq!(follower.next().await.bytes_per_second, 0);
        let mut bytes = 50_000_000;
        for step_bytes in [1_000, 200] {
            for _ in 0..10_000 {
                advance(Duration::from_millis(1)).await;
                bytes += step_bytes;
                moving.moved(bytes);
            }
            assert_eq!(follower.next().await.bytes_per_second, step_bytes * 1_000);
        }
        let mut still = follower.next().await;
        while still.bytes_per_second > 0 {
            let next = follower.next().await;
            assert!(
                next.bytes_per_second < still.bytes_per_second && next.bytes == bytes,
                "{next:?}"
            );
            still = next;
        }
        none_is_told(&mut follower).await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_sees_what_moves_and_nobody_misses_an_end() {
        let progress = Progress::default();
        let (mut early, long) = (
            progress.follow(),
            progress.begin("ATC-1", Direction::Out, 0, 10),
        );
        drop(progress.begin("ATC-2", Direction::In, 10, 10));
        let mut late = progress.follow();
        assert_eq!(late.next().await.attachment, "ATC-1");
        none_is_told(&mut late).await;
        let both =
            [early.next().await, early.next().await].map(|told| (told.attachment, told.state));
        assert_eq!(
            both,
            [
                ("ATC-1".into(), TransferState::Moving),
                ("ATC-2".into(), TransferState::Done)
            ]
        );
        drop(long);
        for follower in [&mut early, &mut late] {
            let told = follower.next().await;
            assert_eq!(
                (told.attachment.as_str(), told.state),
                ("ATC-1", TransferState::Stopped)
            );
            none_is_told(follower).await;
        }
        drop(progress.begin("ATC-3", Direction::In, 10, 10));
        assert_eq!(
            progress.tracks.borrow().len(),
            1,
            "what ended long ago is forgotten"
        );
    }
}
