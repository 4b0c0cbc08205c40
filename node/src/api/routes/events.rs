//! `/v1/events`: changes as server-sent events. The log is in the database, so a subscriber that
//! reconnects misses nothing of the last 10,000 events. Progress of transfers is sent in between
//! without a number, so that the last number that a subscriber saw is one of the log.

use super::{ApiResult, Params, messages, node};
use crate::{
    api::{
        model::{EventTopic, EventsQuery},
        render,
    },
    daemon::Daemon,
    fault::Fault,
    progress::ProgressSubscriber,
    store::{
        connections, deliveries,
        events::{self, Event, Subject},
        files,
    },
};
use axum::{
    extract::State,
    response::sse::{self, KeepAlive, Sse},
};
use futures_util::Stream;
use http::HeaderMap;
use serde::Serialize;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Maximum number of events read at once.
const PAGE: i64 = 100;
/// Interval of comments on an idle stream, so that both ends notice a lost connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/events?after=N`
pub(super) async fn stream(
    State(daemon): State<Arc<Daemon>>,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>> {
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let after = match query.after.or(last) {
        Some(after) => i64::try_from(after).unwrap_or(i64::MAX),
        None => daemon.read(|tx| events::latest(tx)).await?,
    };
    let (latest, transfers) = (daemon.subscribe_events(), daemon.progress.subscribe());
    let subscriber = Subscriber {
        latest,
        transfers,
        daemon,
        after,
        ready: VecDeque::new(),
    };
    let stream = futures_util::stream::unfold(subscriber, |mut subscriber| async move {
        let event = subscriber.next().await?;
        Some((Ok(event), subscriber))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Subscriber {
    daemon: Arc<Daemon>,
    latest: watch::Receiver<i64>,
    transfers: ProgressSubscriber,
    after: i64,
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
                () = self.daemon.shutdown.triggered() => return None,
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), Fault> {
        let after = self.after;
        let page = self
            .daemon
            .read(move |tx| events::page(tx, after, PAGE))
            .await?;
        for event in page {
            self.after = event.id;
            if let Some(rendered) = render_event(&self.daemon, event).await? {
                self.ready.push_back(rendered);
            }
        }
        Ok(())
    }
}

/// Renders an event with its subject as it is now, or nothing when the subject is gone.
async fn render_event(daemon: &Daemon, event: Event) -> Result<Option<sse::Event>, Fault> {
    let data = match subject_json(daemon, event.subject).await {
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

async fn subject_json(daemon: &Daemon, subject: Subject) -> Result<String, Fault> {
    match subject {
        Subject::Node => to_json(&node::load(daemon).await?),
        Subject::Message(id) => {
            let name = daemon.identity.name.clone();
            to_json(&daemon.read(move |tx| messages::load(tx, id, &name)).await?)
        }
        Subject::Delivery(id) => {
            let row = daemon.read(move |tx| deliveries::load_by_posting(tx, id));
            let row = row.await?.ok_or_else(|| Fault::not_found("delivery", id))?;
            to_json(&render::delivery(&row))
        }
        Subject::Connection(id) => {
            let row = daemon.read(move |tx| connections::load(tx, id)).await?;
            to_json(&render::connection(&row))
        }
        Subject::File(id) => {
            let row = daemon.read(move |tx| files::load(tx, id)).await?;
            let row = row.ok_or_else(|| Fault::not_found("file", id))?;
            to_json(&render::file(&row))
        }
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::failed(error.to_string()))
}
