//! Encoding of states and limits in rows.

use super::StoreError;
use rusqlite::{
    Connection, Params, Row,
    types::{ToSql, ToSqlOutput},
};
use sealpost_proto::EnvelopeState;
use sealpost_sqlite::to_integer;

/// Converts a limit to its SQL representation.
pub(super) fn sql_limit(limit: usize) -> i64 {
    to_integer(limit as u64)
}

/// Position of a waiting envelope in its queue, as in the column `queue_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueState {
    InOrder,
    /// Delivery is retried for this envelope alone.
    SetAside,
    /// An earlier envelope of the same mailbox is set aside.
    Held,
}

impl QueueState {
    const ALL: [Self; 3] = [Self::InOrder, Self::SetAside, Self::Held];

    pub(super) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    const fn code(self) -> i64 {
        match self {
            Self::InOrder => 0,
            Self::SetAside => 1,
            Self::Held => 2,
        }
    }
}

impl ToSql for QueueState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.code().into())
    }
}

/// Returns the code of a state in the tables `envelopes` and `events`.
pub(super) const fn state_code(state: EnvelopeState) -> i64 {
    match state {
        EnvelopeState::Queued => 0,
        EnvelopeState::Retrying => 1,
        EnvelopeState::Stored => 2,
        EnvelopeState::Recalled => 3,
        EnvelopeState::Expired => 4,
        EnvelopeState::Failed => 5,
    }
}

/// Returns the state with a code.
pub(super) fn state_from_code(code: i64) -> Option<EnvelopeState> {
    let mut states = EnvelopeState::ALL.iter().copied();
    states.find(|&state| state_code(state) == code)
}

/// Calls `visit` for each row of a query, until it returns false or an error.
pub(super) fn visit_rows<E: From<StoreError>>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    mut visit: impl FnMut(&Row<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let mut statement = db.prepare_cached(sql).map_err(StoreError::from)?;
    let mut rows = statement.query(params).map_err(StoreError::from)?;
    while let Some(row) = rows.next().map_err(StoreError::from)? {
        if !visit(row)? {
            break;
        }
    }
    Ok(())
}

/// Returns whether a query has any row.
pub(super) fn exists(db: &Connection, sql: &str, params: impl Params) -> Result<bool, StoreError> {
    Ok(db.prepare_cached(sql)?.exists(params)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_separate_waiting_from_ended_states() {
        for &state in EnvelopeState::ALL {
            assert_eq!(state_code(state) < 2, !state.is_final(), "{state:?}");
        }
    }
}
