//! Child processes under test: start, memory and shutdown.

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

const START_TIMEOUT: Duration = Duration::from_secs(60);
const EXIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Running server process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// `host:port`.
    pub(crate) authority: String,
}

impl Process {
    /// Starts the program and waits until it prints its address. It logs to `<name>.log` in
    /// `directory`.
    pub(crate) async fn start(
        name: &str,
        program: &Path,
        args: &[&str],
        environment: &[(&str, &str)],
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
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
        let line = timeout(START_TIMEOUT, lines.next_line())
            .await
            .with_context(|| format!("{name} prints no address"))??;
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

    /// Returns the current and the peak memory.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let pid = self.child.id().context("the process has exited")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Memory {
            current_mb: parse_mebibytes(&status, "VmRSS:")?,
            peak_mb: parse_mebibytes(&status, "VmHWM:")?,
        })
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()))
            .context("the process has exited")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Stops the process with SIGTERM; returns its log.
    pub(crate) async fn stop(mut self) -> anyhow::Result<String> {
        self.signal(Signal::TERM)?;
        let status = timeout(EXIT_TIMEOUT, self.child.wait())
            .await
            .context("a process does not exit")??;
        let log = fs::read_to_string(&self.log)?;
        ensure!(status.success(), "a process exited with {status}: {log}");
        Ok(log)
    }
}

/// Memory of a process in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// Current resident memory.
    pub(crate) current_mb: f64,
    /// Peak resident memory.
    pub(crate) peak_mb: f64,
}

fn parse_mebibytes(status: &str, name: &str) -> anyhow::Result<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("no {name}"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes / 1024.0)
}
