//! Messages that a node refuses to send.

use super::{connected_nodes, create_file, expect_refusal, run_cli};
use crate::support::stop_all;
use anyhow::{Context as _, ensure};
use sealpost_demo::checks::list_files;
use sealpost_node::api::model::Direction;
use sealpost_proto::limits;
use std::fs;

#[tokio::test]
async fn invalid_message_is_refused_with_reason() -> anyhow::Result<()> {
    let (env, acme, bolt) = connected_nodes().await?;
    let (home, directory) = (acme.home(), env.directory());
    expect_refusal(home, &["send", "--to", "Bolt", "-m", " \n\t"], "text_empty").await?;
    let text = directory.join("text");
    let text_file = text.to_str().context("the path is not UTF-8")?;
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

    let small = create_file(directory, "small", 1)?;
    let six = [
        &["send", "--to", "Bolt", "-m", "x", "-a"][..],
        &[small.as_str(); 6],
    ]
    .concat();
    expect_refusal(home, &six, "too_many_files").await?;
    let large = create_file(directory, "large", limits::FILE_BYTES_MAX + 1)?;
    let message = expect_refusal(
        home,
        &["send", "--to", "Bolt", "-m", "x", "-a", &large],
        "file_too_large",
    )
    .await?;
    ensure!(
        message.contains("100000001 bytes") && message.contains("100000000 bytes"),
        "{message}"
    );
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
            directory.to_str().context("the path is not UTF-8")?,
        ],
        "failed",
    )
    .await?;
    expect_refusal(home, &["send", "--to", "Nobody", "-m", "x"], "not_found").await?;
    expect_refusal(home, &["show", "CMG-1111-2222-3333-00001"], "not_found").await?;
    for name in ["line\nbreak.txt", "bell\u{7}.txt", "gnp\u{202e}fdp.exe"] {
        let path = create_file(directory, name, 1)?;
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
        bolt.api()?.list_messages(Direction::In).await?.len() == 1,
        "a refused message was delivered"
    );
    ensure!(
        list_files(&home.directory().join("files"))?.is_empty(),
        "a refused file was stored"
    );
    stop_all(env, [acme, bolt]).await
}
