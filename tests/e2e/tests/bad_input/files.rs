//! Files that are unreadable, empty or changed while they are sent, and interrupted commands.

use super::{connected_nodes, create_file, expect_refusal, run_cli};
use crate::support::stop_all;
use anyhow::{Context as _, ensure};
use rustix::process::geteuid;
use sealpost_demo::{
    checks::list_files, environment::Environment, node::Home, process::Signal, roles::Role,
    wait::wait_for,
};
use sealpost_node::api::model::Direction;
use sealpost_proto::limits;
use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::{Output, Stdio},
};
use tokio::process::Command;

/// Waits until a node is staging a file.
async fn wait_until_staging_starts(home: &Home) -> anyhow::Result<()> {
    let directory = home.directory().join("files");
    wait_for("the file is being staged", async || {
        Ok((!list_files(&directory)?.is_empty()).then_some(()))
    })
    .await
}

/// Waits until the relay stores any blobs, or none.
async fn wait_for_blobs(env: &Environment, is_any: bool) -> anyhow::Result<()> {
    let blobs = env.relay.directory().join("blobs");
    // The relay may delete directories during the search.
    wait_for("the relay stores the expected blobs", async || {
        Ok(list_files(&blobs)
            .is_ok_and(|files| files.is_empty() != is_any)
            .then_some(()))
    })
    .await
}

/// Waits until a node has deleted all staged files.
async fn wait_until_nothing_is_staged(home: &Home) -> anyhow::Result<()> {
    let directory = home.directory().join("files");
    wait_for("the staged file is deleted", async || {
        Ok(list_files(&directory)?.is_empty().then_some(()))
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
        let path = create_file(directory, "moving", limits::FILE_BYTES_MAX)?;
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
    ensure!(acme.api()?.list_messages(Direction::Out).await?.is_empty());
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
    let good = create_file(directory, "good", 1)?;
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
        let path = path.to_str().context("the path is not UTF-8")?;
        let message = expect_refusal(
            acme.home(),
            &["send", "--to", "Bolt", "-m", "x", "-a", &good, path],
            "failed",
        )
        .await?;
        ensure!(message.contains(why) && message.contains(path), "{message}");
    }
    let locked = create_file(directory, "locked", 1)?;
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
    ensure!(acme.api()?.list_messages(Direction::Out).await?.is_empty());
    wait_until_nothing_is_staged(acme.home()).await?;
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn five_empty_files_are_delivered() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let empty = (0..5)
        .map(|number| create_file(env.directory(), &format!("empty-{number}"), 0))
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
    let sent = acme.api()?.list_messages(Direction::Out).await?;
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
            to.to_str().context("the path is not UTF-8")?,
        ],
    )
    .await?;
    ensure!(list_files(&to)?.len() == 5);
    stop_all(env, [acme, bolt]).await
}

#[tokio::test]
async fn ctrl_c_leaves_no_partial_state() -> anyhow::Result<()> {
    let (env, mut acme, bolt) = connected_nodes().await?;
    let path = create_file(env.directory(), "large", limits::FILE_BYTES_MAX)?;
    let log = env.directory().join("cli.log");
    let mut sending = acme
        .home()
        .start_cli(&["send", "--to", "Bolt", "-m", "x", "-a", &path], &log)?;
    wait_until_staging_starts(acme.home()).await?;
    sending.signal(Signal::INT)?;
    ensure!(
        sending.wait_for_exit().await?.code() == Some(130),
        "{}",
        fs::read_to_string(&log)?
    );
    wait_until_nothing_is_staged(acme.home()).await?;
    ensure!(acme.api()?.list_messages(Direction::Out).await?.is_empty());

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
async fn ctrl_c_after_acceptance_warns_against_repeating() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let log = env.directory().join("cli.log");
    let send = ["send", "--to", "Bolt", "-m", "once", "--wait", "read"];
    let mut sending = acme.home().start_cli(&send, &log)?;
    let accepted = sending.read_first_line().await?;
    sending.signal(Signal::INT)?;
    ensure!(sending.wait_for_exit().await?.code() == Some(130));
    let words = fs::read_to_string(&log)?;
    let id = &acme.api()?.list_messages(Direction::Out).await?[0].id;
    ensure!(accepted.starts_with(id.as_str()), "{accepted}");
    let next = format!("do not send it again; follow it with: sealpost status {id}");
    ensure!(words.contains(&next), "{words}");
    stop_all(env, [acme, bolt]).await
}
