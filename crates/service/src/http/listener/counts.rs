//! What a listener has seen, for metrics.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What a listener has seen since it began.
#[derive(Debug, Default)]
pub struct ListenerCounts {
    pub(super) accepted: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) refused_full: AtomicU64,
    pub(super) refused_address: AtomicU64,
    pub(super) pushed_out: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
}

impl ListenerCounts {
    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        // In this order: one that ends between the two is counted as open.
        let ended = self.ended.load(Relaxed);
        self.accepted.load(Relaxed).saturating_sub(ended)
    }

    /// Connections that got a place.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Connections closed at once because all places were taken.
    #[must_use]
    pub fn refused_full(&self) -> u64 {
        self.refused_full.load(Relaxed)
    }

    /// Connections closed at once because their address had its share.
    #[must_use]
    pub fn refused_address(&self) -> u64 {
        self.refused_address.load(Relaxed)
    }

    /// Resting connections closed to make room for others.
    #[must_use]
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out.load(Relaxed)
    }

    /// TLS handshakes that failed or took too long.
    #[must_use]
    pub fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Relaxed)
    }
}

/// A connection that is open until this is dropped.
pub(super) struct Open(Arc<ListenerCounts>);

impl ListenerCounts {
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.accepted.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}
