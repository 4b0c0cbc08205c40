//! Invalid input and adverse conditions: each gets a clear error that names the next step, and
//! nothing is lost. What only a forger can create (tampered envelopes, replays, forged prekeys) is
//! covered by the unit tests of `e2ee`, `node-core` and the relay.

use crate::support::{disk::SmallDisk, program, stop_all};
use anyhow::{Context as _, ensure};
use rustix::process::geteuid;
use sealpost_demo::{
    checks::files_below,
    environment::{Environment, pair, send},
    files::{self, Sample},
    node::{Delivery, Home, Node},
    process::Signal,
    roles::Role,
    wait::wait_for,
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
use tokio::process::Command;

/// Runs a command that must be refused with this code. Returns the detail and the next step, which
/// every refusal must have.
async fn expect_refusal(home: &Home, args: &[&str], code: &str) -> anyhow::Result<String> {
    let output = home.cli(&[&["--json"], args].concat()).await?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{args:?} was not refused");
    let error: Value = stderr
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .context(stderr)?;
    ensure!(error["code"] == code, "{args:?} was refused with {error}");
    let (detail, next) = (
        error["detail"].as_str().unwrap_or_default(),
        error["next"].as_str().unwrap_or_default(),
    );
    ensure!(!detail.is_empty() && !next.is_empty(), "{args:?}: {error}");
    Ok(format!("{detail}; {next}"))
}

async fn run_cli(home: &Home, args: &[&str]) -> anyhow::Result<String> {
    let output = home.cli(args).await?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until a node knows that its request was rejected, and why.
async fn wait_for_rejection(home: &Home, why: &[&str]) -> anyhow::Result<()> {
    let is_over = |one: &Connection| {
        one.status == ConnectionStatus::Rejected || one.health.state == HealthState::Broken
    };
    wait_for("the request is rejected", async || {
        Ok(home
            .api()?
            .connections()
            .await?
            .iter()
            .any(is_over)
            .then_some(()))
    })
    .await?;
    let words = run_cli(home, &["connections"]).await?;
    ensure!(why.iter().any(|why| words.contains(why)), "{words}");
    Ok(())
}

fn file(directory: &Path, name: &str, bytes: u64) -> anyhow::Result<String> {
    let path = directory.join(name);
    File::create(&path)?.set_len(bytes)?;
    Ok(path.to_str().context("a path")?.to_owned())
}

async fn connected_nodes() -> anyhow::Result<(Environment, Node, Node)> {
    let env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.node("Acme", Delivery::Pull).await?,
        env.node("Bolt", Delivery::Webhook).await?,
    );
    pair(&acme, &bolt).await?;
    Ok((env, acme, bolt))
}

#[tokio::test]
async fn unusable_invite_is_refused_with_reason() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let acme = env.node("Acme", Delivery::Pull).await?;
    let (bolt, cargo) = (
        env.node("Bolt", Delivery::Pull).await?,
        env.node("Cargo", Delivery::Pull).await?,
    );
    let (api, home) = (acme.api()?, bolt.home());

    let (_, good) = api.invite(true).await?;
    for wrong in [
        "hello",
        "https://relay.example/i",
        &good[..good.len() - 3],
        &good.replacen("#sp1.A", "#sp1.B", 1),
    ] {
        expect_refusal(home, &["connect", wrong], "invite_invalid").await?;
    }
    let short = CreateInvite {
        kind: InviteKind::Single,
        lifetime_ms: Some(1),
        auto_accept: true,
    };
    expect_refusal(
        home,
        &["connect", &api.invite_with(&short).await?.1],
        "invite_expired",
    )
    .await?;
    let (revoked, url) = api.invite(true).await?;
    api.revoke(&revoked.id).await?;
    // Until the relay has closed the mailbox, a request may still arrive; Acme then rejects it.
    match home.cli(&["connect", &url]).await?.status.success() {
        true => {
            wait_for_rejection(home, &["the invite was revoked", "ask for a new invite"]).await?
        }
        false => drop(expect_refusal(home, &["connect", &url], "invite_invalid").await?),
    }
    expect_refusal(acme.home(), &["connect", &good], "invite_own").await?;

    env.relay.stop().await?;
    let message = expect_refusal(home, &["connect", &good], "invite_unreachable").await?;
    ensure!(
        message.contains("again when the relay is reachable"),
        "{message}"
    );
    env.relay.start().await?;
    run_cli(
        home,
        &["connect", &good, "--note", "after the relay was away"],
    )
    .await?;
    let request = api.wait_for_request("after the relay was away").await?;
    api.wait_for_accepted(&request.id).await?;

    cargo
        .api()?
        .connect(&good, "the invite was for Bolt")
        .await?;
    wait_for_rejection(cargo.home(), &["the invite was used before"]).await?;
    stop_all(env, [acme, bolt, cargo]).await
}

