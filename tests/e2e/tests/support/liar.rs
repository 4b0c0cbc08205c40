//! A relay's front that passes everything on and lies about the parts of files.

use anyhow::Context as _;
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sealpost_demo::{ports::free_port, relay::Relay};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// What it says of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The truth.
    None,
    /// One byte less.
    Short,
    /// One byte more.
    Long,
    /// Of parts 1 and 2, which are as long as each other, the other one.
    Swapped,
    /// The same part of the file before.
    OfAnotherBlob,
}

/// The front. It is closed when this is dropped.
pub(crate) struct Liar {
    front: Arc<Front>,
    origin: String,
    task: tokio::task::JoinHandle<()>,
}

struct Front {
    relay: String,
    client: Client<HttpConnector, Body>,
    lie: Mutex<Lie>,
    /// Every part that was uploaded: its blob's path, its number and its bytes, the oldest first.
    parts: Mutex<Vec<(String, u32, Bytes)>>,
}

impl Liar {
    /// In front of a relay that is told of its origin.
    pub(crate) async fn before(relay: &Relay) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", free_port()?)).await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (lie, parts) = (Mutex::new(Lie::None), Mutex::default());
        let front = Arc::new(Front {
            relay: relay.origin(),
            client,
            lie,
            parts,
        });
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&front));
        let task = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self {
            front,
            origin,
            task,
        })
    }

    /// Where nodes find the relay.
    pub(crate) fn origin(&self) -> String {
        self.origin.clone()
    }

    /// Tells this lie from now on.
    pub(crate) fn tell(&self, lie: Lie) {
        *self
            .front
            .lie
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = lie;
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    front
        .answer(request)
        .await
        .unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
}

/// Blob and number, when it is about a part.
fn part_of(uri: &Uri) -> Option<(String, u32)> {
    let (blob, number) = uri.path().split_once("/parts/")?;
    Some((blob.to_owned(), number.parse().ok()?))
}

impl Front {
    async fn answer(&self, request: Request) -> anyhow::Result<Response> {
        let (mut head, body) = request.into_parts();
        let part = part_of(&head.uri);
        let body = to_bytes(body, usize::MAX).await?;
        if let Some((blob, number)) = part.clone().filter(|_| head.method == Method::PUT) {
            self.parts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((blob, number, body.clone()));
        }
        let is_download = head.method == Method::GET && part.is_some();
        head.uri = format!(
            "{}{}",
            self.relay,
            head.uri.path_and_query().context("a path")?
        )
        .parse()?;
        let answer = self
            .client
            .request(Request::from_parts(head, body.into()))
            .await?;
        let (mut head, body) = answer.into_parts();
        let mut body = body.collect().await?.to_bytes();
        if let Some((blob, number)) = part.filter(|_| is_download && head.status.is_success()) {
            body = self.lie_about(&blob, number, body);
            head.headers
                .insert(header::CONTENT_LENGTH, body.len().into());
        }
        Ok(Response::from_parts(head, body.into()))
    }

    fn lie_about(&self, blob: &str, number: u32, truth: Bytes) -> Bytes {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |is_it: &dyn Fn(&str, u32) -> bool| {
            parts
                .iter()
                .rev()
                .find(|(blob, number, _)| is_it(blob, *number))
                .map(|(_, _, bytes)| bytes.clone())
        };
        let lie = *self.lie.lock().unwrap_or_else(PoisonError::into_inner);
        let other = match lie {
            Lie::None => None,
            Lie::Short => Some(truth.slice(..truth.len() - 1)),
            Lie::Long => Some([&truth[..], b"x"].concat().into()),
            Lie::Swapped => {
                find(&|of, one| of == blob && [1, 2].contains(&one) && one + number == 3)
            }
            Lie::OfAnotherBlob => find(&|of, one| of != blob && one == number),
        };
        other.unwrap_or(truth)
    }
}
