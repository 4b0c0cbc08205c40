//! Files that go out while they are still being sealed, through the local API as its callers use it.

use super::fake_relay::{Asked, World, problem};
use crate::{
    api::{
        model::{Attachment, AttachmentStatus, TransferState},
        routes,
    },
    store::{attachments, unwanted},
};
use bytes::Bytes;
use futures_util::stream::unfold;
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

/// Five parts.
const BYTES: usize = 9_000_000;
/// Three of them are sealed then.
const MOST: usize = 7_000_000;
const TOKEN: &str = "a token";

/// A caller of the local API.
struct Caller {
    http: reqwest::Client,
    url: String,
    host: String,
}

/// A file that is being handed over.
struct HandingOver {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    answer: JoinHandle<reqwest::Result<reqwest::Response>>,
}

impl Caller {
    async fn of(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/attachments", listener.local_addr().unwrap());
        let app = routes::router(Arc::clone(&world.daemon), TOKEN);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            http,
            url,
            host: world.daemon.running.address.to_string(),
        }
    }

    fn ask(&self, method: http::Method, url: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, url)
            .bearer_auth(TOKEN)
            .header("host", &self.host)
    }

    /// Begins to hand over a file of [`BYTES`].
    fn begin(&self) -> HandingOver {
        let (pieces, receiver) = mpsc::channel(1);
        let body = unfold(receiver, |mut pieces| async {
            Some((pieces.recv().await?, pieces))
        });
        let request = self.ask(http::Method::POST, &format!("{}?filename=a.bin", self.url));
        let request = request
            .header("content-length", BYTES)
            .body(reqwest::Body::wrap_stream(body));
        HandingOver {
            pieces,
            answer: tokio::spawn(request.send()),
        }
    }

    async fn delete(&self, id: &str) {
        let answer = self
            .ask(http::Method::DELETE, &format!("{}/{id}", self.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 204);
    }
}

impl HandingOver {
    async fn send(&self, bytes: usize) {
        for piece in vec![7; bytes].chunks(100_000) {
            self.pieces
                .send(Ok(Bytes::copy_from_slice(piece)))
                .await
                .unwrap();
        }
    }

    async fn end(self) -> String {
        drop(self.pieces);
        let answer = self.answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), 201);
        let staged: Attachment = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        staged.id
    }
}

fn puts(world: &World) -> Vec<String> {
    let asked = world.asked();
    asked
        .iter()
        .filter(|asked| asked.is_part() && asked.method == "PUT")
        .map(|asked| asked.rest.clone())
        .collect()
}

fn deletes(world: &World) -> usize {
    world
        .asked()
        .iter()
        .filter(|asked| asked.method == "DELETE")
        .count()
}

fn is_create(asked: &Asked) -> bool {
    asked.method == "POST" && asked.rest.is_empty()
}

async fn nothing_unwanted(world: &World) -> bool {
    world
        .daemon
        .read(|tx| unwanted::due(tx))
        .await
        .unwrap()
        .is_empty()
}

/// A message takes it.
async fn is_needed(world: &World, name: &str) {
    let name = name.to_owned();
    let taken = world
        .daemon
        .write(move |tx| attachments::advance(tx, &name, AttachmentStatus::Uploading, None))
        .await
        .unwrap();
    assert!(taken);
}

#[tokio::test]
async fn parts_go_out_while_the_rest_is_still_sealed_and_each_goes_once() {
    let world = World::start(|_| None).await;
    let caller = Caller::of(&world).await;
    let handing_over = caller.begin();
    handing_over.send(MOST).await;
    world.until(async |world| puts(world).len() == 3).await;
    // Time has passed, and what is to be deleted was looked for.
    assert_eq!(deletes(&world), 0, "nobody wants it yet, but somebody may");
    handing_over.send(BYTES - MOST).await;
    let name = handing_over.end().await;
    assert!(nothing_unwanted(&world).await);
    is_needed(&world, &name).await;
    world.until_status(&name, AttachmentStatus::Uploaded).await;
    let mut parts = puts(&world);
    parts.sort();
    assert_eq!(parts, ["0", "1", "2", "3", "4"]);
    assert!(world.is_whole(
        world.row(&name).await.descriptor.blob.id,
        &world.row(&name).await.descriptor.sealed
    ));
    assert_eq!(deletes(&world), 0);
}

#[tokio::test]
async fn a_message_that_comes_while_parts_are_under_way_goes_on_with_them() {
    let world = World::start(|_| None).await;
    let held = world.relay.gate.write().await;
    let handing_over = Caller::of(&world).await.begin();
    handing_over.send(BYTES).await;
    let name = handing_over.end().await;
    world.until(async |world| !puts(world).is_empty()).await;
    let mut follower = world.daemon.progress.follow();
    is_needed(&world, &name).await;
    let told = timeout(Duration::from_secs(60), follower.next())
        .await
        .unwrap();
    assert_eq!(
        (told.attachment, told.state),
        (name.clone(), TransferState::Moving),
        "it is seen at once"
    );
    drop(held);
    world.until_status(&name, AttachmentStatus::Uploaded).await;
    assert_eq!(puts(&world).len(), 5, "each once");
    assert_eq!(
        world
            .asked()
            .iter()
            .filter(|asked| is_create(asked))
            .count(),
        1,
        "nothing is begun anew"
    );
}

