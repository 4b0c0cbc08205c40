//! Warnings about this node that nobody has acknowledged yet.

use crate::{
    fault::Fault,
    store::{
        Tx,
        events::{self, Subject},
    },
};
use sealpost_node_core::model::NodeWarning;
use sealpost_proto::Timestamp;
use sealpost_sqlite::{RowExt as _, to_millis};

/// Stores a warning, or the time at which its cause was noticed again.
pub(crate) fn set(tx: &Tx<'_>, warning: NodeWarning) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO node_warnings (code, at) VALUES (?1, ?2)
         ON CONFLICT (code) DO UPDATE SET at = excluded.at",
        &[&warning.as_str(), &to_millis(tx.now)],
    )?;
    events::add(tx, Subject::Node)
}

/// Returns the warnings with the time at which their cause was last noticed, the most serious
/// first.
pub(crate) fn load_all(tx: &Tx<'_>) -> Result<Vec<(NodeWarning, Timestamp)>, Fault> {
    let mut warnings = tx.query_rows("SELECT code, at FROM node_warnings", &[], |row| {
        Ok((row.parse("code", NodeWarning::parse)?, row.timestamp("at")?))
    })?;
    let rank = |warning| NodeWarning::ALL.iter().position(|one| *one == warning);
    warnings.sort_by_key(|(warning, _)| rank(*warning));
    Ok(warnings)
}

/// Clears all warnings.
pub(crate) fn acknowledge(tx: &Tx<'_>) -> Result<(), Fault> {
    match tx.execute("DELETE FROM node_warnings", &[])? {
        0 => Ok(()),
        _ => events::add(tx, Subject::Node),
    }
}
