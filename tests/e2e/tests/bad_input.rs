//! Bad input and bad days: each gets a clear error that names the next step, and nothing is lost. What only a forger can
//! make (tampered envelopes, replays, forged prekeys) stands with the unit tests of `e2ee`, `node-core` and the relay.

#[path = "support/disk.rs"]
mod disk;
mod support;

use anyhow::{Context as _, ensure};
use disk::SmallDisk;
use rustix::process::geteuid;
use sealpost_demo::{
    checks::files_below,
    files::{self, Sample},
    node::{Delivery, Home, Node},
    process::Signal,
    roles::Role,
    wait::until,
    world::{World, pair, send},
};
use sealpost_node::api::model::{
    AttachmentStatus, Connection, ConnectionStatus, CreateInvite, Direction, HealthState,
    InviteKind,
};
use sealpost_proto::{DeliveryStatus, limits};
use serde_json::Value;
use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use support::program;
use tokio::process::Command;

/// Runs a command that must be refused with this code; every refusal says what is wrong and what to do. Returns both.
async fn refused(home: &Home, args: &[&str], code: &str) -> anyhow::Result<String> {
    let output = home.cli(&[&["--json"], args].concat()).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{args:?} was not refused");
    let error: Value = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .context(said)?;
    ensure!(error["code"] == code, "{args:?} was refused with {error}");
    let (detail, next) = (
        error["detail"].as_str().unwrap_or_default(),
        error["next"].as_str().unwrap_or_default(),
    );
    ensure!(!detail.is_empty() && !next.is_empty(), "{args:?}: {error}");
    Ok(format!("{detail}; {next}"))
}

