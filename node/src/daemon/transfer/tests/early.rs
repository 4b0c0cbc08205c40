//! Early uploads, started through the local API.

use super::{
    fake_relay::{RecordedRequest, problem},
    testbed::Testbed,
};
use crate::{
    api::{ROUTERS, model::Attachment},
    progress::TransferState,
    store::{files, unreferenced_blobs},
};
use bytes::Bytes;
use futures_util::stream::unfold;
use sealpost_node_core::model::{AttachmentId, FileId, FileStatus};
use sealpost_proto::{BlobId, ErrorCode, Problem};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};

/// Size of a file with five parts.
const BYTES: usize = 9_000_000;
/// Bytes after which three parts are sealed.
const THREE_PARTS_BYTES: usize = 7_000_000;
const TOKEN: &str = "a token";

/// Client of the local API.
struct ApiClient {
    http: reqwest::Client,
    url: String,
    host: String,
}

/// Upload of a file to the local API, in progress.
struct StagingRequest {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    response: JoinHandle<reqwest::Result<reqwest::Response>>,
}

impl ApiClient {
    async fn new(bed: &Testbed) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/attachments", listener.local_addr().unwrap());
        let app = (ROUTERS.local_api)(bed.node.clone(), TOKEN).tcp;
        tokio::spawn(async move { axum::serve(listener, app).await });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            http,
            url,
            host: bed.node.run_info.address.to_string(),
        }
    }

    fn request(&self, method: http::Method, url: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, url)
            .bearer_auth(TOKEN)
            .header("host", &self.host)
    }

    /// Starts to stage a file of [`BYTES`].
    fn start_staging(&self) -> StagingRequest {
        let (pieces, receiver) = mpsc::channel(1);
        let body = unfold(receiver, |mut pieces| async {
            Some((pieces.recv().await?, pieces))
        });
        let request = self.request(http::Method::POST, &format!("{}?filename=a.bin", self.url));
        let request = request
            .header("content-length", BYTES)
            .body(reqwest::Body::wrap_stream(body));
        StagingRequest {
            pieces,
            response: tokio::spawn(request.send()),
        }
    }

    async fn delete(&self, id: AttachmentId) {
        let response = self
            .request(http::Method::DELETE, &format!("{}/{id}", self.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 204);
    }
}

impl StagingRequest {
    async fn send(&self, bytes: usize) {
        for piece in vec![7; bytes].chunks(100_000) {
            self.pieces
                .send(Ok(Bytes::copy_from_slice(piece)))
                .await
                .unwrap();
        }
    }

    async fn finish(self) -> AttachmentId {
        drop(self.pieces);
        let response = self.response.await.unwrap().unwrap();
        assert_eq!(response.status(), 201);
        let staged: Attachment = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        AttachmentId::parse(&staged.id).unwrap()
    }
}

fn uploaded_parts(bed: &Testbed) -> Vec<String> {
    let requests = bed.requests();
    requests
        .iter()
        .filter(|request| request.is_part() && request.method == "PUT")
        .map(|request| request.rest.clone())
        .collect()
}

fn count_deletes(bed: &Testbed) -> usize {
    bed.requests()
        .iter()
        .filter(|request| request.method == "DELETE")
        .count()
}

fn is_create(request: &RecordedRequest) -> bool {
    request.method == "POST" && request.rest.is_empty()
}

async fn has_no_unreferenced_blobs(bed: &Testbed) -> bool {
    bed.node
        .database
        .read(|tx| unreferenced_blobs::load_due(tx))
        .await
        .unwrap()
        .is_empty()
}

/// Marks a file as needed by a message.
async fn mark_needed(bed: &Testbed, id: FileId) {
    let taken = bed
        .node
        .database
        .write(move |tx| files::advance(tx, id, FileStatus::Uploading, None))
        .await
        .unwrap();
    assert!(taken);
}

#[tokio::test]
async fn parts_are_uploaded_once_during_sealing() {
    let bed = Testbed::start(|_| None).await;
    let client = ApiClient::new(&bed).await;
    let staging = client.start_staging();
    staging.send(THREE_PARTS_BYTES).await;
    bed.until(async |bed| uploaded_parts(bed).len() == 3).await;
    // By now, the maintenance of blobs has run at least once.
    assert_eq!(count_deletes(&bed), 0, "a message may still need the file");
    staging.send(BYTES - THREE_PARTS_BYTES).await;
    let attachment = staging.finish().await;
    let file = bed.find_file(attachment).await;
    assert!(has_no_unreferenced_blobs(&bed).await);
    mark_needed(&bed, file).await;
    bed.until_status(file, FileStatus::Uploaded).await;
    let mut parts = uploaded_parts(&bed);
    parts.sort();
    assert_eq!(parts, ["0", "1", "2", "3", "4"]);
    assert!(bed.has_complete_blob(
        bed.row(file).await.descriptor.blob.id,
        &bed.row(file).await.descriptor.sealed
    ));
    assert_eq!(count_deletes(&bed), 0);
}

#[tokio::test]
async fn message_continues_the_early_upload() {
    let bed = Testbed::start(|_| None).await;
    let delayed = bed.relay.gate.write().await;
    let staging = ApiClient::new(&bed).await.start_staging();
    staging.send(BYTES).await;
    let attachment = staging.finish().await;
    let file = bed.find_file(attachment).await;
    bed.until(async |bed| !uploaded_parts(bed).is_empty()).await;
    let mut subscriber = bed.node.progress.subscribe();
    mark_needed(&bed, file).await;
    let report = timeout(Duration::from_secs(60), subscriber.next())
        .await
        .unwrap();
    assert_eq!(
        (report.attachment, report.state),
        (attachment, TransferState::Moving),
        "progress is reported at once"
    );
    drop(delayed);
    bed.until_status(file, FileStatus::Uploaded).await;
    assert_eq!(uploaded_parts(&bed).len(), 5, "each part once");
    assert_eq!(
        bed.requests()
            .iter()
            .filter(|request| is_create(request))
            .count(),
        1,
        "the blob is created once"
    );
}

