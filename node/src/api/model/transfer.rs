//! Files on the move.

use super::Direction;
use serde::{Deserialize, Serialize};

/// How far a file on the move is. It is told while it happens and stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// `ATC-…`.
    pub attachment: String,
    /// To the relay or from it.
    pub direction: Direction,
    /// Sealed bytes that have moved.
    pub bytes: u64,
    /// Sealed bytes of the whole: a little more than the file's `size`.
    pub total: u64,
    /// Over the last moments; in the last word of all, over the whole way.
    pub bytes_per_second: u64,
    /// Whether it still moves.
    pub state: TransferState,
}

/// Whether a file still moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// It does.
    Moving,
    /// All its bytes have moved.
    Done,
    /// Not all have: it waits to be tried again, was cancelled or failed, as its status says.
    Stopped,
}