#[tokio::test]
async fn invite_of_another_relay_is_refused() -> anyhow::Result<()> {
    let (env, other) = (
        Environment::with_relay(program()).await?,
        Environment::with_relay(program()).await?,
    );
    let (acme, bolt) = (
        env.node("Acme", Delivery::Pull).await?,
        other.node("Bolt", Delivery::Pull).await?,
    );
    let (_, url) = acme.api()?.invite(true).await?;
    let message = expect_refusal(bolt.home(), &["connect", &url], "invite_unreachable").await?;
    ensure!(message.contains("same relay"), "{message}");
    stop_all(other, [bolt]).await?;
    stop_all(env, [acme]).await
}

#[tokio::test]
async fn invalid_message_is_refused_with_reason() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let (home, directory) = (acme.home(), env.directory());
    expect_refusal(home, &["send", "--to", "Bolt", "-m", " \n\t"], "text_empty").await?;
    let text = directory.join("text");
    let text_file = text.to_str().context("a path")?;
    fs::write(&text, "x".repeat(1_000_000))?;
    let message = expect_refusal(
        home,
        &["send", "--to", "Bolt", "-t", text_file],
        "text_too_long",
    )
    .await?;
    ensure!(
        message.contains("1000000") || message.contains("1,000,000"),
        "{message}"
    );
    fs::write(&text, "x".repeat(limits::MESSAGE_TEXT_BYTES_MAX))?;
    run_cli(
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

    let small = file(directory, "small", 1)?;
    let six = [
        &["send", "--to", "Bolt", "-m", "x", "-a"][..],
        &[small.as_str(); 6],
    ]
    .concat();
    expect_refusal(home, &six, "too_many_files").await?;
    let large = file(directory, "large", limits::FILE_BYTES_MAX + 1)?;
    expect_refusal(
        home,
        &["send", "--to", "Bolt", "-m", "x", "-a", &large],
        "file_too_large",
    )
    .await?;
    expect_refusal(
        home,
        &["send", "--to", "Bolt", "-m", "x", "-a", "/does/not/exist"],
        "failed",
    )
    .await?;
    expect_refusal(
        home,
        &[
            "send",
            "--to",
            "Bolt",
            "-m",
            "x",
            "-a",
            directory.to_str().context("a path")?,
        ],
        "failed",
    )
    .await?;
    expect_refusal(home, &["send", "--to", "Nobody", "-m", "x"], "not_found").await?;
    expect_refusal(home, &["show", "CMG-1111-2222-3333-00001"], "not_found").await?;
    for name in ["line\nbreak.txt", "bell\u{7}.txt", "gnp\u{202e}fdp.exe"] {
        let path = file(directory, name, 1)?;
        expect_refusal(
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
        "a refused message was delivered"
    );
    ensure!(
        files_below(&home.directory().join("files"))?.is_empty(),
        "a refused file was stored"
    );
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn lower_limit_of_the_operator_applies() -> anyhow::Result<()> {
    let (env, mut acme, bolt) = connected_nodes().await?;
    acme.stop().await?;
    fs::write(
        acme.home().directory().join("node.toml"),
        "[files]\nmessage_size_max = \"3 kB\"\n",
    )?;
    acme.start().await?;
    let files = [
        file(env.directory(), "one", 2_000)?,
        file(env.directory(), "two", 2_000)?,
    ];
    let both = [
        "send", "--to", "Bolt", "-m", "x", "-a", &files[0], &files[1],
    ];
    let message = expect_refusal(acme.home(), &both, "files_too_large").await?;
    ensure!(message.contains("several messages"));
    run_cli(
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
    stop_all(env, [acme, bolt]).await
}

/// Waits until a node is staging a file.
async fn wait_for_staging(home: &Home) -> anyhow::Result<()> {
    let directory = home.directory().join("files");
    wait_for("the file is being staged", async || {
        Ok((!files_below(&directory)?.is_empty()).then_some(()))
    })
    .await
}

/// Waits until the relay stores any blobs, or none.
async fn wait_for_blobs(env: &Environment, is_any: bool) -> anyhow::Result<()> {
    let blobs = env.relay.directory().join("blobs");
    // The relay may delete directories during the search.
    wait_for("the relay stores the expected blobs", async || {
        Ok(files_below(&blobs)
            .is_ok_and(|files| files.is_empty() != is_any)
            .then_some(()))
    })
    .await
}

/// Waits until a node has deleted all staged files.
async fn wait_until_nothing_is_staged(home: &Home) -> anyhow::Result<()> {
    let directory = home.directory().join("files");
    wait_for("the staged file is deleted", async || {
        Ok(files_below(&directory)?.is_empty().then_some(()))
    })
    .await
}

#[tokio::test]
async fn file_changed_during_reading_is_not_sent() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let directory = env.directory();
    let path = directory.join("moving");
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
            File::create(directory.join("other"))?.set_len(limits::FILE_BYTES_MAX)?;
            fs::rename(directory.join("other"), &path)
        }),
        ("vanishes", &|| fs::remove_file(&path)),
    ];
    for (what, change) in changes {
        let path = file(directory, "moving", limits::FILE_BYTES_MAX)?;
        let change = async {
            wait_for_blobs(&env, true).await?;
            Ok(change()?)
        };
        let send = ["send", "--to", "Bolt", "-m", "x", "-a", &path];
        let (words, changed): (_, anyhow::Result<()>) =
            tokio::join!(expect_refusal(acme.home(), &send, "file_changed"), change);
        changed.and(words.map(drop)).context(what)?;
        wait_until_nothing_is_staged(acme.home())
            .await
            .context(what)?;
        wait_for_blobs(&env, false).await.context(what)?;
    }
    ensure!(acme.api()?.messages(Direction::Out).await?.is_empty());
    stop_all(env, [acme, bolt]).await
}

