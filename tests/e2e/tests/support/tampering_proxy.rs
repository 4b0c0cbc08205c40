//! A proxy in front of a relay that forwards everything and tampers with the parts of files.

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
use sealpost_demo::{ports::reserve_port, relay::Relay};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// Change that the proxy makes to a downloaded part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tampering {
    /// No change.
    None,
    /// One byte is missing.
    Truncated,
    /// One byte is added.
    Extended,
    /// Parts 1 and 2, which have the same length, are swapped.
    Swapped,
    /// The same part of the previous file.
    OtherBlob,
}

/// Running proxy. It stops when this is dropped.
pub(crate) struct TamperingProxy {
    state: Arc<ProxyState>,
    origin: String,
    task: tokio::task::JoinHandle<()>,
}

struct ProxyState {
    relay: String,
    client: Client<HttpConnector, Body>,
    tampering: Mutex<Tampering>,
    /// Every uploaded part, oldest first: path of its blob, number and bytes.
    parts: Mutex<Vec<(String, u32, Bytes)>>,
}

impl TamperingProxy {
    /// Starts a proxy in front of a relay.
    pub(crate) async fn start(relay: &Relay) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", reserve_port()?)).await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (tampering, parts) = (Mutex::new(Tampering::None), Mutex::default());
        let state = Arc::new(ProxyState {
            relay: relay.origin(),
            client,
            tampering,
            parts,
        });
        let app = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self {
            state,
            origin,
            task,
        })
    }

    /// Returns the URL of the proxy.
    pub(crate) fn origin(&self) -> String {
        self.origin.clone()
    }

    /// Sets the change made from now on.
    pub(crate) fn set_tampering(&self, tampering: Tampering) {
        *self
            .state
            .tampering
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = tampering;
    }
}

impl Drop for TamperingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn handle(State(state): State<Arc<ProxyState>>, request: Request) -> Response {
    state
        .handle(request)
        .await
        .unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
}

/// Returns the blob and the number of a part, if the path names one.
fn parse_part_path(uri: &Uri) -> Option<(String, u32)> {
    let (blob, number) = uri.path().split_once("/parts/")?;
    Some((blob.to_owned(), number.parse().ok()?))
}

impl ProxyState {
    async fn handle(&self, request: Request) -> anyhow::Result<Response> {
        let (mut head, body) = request.into_parts();
        let part = parse_part_path(&head.uri);
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
            head.uri
                .path_and_query()
                .context("the request has no path")?
        )
        .parse()?;
        let response = self
            .client
            .request(Request::from_parts(head, body.into()))
            .await?;
        let (mut head, body) = response.into_parts();
        let mut body = body.collect().await?.to_bytes();
        if let Some((blob, number)) = part.filter(|_| is_download && head.status.is_success()) {
            body = self.tamper_with(&blob, number, body);
            head.headers
                .insert(header::CONTENT_LENGTH, body.len().into());
        }
        Ok(Response::from_parts(head, body.into()))
    }

    fn tamper_with(&self, blob: &str, number: u32, original: Bytes) -> Bytes {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let find_part = |matches: &dyn Fn(&str, u32) -> bool| {
            parts
                .iter()
                .rev()
                .find(|(blob, number, _)| matches(blob, *number))
                .map(|(_, _, bytes)| bytes.clone())
        };
        let tampering = *self
            .tampering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let replacement = match tampering {
            Tampering::None => None,
            Tampering::Truncated => Some(original.slice(..original.len() - 1)),
            Tampering::Extended => Some([&original[..], b"x"].concat().into()),
            Tampering::Swapped => find_part(&|other_blob, other| {
                other_blob == blob && [1, 2].contains(&other) && other + number == 3
            }),
            Tampering::OtherBlob => {
                find_part(&|other_blob, other| other_blob != blob && other == number)
            }
        };
        replacement.unwrap_or(original)
    }
}
