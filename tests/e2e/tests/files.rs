//! Files to the full limit, on a road that breaks, and for many.
//!
//! `SEALPOST_SEED=… cargo test -p sealpost-e2e --test files` repeats a run's places.

#[path = "support/proxy.rs"]
mod proxy;
mod support;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use proxy::{Parts, Proxy};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sealpost_demo::{
    api::digest,
    checks::files_below,
    files::{self, Sample},
    node::{Delivery, Node},
    process::Process,
    wait::{PATIENCE, until},
    world::{World, pair, pair_with_note},
};
use sealpost_node::api::model::{AttachmentStatus, Direction, SendMessage};
use sealpost_proto::{
    DeliveryStatus,
    limits::{
        BLOB_BYTES_MAX, BLOB_PARTS_MAX, FILE_BYTES_MAX, FILES_PER_MESSAGE_MAX, PARTS_IN_FLIGHT_MAX,
    },
};
use std::{
    fs::{self, File},
    io::Write as _,
    ops::Range,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use support::program;
use tokio::time::timeout;

const CUTS: usize = 20;
/// The most memory that relay and node may hold while 500 MB pass.
const MEMORY_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// All blobs of a message at the limit.
const BLOBS_BYTES: u64 = FILES_PER_MESSAGE_MAX as u64 * BLOB_BYTES_MAX;
const RECIPIENTS: usize = 200;

/// A relay behind a road that can be cut.
async fn far_relay() -> anyhow::Result<(World, Proxy)> {
    let mut world = World::begin(program())?;
    let proxy = Proxy::to(&world.relay.origin()).await?;
    let rates = [
        "--rates-requests-per-second",
        "0",
        "--rates-envelopes-per-minute",
        "0",
    ];
    world
        .relay
        .configure(&[&["--public-url", &proxy.origin()][..], &rates].concat());
    world.relay.start().await?;
    Ok((world, proxy))
}

async fn node(world: &World, proxy: &Proxy, name: &str) -> anyhow::Result<Node> {
    let mut node = Node::init(
        world.program(),
        world.folder(),
        name,
        &proxy.origin(),
        Delivery::Pull,
    )
    .await?;
    node.start().await?;
    node.connected().await?;
    Ok(node)
}

fn seed() -> anyhow::Result<u64> {
    match std::env::var("SEALPOST_SEED") {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}

/// Writes a file of random megabytes, each other than the ones before it; nothing is held in memory.
fn large_file(folder: &Path, number: u64) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("large-{number}.bin"));
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut block = vec![0; 1_000_000];
    rng.fill_bytes(&mut block);
    let mut file = File::create(&path)?;
    for _ in 0..FILE_BYTES_MAX / 1_000_000 {
        rng.fill_bytes(&mut block[..64]);
        file.write_all(&block)?;
    }
    Ok(path)
}

/// A place in a stretch of the road.
fn draw(rng: &mut ChaCha8Rng, stretch: Range<u64>) -> u64 {
    stretch.start + rng.next_u64() % (stretch.end - stretch.start)
}

/// What everybody has fetched is gone from the relay.
async fn nothing_left(world: &World) -> anyhow::Result<()> {
    let blobs = world.relay.folder().join("blobs");
    // Folders go while they are looked through.
    until("the relay keeps nothing", async || {
        Ok(files_below(&blobs)
            .is_ok_and(|files| files.is_empty())
            .then_some(()))
    })
    .await
}

fn ensure_flat(process: &Process) -> anyhow::Result<()> {
    let peak = process.peak_memory_bytes()?;
    ensure!(
        peak <= MEMORY_BYTES_MAX,
        "{process:?} took {} MiB",
        peak / 1024 / 1024
    );
    Ok(())
}

async fn kill(node: &mut Node) -> anyhow::Result<()> {
    ensure_flat(node.process()?)?;
    node.kill().await?;
    node.start().await
}

/// Nobody sends or fetches more again than what was under way when the road or a process broke.
fn ensure_resumed(what: &str, parts: &Parts) -> anyhow::Result<()> {
    // Half of the cuts, two kills, and two cuts that what was sent again has pushed to this half.
    const BREAKS: usize = CUTS / 2 + 2 + 2;
    ensure!(parts.distinct() == FILES_PER_MESSAGE_MAX * BLOB_PARTS_MAX as usize);
    let again = parts.again();
    ensure!(
        again <= BREAKS * PARTS_IN_FLIGHT_MAX as usize,
        "{what} began again: {again} parts more than once"
    );
    Ok(())
}

