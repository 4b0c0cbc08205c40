//! Transfers between a node and a fake relay with scripted responses.

use super::{
    fake_relay::{RecordedRequest, problem, truncated_response},
    testbed::Testbed,
};
use crate::{
    daemon::transfer::{cancel, request_download},
    store::files,
};
use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sealpost_node_core::model::FileStatus;
use sealpost_proto::{ErrorCode, limits::PARTS_IN_FLIGHT_MAX};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Size of a file with five parts.
const BYTES: usize = 9_000_000;

fn parts_of<'a>(
    requests: &'a [RecordedRequest],
    method: &'a str,
) -> impl Iterator<Item = &'a RecordedRequest> {
    requests
        .iter()
        .filter(move |request| request.is_part() && request.method == method)
}

/// Returns a predicate that is true on every `nth` call.
fn every(nth: usize) -> impl Fn() -> bool {
    let count = AtomicUsize::new(0);
    move || (count.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(nth)
}

#[tokio::test]
async fn parallel_part_uploads_are_bounded() {
    let bed = Testbed::start(|_| None).await;
    let (first, first_staged) = bed.upload(BYTES).await;
    let (second, second_staged) = bed.upload(BYTES).await;
    bed.until_status(first, FileStatus::Uploaded).await;
    bed.until_status(second, FileStatus::Uploaded).await;
    assert!(bed.has(&first_staged) && bed.has(&second_staged));
    let requests = bed.requests();
    let most = requests
        .iter()
        .map(|request| request.parallel_parts)
        .max()
        .unwrap();
    assert!(most <= PARTS_IN_FLIGHT_MAX as usize, "{most}");
    assert_eq!(parts_of(&requests, "PUT").count(), 10, "each part once");
    let first_half: Vec<_> = parts_of(&requests, "PUT")
        .take(6)
        .map(|request| request.blob)
        .collect();
    assert!(
        first_half.iter().any(|blob| *blob != first_half[0]),
        "the files share the part slots"
    );
    assert_eq!(bed.row(first).await.transferred, first_staged.sealed.ct_len);
}

#[tokio::test]
async fn interrupted_upload_resumes_with_few_repeats() {
    let is_cut = every(4);
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    // The relay stores the part, but its response is lost.
    let bed = Testbed::start(move |request| {
        (request.method == "PUT" && is_cut()).then(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            truncated_response()
        })
    })
    .await;
    let (file, staged) = bed.upload(4 * BYTES).await;
    bed.until_status(file, FileStatus::Uploaded).await;
    assert!(bed.has(&staged));
    let (sent, parts) = (
        parts_of(&bed.requests(), "PUT").count(),
        staged.part_digests.len(),
    );
    let again = sent - parts;
    let cuts = cuts.load(Ordering::SeqCst);
    assert!(
        cuts >= 4 && again <= cuts * PARTS_IN_FLIGHT_MAX as usize,
        "{again} again for {cuts} cuts"
    );
}

#[tokio::test]
async fn false_part_list_does_not_complete_an_upload() {
    let false_reports = AtomicUsize::new(0);
    let bed = Testbed::start(move |request| {
        let is_create = request.method == "POST" && request.rest.is_empty();
        (is_create && false_reports.fetch_add(1, Ordering::SeqCst) < 3).then(|| {
            let present: Vec<u32> = (0..100).collect();
            let (id, expires_at) = (request.blob, crate::testing::START);
            let blob = serde_json::json!({"id": id, "state": "uploading", "size_bytes": 1, "parts": 7,
                "present": present, "expires_at": expires_at});
            axum::Json(blob).into_response()
        })
    })
    .await;
    let (file, staged) = bed.upload(BYTES).await;
    bed.until_status(file, FileStatus::Uploaded).await;
    assert!(bed.has(&staged));
    assert_eq!(
        bed.requests()
            .iter()
            .filter(|request| request.rest == "complete")
            .count(),
        4
    );
}

