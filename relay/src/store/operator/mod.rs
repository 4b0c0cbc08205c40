//! Operations for the operator: accounts, queues, registration tokens and totals.
//!
//! Reads are bounded by a page or by the number of accounts, never by the number of envelopes.
//! Operations on many rows change up to
//! [`ADMIN_BATCH_ROWS_MAX`](sealpost_proto::limits::ADMIN_BATCH_ROWS_MAX) at a time, so that
//! deliveries continue in between.

pub(super) mod accounts;
mod lane;
pub(super) mod queue;
pub(super) mod tokens;
mod totals;

pub(crate) use accounts::{AccountNames, AccountSummary};
pub(crate) use lane::{LaneStatus, LaneSummary};
pub(crate) use queue::{
    DropOutcome, ItemKind, QueueCursor, QueueItem, QueueItems, QueueSummary, RetryOutcome,
};
pub(crate) use tokens::{NewRegistrationToken, RegistrationToken};
pub(crate) use totals::Totals;

/// Page of a list.
#[derive(Debug)]
pub(crate) struct Page<T, C> {
    pub(crate) items: Vec<T>,
    /// Cursor of the next page, if there is one.
    pub(crate) next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// Builds a page from `found`, which was read with a limit of one more than `limit`.
    fn new(mut found: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> Option<C>) -> Self {
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).and_then(cursor);
        Self { items: found, next }
    }
}
