//! Event log of the local API's event stream. A row contains only the id of the changed resource;
//! the API renders the resource's current state when a client reads the event.

use crate::{fault::Fault, store::Tx};
use sealpost_node_core::model::{ConnectionId, EventTopic, FileId, MessageId};
use sealpost_proto::limits::EVENTS_RETAINED_MAX;
use sealpost_sqlite::{RowExt as _, to_millis};

/// Resource that an event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Message(MessageId),
    /// The delivery to the recipient whose chat shows this message.
    Delivery(MessageId),
    Connection(ConnectionId),
    File(FileId),
    Node,
}

impl Subject {
    /// Returns the topic under which the event is published.
    #[must_use]
    pub(crate) const fn topic(self) -> EventTopic {
        match self {
            Self::Message(_) => EventTopic::Message,
            Self::Delivery(_) => EventTopic::Delivery,
            Self::Connection(_) => EventTopic::Connection,
            Self::File(_) => EventTopic::Attachment,
            Self::Node => EventTopic::Node,
        }
    }

    fn id(self) -> String {
        match self {
            Self::Message(id) | Self::Delivery(id) => id.to_string(),
            Self::Connection(id) => id.to_string(),
            Self::File(id) => id.to_string(),
            Self::Node => "node".to_owned(),
        }
    }

    fn parse(topic: EventTopic, id: &str) -> Option<Self> {
        match topic {
            EventTopic::Message => MessageId::parse(id).ok().map(Self::Message),
            EventTopic::Delivery => MessageId::parse(id).ok().map(Self::Delivery),
            EventTopic::Connection => ConnectionId::parse(id).ok().map(Self::Connection),
            EventTopic::Attachment => FileId::parse(id).ok().map(Self::File),
            EventTopic::Node => Some(Self::Node),
            EventTopic::Transfer => None,
        }
    }
}

/// Stored event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// Sequence number of the event.
    pub id: i64,
    pub subject: Subject,
}

pub(crate) fn add(tx: &Tx<'_>, subject: Subject) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO events (topic, subject, at) VALUES (?1, ?2, ?3)",
        &[&subject.topic().as_str(), &subject.id(), &to_millis(tx.now)],
    )?;
    Ok(())
}

/// Returns up to `limit` events after the number `after`, oldest first.
pub(crate) fn load_page(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Vec<Event>, Fault> {
    tx.query_rows(
        "SELECT id, topic, subject FROM events WHERE id > ?1 ORDER BY id LIMIT ?2",
        &[&after, &limit],
        |row| {
            let topic = row.parse("topic", EventTopic::parse)?;
            Ok(Event {
                id: row.read("id")?,
                subject: row.parse("subject", |id| Subject::parse(topic, id))?,
            })
        },
    )
}

/// Starts a new stream with an event of at least the number `number`, which must exceed that of
/// every event before. Returns the number of the event.
pub(crate) fn start_stream(tx: &Tx<'_>, number: i64) -> Result<i64, Fault> {
    let first = number.max(find_latest_id(tx)?.saturating_add(1));
    tx.execute(
        "INSERT INTO events (id, topic, subject, at) VALUES (?1, ?2, ?3, ?4)",
        &[
            &first,
            &Subject::Node.topic().as_str(),
            &Subject::Node.id(),
            &to_millis(tx.now),
        ],
    )?;
    Ok(first)
}

/// Returns the number of the latest event; 0 if there is none.
pub(crate) fn find_latest_id(tx: &Tx<'_>) -> Result<i64, Fault> {
    let latest: Option<Option<i64>> = tx.query_value("SELECT max(id) FROM events", &[])?;
    Ok(latest.flatten().unwrap_or(0))
}

/// Deletes all but the latest [`EVENTS_RETAINED_MAX`] events.
pub(crate) fn delete_old(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?1",
        &[&EVENTS_RETAINED_MAX],
    )?;
    Ok(())
}