#[tokio::test]
async fn a_message_of_500_mb_passes_20_cuts_and_a_kill_of_each_process() -> anyhow::Result<()> {
    let seed = seed()?;
    println!("SEALPOST_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut world, proxy) = far_relay().await?;
    let (mut acme, mut bolt) = (
        node(&world, &proxy, "Acme").await?,
        node(&world, &proxy, "Bolt").await?,
    );
    pair(&acme, &bolt).await?;
    let folder = world.folder().to_owned();
    let paths = (0..FILES_PER_MESSAGE_MAX as u64).map(|number| large_file(&folder, number));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;

    let begin = proxy.passed();
    let (up, down) = (
        begin..begin + BLOBS_BYTES,
        begin + BLOBS_BYTES..begin + 2 * BLOBS_BYTES,
    );
    let whole = up.start..down.end;
    // One somewhere in each twentieth, so that no two fall on each other.
    let twentieth = 2 * BLOBS_BYTES / CUTS as u64;
    let starts = whole
        .clone()
        .step_by(usize::try_from(twentieth)?)
        .take(CUTS);
    proxy.cut_at(starts.map(|start| draw(&mut rng, start..start + twentieth - twentieth / 10)));
    let mut args = vec!["send", "--to", "Bolt", "-m", "all of it", "-a"];
    for path in &paths {
        args.push(path.to_str().context("a path")?);
    }
    let sent = acme.home().cli(&args).await?;
    ensure!(
        sent.status.success(),
        "{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    let sent = acme
        .api()?
        .messages(Direction::Out)
        .await?
        .into_iter()
        .next()
        .context("no message")?;
    // Killed on the middle of its way, so that what is left of it is some part of both.
    let middle = |way: &Range<u64>| way.start + BLOBS_BYTES / 10..way.end - BLOBS_BYTES / 10;
    let kills = [middle(&up), middle(&whole), middle(&down)].map(|stretch| draw(&mut rng, stretch));
    let break_all = async {
        tokio::try_join!(
            async {
                proxy.has_passed(kills[0]).await;
                kill(&mut acme).await
            },
            async {
                proxy.has_passed(kills[1]).await;
                ensure_flat(world.relay.process()?)?;
                world.relay.kill().await?;
                world.relay.start().await
            },
            async {
                proxy.has_passed(kills[2]).await;
                kill(&mut bolt).await
            },
        )
    };
    timeout(PATIENCE, break_all)
        .await
        .context("the files do not move on")??;

    let received = bolt.api()?.received(&sent.uuid).await?;
    ensure!(received.attachments.len() == paths.len());
    for (file, path) in received.attachments.iter().zip(&paths) {
        ensure!(file.size == FILE_BYTES_MAX && path.ends_with(&file.filename));
        ensure!(
            bolt.api()?.content_digest(&file.id).await? == digest(&fs::read(path)?),
            "{} is another",
            file.filename
        );
    }
    ensure!(
        bolt.api()?.messages(Direction::In).await?.len() == 1,
        "it is shown twice"
    );
    acme.api()?
        .reached(&sent.id, DeliveryStatus::Delivered)
        .await?;
    nothing_left(&world).await?;
    for process in [acme.process()?, world.relay.process()?, bolt.process()?] {
        ensure_flat(process)?;
    }
    ensure!(
        proxy.cuts() as usize == CUTS,
        "it was cut {} times",
        proxy.cuts()
    );
    ensure_resumed("uploaded", &proxy.puts())?;
    ensure_resumed("downloaded", &proxy.gets())?;
    acme.stop().await?;
    bolt.stop().await?;
    world.finish().await
}

#[tokio::test]
async fn a_file_for_200_recipients_is_uploaded_once() -> anyhow::Result<()> {
    let (world, proxy) = far_relay().await?;
    let acme = node(&world, &proxy, "Acme").await?;
    // Each of four businesses is connected fifty times: to Acme and to the relay they are two hundred.
    let others =
        try_join_all(["Bolt", "Cargo", "Dock", "Elm"].map(|name| node(&world, &proxy, name)))
            .await?;
    let pairs = stream::iter(0..RECIPIENTS).map(async |number| {
        let pair = pair_with_note(
            &acme,
            &others[number % others.len()],
            &format!("number {number}"),
        )
        .await?;
        anyhow::Ok(pair.inviter.id)
    });
    let to: Vec<String> = pairs.buffer_unordered(8).try_collect().await?;

    let file = Sample::new("prices.csv", files::measurements(5_000_000));
    let api = acme.api()?;
    let staged = api.stage(&file.name, file.content.clone()).await?;
    let request = SendMessage {
        to,
        content: "prices of the next quarter".to_owned(),
        attachments: vec![staged.id],
        ..SendMessage::default()
    };
    let sent = api.send(&request).await?;
    ensure!(sent.len() == RECIPIENTS);
    for other in &others {
        let api = other.api()?;
        let received = until("all copies and their files are here", async || {
            let messages = api.messages(Direction::In).await?;
            let files = messages.iter().flat_map(|message| &message.attachments);
            let ready = files.filter(|file| file.status == AttachmentStatus::Ready);
            Ok((ready.count() == RECIPIENTS / others.len()).then_some(messages))
        })
        .await?;
        for message in &received {
            ensure!(message.uuid == sent[0].uuid && message.attachments.len() == 1);
        }
        ensure!(api.content_digest(&received[0].attachments[0].id).await? == file.digest());
    }
    for message in &sent {
        api.reached(&message.id, DeliveryStatus::Delivered).await?;
    }
    // Parts are 2 MiB.
    ensure!(
        (proxy.puts().distinct(), proxy.puts().again()) == (3, 0),
        "{:?}",
        proxy.puts()
    );
    nothing_left(&world).await?;
    for mut node in [acme].into_iter().chain(others) {
        node.stop().await?;
    }
    world.finish().await
}
