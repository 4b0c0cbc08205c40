use crate::{
    process::Process,
    support::{
        Node, Relay, Reply, ReservedAddress, eventually, eventually_some, json, private_directory,
    },
};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use sealpost_proto::{
    B64, BlobId, ErrorCode, FetchToken, Timestamp, b64,
    limits::{BLOB_LIFETIME_MAX, PART_BYTES, PART_BYTES_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX},
    wire::{Blob, BlobState, CompleteBlob, CreateBlob, DeliveryMode, ExtendBlob},
};
use sealpost_service::{Clock as _, ManualClock, SystemClock, config::ByteSize, random_array};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

pub(crate) struct Upload {
    pub(crate) id: BlobId,
    token: FetchToken,
    pub(crate) parts: Vec<Bytes>,
}

impl Upload {
    pub(crate) fn new(sizes: &[usize]) -> Self {
        let parts = sizes
            .iter()
            .map(|size| Bytes::from(vec![random_array::<1>()[0]; *size]))
            .collect();
        Self {
            id: BlobId::from_bytes(random_array()),
            token: FetchToken::from_bytes(random_array()),
            parts,
        }
    }

    fn create(&self, relay: &Relay) -> CreateBlob {
        self.create_at(relay.now())
    }

    fn create_at(&self, now: Timestamp) -> CreateBlob {
        CreateBlob {
            id: self.id,
            size_bytes: self.parts.iter().map(|part| part.len() as u64).sum(),
            fetch_token_hash: B64(Sha256::digest(self.token.expose()).to_vec()),
            expires_at: now.plus(Duration::from_secs(86_400)),
        }
    }

    /// Creates the blob, uploads all parts and completes it.
    pub(crate) async fn send(&self, relay: &Relay, node: &Node) {
        assert_eq!(
            node.post("/v1/blobs", &self.create(relay)).await.status,
            StatusCode::CREATED
        );
        for number in 0..self.parts.len() {
            self.put(node, number).await.assert_no_content();
        }
        self.complete(node).await.ok::<Blob>();
    }

    async fn put(&self, node: &Node, number: usize) -> Reply {
        put_bytes(node, self.id, number, self.parts[number].clone()).await
    }

    async fn complete(&self, node: &Node) -> Reply {
        let mut hash = Sha256::new();
        for part in &self.parts {
            hash.update(Sha256::digest(part));
        }
        let body = CompleteBlob {
            digest: B64(hash.finalize().to_vec()),
        };
        node.post(&format!("/v1/blobs/{}/complete", self.id), &body)
            .await
    }

    pub(crate) async fn fetch(&self, node: &Node, number: usize, range: Option<&str>) -> Reply {
        fetch(node, self.id, number, &self.token, range).await
    }

    pub(crate) fn fetch_request(&self, node: &Node, number: usize) -> Request<Full<Bytes>> {
        fetch_request(node, self.id, number, &self.token)
    }
}

async fn put_bytes(node: &Node, id: BlobId, number: usize, bytes: Bytes) -> Reply {
    let mut request = node.session_request(
        Method::PUT,
        &format!("/v1/blobs/{id}/parts/{number}"),
        bytes,
    );
    request
        .headers_mut()
        .insert("content-type", "application/octet-stream".parse().unwrap());
    node.send(request).await
}

async fn fetch(
    node: &Node,
    id: BlobId,
    number: usize,
    token: &FetchToken,
    range: Option<&str>,
) -> Reply {
    let mut request = fetch_request(node, id, number, token);
    if let Some(range) = range {
        request
            .headers_mut()
            .insert("range", range.parse().unwrap());
    }
    node.send(request).await
}

fn fetch_request(
    node: &Node,
    id: BlobId,
    number: usize,
    token: &FetchToken,
) -> Request<Full<Bytes>> {
    let target = format!("/v1/blobs/{id}/parts/{number}");
    let mut request = node.session_request(Method::GET, &target, "");
    request.headers_mut().insert(
        "sealpost-fetch-token",
        b64::encode(token.expose()).parse().unwrap(),
    );
    request
}

