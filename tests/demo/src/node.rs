//! A node that can be stopped, killed and started again, and its data directory.

use crate::{
    api::Api,
    ports::reserve_port,
    process::{Process, Program},
    roles::Role,
    wait::wait_for,
};
use anyhow::{Context as _, ensure};
use sealpost_node::{
    api::model::RelayState,
    cli::{client::Client, error::CliError},
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// How a node receives envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMode {
    /// The node polls the relay.
    Pull,
    /// The relay calls the node.
    Webhook,
}

/// Data directory of a node, with the commands that run on it whether the daemon runs or not.
#[derive(Debug, Clone)]
pub struct Home {
    program: Program,
    name: String,
    directory: PathBuf,
}

impl Home {
    /// Returns the name on the node's card.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the data directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens the local API.
    pub fn api(&self) -> Result<Api, CliError> {
        Client::open(&self.directory).map(Api::new)
    }

    /// Starts `sealpost` on this directory as a process that can be interrupted.
    pub fn start_cli(&self, args: &[&str], log: &Path) -> anyhow::Result<Process> {
        self.program
            .start("sealpost", Role::NodeCommand, &self.args(args), log)
    }

    /// Runs `sealpost` on this directory until it exits.
    pub async fn run_cli(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.program
            .output(Role::NodeCommand, &self.args(args))
            .await
    }

    fn args<'a>(&'a self, args: &'a [&str]) -> Vec<&'a OsStr> {
        let data = [OsStr::new("--data"), self.directory.as_os_str()];
        data.into_iter()
            .chain(args.iter().map(OsStr::new))
            .collect()
    }
}

/// Node process and its data directory.
#[derive(Debug)]
pub struct Node {
    home: Home,
    log: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// Creates a node with its own directory and log below `parent`, without starting it.
    pub async fn init(
        program: &Program,
        parent: &Path,
        name: &str,
        relay: &str,
        delivery: DeliveryMode,
    ) -> anyhow::Result<Self> {
        let webhook = format!("127.0.0.1:{}", reserve_port()?);
        let url = format!("http://{webhook}/sealpost");
        let args = match delivery {
            DeliveryMode::Pull => Vec::new(),
            DeliveryMode::Webhook => vec!["--webhook-listen", &webhook, "--webhook-url", &url],
        };
        Self::init_with_args(program, parent, name, relay, &args).await
    }

    /// Creates a node with more arguments of `sealpost init`.
    pub async fn init_with_args(
        program: &Program,
        parent: &Path,
        name: &str,
        relay: &str,
        extra_args: &[&str],
    ) -> anyhow::Result<Self> {
        let file = name.to_lowercase();
        let home = Home {
            program: program.clone(),
            name: name.to_owned(),
            directory: parent.join(&file),
        };
        let args = [
            "init",
            "--name",
            name,
            "--relay",
            relay,
            "--listen",
            "127.0.0.1:0",
        ];
        let output = home.run_cli(&[&args, extra_args].concat()).await?;
        ensure!(
            output.status.success(),
            "init of {name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self {
            home,
            log: parent.join(format!("{file}.log")),
            process: None,
        })
    }

    /// Copies the data directory of this node, which must be stopped, to a sibling with this name.
    /// Returns the copy as a node that is not started.
    pub fn copy(&self, file: &str) -> anyhow::Result<Self> {
        let copy = Self {
            home: Home {
                directory: self.home.directory.with_file_name(file),
                ..self.home.clone()
            },
            log: self.log.with_file_name(format!("{file}.log")),
            process: None,
        };
        copy_directory(&self.home.directory, &copy.home.directory)?;
        Ok(copy)
    }

    /// Replaces the data directory of this node, which must be stopped, by that of a copy.
    pub fn roll_back(&self, copy: &Self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.home.directory)?;
        copy_directory(&copy.home.directory, &self.home.directory)
    }

    /// Returns the data directory, which outlives the daemon.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Opens the local API.
    pub fn api(&self) -> Result<Api, CliError> {
        self.home.api()
    }

    /// Starts the daemon and waits until its API responds.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let checkpoints = self.home.directory.with_file_name("checkpoints");
        let args = [
            OsStr::new("--data"),
            self.home.directory.as_os_str(),
            OsStr::new("serve"),
            OsStr::new("--checkpoint-directory"),
            checkpoints.as_os_str(),
        ];
        let mut process = self
            .home
            .program
            .start(&self.home.name, Role::Node, &args, &self.log)?;
        let home = &self.home;
        wait_for("the daemon responds", async || {
            process.ensure_running()?;
            // The address and token of the last run may still be on disk: the API may then be
            // unreachable or refuse the token.
            let Ok(api) = home.api() else { return Ok(None) };
            Ok(api.fetch_node().await.ok())
        })
        .await
        .with_context(|| format!("starting {}", self.home.name))?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until the node has connected to its relay.
    pub async fn wait_until_connected(&self) -> anyhow::Result<()> {
        let api = self.api()?;
        wait_for("the node connects to its relay", async || {
            Ok((api.fetch_node().await?.relay.state == RelayState::Connected).then_some(()))
        })
        .await
    }

    /// Returns the process of the daemon.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process
            .as_ref()
            .with_context(|| format!("{} is not running", self.home.name))
    }

    /// Removes the process from this node, so that the caller can stop it in another way.
    pub fn take_process(&mut self) -> anyhow::Result<Process> {
        self.process
            .take()
            .with_context(|| format!("{} is not running", self.home.name))
    }

    /// Stops the daemon gracefully, if it is running.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Kills the daemon with SIGKILL, if it is running.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }
}

fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(copied.success(), "{} cannot be copied", from.display());
    Ok(())
}
