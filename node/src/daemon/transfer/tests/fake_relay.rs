//! Fake relay that stores blobs, with responses that a test can override.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use sealpost_proto::{
    BlobId, BlobSize, ErrorCode, Origin, SessionKey, limits,
    wire::{Blob, BlobState, CompleteBlob, CreateBlob, ExtendBlob, Session},
};
use sealpost_service::{Clock as _, ManualClock, http::ProblemResponse};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::RwLock};

/// Optional response that replaces the regular one. A request with an error response has no effect.
pub(super) type ResponseOverride = dyn Fn(&RecordedRequest) -> Option<Response> + Send + Sync;

/// Request that the relay received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordedRequest {
    pub(super) method: String,
    pub(super) blob: BlobId,
    /// Rest of the path: `complete`, or the number of a part.
    pub(super) rest: String,
    /// Number of part requests in progress, including this one.
    pub(super) parallel_parts: usize,
}

impl RecordedRequest {
    pub(super) fn is_part(&self) -> bool {
        self.rest.parse::<u32>().is_ok()
    }
}

pub(super) struct FakeRelay {
    pub(super) clock: ManualClock,
    pub(super) blobs: Mutex<HashMap<BlobId, FakeBlob>>,
    pub(super) requests: Mutex<Vec<RecordedRequest>>,
    running_parts: Mutex<usize>,
    /// Holding the write lock delays the responses to all part requests.
    pub(super) gate: RwLock<()>,
    response_override: Box<ResponseOverride>,
}

#[derive(Clone)]
pub(super) struct FakeBlob {
    pub(super) size: BlobSize,
    pub(super) parts: BTreeMap<u32, Bytes>,
    pub(super) is_complete: bool,
}

impl FakeBlob {
    fn view(&self, id: BlobId, expires_at: sealpost_proto::Timestamp) -> Response {
        let state = if self.is_complete {
            BlobState::Complete
        } else {
            BlobState::Uploading
        };
        let present = self.parts.keys().copied().collect();
        let (size_bytes, parts) = (self.size.bytes(), self.size.parts());
        axum::Json(Blob {
            id,
            state,
            size_bytes,
            parts,
            present,
            expires_at,
        })
        .into_response()
    }

    pub(super) fn digest(&self) -> Vec<u8> {
        let hash = self.parts.values().fold(Sha256::new(), |hash, part| {
            hash.chain_update(Sha256::digest(part))
        });
        hash.finalize().to_vec()
    }
}

/// Response whose connection closes before the end of the body.
pub(super) fn truncated_response() -> Response {
    let pieces = [
        Ok(Bytes::from_static(b"half")),
        Err(io::Error::other("cut")),
    ];
    let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
    response
        .headers_mut()
        .insert("content-length", 1_000_000.into());
    response
}

async fn respond(State(relay): State<Arc<FakeRelay>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path: Vec<_> = head
        .uri
        .path()
        .trim_start_matches("/v1/")
        .split('/')
        .map(str::to_owned)
        .collect();
    if path[0] == "session" {
        let expires_at = relay.clock.now().plus(Duration::from_secs(1_000_000_000));
        let (session_id, key) = ("a session".to_owned(), SessionKey::from_bytes([3; 32]));
        return axum::Json(Session {
            session_id,
            key,
            expires_at,
            relay_time: relay.clock.now(),
            webhook: None,
        })
        .into_response();
    }
    let is_part = path.get(2).is_some_and(|word| word == "parts");
    let parallel_parts = {
        let mut running_parts = relay.running_parts.lock().unwrap();
        *running_parts += usize::from(is_part);
        *running_parts
    };
    let body = to_bytes(body, limits::PART_BYTES_MAX + 1).await;
    *relay.running_parts.lock().unwrap() -= usize::from(is_part);
    let Ok(body) = body else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let blob = match path.get(1) {
        Some(id) => id.parse().unwrap(),
        None => serde_json::from_slice::<CreateBlob>(&body).unwrap().id,
    };
    let rest = path
        .get(if is_part { 3 } else { 2 })
        .cloned()
        .unwrap_or_default();
    let request = RecordedRequest {
        method: head.method.to_string(),
        blob,
        rest,
        parallel_parts,
    };
    relay.requests.lock().unwrap().push(request.clone());
    if is_part {
        drop(relay.gate.read().await);
    }
    let overridden = (relay.response_override)(&request);
    match overridden {
        Some(refusal) if !refusal.status().is_success() => refusal,
        overridden => {
            let response = relay.handle_request(&request, &body);
            overridden.unwrap_or(response)
        }
    }
}

impl FakeRelay {
    pub(super) async fn start(
        response_override: impl Fn(&RecordedRequest) -> Option<Response> + Send + Sync + 'static,
    ) -> (Arc<Self>, Origin) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let relay = Arc::new(FakeRelay {
            clock: ManualClock::new(crate::testing::START),
            blobs: Mutex::default(),
            requests: Mutex::default(),
            running_parts: Mutex::default(),
            gate: RwLock::default(),
            response_override: Box::new(response_override),
        });
        let router = Router::new()
            .fallback(respond)
            .with_state(Arc::clone(&relay));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (relay, origin)
    }

    fn handle_request(&self, request: &RecordedRequest, body: &Bytes) -> Response {
        let mut blobs = self.blobs.lock().unwrap();
        let until = self.clock.now().plus(Duration::from_secs(10_000_000));
        if (request.method.as_str(), request.rest.as_str()) == ("POST", "") {
            let create: CreateBlob = serde_json::from_slice(body).unwrap();
            let size = BlobSize::parse(create.size_bytes, limits::BLOB_BYTES_MAX).unwrap();
            let new = FakeBlob {
                size,
                parts: BTreeMap::new(),
                is_complete: false,
            };
            return blobs
                .entry(request.blob)
                .or_insert(new)
                .view(request.blob, create.expires_at);
        }
        if request.method == "DELETE" {
            blobs.remove(&request.blob);
            return StatusCode::NO_CONTENT.into_response();
        }
        let Some(blob) = blobs.get_mut(&request.blob) else {
            return problem(ErrorCode::NotFound);
        };
        match (request.method.as_str(), request.rest.as_str()) {
            ("POST", "complete") => {
                let complete: CompleteBlob = serde_json::from_slice(body).unwrap();
                if blob.parts.len() != blob.size.parts() as usize
                    || blob.digest() != complete.digest.as_slice()
                {
                    return problem(ErrorCode::BlobIncomplete);
                }
                blob.is_complete = true;
                blob.view(request.blob, until)
            }
            ("PATCH", _) => {
                let extend: ExtendBlob = serde_json::from_slice(body).unwrap();
                blob.view(request.blob, extend.expires_at)
            }
            ("PUT", number) => {
                let number = number.parse().unwrap();
                assert_eq!(Some(body.len()), blob.size.part_bytes(number));
                blob.parts.insert(number, body.clone());
                StatusCode::NO_CONTENT.into_response()
            }
            (_, number) => match blob.parts.get(&number.parse().unwrap()) {
                Some(part) => Body::from(part.clone()).into_response(),
                None => problem(ErrorCode::NotFound),
            },
        }
    }
}

pub(super) fn problem(code: ErrorCode) -> Response {
    ProblemResponse::from(code).into_response()
}