async fn done(home: &Home, args: &[&str]) -> anyhow::Result<String> {
    let output = home.cli(args).await?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until a node knows that its request came to nothing, and why.
async fn turned_away(home: &Home, why: &[&str]) -> anyhow::Result<()> {
    let is_over = |one: &Connection| {
        one.status == ConnectionStatus::Rejected || one.health.state == HealthState::Broken
    };
    until("the request comes to nothing", async || {
        Ok(home
            .api()?
            .connections()
            .await?
            .iter()
            .any(is_over)
            .then_some(()))
    })
    .await?;
    let words = done(home, &["connections"]).await?;
    ensure!(why.iter().any(|why| words.contains(why)), "{words}");
    Ok(())
}

fn file(folder: &Path, name: &str, bytes: u64) -> anyhow::Result<String> {
    let path = folder.join(name);
    File::create(&path)?.set_len(bytes)?;
    Ok(path.to_str().context("a path")?.to_owned())
}

async fn stop(world: World, nodes: impl IntoIterator<Item = Node>) -> anyhow::Result<()> {
    for mut node in nodes {
        node.stop().await?;
    }
    world.finish().await
}

async fn two() -> anyhow::Result<(World, Node, Node)> {
    let world = World::with_relay(program()).await?;
    let (acme, bolt) = (
        world.node("Acme", Delivery::Pull).await?,
        world.node("Bolt", Delivery::Webhook).await?,
    );
    pair(&acme, &bolt).await?;
    Ok((world, acme, bolt))
}

#[tokio::test]
async fn an_invite_that_does_not_work_says_why() -> anyhow::Result<()> {
    let mut world = World::with_relay(program()).await?;
    let acme = world.node("Acme", Delivery::Pull).await?;
    let (bolt, cargo) = (
        world.node("Bolt", Delivery::Pull).await?,
        world.node("Cargo", Delivery::Pull).await?,
    );
    let (api, home) = (acme.api()?, bolt.home());

    let (_, good) = api.invite(true).await?;
    for wrong in [
        "hello",
        "https://relay.example/i",
        &good[..good.len() - 3],
        &good.replacen("#sp1.A", "#sp1.B", 1),
    ] {
        refused(home, &["connect", wrong], "invite_invalid").await?;
    }
    let short = CreateInvite {
        kind: InviteKind::Single,
        life_ms: Some(1),
        auto_accept: true,
    };
    refused(
        home,
        &["connect", &api.invite_with(&short).await?.1],
        "invite_expired",
    )
    .await?;
    let (revoked, url) = api.invite(true).await?;
    api.revoke(&revoked.id).await?;
    // Until the relay has closed its mailbox somebody may still ask, and is turned away there or by Acme.
    match home.cli(&["connect", &url]).await?.status.success() {
        true => turned_away(home, &["the invite was revoked", "ask for a new invite"]).await?,
        false => drop(refused(home, &["connect", &url], "invite_invalid").await?),
    }
    refused(acme.home(), &["connect", &good], "invite_own").await?;

    world.relay.stop().await?;
    let words = refused(home, &["connect", &good], "invite_unreachable").await?;
    ensure!(words.contains("again when the relay is up"), "{words}");
    world.relay.start().await?;
    done(
        home,
        &["connect", &good, "--note", "after the relay was away"],
    )
    .await?;
    let request = api.request("after the relay was away").await?;
    api.accepted(&request.id).await?;

    cargo
        .api()?
        .connect(&good, "the invite was for Bolt")
        .await?;
    turned_away(cargo.home(), &["the invite was used before"]).await?;
    stop(world, [acme, bolt, cargo]).await
}

#[tokio::test]
async fn an_invite_of_another_relay_says_what_both_need() -> anyhow::Result<()> {
    let (world, other) = (
        World::with_relay(program()).await?,
        World::with_relay(program()).await?,
    );
    let (acme, bolt) = (
        world.node("Acme", Delivery::Pull).await?,
        other.node("Bolt", Delivery::Pull).await?,
    );
    let (_, url) = acme.api()?.invite(true).await?;
    let words = refused(bolt.home(), &["connect", &url], "invite_unreachable").await?;
    ensure!(words.contains("same relay"), "{words}");
    stop(other, [bolt]).await?;
    stop(world, [acme]).await
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_says_why() -> anyhow::Result<()> {
    let (world, acme, bolt) = two().await?;
    let (home, folder) = (acme.home(), world.folder());
    refused(home, &["send", "--to", "Bolt", "-m", " \n\t"], "text_empty").await?;
    let text = folder.join("text");
    let text_file = text.to_str().context("a path")?;
    fs::write(&text, "x".repeat(1_000_000))?;
    let words = refused(
        home,
        &["send", "--to", "Bolt", "-t", text_file],
        "text_too_long",
    )
    .await?;
    ensure!(
        words.contains("1000000") || words.contains("1,000,000"),
        "{words}"
    );
    fs::write(&text, "x".repeat(limits::MESSAGE_TEXT_BYTES_MAX))?;
    done(
        home,
        &[
            "send",
            "--to",
            "Bolt",
            "-t",
            text_file,
            "--wait",
            "delivered",
        ],
    )
    .await?;

    let small = file(folder, "small", 1)?;
    let six = [
        &["send", "--to", "Bolt", "-m", "x", "-a"][..],
        &[small.as_str(); 6],
    ]
    .concat();
    refused(home, &six, "too_many_files").await?;
    let large = file(folder, "large", limits::FILE_BYTES_MAX + 1)?;
    refused(
        home,
        &["send", "--to", "Bolt", "-m", "x", "-a", &large],
        "file_too_large",
    )
    .await?;
    refused(
        home,
        &["send", "--to", "Bolt", "-m", "x", "-a", "/does/not/exist"],
        "refused",
    )
    .await?;
    refused(
        home,
        &[
            "send",
            "--to",
            "Bolt",
            "-m",
            "x",
            "-a",
            folder.to_str().context("a path")?,
        ],
        "refused",
    )
    .await?;
    refused(home, &["send", "--to", "Nobody", "-m", "x"], "not_found").await?;
    refused(home, &["show", "CMG-1111-2222-3333-00001"], "not_found").await?;
    for name in ["line\nbreak.txt", "bell\u{7}.txt", "gnp\u{202e}fdp.exe"] {
        let path = file(folder, name, 1)?;
        refused(
            home,
            &["send", "--to", "Bolt", "-m", "x", "-a", &path],
            "file_name_invalid",
        )
        .await?;
    }
    for name in ["x".repeat(300).as_str(), "a/b", "..", ""] {
        let refusal = acme
            .api()?
            .stage(name, b"x".to_vec())
            .await
            .map(|file| file.safe_name);
        ensure!(
            refusal
                .as_ref()
                .is_err_and(|error| error.code() == "file_name_invalid"),
            "{name:?}: {refusal:?}"
        );
    }
    ensure!(
        bolt.api()?.messages(Direction::In).await?.len() == 1,
        "something that was refused came through"
    );
    ensure!(
        files_below(&home.folder().join("files"))?.is_empty(),
        "something that was refused was kept"
    );
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn a_lower_limit_of_the_operator_counts() -> anyhow::Result<()> {
    let (world, mut acme, bolt) = two().await?;
    acme.stop().await?;
    fs::write(
        acme.home().folder().join("node.toml"),
        "message_files_bytes = 3000\n",
    )?;
    acme.start().await?;
    let files = [
        file(world.folder(), "one", 2_000)?,
        file(world.folder(), "two", 2_000)?,
    ];
    let both = [
        "send", "--to", "Bolt", "-m", "x", "-a", &files[0], &files[1],
    ];
    let words = refused(acme.home(), &both, "files_too_large").await?;
    ensure!(words.contains("several messages"));
    done(
        acme.home(),
        &[
            "send",
            "--to",
            "Bolt",
            "-m",
            "x",
            "-a",
            &files[0],
            "--wait",
            "delivered",
        ],
    )
    .await?;
    stop(world, [acme, bolt]).await
}

/// Waits until a file is on its way into a node.
async fn staging(home: &Home) -> anyhow::Result<()> {
    let folder = home.folder().join("files");
    until("the file is on its way", async || {
        Ok((!files_below(&folder)?.is_empty()).then_some(()))
    })
    .await
}

/// Waits until something of it is at the relay, or nothing any more.
async fn at_the_relay(world: &World, is_any: bool) -> anyhow::Result<()> {
    let blobs = world.relay.folder().join("blobs");
    // Folders go while they are looked through.
    until("the relay has what it should have", async || {
        Ok(files_below(&blobs)
            .is_ok_and(|files| files.is_empty() != is_any)
            .then_some(()))
    })
    .await
}

/// Waits until a node keeps nothing of what was staged.
async fn nothing_staged(home: &Home) -> anyhow::Result<()> {
    let folder = home.folder().join("files");
    until("nothing is left of the file", async || {
        Ok(files_below(&folder)?.is_empty().then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_not_sent() -> anyhow::Result<()> {
    let (world, acme, bolt) = two().await?;
    let folder = world.folder();
    let path = folder.join("moving");
    let changes: [(&str, &dyn Fn() -> std::io::Result<()>); 4] = [
        ("grows", &|| {
            OpenOptions::new()
                .append(true)
                .open(&path)?
                .write_all(b"more")
        }),
        ("shrinks", &|| {
            OpenOptions::new().write(true).open(&path)?.set_len(1)
        }),
        ("is replaced", &|| {
            File::create(folder.join("other"))?.set_len(limits::FILE_BYTES_MAX)?;
            fs::rename(folder.join("other"), &path)
        }),
        ("vanishes", &|| fs::remove_file(&path)),
    ];
    for (what, change) in changes {
        let path = file(folder, "moving", limits::FILE_BYTES_MAX)?;
        let change = async {
            at_the_relay(&world, true).await?;
            Ok(change()?)
        };
        let send = ["send", "--to", "Bolt", "-m", "x", "-a", &path];
        let (words, changed): (_, anyhow::Result<()>) =
            tokio::join!(refused(acme.home(), &send, "file_changed"), change);
        changed.and(words.map(drop)).context(what)?;
        nothing_staged(acme.home()).await.context(what)?;
        at_the_relay(&world, false).await.context(what)?;
    }
    ensure!(acme.api()?.messages(Direction::Out).await?.is_empty());
    stop(world, [acme, bolt]).await
}

/// Runs a command as somebody who may read only what is theirs, also where the tests run as root.
async fn without_power(home: &Home, args: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(if geteuid().is_root() {
        "setpriv"
    } else {
        "env"
    });
    if geteuid().is_root() {
        command.arg("--bounding-set=-dac_override,-dac_read_search");
    }
    command
        .arg(env!("CARGO_BIN_EXE_sealpost-e2e"))
        .arg(Role::NodeCommand.as_str());
    Ok(command
        .arg("--data")
        .arg(home.folder())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .await?)
}

#[tokio::test]
async fn what_is_not_a_readable_file_is_not_sent() -> anyhow::Result<()> {
    let (world, acme, bolt) = two().await?;
    let folder = world.folder();
    let good = file(folder, "good", 1)?;
    for (name, target) in [("dangling", "nowhere"), ("to-a-folder", ".")] {
        symlink(target, folder.join(name))?;
    }
    ensure!(
        Command::new("mkfifo")
            .arg(folder.join("pipe"))
            .status()
            .await?
            .success()
    );
    for (path, why) in [
        (folder.join("dangling"), "cannot be read"),
        (folder.join("to-a-folder"), "is a folder"),
        (folder.join("pipe"), "is not a regular file"),
        ("/dev/zero".into(), "is not a regular file"),
    ] {
        let path = path.to_str().context("a path")?;
        let words = refused(
            acme.home(),
            &["send", "--to", "Bolt", "-m", "x", "-a", &good, path],
            "refused",
        )
        .await?;
        ensure!(words.contains(why) && words.contains(path), "{words}");
    }
    let locked = file(folder, "locked", 1)?;
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000))?;
    let output = without_power(
        acme.home(),
        &["send", "--to", "Bolt", "-m", "x", "-a", &locked],
    )
    .await?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success()
            && words.contains("cannot be read")
            && words.contains("permissions"),
        "{words}"
    );
    ensure!(acme.api()?.messages(Direction::Out).await?.is_empty());
    nothing_staged(acme.home()).await?;
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn five_empty_files_arrive() -> anyhow::Result<()> {
    let (world, acme, bolt) = two().await?;
    let empty = (0..5)
        .map(|number| file(world.folder(), &format!("empty-{number}"), 0))
        .collect::<Result<Vec<_>, _>>()?;
    let mut send = vec![
        "send",
        "--to",
        "Bolt",
        "-m",
        "five times nothing",
        "--wait",
        "delivered",
        "-a",
    ];
    send.extend(empty.iter().map(String::as_str));
    done(acme.home(), &send).await?;
    let sent = acme.api()?.messages(Direction::Out).await?;
    let received = bolt.api()?.received(&sent[0].uuid).await?;
    ensure!(
        received.attachments.len() == 5 && received.attachments.iter().all(|file| file.size == 0),
        "{received:?}"
    );
    let to = world.folder().join("saved");
    fs::create_dir(&to)?;
    done(
        bolt.home(),
        &[
            "files",
            "save",
            &received.id,
            "--to",
            to.to_str().context("a path")?,
        ],
    )
    .await?;
    ensure!(files_below(&to)?.len() == 5);
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn ctrl_c_leaves_nothing_half_done() -> anyhow::Result<()> {
    let (world, mut acme, bolt) = two().await?;
    let path = file(world.folder(), "large", limits::FILE_BYTES_MAX)?;
    let log = world.folder().join("cli.log");
    let mut sending = acme
        .home()
        .start_cli(&["send", "--to", "Bolt", "-m", "x", "-a", &path], &log)?;
    staging(acme.home()).await?;
    sending.signal(Signal::INT)?;
    ensure!(
        sending.ended().await?.code() == Some(130),
        "{}",
        fs::read_to_string(&log)?
    );
    nothing_staged(acme.home()).await?;
    ensure!(acme.api()?.messages(Direction::Out).await?.is_empty());

    let mut daemon = acme.take_process()?;
    daemon.signal(Signal::INT)?;
    ensure!(
        daemon.ended().await?.success(),
        "Ctrl-C is a good end for a daemon"
    );
    acme.start().await?;
    done(
        acme.home(),
        &[
            "send",
            "--to",
            "Bolt",
            "-m",
            "after all",
            "--wait",
            "delivered",
        ],
    )
    .await?;
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn a_data_folder_is_for_one_daemon_of_its_version() -> anyhow::Result<()> {
    let (world, mut acme, bolt) = two().await?;
    let words = refused(acme.home(), &["serve"], "daemon_failed").await?;
    ensure!(words.contains("stop that one first"), "{words}");
    let again = ["init", "--name", "Again", "--relay", &world.relay.origin()];
    refused(acme.home(), &again, "daemon_failed").await?;
    acme.stop().await?;
    let words = refused(acme.home(), &["inbox"], "daemon_unreachable").await?;
    ensure!(words.contains("serve"), "{words}");
    let words = refused(acme.home(), &again, "daemon_failed").await?;
    ensure!(words.contains("holds a node already"), "{words}");

    let database = acme.home().folder().join("node.db");
    let old = fs::read(&database)?;
    let mut newer = old.clone();
    // SQLite's file format, section 1.3: the user version is a big-endian integer at offset 60.
    newer[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    fs::write(&database, &newer)?;
    let words = refused(acme.home(), &["serve"], "daemon_failed").await?;
    ensure!(words.contains("newer version"), "{words}");
    ensure!(
        fs::read(&database)? == newer,
        "a newer database was touched"
    );
    fs::write(&database, old)?;

    let config = acme.home().folder().join("node.toml");
    fs::write(&config, "log_filtre = \"info\"\n")?;
    let words = refused(acme.home(), &["serve"], "daemon_failed").await?;
    ensure!(words.contains("line 1"), "{words}");
    fs::remove_file(config)?;
    acme.start().await?;
    done(
        acme.home(),
        &[
            "send",
            "--to",
            "Bolt",
            "-m",
            "still here",
            "--wait",
            "delivered",
        ],
    )
    .await?;
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn a_full_disk_of_a_node_refuses_and_recovers() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(48)? else {
        return Ok(());
    };
    let world = World::with_relay(program()).await?;
    let acme = world.node("Acme", Delivery::Pull).await?;
    let mut bolt = Node::init(
        world.program(),
        disk.path(),
        "Bolt",
        &world.relay.origin(),
        Delivery::Webhook,
    )
    .await?;
    bolt.start().await?;
    let pair = pair(&acme, &bolt).await?;
    let order = Sample::new("order.csv", files::measurements(5_000_000));

    disk.fill()?;
    let refusal = bolt
        .api()?
        .stage(&order.name, order.content.clone())
        .await
        .map(|file| file.id);
    ensure!(
        refusal
            .as_ref()
            .is_err_and(|error| error.code() == "disk_full"),
        "{refusal:?}"
    );
    let sent = send(
        &acme.api()?,
        &pair.inviter.id,
        "while Bolt's disk is full",
        std::slice::from_ref(&order),
    )
    .await?;
    until("it is at the relay", async || {
        let delivery = acme
            .api()?
            .message(&sent.id)
            .await?
            .delivery
            .into_iter()
            .next()
            .context("no delivery")?;
        ensure!(
            delivery.status != DeliveryStatus::Failed,
            "it failed: {:?}",
            delivery.reason
        );
        Ok((delivery.status != DeliveryStatus::Pending).then_some(()))
    })
    .await?;
    disk.make_room()?;
    let received = bolt.api()?.received(&sent.uuid).await?;
    ensure!(
        bolt.api()?
            .content_digest(&received.attachments[0].id)
            .await?
            == order.digest()
    );
    let answer = send(
        &bolt.api()?,
        &pair.acceptor.id,
        "there is room again",
        &[order],
    )
    .await?;
    acme.api()?.received(&answer.uuid).await?;
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn a_full_disk_of_the_relay_delays_and_loses_nothing() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(48)? else {
        return Ok(());
    };
    let mut world = World::begin(program())?;
    world.relay.move_to(&disk.path().join("relay"));
    world.relay.start().await?;
    let (acme, bolt) = (
        world.node("Acme", Delivery::Pull).await?,
        world.node("Bolt", Delivery::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    let order = Sample::new("order.csv", files::measurements(9_000_000));

    disk.fill()?;
    let sent = send(
        &acme.api()?,
        &pair.inviter.id,
        "while the relay's disk is full",
        std::slice::from_ref(&order),
    )
    .await?;
    let waiting = until("the upload waits", async || {
        let file = acme.api()?.attachment(&sent.attachments[0].id).await?;
        ensure!(
            file.status != AttachmentStatus::Failed,
            "the file failed: {:?}",
            file.reason
        );
        Ok(file.reason)
    })
    .await?;
    ensure!(
        waiting.contains("full") || waiting.contains("room") || waiting.contains("storage"),
        "{waiting}"
    );
    world.relay.kill().await?;
    world
        .relay
        .start()
        .await
        .context("a relay that was killed starts on a full disk")?;
    disk.make_room()?;
    let received = bolt.api()?.received(&sent.uuid).await?;
    ensure!(
        bolt.api()?
            .content_digest(&received.attachments[0].id)
            .await?
            == order.digest()
    );
    acme.api()?
        .reached(&sent.id, DeliveryStatus::Delivered)
        .await?;
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn a_node_that_asks_too_often_slows_down_says_why_and_loses_nothing() -> anyhow::Result<()> {
    let mut world = World::with_relay(program()).await?;
    let (acme, bolt) = (
        world.node("Acme", Delivery::Pull).await?,
        world.node("Bolt", Delivery::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    world.relay.stop().await?;
    world.relay.configure(&[
        "--rates-requests-per-second",
        "2",
        "--rates-requests-burst",
        "2",
    ]);
    world.relay.start().await?;
    let mut sent = vec![send(&acme.api()?, &pair.inviter.id, "number 0", &[]).await?];
    acme.api()?
        .reached(&sent[0].id, DeliveryStatus::Delivered)
        .await?;
    let before = fs::read_to_string(world.folder().join("acme.log"))?.len();
    for number in 1..12 {
        sent.push(
            send(
                &acme.api()?,
                &pair.inviter.id,
                &format!("number {number}"),
                &[],
            )
            .await?,
        );
    }
    for message in &sent {
        acme.api()?
            .reached(&message.id, DeliveryStatus::Delivered)
            .await?;
    }
    let texts: Vec<_> = bolt
        .api()?
        .messages(Direction::In)
        .await?
        .into_iter()
        .map(|message| message.content)
        .collect();
    ensure!(texts.len() == sent.len(), "{texts:?}");
    let log = fs::read_to_string(world.folder().join("acme.log"))?;
    ensure!(
        log.contains("too many requests") && !log[before..].contains("does not answer"),
        "{log}"
    );
    stop(world, [acme, bolt]).await
}

#[tokio::test]
async fn a_relay_s_folder_is_for_one_relay() -> anyhow::Result<()> {
    let mut world = World::with_relay(program()).await?;
    let folder: PathBuf = world.relay.folder().to_owned();
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        folder.to_str().context("a path")?,
    ];
    let args = args.map(std::ffi::OsStr::new);
    let output = world.program().output(Role::RelayCommand, &args).await?;
    ensure!(
        !output.status.success()
            && String::from_utf8_lossy(&output.stderr).contains("stop that one first")
    );
    world.relay.stop().await?;
    world.relay.start().await?;
    world.finish().await
}
