//! Files of the maximum size over a connection that is cut, and one file for many recipients.
//!
//! `SEALPOST_SEED=… cargo test -p sealpost-e2e files::` repeats the cuts of a run.

use crate::support::{
    program,
    proxy::{PartRequests, Proxy},
    seed_from_env_or_clock,
};
use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sealpost_demo::{
    api::digest,
    checks::list_files,
    environment::{Environment, pair, pair_with_note},
    files::{self, Sample},
    node::{DeliveryMode, Node},
    process::Process,
    wait::{WAIT_TIMEOUT, wait_for},
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
};
use tokio::time::timeout;

const CUTS: usize = 20;
/// Limit on the peak memory of relay and node during a transfer of 500 MB.
const MEMORY_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Size of all blobs of a message at the limit.
const BLOBS_BYTES: u64 = FILES_PER_MESSAGE_MAX as u64 * BLOB_BYTES_MAX;
const RECIPIENTS: usize = 200;

/// Starts a relay behind a proxy that can cut connections.
async fn relay_behind_proxy() -> anyhow::Result<(Environment, Proxy)> {
    let mut env = Environment::new(program())?;
    let proxy = Proxy::start(&env.relay.origin()).await?;
    let rates = [
        "--rates-requests-per-second",
        "0",
        "--rates-envelopes-per-minute",
        "0",
    ];
    env.relay
        .set_extra_args(&[&["--public-url", &proxy.origin()][..], &rates].concat());
    env.relay.start().await?;
    Ok((env, proxy))
}

async fn start_node(env: &Environment, proxy: &Proxy, name: &str) -> anyhow::Result<Node> {
    let mut node = Node::init(
        env.program(),
        env.directory(),
        name,
        &proxy.origin(),
        DeliveryMode::Pull,
    )
    .await?;
    node.start().await?;
    node.wait_until_connected().await?;
    Ok(node)
}

