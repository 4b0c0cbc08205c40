//! Live progress of file transfers: bytes transferred and transfer rate.
//!
//! The progress is kept in memory, for display only; the database holds the state that matters.
//! Transfers report to [`Progress`] as often as they make progress. Each subscriber reads at its
//! own pace, so that a slow subscriber cannot delay a transfer.

use sealpost_node_core::model::{AttachmentId, Direction};
use sealpost_proto::limits::{
    FINISHED_TRANSFER_RETENTION, TRANSFER_PROGRESS_INTERVAL, TRANSFER_RATE_WINDOW,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Progress of one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub attachment: AttachmentId,
    pub direction: Direction,
    /// Sealed bytes that have been transferred.
    pub bytes: u64,
    /// Sealed bytes of the whole file.
    pub total: u64,
    /// Rate over the last seconds; in the final report, over the whole transfer.
    pub bytes_per_second: u64,
    pub state: TransferState,
}

/// State of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransferState {
    Moving,
    /// All bytes have been transferred.
    Done,
    /// The transfer ended before all bytes had been transferred.
    Stopped,
}

/// Running transfers, and those that finished recently, so that a subscriber does not miss the end
/// of a short one.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    tracks: watch::Sender<Vec<Arc<Track>>>,
}

impl Progress {
    /// Registers a transfer of which `bytes` of `total` sealed bytes have been transferred before.
    /// It ends when the returned handle is dropped.
    pub(crate) fn start(
        &self,
        attachment: AttachmentId,
        direction: Direction,
        bytes: u64,
        total: u64,
    ) -> RunningTransfer {
        let now = Instant::now();
        let history = Mutex::new(History::new(bytes, now));
        let track = Arc::new(Track {
            attachment,
            direction,
            total,
            history,
        });
        self.tracks.send_modify(|tracks| {
            tracks.retain(|track| {
                track
                    .lock()
                    .ended
                    .is_none_or(|ended| now - ended < FINISHED_TRANSFER_RETENTION)
            });
            tracks.push(Arc::clone(&track));
        });
        RunningTransfer(track)
    }

    /// Subscribes to running and future transfers.
    #[must_use]
    pub(crate) fn subscribe(&self) -> ProgressSubscriber {
        let mut tracks = self.tracks.subscribe();
        let subscriptions = tracks
            .borrow_and_update()
            .iter()
            .map(Subscription::new)
            .collect();
        ProgressSubscriber {
            tracks,
            subscriptions,
            ready: VecDeque::new(),
            due: Instant::now(),
        }
    }
}

/// Handle of a running transfer, which ends when the handle is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct RunningTransfer(Arc<Track>);

impl RunningTransfer {
    /// Reports the total number of sealed bytes that have been transferred.
    pub(crate) fn update(&self, bytes: u64) {
        self.0.lock().record(bytes, Instant::now());
    }
}

impl Drop for RunningTransfer {
    fn drop(&mut self) {
        self.0.lock().end(Instant::now());
    }
}

#[derive(Debug)]
struct Track {
    attachment: AttachmentId,
    direction: Direction,
    total: u64,
    history: Mutex<History>,
}

impl Track {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self, now: Instant) -> Transfer {
        let mut history = self.lock();
        let bytes_per_second = history.bytes_per_second(now);
        let state = match history.ended {
            None => TransferState::Moving,
            Some(_) if history.bytes >= self.total => TransferState::Done,
            Some(_) => TransferState::Stopped,
        };
        Transfer {
            attachment: self.attachment,
            direction: self.direction,
            bytes: history.bytes.min(self.total),
            total: self.total,
            bytes_per_second,
            state,
        }
    }
}

/// Samples of the bytes transferred over time.
#[derive(Debug)]
struct History {
    bytes: u64,
    first: Sample,
    /// Samples of the last [`TRANSFER_RATE_WINDOW`], and the one before them; never empty.
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
        let millis = (now - self.at).max(TRANSFER_PROGRESS_INTERVAL).as_millis();
        let rate = u128::from(bytes.saturating_sub(self.bytes)) * 1_000 / millis;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

impl History {
    fn new(bytes: u64, now: Instant) -> Self {
        let first = Sample { at: now, bytes };
        Self {
            bytes,
            first,
            recent: VecDeque::from([first]),
            ended: None,
        }
    }

    fn record(&mut self, bytes: u64, now: Instant) {
        self.bytes = bytes;
        if self
            .recent
            .back()
            .is_some_and(|last| now - last.at < TRANSFER_PROGRESS_INTERVAL)
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

    /// Returns the rate over the window or, after the end, over the whole transfer.
    fn bytes_per_second(&mut self, now: Instant) -> u64 {
        if let Some(ended) = self.ended {
            return self.first.rate(self.bytes, ended);
        }
        self.record(self.bytes, now);
        self.recent
            .front()
            .map_or(0, |oldest| oldest.rate(self.bytes, now))
    }
}

/// Receiver of progress reports.
#[derive(Debug)]
pub(crate) struct ProgressSubscriber {
    tracks: watch::Receiver<Vec<Arc<Track>>>,
    subscriptions: Vec<Subscription>,
    ready: VecDeque<Transfer>,
    due: Instant,
}

/// Transfer that a subscriber watches, with its last report. It outlives its final report as long
/// as [`Progress`] retains the transfer, so that the end is reported once only.
#[derive(Debug)]
struct Subscription {
    track: Arc<Track>,
    last_report: Option<Transfer>,
    is_over: bool,
}

impl Subscription {
    /// Watches a transfer that existed before the subscriber. One that has ended is not reported.
    fn new(track: &Arc<Track>) -> Self {
        Self {
            is_over: track.lock().ended.is_some(),
            ..Self::from_start(track)
        }
    }

