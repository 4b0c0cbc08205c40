//! A relay that can be stopped, killed and started again at the same address.

use crate::{
    ports::reserve_port,
    process::{Process, Program},
    roles::Role,
};
use anyhow::{Context as _, ensure};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// Relay with open registration that may call webhooks on loopback.
#[derive(Debug)]
pub struct Relay {
    program: Program,
    directory: PathBuf,
    log: PathBuf,
    address: String,
    extra_args: Vec<String>,
    process: Option<Process>,
}

impl Relay {
    /// Creates a relay without starting it.
    pub fn new(program: &Program, parent: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            program: program.clone(),
            directory: parent.join("relay"),
            log: parent.join("relay.log"),
            address: format!("127.0.0.1:{}", reserve_port()?),
            extra_args: Vec::new(),
            process: None,
        })
    }

    /// Sets additional command-line arguments, from the next start on.
    pub fn set_extra_args(&mut self, extra_args: &[&str]) {
        self.extra_args = extra_args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// Sets the data directory, from the next start on.
    pub fn set_data_directory(&mut self, directory: &Path) {
        directory.clone_into(&mut self.directory);
    }

    /// Returns the data directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the URL of the relay.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts the relay and waits until it listens.
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
        let more = self.extra_args.iter().map(OsStr::new);
        let args: Vec<&OsStr> = args
            .iter()
            .map(OsStr::new)
            .chain([self.directory.as_os_str()])
            .chain(more)
            .collect();
        let mut process = self
            .program
            .start("the relay", Role::Relay, &args, &self.log)?;
        let line = process.read_first_line().await?;
        ensure!(
            line == format!("listening on {}", self.origin()),
            "the relay printed \"{line}\""
        );
        self.process = Some(process);
        Ok(())
    }

    /// Returns the process of the relay.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("the relay is not running")
    }

    /// Stops the relay gracefully, if it is running.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Kills the relay with SIGKILL, if it is running.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }
}