#[tokio::test]
async fn retryable_errors_are_retried_and_permanent_ones_fail() {
    let retryable = [
        ErrorCode::QuotaExceeded,
        ErrorCode::AccountSuspended,
        ErrorCode::Malformed,
        ErrorCode::NotFound,
    ];
    let next = AtomicUsize::new(0);
    let bed = Testbed::start(move |request| {
        let code = request
            .is_part()
            .then(|| retryable.get(next.fetch_add(1, Ordering::SeqCst)))
            .flatten();
        code.map(|code| problem(*code))
    })
    .await;
    let (file, staged) = bed.upload(BYTES).await;
    bed.until_status(file, FileStatus::Uploaded).await;
    assert!(bed.has(&staged));

    let bed =
        Testbed::start(|request| request.is_part().then(|| problem(ErrorCode::Conflict))).await;
    let (file, _) = bed.upload(BYTES).await;
    bed.until_status(file, FileStatus::Failed).await;
    assert!(bed.row(file).await.reason.unwrap().contains("conflict"));
}

#[tokio::test]
async fn damaged_or_lost_local_file_fails_the_upload() {
    let bed = Testbed::start(|request| {
        request
            .is_part()
            .then(|| problem(ErrorCode::SignatureInvalid))
    })
    .await;
    let (damaged, staged) = bed.upload(BYTES).await;
    bed.until(async |bed| bed.row(damaged).await.attempt > 0)
        .await;
    assert_eq!(
        bed.row(damaged).await.status,
        FileStatus::Uploading,
        "the network may have corrupted the part"
    );
    bed.node.files.damage(staged.file);
    bed.until_status(damaged, FileStatus::Failed).await;

    let bed =
        Testbed::start(|request| request.is_part().then(|| problem(ErrorCode::Overloaded))).await;
    let (lost, staged) = bed.upload(BYTES).await;
    bed.until(async |bed| bed.row(lost).await.attempt > 0).await;
    bed.node.files.remove(staged.file).await;
    bed.until_status(lost, FileStatus::Failed).await;
}

#[tokio::test]
async fn downloaded_file_equals_the_uploaded_one() {
    let bed = Testbed::start(|_| None).await;
    let (_, staged) = bed.upload(BYTES).await;
    let (file, _) = bed.download(&staged).await;
    bed.until_status(file, FileStatus::Ready).await;
    let row = bed.row(file).await;
    let pieces = bed
        .node
        .files
        .read_plaintext(row.disk_file, &staged.file_key, &staged.sealed)
        .await
        .unwrap();
    let text = pieces.try_collect::<Vec<_>>().await.unwrap().concat();
    assert!(text == (1..=251).cycle().take(BYTES).collect::<Vec<u8>>());
    assert_eq!(
        parts_of(&bed.requests(), "GET").count(),
        5,
        "each part once"
    );
}

#[tokio::test]
async fn download_recovers_from_broken_responses() {
    let is_wrong = every(3);
    let kind = AtomicUsize::new(0);
    let bed = Testbed::start(move |request| {
        (request.method == "GET" && is_wrong()).then(|| {
            match kind.fetch_add(1, Ordering::SeqCst) % 4 {
                0 => truncated_response(),
                1 => Body::from(Bytes::from_static(b"short")).into_response(),
                2 => Body::from(vec![0; 2_200_000]).into_response(),
                _ => problem(ErrorCode::Overloaded),
            }
        })
    })
    .await;
    let (_, staged) = bed.upload(4 * BYTES).await;
    let (file, _) = bed.download(&staged).await;
    bed.until_status(file, FileStatus::Ready).await;
}

