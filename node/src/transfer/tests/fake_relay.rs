//! Fake relay that stores blobs, with responses that a test can override, and a daemon that uses it.

use crate::{
    api::model::{AttachmentStatus, Direction},
    daemon::Daemon,
    files::{DiskFileId, SealedParts, Staged},
    store::attachments,
    transfer,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use sealpost_e2ee::attachment::{Descriptor, Sealed};
use sealpost_proto::{
    BlobId, BlobRef, BlobSize, ErrorCode, FetchToken, Origin, SessionKey, limits,
    wire::{Blob, BlobState, CompleteBlob, CreateBlob, ExtendBlob, Session},
};
use sealpost_service::{Clock as _, ManualClock, http::ProblemResponse};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
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
    blobs: Mutex<HashMap<BlobId, FakeBlob>>,
    requests: Mutex<Vec<RecordedRequest>>,
    running_parts: Mutex<usize>,
    /// Holding the write lock delays the responses to all part requests.
    pub(super) gate: RwLock<()>,
    response_override: Box<ResponseOverride>,
}

#[derive(Clone)]
struct FakeBlob {
    size: BlobSize,
    parts: BTreeMap<u32, Bytes>,
    is_complete: bool,
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

    fn digest(&self) -> Vec<u8> {
        let hash = self.parts.values().fold(Sha256::new(), |hash, part| {
            hash.chain_update(Sha256::digest(part))
        });
        hash.finalize().to_vec()
    }
}

/// Parts of a file that is about to be sealed.
fn new_parts() -> Arc<SealedParts> {
    Arc::new(SealedParts::for_new_file(
        DiskFileId::from_bytes(sealpost_service::random_array()),
        Arc::default(),
        None,
    ))
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

/// Daemon and its fake relay.
pub(super) struct TestBed {
    pub(super) relay: Arc<FakeRelay>,
    pub(super) daemon: Arc<Daemon>,
    _folder: tempfile::TempDir,
}

impl TestBed {
    pub(super) async fn start(
        response_override: impl Fn(&RecordedRequest) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
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
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::for_test(folder.path(), origin, relay.clock.clone()).await;
        tokio::spawn(transfer::upload(Arc::clone(&daemon)));
        tokio::spawn(transfer::download(Arc::clone(&daemon)));
        tokio::spawn(transfer::maintain_blobs(Arc::clone(&daemon)));
        Self {
            relay,
            daemon,
            _folder: folder,
        }
    }

    /// Adds a file of `bytes` bytes to upload.
    pub(super) async fn upload(&self, bytes: usize) -> (String, Staged) {
        let text: Vec<u8> = (1..=251).cycle().take(bytes).collect();
        let pieces = stream::iter([Ok::<_, Infallible>(Bytes::from(text))]);
        let staged = self
            .daemon
            .files
            .stage(pieces, bytes as u64, new_parts())
            .await
            .unwrap();
        let id = BlobId::from_bytes(*staged.file.as_bytes());
        (
            self.add(&staged, id, Direction::Out, AttachmentStatus::Uploading)
                .await,
            staged,
        )
    }

    /// Adds the same file at the relay, as one to download.
    pub(super) async fn download(&self, staged: &Staged) -> (String, BlobId) {
        let id = BlobId::from_bytes(sealpost_service::random_array());
        let size = BlobSize::parse(staged.sealed.ct_len, limits::BLOB_BYTES_MAX).unwrap();
        let mut parts = BTreeMap::new();
        for number in 0..size.parts() {
            let range = size.part_range(number).unwrap();
            parts.insert(
                number,
                self.daemon
                    .files
                    .read_range(staged.file, range)
                    .await
                    .unwrap(),
            );
        }
        self.relay.blobs.lock().unwrap().insert(
            id,
            FakeBlob {
                size,
                parts,
                is_complete: true,
            },
        );
        (
            self.add(staged, id, Direction::In, AttachmentStatus::Waiting)
                .await,
            id,
        )
    }

    async fn add(
        &self,
        staged: &Staged,
        id: BlobId,
        direction: Direction,
        status: AttachmentStatus,
    ) -> String {
        let descriptor = Descriptor {
            blob: BlobRef {
                relay: self.daemon.me.relay.clone(),
                id,
            },
            fetch_token: FetchToken::from_bytes([4; 32]),
            file_key: staged.file_key.clone(),
            sealed: staged.sealed,
            name: "a.bin".to_owned(),
            mime: String::new(),
            preview: None,
        };
        let (file, part_digests) = (staged.file, staged.part_digests.clone());
        let insert = self.daemon.write(move |tx| {
            let file = match direction {
                Direction::Out => file,
                Direction::In => DiskFileId::from_bytes(sealpost_service::random_array()),
            };
            let part_digests = &part_digests;
            let new = attachments::NewAttachment {
                direction,
                status,
                descriptor: &descriptor,
                file_type: None,
                file,
                part_digests,
            };
            attachments::insert(tx, &new)
        });
        insert.await.unwrap()
    }

    pub(super) async fn row(&self, name: &str) -> attachments::Attachment {
        let name = name.to_owned();
        self.daemon
            .read(move |tx| attachments::load(tx, &name))
            .await
            .unwrap()
            .unwrap()
    }

    /// Advances the clock until a condition holds, so that every retry becomes due.
    pub(super) async fn until(&self, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let waiting = async {
            while !is_so(self).await {
                self.relay.clock.advance(Duration::from_secs(60));
                self.daemon.write(|_| Ok(())).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .unwrap();
    }

    pub(super) async fn until_status(&self, name: &str, status: AttachmentStatus) {
        self.until(async |bed| bed.row(name).await.status == status)
            .await;
    }

    pub(super) fn requests(&self) -> Vec<RecordedRequest> {
        self.relay.requests.lock().unwrap().clone()
    }

    /// Returns whether the relay has the complete blob of a staged file.
    pub(super) fn has(&self, staged: &Staged) -> bool {
        self.has_complete_blob(BlobId::from_bytes(*staged.file.as_bytes()), &staged.sealed)
    }

    /// Returns whether the relay has a complete blob that matches its description.
    pub(super) fn has_complete_blob(&self, id: BlobId, sealed: &Sealed) -> bool {
        let blobs = self.relay.blobs.lock().unwrap();
        blobs
            .get(&id)
            .is_some_and(|blob| blob.is_complete && blob.digest() == sealed.ct_hash)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.relay.blobs.lock().unwrap().is_empty()
    }

    /// Creates a blob without parts, as an interrupted upload leaves it.
    pub(super) fn begin_blob(&self, id: BlobId) {
        let size = BlobSize::parse(limits::BLOB_BYTES_MAX, limits::BLOB_BYTES_MAX).unwrap();
        let begun = FakeBlob {
            size,
            parts: BTreeMap::new(),
            is_complete: false,
        };
        self.relay.blobs.lock().unwrap().insert(id, begun);
    }

    pub(super) fn has_blob(&self, staged: &Staged) -> bool {
        self.relay
            .blobs
            .lock()
            .unwrap()
            .contains_key(&BlobId::from_bytes(*staged.file.as_bytes()))
    }

    /// Changes the stored parts of a blob.
    pub(super) fn tamper(&self, id: BlobId, change: impl FnOnce(&mut BTreeMap<u32, Bytes>)) {
        change(&mut self.relay.blobs.lock().unwrap().get_mut(&id).unwrap().parts);
    }
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
