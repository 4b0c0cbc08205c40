//! Data directories that are in use, from a newer version, or misconfigured.

use super::{connected_nodes, expect_refusal, run_cli};
use crate::support::{program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{environment::Environment, roles::Role};
use std::{fs, path::PathBuf};

#[tokio::test]
async fn unusable_data_directory_is_refused_with_reason() -> anyhow::Result<()> {
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
async fn relay_directory_is_locked() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let directory: PathBuf = env.relay.directory().to_owned();
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        directory.to_str().context("the path is not UTF-8")?,
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