/// Runs a command without the right to read other users' files, even where the tests run as root.
async fn run_unprivileged(home: &Home, args: &[&str]) -> anyhow::Result<Output> {
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
        .arg(home.directory())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .await?)
}

#[tokio::test]
async fn unreadable_file_is_not_sent() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let directory = env.directory();
    let good = file(directory, "good", 1)?;
    for (name, target) in [("dangling", "nowhere"), ("to-a-directory", ".")] {
        symlink(target, directory.join(name))?;
    }
    ensure!(
        Command::new("mkfifo")
            .arg(directory.join("pipe"))
            .status()
            .await?
            .success()
    );
    for (path, why) in [
        (directory.join("dangling"), "cannot read"),
        (directory.join("to-a-directory"), "is a directory"),
        (directory.join("pipe"), "is not a regular file"),
        ("/dev/zero".into(), "is not a regular file"),
    ] {
        let path = path.to_str().context("a path")?;
        let message = expect_refusal(
            acme.home(),
            &["send", "--to", "Bolt", "-m", "x", "-a", &good, path],
            "failed",
        )
        .await?;
        ensure!(message.contains(why) && message.contains(path), "{message}");
    }
    let locked = file(directory, "locked", 1)?;
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000))?;
    let output = run_unprivileged(
        acme.home(),
        &["send", "--to", "Bolt", "-m", "x", "-a", &locked],
    )
    .await?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && words.contains("cannot read") && words.contains("permissions"),
        "{words}"
    );
    ensure!(acme.api()?.messages(Direction::Out).await?.is_empty());
    wait_until_nothing_is_staged(acme.home()).await?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn five_empty_files_are_delivered() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let empty = (0..5)
        .map(|number| file(env.directory(), &format!("empty-{number}"), 0))
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
    run_cli(acme.home(), &send).await?;
    let sent = acme.api()?.messages(Direction::Out).await?;
    let received = bolt.api()?.wait_for_message(&sent[0].uuid).await?;
    ensure!(
        received.attachments.len() == 5 && received.attachments.iter().all(|file| file.size == 0),
        "{received:?}"
    );
    let to = env.directory().join("saved");
    fs::create_dir(&to)?;
    run_cli(
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
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn ctrl_c_leaves_no_partial_state() -> anyhow::Result<()> {
    let (env, mut acme, bolt) = connected_nodes().await?;
    let path = file(env.directory(), "large", limits::FILE_BYTES_MAX)?;
    let log = env.directory().join("cli.log");
    let mut sending = acme
        .home()
        .start_cli(&["send", "--to", "Bolt", "-m", "x", "-a", &path], &log)?;
    wait_for_staging(acme.home()).await?;
    sending.signal(Signal::INT)?;
    ensure!(
        sending.wait_for_exit().await?.code() == Some(130),
        "{}",
        fs::read_to_string(&log)?
    );
    wait_until_nothing_is_staged(acme.home()).await?;
    ensure!(acme.api()?.messages(Direction::Out).await?.is_empty());

    let mut daemon = acme.take_process()?;
    daemon.signal(Signal::INT)?;
    ensure!(
        daemon.wait_for_exit().await?.success(),
        "Ctrl-C must stop the daemon gracefully"
    );
    acme.start().await?;
    run_cli(
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
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn data_directory_is_locked_and_versioned() -> anyhow::Result<()> {
    let (env, mut acme, bolt) = connected_nodes().await?;
    let message = expect_refusal(acme.home(), &["serve"], "daemon_failed").await?;
    ensure!(message.contains("stop that process first"), "{message}");
    let again = ["init", "--name", "Again", "--relay", &env.relay.origin()];
    expect_refusal(acme.home(), &again, "daemon_failed").await?;
    acme.stop().await?;
    let message = expect_refusal(acme.home(), &["inbox"], "daemon_unreachable").await?;
    ensure!(message.contains("serve"), "{message}");
    let message = expect_refusal(acme.home(), &again, "daemon_failed").await?;
    ensure!(message.contains("holds a node already"), "{message}");

    let database = acme.home().directory().join("node.db");
    let old = fs::read(&database)?;
    let mut newer = old.clone();
    // SQLite's file format, section 1.3: the user version is a big-endian integer at offset 60.
    newer[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    fs::write(&database, &newer)?;
    let message = expect_refusal(acme.home(), &["serve"], "daemon_failed").await?;
    ensure!(message.contains("newer version"), "{message}");
    ensure!(
        fs::read(&database)? == newer,
        "a newer database was touched"
    );
    fs::write(&database, old)?;

    let config = acme.home().directory().join("node.toml");
    fs::write(&config, "[log]\nfiltre = \"info\"\n")?;
    let message = expect_refusal(acme.home(), &["serve"], "daemon_failed").await?;
    ensure!(
        message.contains("line 2") && message.contains("log.filter"),
        "{message}"
    );
    fs::remove_file(config)?;
    acme.start().await?;
    run_cli(
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
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn node_recovers_from_a_full_disk() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(48)? else {
        return Ok(());
    };
    let env = Environment::with_relay(program()).await?;
    let acme = env.node("Acme", Delivery::Pull).await?;
    let mut bolt = Node::init(
        env.program(),
        disk.path(),
        "Bolt",
        &env.relay.origin(),
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
    wait_for("the message is at the relay", async || {
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
            "the delivery failed: {:?}",
            delivery.reason
        );
        Ok((delivery.status != DeliveryStatus::Pending).then_some(()))
    })
    .await?;
    disk.free_space()?;
    let received = bolt.api()?.wait_for_message(&sent.uuid).await?;
    ensure!(
        bolt.api()?
            .content_digest(&received.attachments[0].id)
            .await?
            == order.digest()
    );
    let answer = send(
        &bolt.api()?,
        &pair.acceptor.id,
        "the disk has space again",
        &[order],
    )
    .await?;
    acme.api()?.wait_for_message(&answer.uuid).await?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn full_relay_disk_delays_without_loss() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(48)? else {
        return Ok(());
    };
    let mut env = Environment::new(program())?;
    env.relay.set_data_directory(&disk.path().join("relay"));
    env.relay.start().await?;
    let (acme, bolt) = (
        env.node("Acme", Delivery::Pull).await?,
        env.node("Bolt", Delivery::Webhook).await?,
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
    let waiting = wait_for("the upload waits", async || {
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
    env.relay.kill().await?;
    env.relay
        .start()
        .await
        .context("a killed relay must start on a full disk")?;
    disk.free_space()?;
    let received = bolt.api()?.wait_for_message(&sent.uuid).await?;
    ensure!(
        bolt.api()?
            .content_digest(&received.attachments[0].id)
            .await?
            == order.digest()
    );
    acme.api()?
        .wait_for_status(&sent.id, DeliveryStatus::Delivered)
        .await?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn rate_limited_node_slows_down_without_loss() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let (acme, bolt) = (
        env.node("Acme", Delivery::Pull).await?,
        env.node("Bolt", Delivery::Webhook).await?,
    );
    let pair = pair(&acme, &bolt).await?;
    env.relay.stop().await?;
    env.relay.set_extra_args(&[
        "--rates-requests-per-second",
        "2",
        "--rates-requests-burst",
        "2",
    ]);
    env.relay.start().await?;
    let mut sent = vec![send(&acme.api()?, &pair.inviter.id, "number 0", &[]).await?];
    acme.api()?
        .wait_for_status(&sent[0].id, DeliveryStatus::Delivered)
        .await?;
    let before = fs::read_to_string(env.directory().join("acme.log"))?.len();
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
            .wait_for_status(&message.id, DeliveryStatus::Delivered)
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
    let log = fs::read_to_string(env.directory().join("acme.log"))?;
    ensure!(
        log.contains("too many requests") && !log[before..].contains("does not respond"),
        "{log}"
    );
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn relay_directory_is_locked() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let directory: PathBuf = env.relay.directory().to_owned();
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        directory.to_str().context("a path")?,
    ];
    let args = args.map(std::ffi::OsStr::new);
    let output = env.program().output(Role::RelayCommand, &args).await?;
    ensure!(
        !output.status.success()
            && String::from_utf8_lossy(&output.stderr).contains("stop that process first")
    );
    env.relay.stop().await?;
    env.relay.start().await?;
    env.finish().await
}
