//! `/v1/events`: changes as server-sent events. The database stores the last 10,000 events, so a
//! client that reconnects misses none of them. The progress of transfers is sent in between without
//! an id, so that the last id that a client received always names a stored event.

use super::{ApiResult, Params, messages, node::NodeState};
use crate::{
    api::{
        model::{EventTopic, EventsQuery},
        problem::{Problem, ProblemCode},
        render,
        state::ApiState,
    },
    daemon::Database,
    fault::Fault,
    identity::NodeIdentity,
    progress::{Progress, ProgressSubscriber},
    store::{
        Tx, connections, deliveries,
        events::{self, Event, Subject},
        files, restoration,
    },
};
use axum::{
    extract::{FromRef, State},
    response::sse::{self, KeepAlive, Sse},
};
use futures_util::Stream;
use http::HeaderMap;
use sealpost_service::Shutdown;
use serde::Serialize;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Maximum number of events that are read at once.
const PAGE_EVENTS_MAX: i64 = 100;
/// Interval of comments on an idle stream, so that both ends notice a lost connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/events?after=N`
pub(super) async fn stream(
    State(source): State<EventSource>,
    State(progress): State<Arc<Progress>>,
    State(shutdown): State<Shutdown>,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>> {
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let position = query.after.or(last);
    let position = position.map(|after| i64::try_from(after).unwrap_or(i64::MAX));
    let (latest, first) = source.database.read(|tx| load_bounds(tx)).await?;
    let after = position.unwrap_or(latest);
    if after < first - 1 {
        let detail = format!(
            "this node was restored from a backup; its new event stream begins after {}",
            first - 1
        );
        return Err(Problem::new(ProblemCode::EventsGone, detail).into());
    }
    let subscriber = Subscriber {
        latest: source.database.subscribe_events(),
        transfers: progress.subscribe(),
        source,
        shutdown,
        after,
        ready: VecDeque::new(),
    };
    let stream = futures_util::stream::unfold(subscriber, |mut subscriber| async move {
        let event = subscriber.next().await?;
        Some((Ok(event), subscriber))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Returns the latest event, and the first one that exists since this node was restored; 0 if it was
/// not.
fn load_bounds(tx: &Tx<'_>) -> Result<(i64, i64), Fault> {
    let restoration = restoration::load(tx)?;
    let first = restoration.map_or(0, |restoration| restoration.first_event);
    Ok((events::find_latest_id(tx)?, first))
}

/// Client that follows the events.
struct Subscriber {
    source: EventSource,
    shutdown: Shutdown,
    latest: watch::Receiver<i64>,
    transfers: ProgressSubscriber,
    /// Id of the last event that was read.
    after: i64,
    /// Events to send next.
    ready: VecDeque<sse::Event>,
}

impl Subscriber {
    /// Waits for the next event; returns `None` at shutdown.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.latest.borrow_and_update();
            if let Err(fault) = self.read_more().await {
                tracing::warn!(%fault, "an event stream was closed");
                return None;
            }
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                changed = self.latest.changed() => changed.ok()?,
                transfer = self.transfers.next() => {
                    let event = sse::Event::default().event(EventTopic::Transfer.as_str());
                    return event.json_data(render::transfer(&transfer)).ok();
                }
                () = self.shutdown.triggered() => return None,
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), Fault> {
        let after = self.after;
        let page = self
            .source
            .database
            .read(move |tx| events::load_page(tx, after, PAGE_EVENTS_MAX))
            .await?;
        for event in page {
            self.after = event.id;
            if let Some(rendered) = self.source.render(event).await? {
                self.ready.push_back(rendered);
            }
        }
        Ok(())
    }
}

/// Components that render events.
#[derive(Clone)]
pub(super) struct EventSource {
    database: Database,
    identity: Arc<NodeIdentity>,
    node: NodeState,
}

impl FromRef<ApiState> for EventSource {
    fn from_ref(state: &ApiState) -> Self {
        Self {
            database: FromRef::from_ref(state),
            identity: FromRef::from_ref(state),
            node: FromRef::from_ref(state),
        }
    }
}

impl EventSource {
    /// Renders an event with the current state of its subject; `None` if the subject was deleted.
    async fn render(&self, event: Event) -> Result<Option<sse::Event>, Fault> {
        let data = match self.subject_json(event.subject).await {
            Ok(data) => data,
            Err(Fault::Refused(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let rendered = sse::Event::default()
            .id(event.id.to_string())
            .event(event.subject.topic().as_str())
            .data(data);
        Ok(Some(rendered))
    }

    async fn subject_json(&self, subject: Subject) -> Result<String, Fault> {
        let database = &self.database;
        match subject {
            Subject::Node => to_json(&self.node.load().await?),
            Subject::Message(id) => {
                let name = self.identity.name.clone();
                to_json(
                    &database
                        .read(move |tx| messages::load(tx, id, &name))
                        .await?,
                )
            }
            Subject::Delivery(id) => {
                let row = database.read(move |tx| deliveries::load_by_posting(tx, id));
                let row = row.await?.ok_or_else(|| Fault::not_found("delivery", id))?;
                to_json(&render::delivery(&row))
            }
            Subject::Connection(id) => {
                let row = database.read(move |tx| connections::load(tx, id)).await?;
                to_json(&render::connection(&row))
            }
            Subject::File(id) => {
                let row = database.read(move |tx| files::load(tx, id)).await?;
                let row = row.ok_or_else(|| Fault::not_found("file", id))?;
                to_json(&render::file(&row))
            }
        }
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::failed(error.to_string()))
}