#[tokio::test]
async fn what_went_out_of_a_file_that_was_cut_off_is_deleted() {
    let world = World::start(|_| None).await;
    let handing_over = Caller::of(&world).await.begin();
    handing_over.send(MOST).await;
    world.until(async |world| !puts(world).is_empty()).await;
    handing_over
        .pieces
        .send(Err(io::Error::other("the file shrank")))
        .await
        .unwrap();
    assert!(handing_over.answer.await.unwrap().is_err());
    world
        .until(async |world| world.holds_no_blob() && nothing_unwanted(world).await)
        .await;
    assert_eq!(deletes(&world), 1);
}

#[tokio::test]
async fn a_staged_file_that_is_deleted_leaves_the_relay() {
    let world = World::start(|_| None).await;
    let caller = Caller::of(&world).await;
    let handing_over = caller.begin();
    handing_over.send(BYTES).await;
    let name = handing_over.end().await;
    world.until(async |world| puts(world).len() == 5).await;
    assert_eq!(deletes(&world), 0);
    caller.delete(&name).await;
    world
        .until(async |world| world.holds_no_blob() && nothing_unwanted(world).await)
        .await;
}

#[tokio::test]
async fn what_a_crash_left_at_the_relay_is_deleted_until_the_relay_says_so() {
    let refusals = AtomicUsize::new(0);
    let world = World::start(move |asked| {
        let is_refused = asked.method == "DELETE" && refusals.fetch_add(1, Ordering::SeqCst) < 2;
        is_refused.then(|| problem(ErrorCode::Overloaded))
    })
    .await;
    let blob = BlobId::from_bytes([5; 16]);
    world.begin_blob(blob);
    world
        .daemon
        .write(move |tx| unwanted::add(tx, &blob))
        .await
        .unwrap();
    world
        .until(async |world| world.holds_no_blob() && nothing_unwanted(world).await)
        .await;
    assert_eq!(deletes(&world), 3);
}

#[tokio::test]
async fn a_relay_that_refuses_while_a_file_is_sealed_fails_nothing() {
    for code in [
        ErrorCode::QuotaExceeded,
        ErrorCode::Conflict,
        ErrorCode::StorageFull,
    ] {
        let refusals = AtomicUsize::new(0);
        let world = World::start(move |asked| {
            let is_first = is_create(asked) && refusals.fetch_add(1, Ordering::SeqCst) == 0;
            is_first.then(|| problem(code))
        })
        .await;
        let handing_over = Caller::of(&world).await.begin();
        world
            .until(async |world| world.asked().iter().any(is_create))
            .await;
        handing_over.send(BYTES).await;
        let name = handing_over.end().await;
        assert!(puts(&world).is_empty());
        is_needed(&world, &name).await;
        world.until_status(&name, AttachmentStatus::Uploaded).await;
        assert_eq!(puts(&world).len(), 5);
    }
}

#[tokio::test]
async fn a_relay_that_is_full_at_a_part_says_so_once_a_message_needs_the_file_and_takes_it_later() {
    for code in [ErrorCode::StorageFull, ErrorCode::QuotaExceeded] {
        let is_full = Arc::new(AtomicBool::new(true));
        let full = Arc::clone(&is_full);
        let world = World::start(move |asked| {
            (asked.rest == "1" && full.load(Ordering::SeqCst)).then(|| problem(code))
        })
        .await;
        let handing_over = Caller::of(&world).await.begin();
        handing_over.send(BYTES).await;
        let name = handing_over.end().await;
        world
            .until(async |world| puts(world).contains(&"1".to_owned()))
            .await;
        assert_eq!(
            world.row(&name).await.reason,
            None,
            "nobody waits for it yet"
        );
        is_needed(&world, &name).await;
        world
            .until(async |world| world.row(&name).await.reason.is_some())
            .await;
        let row = world.row(&name).await;
        assert_eq!(
            (row.status, row.reason),
            (
                AttachmentStatus::Uploading,
                Some(Problem::from(code).to_string())
            )
        );
        is_full.store(false, Ordering::SeqCst);
        world.until_status(&name, AttachmentStatus::Uploaded).await;
        let row = world.row(&name).await;
        assert!(world.is_whole(row.descriptor.blob.id, &row.descriptor.sealed));
        assert_eq!((row.attempt, row.reason), (0, None));
        assert_eq!(deletes(&world), 0);
    }
}

#[tokio::test]
async fn a_part_that_fails_early_goes_the_ordinary_way() {
    let fails = AtomicBool::new(true);
    let world = World::start(move |asked| {
        let is_it = asked.rest == "1" && fails.swap(false, Ordering::SeqCst);
        is_it.then(|| problem(ErrorCode::Overloaded))
    })
    .await;
    let handing_over = Caller::of(&world).await.begin();
    handing_over.send(MOST).await;
    world
        .until(async |world| puts(world).contains(&"1".to_owned()))
        .await;
    handing_over.send(BYTES - MOST).await;
    let name = handing_over.end().await;
    is_needed(&world, &name).await;
    world.until_status(&name, AttachmentStatus::Uploaded).await;
    assert_eq!(world.row(&name).await.attempt, 0);
    assert_eq!(
        puts(&world).len(),
        6,
        "the one that failed twice, the others once"
    );
}
