//! Progress of transfers.

use super::Direction;
use serde::{Deserialize, Serialize};

/// Progress of a transfer, which is published and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// `ATC-…`.
    pub attachment: String,
    pub direction: Direction,
    /// Sealed bytes that have been transferred.
    pub bytes: u64,
    /// Sealed bytes of the whole file: a little more than its `size`.
    pub total: u64,
    /// Rate over the last seconds; in the final report, over the whole transfer.
    pub bytes_per_second: u64,
    pub state: TransferState,
}

/// State of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    Moving,
    /// All bytes have been transferred.
    Done,
    /// It waits for a retry, was cancelled or failed; the status of the file says which.
    Stopped,
}
