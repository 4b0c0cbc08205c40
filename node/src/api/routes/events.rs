//! `/v1/events`: what changes, as server-sent events. The log is in the database, so a listener that comes back misses
//! nothing of the last 10,000. How far files on the move are is told between them and has no number, so that the last
//! number a listener saw stays that of the log.

use super::{Answer, Params, attachments, messages, node};
use crate::{
    api::{
        model::{EventTopic, EventsQuery},
        problem::ProblemCode,
        render,
    },
    daemon::Daemon,
    fault::Fault,
    progress::ProgressSubscriber,
    store::{
        connections,
        events::{self, Event},
    },
};
use axum::{
    extract::State,
    response::sse::{self, KeepAlive, Sse},
};
use futures_util::Stream;
use http::HeaderMap;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Events read at a time.
const PAGE: i64 = 100;
/// A comment goes out when nothing else does, so that both ends notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/events?after=N`
pub(super) async fn stream(
    State(daemon): State<Arc<Daemon>>,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> Answer<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>> {
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let after = match query.after.or(last) {
        Some(after) => i64::try_from(after).unwrap_or(i64::MAX),
        None => daemon.read(|tx| events::latest(tx)).await?,
    };
    let (news, transfers) = (daemon.follow_events(), daemon.progress.subscribe());
    let listener = Listener {
        news,
        transfers,
        daemon,
        after,
        ready: VecDeque::new(),
    };
    let stream = futures_util::stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Listener {
    daemon: Arc<Daemon>,
    news: watch::Receiver<i64>,
    transfers: ProgressSubscriber,
    after: i64,
    ready: VecDeque<sse::Event>,
}

impl Listener {
    /// Waits for the next event; none when the daemon stops.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.news.borrow_and_update();
            if let Err(fault) = self.read_more().await {
                tracing::warn!(%fault, "a listener of events was cut off");
                return None;
            }
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                transfer = self.transfers.next() => {
                    let told = sse::Event::default().event(EventTopic::Transfer.as_str());
                    return told.json_data(transfer).ok();
                }
                () = self.daemon.shutdown.triggered() => return None,
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), Fault> {
        let after = self.after;
        let page = self
            .daemon
            .read(move |tx| events::after(tx, after, PAGE))
            .await?;
        for event in page {
            self.after = event.id;
            if let Some(shown) = show(&self.daemon, event).await? {
                self.ready.push_back(shown);
            }
        }
        Ok(())
    }
}

/// An event with the resource as it is now, or as it was where that passes quickly; none when it is gone.
async fn show(daemon: &Daemon, event: Event) -> Result<Option<sse::Event>, Fault> {
    let (id, topic) = (event.id, event.topic);
    let data = match event.data {
        Some(data) => Ok(data),
        None => resource(daemon, event).await,
    };
    match data {
        Ok(data) => Ok(Some(
            sse::Event::default()
                .id(id.to_string())
                .event(topic.as_str())
                .data(data),
        )),
        Err(Fault::Refused(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn resource(daemon: &Daemon, event: Event) -> Result<String, Fault> {
    let subject = event.subject;
    let json = match event.topic {
        EventTopic::Node => serde_json::to_string(&node::load(daemon).await?),
        EventTopic::Message | EventTopic::Delivery => {
            let name = daemon.me.name.clone();
            serde_json::to_string(
                &daemon
                    .read(move |tx| messages::load(tx, &subject, &name))
                    .await?,
            )
        }
        EventTopic::Connection => {
            let row = daemon
                .read(move |tx| connections::load(tx, &subject))
                .await?;
            serde_json::to_string(&render::connection(&row))
        }
        EventTopic::Attachment => {
            let row = daemon
                .read(move |tx| attachments::load(tx, &subject))
                .await?;
            serde_json::to_string(&render::attachment(&row))
        }
        EventTopic::Transfer => {
            return Err(Fault::refused(
                ProblemCode::NotFound,
                "a transfer stands in no log",
            ));
        }
    };
    json.map_err(|error| Fault::failed(error.to_string()))
}
