//! Counts of a listener, for metrics.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts of a listener since its start.
#[derive(Debug, Default)]
pub struct ListenerCounts {
    pub(super) accepted: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) refused_at_limit: AtomicU64,
    pub(super) refused_at_address_limit: AtomicU64,
    pub(super) idle_evicted: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
}

impl ListenerCounts {
    /// Returns the number of open connections.
    #[must_use]
    pub fn open(&self) -> u64 {
        // In this order, a connection that ends between the two loads counts as open.
        let ended = self.ended.load(Relaxed);
        self.accepted.load(Relaxed).saturating_sub(ended)
    }

    /// Returns the number of accepted connections.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Returns the number of connections refused because all slots were in use.
    #[must_use]
    pub fn refused_at_limit(&self) -> u64 {
        self.refused_at_limit.load(Relaxed)
    }

    /// Returns the number of connections refused because their address had reached its limit.
    #[must_use]
    pub fn refused_at_address_limit(&self) -> u64 {
        self.refused_at_address_limit.load(Relaxed)
    }

    /// Returns the number of idle connections closed in favour of new ones.
    #[must_use]
    pub fn idle_evicted(&self) -> u64 {
        self.idle_evicted.load(Relaxed)
    }

    /// Returns the number of TLS handshakes that failed or timed out.
    #[must_use]
    pub fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Relaxed)
    }
}

/// Connection that counts as open until this value is dropped.
pub(super) struct OpenConnection(Arc<ListenerCounts>);

impl ListenerCounts {
    pub(super) fn count_open(self: &Arc<Self>) -> OpenConnection {
        self.accepted.fetch_add(1, Relaxed);
        OpenConnection(Arc::clone(self))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}