/// Writes a file of random megabytes, all different, without holding it in memory.
fn create_large_file(directory: &Path, number: u64) -> anyhow::Result<PathBuf> {
    let path = directory.join(format!("large-{number}.bin"));
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

/// Returns a random offset in a range.
fn random_offset(rng: &mut ChaCha8Rng, range: Range<u64>) -> u64 {
    range.start + rng.next_u64() % (range.end - range.start)
}

/// Waits until the relay has deleted all blobs.
async fn wait_until_blobs_are_deleted(env: &Environment) -> anyhow::Result<()> {
    let blobs = env.relay.directory().join("blobs");
    // The relay may delete directories during the search.
    wait_for("the relay stores no blobs", async || {
        Ok(list_files(&blobs)
            .is_ok_and(|files| files.is_empty())
            .then_some(()))
    })
    .await
}

fn ensure_memory_is_bounded(process: &Process) -> anyhow::Result<()> {
    let peak = process.peak_memory_bytes()?;
    ensure!(
        peak <= MEMORY_BYTES_MAX,
        "{process:?} used {} MiB",
        peak / 1024 / 1024
    );
    Ok(())
}

async fn restart_after_kill(node: &mut Node) -> anyhow::Result<()> {
    ensure_memory_is_bounded(node.process()?)?;
    node.kill().await?;
    node.start().await
}

/// Checks that only the parts in flight at a cut or a kill are transferred again.
fn ensure_resumed(what: &str, requests: &PartRequests) -> anyhow::Result<()> {
    // Half of the cuts, two kills, and two cuts that repeated parts have moved into this half.
    const INTERRUPTIONS_MAX: usize = CUTS / 2 + 2 + 2;
    ensure!(requests.distinct_parts() == FILES_PER_MESSAGE_MAX * BLOB_PARTS_MAX as usize);
    let repeated = requests.repeated_requests();
    ensure!(
        repeated <= INTERRUPTIONS_MAX * PARTS_IN_FLIGHT_MAX as usize,
        "{what}: {repeated} repeated requests for parts"
    );
    Ok(())
}

#[tokio::test]
async fn large_message_survives_cuts_and_kills() -> anyhow::Result<()> {
    let seed = seed_from_env_or_clock()?;
    println!("SEALPOST_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut env, proxy) = relay_behind_proxy().await?;
    let (mut acme, mut bolt) = (
        start_node(&env, &proxy, "Acme").await?,
        start_node(&env, &proxy, "Bolt").await?,
    );
    pair(&acme, &bolt).await?;
    let directory = env.directory().to_owned();
    let paths =
        (0..FILES_PER_MESSAGE_MAX as u64).map(|number| create_large_file(&directory, number));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;

    let start = proxy.forwarded_bytes();
    let (up, down) = (
        start..start + BLOBS_BYTES,
        start + BLOBS_BYTES..start + 2 * BLOBS_BYTES,
    );
    let both = up.start..down.end;
    // One cut in each interval, so that no two coincide.
    let interval = 2 * BLOBS_BYTES / CUTS as u64;
    let starts = both.clone().step_by(usize::try_from(interval)?).take(CUTS);
    proxy.schedule_cuts(
        starts.map(|start| random_offset(&mut rng, start..start + interval - interval / 10)),
    );
    let mut args = vec!["send", "--to", "Bolt", "-m", "all of it", "-a"];
    for path in &paths {
        args.push(path.to_str().context("the path is not UTF-8")?);
    }
    let sent = acme.home().run_cli(&args).await?;
    ensure!(
        sent.status.success(),
        "{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    let sent = acme
        .api()?
        .list_messages(Direction::Out)
        .await?
        .into_iter()
        .next()
        .context("no message")?;
    // Kill each process well inside its range of the transfer, so that parts remain before and
    // after.
    let middle = |range: &Range<u64>| range.start + BLOBS_BYTES / 10..range.end - BLOBS_BYTES / 10;
    let kills =
        [middle(&up), middle(&both), middle(&down)].map(|range| random_offset(&mut rng, range));
    let kill_all = async {
        tokio::try_join!(
            async {
                proxy.wait_until_forwarded(kills[0]).await;
                restart_after_kill(&mut acme).await
            },
            async {
                proxy.wait_until_forwarded(kills[1]).await;
                ensure_memory_is_bounded(env.relay.process()?)?;
                env.relay.kill().await?;
                env.relay.start().await
            },
            async {
                proxy.wait_until_forwarded(kills[2]).await;
                restart_after_kill(&mut bolt).await
            },
        )
    };
    timeout(WAIT_TIMEOUT, kill_all)
        .await
        .context("the transfer does not finish in time")??;

    let received = bolt.api()?.wait_for_message(&sent.uuid).await?;
    ensure!(received.attachments.len() == paths.len());
    for (file, path) in received.attachments.iter().zip(&paths) {
        ensure!(file.size == FILE_BYTES_MAX && path.ends_with(&file.filename));
        ensure!(
            bolt.api()?.download_digest(&file.id).await? == digest(&fs::read(path)?),
            "{} differs",
            file.filename
        );
    }
    ensure!(
        bolt.api()?.list_messages(Direction::In).await?.len() == 1,
        "the message is stored twice"
    );
    acme.api()?
        .wait_for_status(&sent.id, DeliveryStatus::Delivered)
        .await?;
    wait_until_blobs_are_deleted(&env).await?;
    for process in [acme.process()?, env.relay.process()?, bolt.process()?] {
        ensure_memory_is_bounded(process)?;
    }
    ensure!(
        proxy.cut_count() as usize == CUTS,
        "the connections were cut {} times",
        proxy.cut_count()
    );
    ensure_resumed("uploads", &proxy.uploads())?;
    ensure_resumed("downloads", &proxy.downloads())?;
    acme.stop().await?;
    bolt.stop().await?;
    env.finish().await
}

#[tokio::test]
async fn file_for_200_recipients_is_uploaded_once() -> anyhow::Result<()> {
    let (env, proxy) = relay_behind_proxy().await?;
    let acme = start_node(&env, &proxy, "Acme").await?;
    // Each of four businesses connects fifty times, so that Acme and the relay see two hundred.
    let others =
        try_join_all(["Bolt", "Cargo", "Dock", "Elm"].map(|name| start_node(&env, &proxy, name)))
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

    let file = Sample::new("prices.csv", files::generate_measurements(5_000_000));
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
        let received = wait_for("all copies and their files have arrived", async || {
            let messages = api.list_messages(Direction::In).await?;
            let files = messages.iter().flat_map(|message| &message.attachments);
            let ready = files.filter(|file| file.status == AttachmentStatus::Ready);
            Ok((ready.count() == RECIPIENTS / others.len()).then_some(messages))
        })
        .await?;
        for message in &received {
            ensure!(message.uuid == sent[0].uuid && message.attachments.len() == 1);
        }
        ensure!(api.download_digest(&received[0].attachments[0].id).await? == file.digest());
    }
    for message in &sent {
        api.wait_for_status(&message.id, DeliveryStatus::Delivered)
            .await?;
    }
    // Parts are 2 MiB.
    ensure!(
        (
            proxy.uploads().distinct_parts(),
            proxy.uploads().repeated_requests()
        ) == (3, 0),
        "{:?}",
        proxy.uploads()
    );
    wait_until_blobs_are_deleted(&env).await?;
    for mut node in [acme].into_iter().chain(others) {
        node.stop().await?;
    }
    env.finish().await
}
