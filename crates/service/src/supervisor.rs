//! What systemd is told of a daemon (`Type=notify`, `WatchdogSec=`). Where nothing supervises the process, nothing is sent.

use sd_notify::NotifyState;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Pings go out this many times in the time after which the supervisor loses its patience.
const PINGS: u32 = 3;

/// The daemon serves; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon reads its settings again; [`ready`] says that it is done.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::warn!(%error, "the supervisor was not told of the reload: there is no clock")
        }
    }
}

/// The daemon ends what it has begun and then itself.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Pings the supervisor's watchdog as long as `moves` says that the daemon has moved within the watchdog's patience; a
/// `moves` that does not answer says no. Never returns: drop it when the daemon has ended.
pub async fn feed_watchdog(moves: impl AsyncFn(Duration) -> bool) {
    let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
    else {
        return std::future::pending().await;
    };
    feed(patience, moves, || tell(&[NotifyState::Watchdog])).await;
}

async fn feed(patience: Duration, moves: impl AsyncFn(Duration) -> bool, ping: impl Fn()) {
    loop {
        if moves(patience).await {
            ping();
        } else {
            tracing::error!("the daemon is stuck, the watchdog is not fed");
        }
        tokio::time::sleep(patience / PINGS).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the supervisor cannot be told of the state of this daemon");
    }
}

/// The last sign of life of a task, for [`feed_watchdog`].
#[derive(Debug)]
pub struct Pulse {
    started: Instant,
    beat_ms: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            beat_ms: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// The task moves.
    pub fn beat(&self) {
        self.beat_ms
            .store(millis(self.started.elapsed()), Ordering::Relaxed);
    }

    /// Time since it last did.
    #[must_use]
    pub fn stalled(&self) -> Duration {
        self.started
            .elapsed()
            .saturating_sub(Duration::from_millis(self.beat_ms.load(Ordering::Relaxed)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[tokio::test]
    async fn the_watchdog_is_fed_only_while_the_daemon_moves() {
        let (asked, story) = (Cell::new(0), RefCell::new(Vec::new()));
        let moves = async |_| {
            asked.set(asked.get() + 1);
            if asked.get() == 4 {
                std::future::pending::<()>().await;
            }
            story.borrow_mut().push("asked");
            asked.get() != 2
        };
        let feeding = feed(Duration::from_millis(3), moves, || {
            story.borrow_mut().push("fed")
        });
        let asked_often = async {
            while asked.get() < 4 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = feeding => {}
            () = asked_often => {}
        }
        assert_eq!(*story.borrow(), ["asked", "fed", "asked", "asked", "fed"]);
    }

    #[test]
    fn a_pulse_is_as_old_as_its_last_beat() {
        let old = Instant::now()
            .checked_sub(Duration::from_secs(100))
            .unwrap();
        let pulse = Pulse {
            started: old,
            beat_ms: AtomicU64::new(0),
        };
        assert!(pulse.stalled() >= Duration::from_secs(100));
        pulse.beat();
        assert!(pulse.stalled() < Duration::from_secs(100));
    }
}
