//! The first exchange of the README as a newcomer types it: the commands of its code blocks, word
//! for word, in three shells in an empty home directory. Only the ports differ, because those of
//! the README may be in use on this machine.
//!
//! The info string of a block names its user (```` ```sh acme ````). The block `install` is
//! compared but not run, because it would build for minutes what this package has already built.

use crate::support::{
    program,
    shell::{PortMap, STDERR_LOG, Shell, code_blocks},
};
use anyhow::Context as _;
use sealpost_demo::{process::log_tail, roles::Role};
use std::{collections::BTreeMap, fs, path::Path};

const README: &str = include_str!("../../../README.md");
const INSTALL: &str = "\
cargo install --locked --path relay    # sealpost-relay
cargo install --locked --path node     # sealpost: the daemon and the CLI
";
const PORTS: [&str; 4] = ["8440", "4680", "4681", "4690"];

fn with_reserved_ports(block: &str, ports: &PortMap) -> String {
    // The README relies on these defaults.
    let block = block.replace(
        "sealpost-relay serve",
        "sealpost-relay serve --listen 127.0.0.1:8440",
    );
    ports.replace_in(&block.replace(
        "init --name Acme",
        "init --name Acme --listen 127.0.0.1:4680",
    ))
}

/// Returns the command that waits for what a user sees before continuing with a block.
fn wait_command(block: &str) -> Option<&'static str> {
    const WAIT_COMMANDS: [(&str, &str); 4] = [
        (
            "sealpost invite",
            "until sealpost status >/dev/null 2>&1; do sleep 0.05; done",
        ),
        (
            "sealpost connect ",
            "until sealpost status >/dev/null 2>&1; do sleep 0.05; done",
        ),
        (
            "connections accept",
            "until sealpost connections | grep -q Bolt; do sleep 0.05; done",
        ),
        (
            "files save",
            "until sealpost inbox --json | grep -q '\"ready\"'; do sleep 0.05; done",
        ),
    ];
    WAIT_COMMANDS
        .into_iter()
        .find(|(command, _)| block.contains(command))
        .map(|(_, wait)| wait)
}

#[tokio::test]
async fn readme_exchange_works_as_written() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    exchange(home.path())
        .await
        .with_context(|| log_tail(&home.path().join(STDERR_LOG)))
}

async fn exchange(home: &Path) -> anyhow::Result<()> {
    let (bin, ports) = (home.join("bin"), PortMap::reserve(PORTS)?);
    fs::create_dir(&bin)?;
    program().write_script(&bin.join("sealpost"), Role::NodeCommand, &[])?;
    program().write_script(&bin.join("sealpost-relay"), Role::RelayCommand, &[])?;
    let mut shells = BTreeMap::new();
    let mut printed = BTreeMap::<String, String>::new();
    for block in code_blocks(README) {
        let Some(user) = block.info.strip_prefix("sh ").map(str::to_owned) else {
            continue;
        };
        let block = with_reserved_ports(&block.text, &ports);
        if user == "install" {
            assert_eq!(block, INSTALL);
            continue;
        }
        if !shells.contains_key(&user) {
            shells.insert(user.clone(), Shell::start(home).await?);
        }
        let shell = shells.get_mut(&user).context("no shell for this user")?;
        if user == "relay" {
            shell.run_until(&block, "listening on").await?;
            continue;
        }
        if let Some(wait) = wait_command(&block) {
            shell.run(wait).await?;
        }
        printed
            .entry(user)
            .or_default()
            .push_str(&shell.run(&block).await?);
    }
    let (acme, bolt) = (&printed["acme"], &printed["bolt"]);
    assert!(
        acme.contains("Bolt here, about order 4711") && acme.contains("Accepted."),
        "{acme}"
    );
    assert!(
        bolt.contains("Please see") && bolt.contains("order.txt"),
        "{bolt}"
    );
    assert_eq!(
        fs::read_to_string(home.join("received/order.txt"))?,
        "forty housings\n"
    );
    Ok(())
}