#[tokio::test]
async fn parts_can_be_uploaded_in_any_order() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let upload = Upload::new(&[PART_BYTES_MAX, PART_BYTES, 1_000]);
    let created = acme.post("/v1/blobs", &upload.create(&relay)).await;
    assert_eq!(created.status, StatusCode::CREATED);
    relay.clock.advance(Duration::from_secs(60));
    let again = acme.post("/v1/blobs", &upload.create(&relay)).await;
    assert_eq!(
        again.status,
        StatusCode::OK,
        "a node that resumes repeats the request"
    );
    assert_eq!(
        again.ok::<Blob>().expires_at,
        relay.now().plus(Duration::from_secs(86_400))
    );
    upload.put(&acme, 2).await.assert_no_content();
    upload.put(&acme, 0).await.assert_no_content();
    assert_eq!(
        upload.complete(&acme).await.code(),
        ErrorCode::BlobIncomplete
    );
    assert_eq!(
        upload.fetch(&bolt, 0, None).await.code(),
        ErrorCode::NotFound,
        "an incomplete blob cannot be downloaded"
    );
    let relay = relay.restart().await;
    let blob: Blob = acme.get(&format!("/v1/blobs/{}", upload.id)).await.ok();
    assert_eq!(
        (blob.state, blob.parts, blob.present),
        (BlobState::Uploading, 3, vec![0, 2])
    );
    upload.put(&acme, 1).await.assert_no_content();
    upload.put(&acme, 1).await.assert_no_content();
    let complete: Blob = upload.complete(&acme).await.ok();
    assert_eq!(
        (complete.state, complete.present),
        (BlobState::Complete, vec![0, 1, 2])
    );
    assert_eq!(upload.complete(&acme).await.status, StatusCode::OK);
    for number in 0..3 {
        assert_eq!(
            upload.fetch(&bolt, number, None).await.body,
            upload.parts[number]
        );
    }
    drop(relay);
}

#[tokio::test]
async fn range_of_a_part_is_returned() {
    let relay = Relay::start().await;
    let acme = relay.node().await;
    let upload = Upload::new(&[1_000]);
    acme.post("/v1/blobs", &upload.create(&relay)).await;
    upload.put(&acme, 0).await.assert_no_content();
    upload.complete(&acme).await;
    let some = upload.fetch(&acme, 0, Some("bytes=100-199")).await;
    assert_eq!(
        (some.status, some.body.len()),
        (StatusCode::PARTIAL_CONTENT, 100)
    );
    assert_eq!(some.headers["content-range"], "bytes 100-199/1000");
    let rest = upload.fetch(&acme, 0, Some("bytes=990-")).await;
    assert_eq!(rest.headers["content-range"], "bytes 990-999/1000");
    let beyond = upload.fetch(&acme, 0, Some("bytes=1000-")).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.headers["content-range"], "bytes */1000");
}