#[tokio::test]
async fn parts_of_an_aborted_file_are_deleted() {
    let bed = Testbed::start(|_| None).await;
    let staging = ApiClient::new(&bed).await.start_staging();
    staging.send(THREE_PARTS_BYTES).await;
    bed.until(async |bed| !uploaded_parts(bed).is_empty()).await;
    staging
        .pieces
        .send(Err(io::Error::other("the file shrank")))
        .await
        .unwrap();
    assert!(staging.response.await.unwrap().is_err());
    bed.until(async |bed| bed.is_empty() && has_no_unreferenced_blobs(bed).await)
        .await;
    assert_eq!(count_deletes(&bed), 1);
}

#[tokio::test]
async fn deleting_a_staged_file_deletes_its_blob() {
    let bed = Testbed::start(|_| None).await;
    let client = ApiClient::new(&bed).await;
    let staging = client.start_staging();
    staging.send(BYTES).await;
    let attachment = staging.finish().await;
    bed.until(async |bed| uploaded_parts(bed).len() == 5).await;
    assert_eq!(count_deletes(&bed), 0);
    client.delete(attachment).await;
    bed.until(async |bed| bed.is_empty() && has_no_unreferenced_blobs(bed).await)
        .await;
}

#[tokio::test]
async fn blob_deletion_is_retried_after_a_crash() {
    let refusals = AtomicUsize::new(0);
    let bed = Testbed::start(move |request| {
        let is_refused = request.method == "DELETE" && refusals.fetch_add(1, Ordering::SeqCst) < 2;
        is_refused.then(|| problem(ErrorCode::Overloaded))
    })
    .await;
    let blob = BlobId::from_bytes([5; 16]);
    bed.begin_blob(blob);
    bed.node
        .database
        .write(move |tx| unreferenced_blobs::add(tx, &blob))
        .await
        .unwrap();
    bed.until(async |bed| bed.is_empty() && has_no_unreferenced_blobs(bed).await)
        .await;
    assert_eq!(count_deletes(&bed), 3);
}

#[tokio::test]
async fn refused_early_upload_does_not_fail_the_file() {
    for code in [
        ErrorCode::QuotaExceeded,
        ErrorCode::Conflict,
        ErrorCode::StorageFull,
    ] {
        let refusals = AtomicUsize::new(0);
        let bed = Testbed::start(move |request| {
            let is_first = is_create(request) && refusals.fetch_add(1, Ordering::SeqCst) == 0;
            is_first.then(|| problem(code))
        })
        .await;
        let staging = ApiClient::new(&bed).await.start_staging();
        bed.until(async |bed| bed.requests().iter().any(is_create))
            .await;
        staging.send(BYTES).await;
        let attachment = staging.finish().await;
        let file = bed.find_file(attachment).await;
        assert!(uploaded_parts(&bed).is_empty());
        mark_needed(&bed, file).await;
        bed.until_status(file, FileStatus::Uploaded).await;
        assert_eq!(uploaded_parts(&bed).len(), 5);
    }
}

#[tokio::test]
async fn full_relay_delays_only_needed_files() {
    for code in [ErrorCode::StorageFull, ErrorCode::QuotaExceeded] {
        let is_full = Arc::new(AtomicBool::new(true));
        let full = Arc::clone(&is_full);
        let bed = Testbed::start(move |request| {
            (request.rest == "1" && full.load(Ordering::SeqCst)).then(|| problem(code))
        })
        .await;
        let staging = ApiClient::new(&bed).await.start_staging();
        staging.send(BYTES).await;
        let attachment = staging.finish().await;
        let file = bed.find_file(attachment).await;
        bed.until(async |bed| uploaded_parts(bed).contains(&"1".to_owned()))
            .await;
        assert_eq!(
            bed.row(file).await.reason,
            None,
            "no message waits for it yet"
        );
        mark_needed(&bed, file).await;
        // Each attempt clears the reason of the one before.
        let reason = Some(Problem::from(code).to_string());
        bed.until(async |bed| {
            let row = bed.row(file).await;
            row.status == FileStatus::Uploading && row.reason == reason
        })
        .await;
        is_full.store(false, Ordering::SeqCst);
        bed.until_status(file, FileStatus::Uploaded).await;
        let row = bed.row(file).await;
        assert!(bed.has_complete_blob(row.descriptor.blob.id, &row.descriptor.sealed));
        assert_eq!((row.attempt, row.reason), (0, None));
        assert_eq!(count_deletes(&bed), 0);
    }
}

#[tokio::test]
async fn failed_early_part_is_uploaded_later() {
    let fails = AtomicBool::new(true);
    let bed = Testbed::start(move |request| {
        let is_first = request.rest == "1" && fails.swap(false, Ordering::SeqCst);
        is_first.then(|| problem(ErrorCode::Overloaded))
    })
    .await;
    let staging = ApiClient::new(&bed).await.start_staging();
    staging.send(THREE_PARTS_BYTES).await;
    bed.until(async |bed| uploaded_parts(bed).contains(&"1".to_owned()))
        .await;
    staging.send(BYTES - THREE_PARTS_BYTES).await;
    let attachment = staging.finish().await;
    let file = bed.find_file(attachment).await;
    mark_needed(&bed, file).await;
    bed.until_status(file, FileStatus::Uploaded).await;
    assert_eq!(bed.row(file).await.attempt, 0);
    assert_eq!(
        uploaded_parts(&bed).len(),
        6,
        "the failed part twice, the others once"
    );
}
