//! Child processes: start, output and shutdown.

use crate::roles::Role;
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, kill_process};
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Time after which a process that should exit counts as stuck.
const EXIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of a log shown in an error.
const TAIL_LINES: usize = 40;

pub use rustix::process::Signal;

/// Executable that runs every [`Role`], or the directory of the installed binaries.
#[derive(Debug, Clone)]
pub struct Program {
    kind: Kind,
    /// Environment variables of the processes.
    variables: Vec<(OsString, OsString)>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// One program that runs every role.
    MultiRole(PathBuf),
    /// Directory with `sealpost` and `sealpost-relay`.
    Installed(PathBuf),
}

impl Program {
    /// Returns the program that is running.
    pub fn current() -> anyhow::Result<Self> {
        Ok(Self::at(
            std::env::current_exe().context("the path of this program is unknown")?,
        ))
    }

    /// Returns a program whose `main` calls [`crate::roles::run_role`].
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::new(Kind::MultiRole(path.into()))
    }

    /// Returns the binaries `sealpost` and `sealpost-relay` in this directory. They continue to
    /// run if the parent is killed.
    #[must_use]
    pub fn installed(directory: impl Into<PathBuf>) -> Self {
        Self::new(Kind::Installed(directory.into()))
    }

    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            variables: Vec::new(),
        }
    }

    /// Sets an environment variable of every process that is started from now on.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Writes an executable script that runs a role with these arguments, followed by its own.
    pub fn write_script(&self, path: &Path, role: Role, args: &[&OsStr]) -> anyhow::Result<()> {
        let mut script = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path)?;
        let (program, first) = self.program_and_role(role);
        write!(
            script,
            "#!/bin/sh\nexec '{}' {}",
            program.display(),
            first.unwrap_or_default()
        )?;
        for arg in args {
            write!(script, " '{}'", arg.display())?;
        }
        Ok(writeln!(script, " \"$@\"")?)
    }

    /// Runs a role until it exits.
    pub async fn output(&self, role: Role, args: &[&OsStr]) -> anyhow::Result<Output> {
        let mut command = self.command(role, args);
        command
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("{:?} does not start", self.kind))
    }

    /// Starts a role that runs until it is stopped. Its log is appended to a file.
    pub fn start(
        &self,
        name: &str,
        role: Role,
        args: &[&OsStr],
        log: &Path,
    ) -> anyhow::Result<Process> {
        let stderr = File::options().append(true).create(true).open(log)?;
        let mut command = self.command(role, args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command
            .spawn()
            .with_context(|| format!("{:?} does not start", self.kind))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Ok(Process {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            stdout,
            _stdin: stdin,
        })
    }

    fn command(&self, role: Role, args: &[&OsStr]) -> Command {
        let (program, first) = self.program_and_role(role);
        let mut command = Command::new(program);
        command
            .args(first)
            .args(args)
            .env_remove("SEALPOST_DATA")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true);
        command
    }

    /// Returns the path of the program and its first argument.
    fn program_and_role(&self, role: Role) -> (PathBuf, Option<&'static str>) {
        match &self.kind {
            Kind::MultiRole(path) => (path.clone(), Some(role.as_str())),
            Kind::Installed(directory) => (directory.join(role.binary()), None),
        }
    }
}

/// Running process. It is killed when this is dropped. A process of a multi-role program also exits
/// when this program exits for any reason; an installed binary continues to run if this program is
/// killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stdout: Option<ChildStdout>,
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Returns the process id.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child
            .id()
            .with_context(|| format!("{} is not running", self.name))
    }

    /// Waits for the first line of standard output.
    pub async fn read_first_line(&mut self) -> anyhow::Result<String> {
        let stdout = self
            .stdout
            .take()
            .context("the first line was already read")?;
        let mut lines = BufReader::new(stdout).lines();
        match timeout(crate::wait::WAIT_TIMEOUT, lines.next_line()).await {
            Ok(Ok(Some(line))) => {
                // A full pipe would block the process.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                Ok(line)
            }
            _ => bail!(
                "{} did not report that it is running\n{}",
                self.name,
                self.log_tail()
            ),
        }
    }

    /// Fails with the end of the log if the process has exited.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} exited with {status}\n{}", self.name, self.log_tail()),
        }
    }

    /// Waits until the process exits; kills it after a timeout.
    pub async fn wait_for_exit(&mut self) -> anyhow::Result<ExitStatus> {
        let Ok(status) = timeout(EXIT_TIMEOUT, self.child.wait()).await else {
            self.child.kill().await?;
            bail!(
                "{} did not exit within {} s\n{}",
                self.name,
                EXIT_TIMEOUT.as_secs(),
                self.log_tail()
            );
        };
        Ok(status?)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()?)
            .ok()
            .and_then(Pid::from_raw)
            .context("the process has no id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Stops the process with SIGTERM, as service managers do, and waits until it exits.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait_for_exit().await?;
        ensure!(
            status.success(),
            "{} stopped with {status}\n{}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// Kills the process with SIGKILL.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Returns the peak memory of the process in bytes.
    pub fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

/// Returns the last lines of a log, with its path.
#[must_use]
pub fn log_tail(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    format!("--- the end of {}\n{tail}", log.display())
}