    /// Watches a transfer that began after the subscription, and reports it even if it has ended.
    fn from_start(track: &Arc<Track>) -> Self {
        Self {
            track: Arc::clone(track),
            last_report: None,
            is_over: false,
        }
    }

    /// Returns a report if it differs from the last one.
    fn next_report(&mut self, now: Instant) -> Option<Transfer> {
        if self.is_over {
            return None;
        }
        let transfer = self.track.snapshot(now);
        self.is_over = transfer.state != TransferState::Moving;
        if self.last_report.as_ref() == Some(&transfer) {
            return None;
        }
        self.last_report = Some(transfer);
        Some(transfer)
    }
}

impl ProgressSubscriber {
    /// Waits for the next report. A transfer is reported when it begins, then at most every
    /// [`TRANSFER_PROGRESS_INTERVAL`] when it has changed, and when it ends. Cancel safe.
    pub(crate) async fn next(&mut self) -> Transfer {
        loop {
            if let Some(transfer) = self.ready.pop_front() {
                return transfer;
            }
            let is_idle = self
                .subscriptions
                .iter()
                .all(|subscription| subscription.is_over);
            tokio::select! {
                Ok(()) = self.tracks.changed() => self.add_new_transfers(),
                () = sleep_until(self.due), if !is_idle => {
                    self.due = Instant::now() + TRANSFER_PROGRESS_INTERVAL;
                    self.collect_reports();
                }
                else => std::future::pending().await,
            }
        }
    }

    fn collect_reports(&mut self) {
        let now = Instant::now();
        let reports = self
            .subscriptions
            .iter_mut()
            .filter_map(|subscription| subscription.next_report(now));
        self.ready.extend(reports);
    }

    fn add_new_transfers(&mut self) {
        let tracks = self.tracks.borrow_and_update();
        self.subscriptions.retain(|subscription| {
            !subscription.is_over
                || tracks
                    .iter()
                    .any(|track| Arc::ptr_eq(track, &subscription.track))
        });
        for track in tracks.iter() {
            if !self
                .subscriptions
                .iter()
                .any(|subscription| Arc::ptr_eq(track, &subscription.track))
            {
                let mut subscription = Subscription::from_start(track);
                self.ready.extend(subscription.next_report(Instant::now()));
                self.subscriptions.push(subscription);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_node_core::model::IdKind as _;
    use std::time::Duration;
    use tokio::time::{advance, timeout};

    const TOTAL: u64 = 100_000_000;

    fn attachment(number: u64) -> AttachmentId {
        AttachmentId::from_number(number)
    }

    async fn assert_no_report(subscriber: &mut ProgressSubscriber) {
        // The paused clock advances only while all tasks wait.
        assert_eq!(
            timeout(Duration::from_secs(3_600), subscriber.next())
                .await
                .ok(),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn reports_are_limited_to_four_per_second() {
        let progress = Progress::default();
        let mut subscriber = progress.subscribe();
        let moving = progress.start(attachment(1), Direction::Out, 0, TOTAL);
        let mut reports = vec![subscriber.next().await];
        for step in 1..=1_000 {
            advance(Duration::from_millis(2)).await;
            moving.update(step * 100_000);
            reports.extend(timeout(Duration::ZERO, subscriber.next()).await);
        }
        drop(moving);
        reports.push(subscriber.next().await);
        assert!((9..=10).contains(&reports.len()), "{reports:?}");
        assert!(reports.windows(2).all(|two| two[0].bytes < two[1].bytes));
        let [first, .., last] = &reports[..] else {
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
        assert_no_report(&mut subscriber).await;
    }

    #[tokio::test(start_paused = true)]
    async fn rate_covers_the_window_and_falls_when_idle() {
        let progress = Progress::default();
        let mut subscriber = progress.subscribe();
        // Bytes transferred before the start do not count towards the rate.
        let moving = progress.start(attachment(1), Direction::In, 50_000_000, TOTAL);
        assert_eq!(subscriber.next().await.bytes_per_second, 0);
        let mut bytes = 50_000_000;
        for step_bytes in [1_000, 200] {
            for _ in 0..10_000 {
                advance(Duration::from_millis(1)).await;
                bytes += step_bytes;
                moving.update(bytes);
            }
            assert_eq!(subscriber.next().await.bytes_per_second, step_bytes * 1_000);
        }
        let mut still = subscriber.next().await;
        while still.bytes_per_second > 0 {
            let next = subscriber.next().await;
            assert!(
                next.bytes_per_second < still.bytes_per_second && next.bytes == bytes,
                "{next:?}"
            );
            still = next;
        }
        assert_no_report(&mut subscriber).await;
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_see_running_transfers_and_every_end() {
        let progress = Progress::default();
        let (mut early, long) = (
            progress.subscribe(),
            progress.start(attachment(1), Direction::Out, 0, 10),
        );
        drop(progress.start(attachment(2), Direction::In, 10, 10));
        let mut late = progress.subscribe();
        assert_eq!(late.next().await.attachment, attachment(1));
        assert_no_report(&mut late).await;
        let both = [early.next().await, early.next().await]
            .map(|report| (report.attachment, report.state));
        assert_eq!(
            both,
            [
                (attachment(1), TransferState::Moving),
                (attachment(2), TransferState::Done)
            ]
        );
        drop(long);
        for subscriber in [&mut early, &mut late] {
            let report = subscriber.next().await;
            assert_eq!(
                (report.attachment, report.state),
                (attachment(1), TransferState::Stopped)
            );
            assert_no_report(subscriber).await;
        }
        drop(progress.start(attachment(3), Direction::In, 10, 10));
        assert_eq!(
            progress.tracks.borrow().len(),
            1,
            "transfers that finished long ago are removed"
        );
    }
}
