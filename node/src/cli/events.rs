//! Client side of the event stream (server-sent events, HTML standard section 9.2).

use crate::api::model::EventTopic;
use reqwest::Response;
use sealpost_proto::limits::EVENT_BYTES_MAX;
use serde::Serialize;
use std::collections::VecDeque;

/// Event of the local API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Increasing number of a stored event; transient events have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    pub topic: EventTopic,
    /// The resource that changed.
    pub data: serde_json::Value,
}

/// Open connection to the event stream.
pub struct EventStream {
    response: Response,
    parser: Parser,
    ready: VecDeque<Event>,
}

impl EventStream {
    pub(super) fn new(response: Response) -> Self {
        Self {
            response,
            parser: Parser::default(),
            ready: VecDeque::new(),
        }
    }

    /// Waits for the next event. Returns `None` when the stream has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            let chunk = self.response.chunk().await.ok()??;
            self.ready.extend(self.parser.feed(&chunk)?);
        }
        self.ready.pop_front()
    }
}

/// Incremental parser of server-sent events. Skips unknown topics, which a later version may add.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    id: Option<u64>,
    topic: Option<EventTopic>,
    data: String,
}

impl Parser {
    /// Returns the events that these bytes complete, or `None` if an event is too large or not
    /// UTF-8.
    fn feed(&mut self, bytes: &[u8]) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                return None;
            }
            if piece.ends_with(b"\n") {
                let line = String::from_utf8(std::mem::take(&mut self.line)).ok()?;
                events.extend(self.parse_line(line.trim_end_matches(['\r', '\n'])));
            }
        }
        Some(events)
    }

    fn parse_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = value.parse().ok(),
            "event" => self.topic = EventTopic::parse(value).ok(),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let (id, topic, data) = (
            self.id.take(),
            self.topic.take(),
            std::mem::take(&mut self.data),
        );
        Some(Event {
            id,
            topic: topic?,
            data: serde_json::from_str(&data).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STREAM: &str = "\
: hello\n\nid: 7\nevent: delivery\ndata: {\"status\":\ndata: \"sent\"}\n\n\
id: 8\r\nevent: of_tomorrow\r\ndata: {}\r\n\r\nevent: transfer\ndata: {}\n\n\
id:9\nevent:node\ndata:{}\n\nid: 10\nevent: node\ndata: cut";

    #[test]
    fn events_parse_across_any_chunk_boundary() {
        let expected = [
            Event {
                id: Some(7),
                topic: EventTopic::Delivery,
                data: json!({"status": "sent"}),
            },
            Event {
                id: None,
                topic: EventTopic::Transfer,
                data: json!({}),
            },
            Event {
                id: Some(9),
                topic: EventTopic::Node,
                data: json!({}),
            },
        ];
        for size in [1, 2, 3, 7, 1_000] {
            let mut parser = Parser::default();
            let events: Vec<Event> = STREAM
                .as_bytes()
                .chunks(size)
                .flat_map(|chunk| parser.feed(chunk).unwrap())
                .collect();
            assert_eq!(events, expected, "chunks of {size} bytes");
        }
    }

    #[test]
    fn endless_line_is_rejected() {
        let mut parser = Parser::default();
        let megabyte = vec![b'x'; 1024 * 1024];
        assert!((0..9).any(|_| parser.feed(&megabyte).is_none()));
    }
}