#[tokio::test]
async fn altered_file_fails_and_can_be_downloaded_again() {
    let bed = Testbed::start(|_| None).await;
    let (_, staged) = bed.upload(BYTES).await;
    let changes: [fn(&mut std::collections::BTreeMap<u32, Bytes>); 2] = [
        |parts| {
            let mut changed = parts[&2].to_vec();
            changed[5_000] ^= 1;
            parts.insert(2, changed.into());
        },
        |parts| {
            let (one, other) = (parts[&1].clone(), parts[&2].clone());
            parts.extend([(1, other), (2, one)]);
        },
    ];
    for change in changes {
        let (file, id) = bed.download(&staged).await;
        let right = Arc::new(std::sync::Mutex::new(None));
        bed.tamper(id, |parts| {
            *right.lock().unwrap() = Some(parts.clone());
            change(parts);
        });
        bed.until_status(file, FileStatus::Failed).await;
        let row = bed.row(file).await;
        assert!(
            row.reason
                .as_deref()
                .unwrap()
                .contains("not the one that its sender described"),
            "{:?}",
            row.reason
        );
        assert!(
            bed.node
                .files
                .read_plaintext(row.disk_file, &staged.file_key, &staged.sealed)
                .await
                .is_err()
        );
        bed.tamper(id, |parts| *parts = right.lock().unwrap().take().unwrap());
        bed.node
            .database
            .write(move |tx| request_download(tx, &row))
            .await
            .unwrap();
        bed.until_status(file, FileStatus::Ready).await;
    }
}

#[tokio::test]
async fn missing_blob_fails_the_download() {
    let bed =
        Testbed::start(|request| (request.method == "GET").then(|| problem(ErrorCode::NotFound)))
            .await;
    let (_, staged) = bed.upload(BYTES).await;
    let (file, _) = bed.download(&staged).await;
    bed.until_status(file, FileStatus::Failed).await;
    assert!(
        bed.row(file)
            .await
            .reason
            .unwrap()
            .contains("send it again")
    );
}

#[tokio::test]
async fn cancelled_upload_is_deleted_everywhere() {
    let bed =
        Testbed::start(|request| (request.rest == "3").then(|| problem(ErrorCode::Overloaded)))
            .await;
    let (file, staged) = bed.upload(BYTES).await;
    bed.until(async |bed| bed.row(file).await.attempt > 0).await;
    let row = bed.row(file).await;
    bed.node
        .database
        .write(move |tx| cancel(tx, &row))
        .await
        .unwrap();
    bed.until(async |bed| !bed.has_blob(&staged)).await;
    let due = async |bed: &Testbed| {
        bed.node
            .database
            .read(|tx| files::find_next_blob_request(tx))
            .await
            .unwrap()
    };
    bed.until(async |bed| due(bed).await.is_none()).await;
    assert!(bed.node.files.read_range(staged.file, 0..10).await.is_err());
    assert_eq!(bed.row(file).await.status, FileStatus::Cancelled);
}

#[tokio::test]
async fn cancelled_download_makes_no_requests() {
    let bed =
        Testbed::start(|request| (request.rest == "3").then(|| problem(ErrorCode::Overloaded)))
            .await;
    let (_, staged) = bed.upload(BYTES).await;
    let (file, id) = bed.download(&staged).await;
    bed.until(async |bed| bed.row(file).await.attempt > 0).await;
    let row = bed.row(file).await;
    bed.node
        .database
        .write(move |tx| cancel(tx, &row))
        .await
        .unwrap();
    bed.until_status(file, FileStatus::Offered).await;
    let gets = |bed: &Testbed| {
        bed.requests()
            .iter()
            .filter(|request| request.blob == id)
            .count()
    };
    let transfer_another_file = async || {
        let (other, _) = bed.upload(10).await;
        bed.until_status(other, FileStatus::Uploaded).await;
    };
    transfer_another_file().await;
    let before = gets(&bed);
    transfer_another_file().await;
    assert_eq!(gets(&bed), before);
    let row = bed.row(file).await;
    bed.node
        .database
        .write(move |tx| request_download(tx, &row))
        .await
        .unwrap();
    bed.until(async |bed| gets(bed) > before).await;
}
