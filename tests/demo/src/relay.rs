//! A relay that can be stopped, killed and started again at the same address.

use crate::{
    ports::free_port,
    process::{Process, Program},
    roles::Role,
};
use anyhow::{Context as _, ensure};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// A relay in a folder of its own, which registers everybody and calls webhooks on loopback.
#[derive(Debug)]
pub struct Relay {
    program: Program,
    folder: PathBuf,
    log: PathBuf,
    address: String,
    settings: Vec<String>,
    process: Option<Process>,
}

impl Relay {
    /// One that was not started yet.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(program: &Program, parent: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            program: program.clone(),
            folder: parent.join("relay"),
            log: parent.join("relay.log"),
            address: format!("127.0.0.1:{}", free_port()?),
            settings: Vec::new(),
            process: None,
        })
    }

    /// Tells it something more on its command line, from the next start on.
    pub fn configure(&mut self, settings: &[&str]) {
        self.settings = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
    }

    /// Keeps its data somewhere else, from the next start on.
    pub fn move_to(&mut self, folder: &Path) {
        folder.clone_into(&mut self.folder);
    }

    /// Where everything is that it keeps.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where nodes find it.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts it and returns when it listens.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let args = [
            "serve",
            "--listen",
            &self.address,
            "--registration",
            "open",
            "--egress-allow",
            "127.0.0.0/8",
            "--data",
        ];
        let more = self.settings.iter().map(OsStr::new);
        let args: Vec<&OsStr> = args
            .iter()
            .map(OsStr::new)
            .chain([self.folder.as_os_str()])
            .chain(more)
            .collect();
        let mut process = self
            .program
            .start("the relay", Role::Relay, &args, &self.log)?;
        let line = process.first_line().await?;
        ensure!(
            line == format!("listening on {}", self.origin()),
            "the relay says \"{line}\""
        );
        self.process = Some(process);
        Ok(())
    }

    /// The process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("the relay does not run")
    }

    /// Stops it in good order; nothing when it does not run.
    ///
    /// # Errors
    /// When it does not stop in time or ends with an error.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Kills it (SIGKILL); nothing when it does not run.
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
