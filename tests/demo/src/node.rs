//! A node that can be stopped, killed and started again, and its home, which stays.

use crate::{
    api::Api,
    ports::free_port,
    process::{Process, Program},
    roles::Role,
    wait::until,
};
use anyhow::{Context as _, ensure};
use sealpost_node::{
    api::model::RelayState,
    cli::{client::Client, error::CliError},
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Output,
};

/// How envelopes come to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It asks the relay.
    Pull,
    /// The relay calls it.
    Webhook,
}

/// The data folder of a node and what can be asked there, whether its daemon runs or not.
#[derive(Debug, Clone)]
pub struct Home {
    program: Program,
    name: String,
    folder: PathBuf,
}

impl Home {
    /// The name on its card.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its local API.
    ///
    /// # Errors
    /// When its daemon never ran.
    pub fn api(&self) -> Result<Api, CliError> {
        Client::open(&self.folder).map(Api::new)
    }

    /// Starts `sealpost` on this folder, as a person does who may press Ctrl-C.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_cli(&self, args: &[&str], log: &Path) -> anyhow::Result<Process> {
        self.program
            .start("sealpost", Role::NodeCommand, &self.args(args), log)
    }

    /// Runs `sealpost` on this folder to its end.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn cli(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.program
            .output(Role::NodeCommand, &self.args(args))
            .await
    }

    fn args<'a>(&'a self, args: &'a [&str]) -> Vec<&'a OsStr> {
        let data = [OsStr::new("--data"), self.folder.as_os_str()];
        data.into_iter()
            .chain(args.iter().map(OsStr::new))
            .collect()
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    home: Home,
    log: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// Makes a node in a folder of its own beside a log of its own, and does not start it.
    ///
    /// # Errors
    /// When `sealpost init` refuses.
    pub async fn init(
        program: &Program,
        parent: &Path,
        name: &str,
        relay: &str,
        delivery: Delivery,
    ) -> anyhow::Result<Self> {
        let file = name.to_lowercase();
        let home = Home {
            program: program.clone(),
            name: name.to_owned(),
            folder: parent.join(&file),
        };
        let mut args = vec![
            "init",
            "--name",
            name,
            "--relay",
            relay,
            "--listen",
            "127.0.0.1:0",
        ];
        let webhook = format!("127.0.0.1:{}", free_port()?);
        let url = format!("http://{webhook}/sealpost");
        if delivery == Delivery::Webhook {
            args.extend(["--webhook-listen", &webhook, "--webhook-url", &url]);
        }
        let output = home.cli(&args).await?;
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

    /// What stays when the daemon ends.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Its local API.
    ///
    /// # Errors
    /// When its daemon never ran.
    pub fn api(&self) -> Result<Api, CliError> {
        self.home.api()
    }

    /// Starts the daemon and returns when its API answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let args = [
            OsStr::new("--data"),
            self.home.folder.as_os_str(),
            OsStr::new("serve"),
        ];
        let mut process = self
            .home
            .program
            .start(&self.home.name, Role::Node, &args, &self.log)?;
        let home = &self.home;
        until("the daemon answers", async || {
            process.ensure_running()?;
            // The files of the last run may still be there: no answer, or one that refuses the old token.
            let Ok(api) = home.api() else { return Ok(None) };
            Ok(api.node().await.ok())
        })
        .await
        .with_context(|| format!("starting {}", self.home.name))?;
        self.process = Some(process);
        Ok(())
    }

    /// Returns when it has reached its relay.
    ///
    /// # Errors
    /// When it does not.
    pub async fn connected(&self) -> anyhow::Result<()> {
        let api = self.api()?;
        until("the node reaches its relay", async || {
            Ok((api.node().await?.relay.state == RelayState::Connected).then_some(()))
        })
        .await
    }

    /// The process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process
            .as_ref()
            .with_context(|| format!("{} does not run", self.home.name))
    }

    /// Takes the process, to end it in some other way.
    ///
    /// # Errors
    /// When it does not run.
    pub fn take_process(&mut self) -> anyhow::Result<Process> {
        self.process
            .take()
            .with_context(|| format!("{} does not run", self.home.name))
    }

    /// Stops the daemon in good order; nothing when it does not run.
    ///
    /// # Errors
    /// When it does not stop in time or ends with an error.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Kills the daemon (SIGKILL); nothing when it does not run.
    ///
    /// # Errors
    /// When the system does not.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }
}
