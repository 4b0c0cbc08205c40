//! The event log behind the local API's stream. A row names what changed; only a status, which passes quickly, is kept
//! with the values it had. Nothing secret stands here.

use crate::{
    api::model::EventTopic,
    fault::Fault,
    store::{Tx, millis},
};
use sealpost_proto::limits::EVENTS_RETAINED_MAX;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number.
    pub id: i64,
    /// What it is about.
    pub topic: EventTopic,
    /// The short name of what changed.
    pub subject: String,
    /// The values it had then, as JSON, where they pass quickly.
    pub data: Option<String>,
}

/// Adds an event.
///
/// # Errors
/// When SQLite fails.
pub fn add(tx: &Tx<'_>, topic: EventTopic, subject: &str, data: Option<&str>) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO events (topic, subject, data, at) VALUES (?1, ?2, ?3, ?4)",
        &[&topic.as_str(), &subject, &data, &millis(tx.now)],
    )?;
    Ok(())
}

/// The events after `after`, oldest first.
///
/// # Errors
/// When SQLite fails.
pub fn after(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Vec<Event>, Fault> {
    let rows = tx.rows(
        "SELECT id, topic, subject, data FROM events WHERE id > ?1 ORDER BY id LIMIT ?2",
        &[&after, &limit],
        |row| {
            Ok((
                row.get(0)?,
                row.get::<_, String>(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        },
    )?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, topic, subject, data)| {
            Some(Event {
                id,
                topic: EventTopic::parse(&topic)?,
                subject,
                data,
            })
        })
        .collect())
}

/// The number of the latest event, 0 when there is none.
///
/// # Errors
/// When SQLite fails.
pub fn latest(tx: &Tx<'_>) -> Result<i64, Fault> {
    Ok(tx
        .value::<Option<i64>>("SELECT max(id) FROM events", &[])?
        .flatten()
        .unwrap_or(0))
}

/// Forgets all but the latest [`EVENTS_RETAINED_MAX`].
///
/// # Errors
/// When SQLite fails.
pub fn forget_old(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?1",
        &[&EVENTS_RETAINED_MAX],
    )?;
    Ok(())
}
