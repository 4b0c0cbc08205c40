//! Notifications to systemd (`Type=notify`, `WatchdogSec=`). Without a supervisor they do nothing.

use sd_notify::NotifyState;
use sealpost_proto::time::millis;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Number of watchdog pings per watchdog timeout.
const PINGS_PER_TIMEOUT: u32 = 3;

/// Reports that the daemon is ready; `systemctl status` shows `status`.
pub fn notify_ready(status: &str) {
    send_state(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that the daemon reloads its settings. [`notify_ready`] reports the end.
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send_state(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::warn!(%error, "cannot notify the supervisor of the reload without a clock")
        }
    }
}

/// Reports that the daemon shuts down.
pub fn notify_stopping() {
    send_state(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Pings the watchdog of the supervisor while `is_alive`, called with the watchdog timeout, returns
/// true; an `is_alive` that does not return counts as false. Never returns: drop it at the end.
pub async fn run_watchdog(is_alive: impl AsyncFn(Duration) -> bool) {
    let Some(timeout) = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero()) else {
        return std::future::pending().await;
    };
    ping_while_alive(timeout, is_alive, || send_state(&[NotifyState::Watchdog])).await;
}

async fn ping_while_alive(
    timeout: Duration,
    is_alive: impl AsyncFn(Duration) -> bool,
    ping: impl Fn(),
) {
    loop {
        if is_alive(timeout).await {
            ping();
        } else {
            tracing::error!("the daemon is stuck; the watchdog is not pinged");
        }
        tokio::time::sleep(timeout / PINGS_PER_TIMEOUT).await;
    }
}

fn send_state(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the supervisor");
    }
}

/// Time of the last activity of a task, for [`run_watchdog`].
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    last_beat_ms: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last_beat_ms: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    /// Records that the task is active.
    pub fn record_beat(&self) {
        self.last_beat_ms
            .store(millis(self.started.elapsed()), Ordering::Relaxed);
    }

    /// Returns the time since the last beat.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(
            self.last_beat_ms.load(Ordering::Relaxed),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[tokio::test]
    async fn watchdog_is_pinged_only_while_alive() {
        let (checks, log) = (Cell::new(0), RefCell::new(Vec::new()));
        let is_alive = async |_| {
            checks.set(checks.get() + 1);
            if checks.get() == 4 {
                std::future::pending::<()>().await;
            }
            log.borrow_mut().push("check");
            checks.get() != 2
        };
        let pinging = ping_while_alive(Duration::from_millis(3), is_alive, || {
            log.borrow_mut().push("ping")
        });
        let four_checks = async {
            while checks.get() < 4 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = pinging => {}
            () = four_checks => {}
        }
        assert_eq!(*log.borrow(), ["check", "ping", "check", "check", "ping"]);
    }

    #[test]
    fn heartbeats_measure_time_since_last_beat() {
        let old = Instant::now()
            .checked_sub(Duration::from_secs(100))
            .unwrap();
        let heartbeat = Heartbeat {
            started: old,
            last_beat_ms: AtomicU64::new(0),
        };
        assert!(heartbeat.elapsed() >= Duration::from_secs(100));
        heartbeat.record_beat();
        assert!(heartbeat.elapsed() < Duration::from_secs(100));
    }
}