#[tokio::test]
async fn wrong_token_looks_like_unknown_blob() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let upload = Upload::new(&[500]);
    acme.post("/v1/blobs", &upload.create(&relay)).await;
    upload.put(&acme, 0).await.assert_no_content();
    upload.complete(&acme).await;
    let wrong = fetch(&bolt, upload.id, 0, &FetchToken::from_bytes([0; 32]), None).await;
    let absent = fetch(&bolt, BlobId::from_bytes([0; 16]), 0, &upload.token, None).await;
    assert_eq!((wrong.status, &wrong.body), (absent.status, &absent.body));
    assert_eq!(wrong.code(), ErrorCode::NotFound);
    let path = format!("/v1/blobs/{}", upload.id);
    assert_eq!(
        bolt.get(&path).await.code(),
        ErrorCode::NotFound,
        "only the owner sees the blob"
    );
    bolt.send_with_session(Method::DELETE, &path, "")
        .await
        .assert_no_content();
    assert_eq!(
        upload.fetch(&bolt, 0, None).await.status,
        StatusCode::OK,
        "only the owner can delete it"
    );
    acme.send_with_session(Method::DELETE, &path, "")
        .await
        .assert_no_content();
    assert_eq!(
        upload.fetch(&bolt, 0, None).await.code(),
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn invalid_parts_are_refused() {
    let relay = Relay::start().await;
    let acme = relay.node().await;
    let upload = Upload::new(&[500]);
    acme.post("/v1/blobs", &upload.create(&relay)).await;
    for (number, size) in [(0, 499), (0, 501), (1, 500), (4_000_000_000, 500)] {
        let reply = put_bytes(&acme, upload.id, number, vec![1; size].into()).await;
        assert_eq!(reply.code(), ErrorCode::PartInvalid, "{number} {size}");
    }
    upload.put(&acme, 0).await.assert_no_content();
    assert_eq!(
        put_bytes(&acme, upload.id, 0, vec![255; 500].into())
            .await
            .code(),
        ErrorCode::Conflict
    );
    let unknown = put_bytes(&acme, BlobId::from_bytes([0; 16]), 0, vec![1; 500].into()).await;
    assert_eq!(unknown.code(), ErrorCode::NotFound);
    let huge = put_bytes(&acme, upload.id, 0, vec![1; PART_BYTES_MAX + 1].into()).await;
    assert_eq!(huge.code(), ErrorCode::TooLarge);
}

#[tokio::test]
async fn blob_limits_are_enforced() {
    let relay =
        Relay::start_with(|config| config.quotas.account_blob_bytes = ByteSize::from_bytes(1_500))
            .await;
    let mut acme = relay.node().await;
    let (first, second) = (Upload::new(&[1_000]), Upload::new(&[1_000]));
    assert_eq!(
        acme.post("/v1/blobs", &first.create(&relay)).await.status,
        StatusCode::CREATED
    );
    let refused = acme.post("/v1/blobs", &second.create(&relay)).await;
    assert_eq!(refused.code(), ErrorCode::QuotaExceeded);
    let detail = refused.json::<sealpost_proto::Problem>().detail;
    assert!(
        detail.contains("1000 of 1500 bytes")
            && detail.contains("500 are free, this file needs 1000"),
        "{detail}"
    );
    let mut other = first.create(&relay);
    other.size_bytes = 999;
    assert_eq!(
        acme.post("/v1/blobs", &other).await.code(),
        ErrorCode::Conflict
    );
    for (size, code) in [
        (48, ErrorCode::Malformed),
        (100_687_921, ErrorCode::TooLarge),
    ] {
        let create = CreateBlob {
            size_bytes: size,
            ..second.create(&relay)
        };
        assert_eq!(acme.post("/v1/blobs", &create).await.code(), code);
    }
    let path = format!("/v1/blobs/{}", first.id);
    let extend = json(&ExtendBlob {
        expires_at: relay.now().plus(BLOB_LIFETIME_MAX * 2),
    });
    let extended: Blob = acme
        .send_with_session(Method::PATCH, &path, extend)
        .await
        .ok();
    assert_eq!(extended.expires_at, relay.now().plus(BLOB_LIFETIME_MAX));
    let sooner = json(&ExtendBlob {
        expires_at: relay.now(),
    });
    let same: Blob = acme
        .send_with_session(Method::PATCH, &path, sooner)
        .await
        .ok();
    assert_eq!(same.expires_at, extended.expires_at);
    relay.clock.advance(BLOB_LIFETIME_MAX);
    acme.sign_in().await;
    assert_eq!(acme.get(&path).await.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn deletion_frees_space() {
    let relay =
        Relay::start_with(|config| config.quotas.account_blob_bytes = ByteSize::from_bytes(1_500))
            .await;
    let acme = relay.node().await;
    let upload = Upload::new(&[1_000]);
    acme.post("/v1/blobs", &upload.create(&relay)).await;
    upload.put(&acme, 0).await.assert_no_content();
    let directory = relay
        .directory
        .path()
        .join("blobs")
        .join(upload.id.to_string());
    assert!(directory.exists());
    acme.send_with_session(Method::DELETE, &format!("/v1/blobs/{}", upload.id), "")
        .await
        .assert_no_content();
    eventually(|| !directory.exists()).await;
    let next = Upload::new(&[1_000]);
    assert_eq!(
        acme.post("/v1/blobs", &next.create(&relay)).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn corrupted_part_is_discarded() {
    let relay = Relay::start().await;
    let acme = relay.node().await;
    let upload = Upload::new(&[300_000]);
    acme.post("/v1/blobs", &upload.create(&relay)).await;
    let path = format!("/v1/blobs/{}/parts/0", upload.id);
    let mut changed = upload.parts[0].to_vec();
    changed[299_999] ^= 1;
    let mut request = acme.session_request(Method::PUT, &path, upload.parts[0].clone());
    *request.body_mut() = Full::new(changed.into());
    assert_eq!(acme.send(request).await.code(), ErrorCode::SignatureInvalid);
    let directory = relay
        .directory
        .path()
        .join("blobs")
        .join(upload.id.to_string());
    eventually(|| std::fs::read_dir(&directory).map_or(0, Iterator::count) == 0).await;
    upload.put(&acme, 0).await.assert_no_content();
    assert_eq!(upload.complete(&acme).await.status, StatusCode::OK);
}

/// Starts an upload, but sends only its headers.
async fn start_upload(node: &Node, upload: &Upload) -> TcpStream {
    let target = format!("/v1/blobs/{}/parts/0", upload.id);
    let (parts, _) = node
        .session_request(Method::PUT, &target, upload.parts[0].clone())
        .into_parts();
    let (authority, length) = (node.origin.authority(), upload.parts[0].len());
    let mut head =
        format!("PUT {target} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {length}\r\n");
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    let mut stream = TcpStream::connect(node.origin.authority()).await.unwrap();
    stream
        .write_all(format!("{head}\r\n").as_bytes())
        .await
        .unwrap();
    stream
}

#[tokio::test]
async fn partial_upload_is_removed_after_a_kill() {
    let (directory, address) = (private_directory(), ReservedAddress::new());
    let (relay, origin) = Process::serve_in(directory.path(), &address);
    let mut acme = Node::for_origin(origin, ManualClock::new(SystemClock.now()));
    acme.register(DeliveryMode::Pull).await;
    acme.sign_in().await;
    let upload = Upload::new(&[1_000_000]);
    let created = acme
        .post("/v1/blobs", &upload.create_at(acme.clock.now()))
        .await;
    assert_eq!(created.status, StatusCode::CREATED);
    let mut started = start_upload(&acme, &upload).await;
    started
        .write_all(&upload.parts[0][..500_000])
        .await
        .unwrap();
    let parts = directory.path().join("blobs").join(upload.id.to_string());
    let files = || std::fs::read_dir(&parts).map_or(0, Iterator::count);
    eventually(|| files() == 1).await;
    relay.kill();
    assert_eq!(files(), 1, "the killed relay could not remove it");
    let (relay, origin) = Process::serve_in(directory.path(), &address);
    assert_eq!(files(), 0);
    // A new client, because the old connections are closed.
    let before = acme;
    let mut acme = Node::for_origin(origin, before.clock.clone());
    (acme.key, acme.session) = (before.key.clone(), before.session.clone());
    upload.put(&acme, 0).await.assert_no_content();
    assert_eq!(upload.complete(&acme).await.status, StatusCode::OK);
    assert_eq!(
        (files(), upload.fetch(&acme, 0, None).await.body),
        (1, upload.parts[0].clone())
    );
    drop((relay, started));
}

/// Uploads a blob of one part.
async fn upload_part(relay: &Relay, node: &Node) -> Reply {
    let upload = Upload::new(&[500]);
    node.post("/v1/blobs", &upload.create(relay)).await;
    upload.put(node, 0).await
}

async fn upload_until(relay: &Relay, node: &Node, status: StatusCode) -> Reply {
    eventually_some(async || {
        let reply = upload_part(relay, node).await;
        (reply.status == status).then_some(reply)
    })
    .await
}

/// Starts uploads until the account's slots are in use. Returns them with the response to a further
/// upload.
pub(crate) async fn use_up_upload_slots(relay: &Relay, node: &Node) -> (Vec<TcpStream>, Reply) {
    eventually_some(async || {
        let mut started = Vec::new();
        for _ in 0..PART_TRANSFERS_PER_ACCOUNT_MAX {
            let upload = Upload::new(&[500]);
            node.post("/v1/blobs", &upload.create(relay)).await;
            started.push(start_upload(node, &upload).await);
        }
        // On a slow machine, the first ones may be evicted already.
        let reply = upload_part(relay, node).await;
        (reply.status == StatusCode::SERVICE_UNAVAILABLE).then_some((started, reply))
    })
    .await
}

#[tokio::test]
async fn slow_uploads_block_only_their_own_account() {
    let relay = Relay::start_with(|config| config.rates.requests_per_second = 0).await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let (slow, refused) = use_up_upload_slots(&relay, &acme).await;
    assert_eq!(refused.code(), ErrorCode::Overloaded);
    assert!(
        refused.headers.contains_key("retry-after"),
        "refused at once with a retry delay"
    );
    upload_until(&relay, &bolt, StatusCode::NO_CONTENT).await;
    drop(slow);
    upload_until(&relay, &acme, StatusCode::NO_CONTENT).await;
}

#[tokio::test]
async fn uploaded_bytes_are_rate_limited() {
    // The burst always allows one whole part; the next one has to wait for a day.
    let relay =
        Relay::start_with(|config| config.rates.blob_bytes_per_day = ByteSize::from_bytes(1)).await;
    let acme = relay.node().await;
    let upload = Upload::new(&[PART_BYTES_MAX, 500]);
    acme.post("/v1/blobs", &upload.create(&relay)).await;
    upload.put(&acme, 0).await.assert_no_content();
    let refused = upload.put(&acme, 1).await;
    assert_eq!(refused.code(), ErrorCode::RateLimited);
    assert!(
        refused.headers["ratelimit"]
            .to_str()
            .unwrap()
            .contains("\"blob-kib\";r=0;"),
        "{refused:?}"
    );
    upload.put(&acme, 0).await.assert_no_content();
}

#[tokio::test]
async fn number_of_blobs_is_limited() {
    let relay = Relay::start_with(|config| config.quotas.account_blobs = 1).await;
    let acme = relay.node().await;
    let (first, second) = (Upload::new(&[500]), Upload::new(&[500]));
    assert_eq!(
        acme.post("/v1/blobs", &first.create(&relay)).await.status,
        StatusCode::CREATED
    );
    assert_eq!(
        acme.post("/v1/blobs", &second.create(&relay)).await.code(),
        ErrorCode::QuotaExceeded
    );
    acme.send_with_session(Method::DELETE, &format!("/v1/blobs/{}", first.id), "")
        .await
        .assert_no_content();
    assert_eq!(
        acme.post("/v1/blobs", &second.create(&relay)).await.status,
        StatusCode::CREATED
    );
}
