//! What the operator asks of the store: accounts, queues, registration tokens, figures.
//!
//! Reading is bounded by a page, or by the number of accounts, never by the number of envelopes; whatever changes many rows
//! does so [`OPERATOR_ROWS_MAX`](sealpost_proto::limits::OPERATOR_ROWS_MAX) at a time, so that deliveries go on between.

mod accounts;
mod lane;
mod queue;
mod stats;
pub(super) mod tokens;

pub(crate) use queue::QueueCursor;
pub(crate) use stats::Census;
pub(crate) use tokens::NewRegistrationToken;
