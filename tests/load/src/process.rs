//! The programs under test, each a process of its own: how it starts, what memory it takes, how it ends.

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

const START_PATIENCE: Duration = Duration::from_secs(60);
const END_PATIENCE: Duration = Duration::from_secs(60);

/// A program that listens. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// `host:port`.
    pub(crate) authority: String,
}

impl Process {
    /// Starts it and waits until it says where it listens. What it logs goes to `<name>.log` in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(
        name: &str,
        program: &Path,
        args: &[&str],
        environment: &[(&str, &str)],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(program);
        command.args(args).envs(environment.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let line = timeout(START_PATIENCE, lines.next_line())
            .await
            .with_context(|| format!("{name} is silent"))??;
        let authority = line
            .as_deref()
            .and_then(|line| line.strip_prefix("listening on http://"));
        let Some(authority) = authority.map(str::to_owned) else {
            anyhow::bail!("{name} did not start: {}", fs::read_to_string(&log)?);
        };
        Ok(Self {
            child,
            log,
            authority,
        })
    }

    /// Memory that it has now, and the most that it ever had, in MiB.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let pid = self.child.id().context("the process is gone")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Memory {
            now_mb: mebibytes(&status, "VmRSS:")?,
            most_mb: mebibytes(&status, "VmHWM:")?,
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()))
            .context("the process is gone")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Asks it to end and gives what it logged.
    ///
    /// # Errors
    /// When it does not end well.
    pub(crate) async fn end(mut self) -> anyhow::Result<String> {
        self.signal(Signal::TERM)?;
        let status = timeout(END_PATIENCE, self.child.wait())
            .await
            .context("a process does not end")??;
        let log = fs::read_to_string(&self.log)?;
        ensure!(status.success(), "a process ended with {status}: {log}");
        Ok(log)
    }
}

/// Memory of a process, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now_mb: f64,
    /// The most so far.
    pub(crate) most_mb: f64,
}

fn mebibytes(status: &str, name: &str) -> anyhow::Result<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("no {name}"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes / 1024.0)
}
