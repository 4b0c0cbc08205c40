//! Files that really move, between a daemon and a relay that does what a test says.

use super::fake_relay::{Asked, World, cut, problem};
use crate::{
    api::model::AttachmentStatus,
    store::attachments,
    transfer::{cancel, fetch},
};
use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sealpost_proto::{ErrorCode, limits::PARTS_IN_FLIGHT_MAX};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Five parts.
const BYTES: usize = 9_000_000;

fn parts_of<'a>(asked: &'a [Asked], method: &'a str) -> impl Iterator<Item = &'a Asked> {
    asked
        .iter()
        .filter(move |asked| asked.is_part() && asked.method == method)
}

/// Says so of every `nth` request that it is asked about.
fn every(nth: usize) -> impl Fn() -> bool {
    let count = AtomicUsize::new(0);
    move || (count.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(nth)
}

#[tokio::test]
async fn files_go_up_several_parts_at_a_time_and_never_more_than_allowed() {
    let world = World::start(|_| None).await;
    let (first, first_staged) = world.upload(BYTES).await;
    let (second, second_staged) = world.upload(BYTES).await;
    world.until_status(&first, AttachmentStatus::Uploaded).await;
    world
        .until_status(&second, AttachmentStatus::Uploaded)
        .await;
    assert!(world.has(&first_staged) && world.has(&second_staged));
    let asked = world.asked();
    let most = asked.iter().map(|asked| asked.at_a_time).max().unwrap();
    assert!(most <= PARTS_IN_FLIGHT_MAX as usize, "{most}");
    assert_eq!(parts_of(&asked, "PUT").count(), 10, "each once");
    let first_half: Vec<_> = parts_of(&asked, "PUT")
        .take(6)
        .map(|asked| asked.blob)
        .collect();
    assert!(
        first_half.iter().any(|blob| *blob != first_half[0]),
        "they share what may move"
    );
    assert_eq!(
        world.row(&first).await.transferred,
        first_staged.sealed.ct_len
    );
}

#[tokio::test]
async fn an_upload_that_is_cut_goes_on_and_sends_little_twice() {
    let is_cut = every(4);
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    // The part has arrived, but its sender does not hear of it.
    let world = World::start(move |asked| {
        (asked.method == "PUT" && is_cut()).then(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            cut()
        })
    })
    .await;
    let (name, staged) = world.upload(4 * BYTES).await;
    world.until_status(&name, AttachmentStatus::Uploaded).await;
    assert!(world.has(&staged));
    let (sent, parts) = (
        parts_of(&world.asked(), "PUT").count(),
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
async fn a_relay_that_lies_about_what_it_has_is_asked_again_and_nothing_is_called_uploaded_before()
{
    let told = AtomicUsize::new(0);
    let world = World::start(move |asked| {
        let is_create = asked.method == "POST" && asked.rest.is_empty();
        (is_create && told.fetch_add(1, Ordering::SeqCst) < 3).then(|| {
            let present: Vec<u32> = (0..100).collect();
            let (id, expires_at) = (asked.blob, crate::testing::START);
            let blob = serde_json::json!({"id": id, "state": "uploading", "size_bytes": 1, "parts": 7,
                "present": present, "expires_at": expires_at});
            axum::Json(blob).into_response()
        })
    })
    .await;
    let (name, staged) = world.upload(BYTES).await;
    world.until_status(&name, AttachmentStatus::Uploaded).await;
    assert!(world.has(&staged));
    assert_eq!(
        world
            .asked()
            .iter()
            .filter(|asked| asked.rest == "complete")
            .count(),
        4
    );
}

#[tokio::test]
async fn what_passes_is_waited_for_and_what_does_not_ends() {
    let passing = [
        ErrorCode::QuotaExceeded,
        ErrorCode::AccountSuspended,
        ErrorCode::Malformed,
        ErrorCode::NotFound,
    ];
    let next = AtomicUsize::new(0);
    let world = World::start(move |asked| {
        let code = asked
            .is_part()
            .then(|| passing.get(next.fetch_add(1, Ordering::SeqCst)))
            .flatten();
        code.map(|code| problem(*code))
    })
    .await;
    let (name, staged) = world.upload(BYTES).await;
    world.until_status(&name, AttachmentStatus::Uploaded).await;
    assert!(world.has(&staged));

    let world = World::start(|asked| asked.is_part().then(|| problem(ErrorCode::Conflict))).await;
    let (name, _) = world.upload(BYTES).await;
    world.until_status(&name, AttachmentStatus::Failed).await;
    assert!(world.row(&name).await.reason.unwrap().contains("conflict"));
}

#[tokio::test]
async fn a_spool_that_this_disk_damaged_or_lost_is_not_sent_for_ever() {
    let world = World::start(|asked| {
        asked
            .is_part()
            .then(|| problem(ErrorCode::SignatureInvalid))
    })
    .await;
    let (damaged, staged) = world.upload(BYTES).await;
    world
        .until(async |world| world.row(&damaged).await.attempt > 0)
        .await;
    assert_eq!(
        world.row(&damaged).await.status,
        AttachmentStatus::Uploading,
        "it may have changed on the way"
    );
    world.daemon.files.damage(staged.file);
    world.until_status(&damaged, AttachmentStatus::Failed).await;

    let world = World::start(|asked| asked.is_part().then(|| problem(ErrorCode::Overloaded))).await;
    let (lost, staged) = world.upload(BYTES).await;
    world
        .until(async |world| world.row(&lost).await.attempt > 0)
        .await;
    world.daemon.files.remove(staged.file).await;
    world.until_status(&lost, AttachmentStatus::Failed).await;
}

#[tokio::test]
async fn a_file_comes_down_and_is_the_one_that_was_sent() {
    let world = World::start(|_| None).await;
    let (_, staged) = world.upload(BYTES).await;
    let (name, _) = world.download(&staged).await;
    world.until_status(&name, AttachmentStatus::Ready).await;
    let row = world.row(&name).await;
    let pieces = world
        .daemon
        .files
        .read_plaintext(row.file, &staged.file_key, &staged.sealed)
        .await
        .unwrap();
    let text = pieces.try_collect::<Vec<_>>().await.unwrap().concat();
    assert!(text == (1..=251).cycle().take(BYTES).collect::<Vec<u8>>());
    assert_eq!(parts_of(&world.asked(), "GET").count(), 5, "each once");
}

#[tokio::test]
async fn a_download_that_is_cut_or_answered_short_or_long_goes_on() {
    let is_wrong = every(3);
    let kind = AtomicUsize::new(0);
    let world = World::start(move |asked| {
        (asked.method == "GET" && is_wrong()).then(|| {
            match kind.fetch_add(1, Ordering::SeqCst) % 4 {
                0 => cut(),
                1 => Body::from(Bytes::from_static(b"short")).into_response(),
                2 => Body::from(vec![0; 2_200_000]).into_response(),
                _ => problem(ErrorCode::Overloaded),
            }
        })
    })
    .await;
    let (_, staged) = world.upload(4 * BYTES).await;
    let (name, _) = world.download(&staged).await;
    world.until_status(&name, AttachmentStatus::Ready).await;
}

#[tokio::test]
async fn a_file_of_which_the_relay_changed_a_part_is_never_handed_out_and_can_be_asked_for_again() {
    let world = World::start(|_| None).await;
    let (_, staged) = world.upload(BYTES).await;
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
        let (name, id) = world.download(&staged).await;
        let right = Arc::new(std::sync::Mutex::new(None));
        world.tamper(id, |parts| {
            *right.lock().unwrap() = Some(parts.clone());
            change(parts);
        });
        world.until_status(&name, AttachmentStatus::Failed).await;
        let row = world.row(&name).await;
        assert!(
            row.reason
                .as_deref()
                .unwrap()
                .contains("not the one that its sender described"),
            "{:?}",
            row.reason
        );
        assert!(
            world
                .daemon
                .files
                .read_plaintext(row.file, &staged.file_key, &staged.sealed)
                .await
                .is_err()
        );
        world.tamper(id, |parts| *parts = right.lock().unwrap().take().unwrap());
        world.daemon.write(move |tx| fetch(tx, &row)).await.unwrap();
        world.until_status(&name, AttachmentStatus::Ready).await;
    }
}

#[tokio::test]
async fn a_file_that_the_relay_does_not_have_any_more_says_so() {
    let world =
        World::start(|asked| (asked.method == "GET").then(|| problem(ErrorCode::NotFound))).await;
    let (_, staged) = world.upload(BYTES).await;
    let (name, _) = world.download(&staged).await;
    world.until_status(&name, AttachmentStatus::Failed).await;
    assert!(
        world
            .row(&name)
            .await
            .reason
            .unwrap()
            .contains("sent again")
    );
}

#[tokio::test]
async fn what_is_cancelled_leaves_the_relay_and_this_disk() {
    let world =
        World::start(|asked| (asked.rest == "3").then(|| problem(ErrorCode::Overloaded))).await;
    let (name, staged) = world.upload(BYTES).await;
    world
        .until(async |world| world.row(&name).await.attempt > 0)
        .await;
    let row = world.row(&name).await;
    world
        .daemon
        .write(move |tx| cancel(tx, &row))
        .await
        .unwrap();
    world
        .until(async |world| !world.holds_anything_of(&staged))
        .await;
    let due = async |world: &World| {
        world
            .daemon
            .read(|tx| attachments::next_relay_due(tx))
            .await
            .unwrap()
    };
    world.until(async |world| due(world).await.is_none()).await;
    assert!(
        world
            .daemon
            .files
            .read_range(staged.file, 0..10)
            .await
            .is_err()
    );
    assert_eq!(world.row(&name).await.status, AttachmentStatus::Cancelled);
}

#[tokio::test]
async fn a_download_that_is_stopped_asks_for_nothing_until_it_is_asked_for_again() {
    let world =
        World::start(|asked| (asked.rest == "3").then(|| problem(ErrorCode::Overloaded))).await;
    let (_, staged) = world.upload(BYTES).await;
    let (name, id) = world.download(&staged).await;
    world
        .until(async |world| world.row(&name).await.attempt > 0)
        .await;
    let row = world.row(&name).await;
    world
        .daemon
        .write(move |tx| cancel(tx, &row))
        .await
        .unwrap();
    world.until_status(&name, AttachmentStatus::Offered).await;
    let gets = |world: &World| {
        world
            .asked()
            .iter()
            .filter(|asked| asked.blob == id)
            .count()
    };
    let another_comes_and_goes = async || {
        let (other, _) = world.upload(10).await;
        world.until_status(&other, AttachmentStatus::Uploaded).await;
    };
    another_comes_and_goes().await;
    let before = gets(&world);
    another_comes_and_goes().await;
    assert_eq!(gets(&world), before);
    let row = world.row(&name).await;
    world.daemon.write(move |tx| fetch(tx, &row)).await.unwrap();
    world.until(async |world| gets(world) > before).await;
}
