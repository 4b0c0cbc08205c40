//! One process: how it starts, what it says, how it ends.

use crate::roles::Role;
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, kill_process};
use std::{
    ffi::OsStr,
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

/// A process that should end and has not by then is stuck.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a log that help.
const TAIL_LINES: usize = 40;

pub use rustix::process::Signal;

/// The program that plays the roles, or the programs that have them by name.
#[derive(Debug, Clone)]
pub struct Program(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// One that plays all.
    Player(PathBuf),
    /// The folder of `sealpost` and `sealpost-relay`.
    Installed(PathBuf),
}

impl Program {
    /// The one that runs now.
    ///
    /// # Errors
    /// When the system does not say which that is.
    pub fn this() -> anyhow::Result<Self> {
        Ok(Self::at(
            std::env::current_exe().context("this program does not know its own path")?,
        ))
    }

    /// One whose `main` calls [`crate::roles::play`].
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Player(path.into()))
    }

    /// `sealpost` and `sealpost-relay` themselves, in this folder. They outlive a parent that is killed.
    #[must_use]
    pub fn installed(folder: impl Into<PathBuf>) -> Self {
        Self(Kind::Installed(folder.into()))
    }

    /// Writes an executable script that plays a role with these arguments in front of its own.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_script(&self, path: &Path, role: Role, args: &[&OsStr]) -> anyhow::Result<()> {
        let mut script = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path)?;
        let (program, first) = self.words(role);
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

    /// Runs a role to its end.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn output(&self, role: Role, args: &[&OsStr]) -> anyhow::Result<Output> {
        let mut command = self.command(role, args);
        command
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("{:?} does not start", self.0))
    }

    /// Starts a role that stays until it is stopped. What it logs is added to a file.
    ///
    /// # Errors
    /// When it does not start.
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
            .with_context(|| format!("{:?} does not start", self.0))?;
        let (tie, stdout) = (child.stdin.take(), child.stdout.take());
        Ok(Process {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            stdout,
            _tie: tie,
        })
    }

    fn command(&self, role: Role, args: &[&OsStr]) -> Command {
        let (program, first) = self.words(role);
        let mut command = Command::new(program);
        command
            .args(first)
            .args(args)
            .env_remove("SEALPOST_DATA")
            .kill_on_drop(true);
        command
    }

    /// What is called, and what it is told first.
    fn words(&self, role: Role) -> (PathBuf, Option<&'static str>) {
        match &self.0 {
            Kind::Player(path) => (path.clone(), Some(role.as_str())),
            Kind::Installed(folder) => (folder.join(role.binary()), None),
        }
    }
}

/// A running process. It ends when this is dropped, or when this program ends in whatever way.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stdout: Option<ChildStdout>,
    _tie: Option<ChildStdin>,
}

impl Process {
    /// Its number.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child
            .id()
            .with_context(|| format!("{} is not running", self.name))
    }

    /// The first line that it prints.
    ///
    /// # Errors
    /// When it ends first.
    pub async fn first_line(&mut self) -> anyhow::Result<String> {
        let stdout = self
            .stdout
            .take()
            .context("the first line was read before")?;
        let mut lines = BufReader::new(stdout).lines();
        match timeout(crate::wait::PATIENCE, lines.next_line()).await {
            Ok(Ok(Some(line))) => {
                // A full pipe would stop it.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                Ok(line)
            }
            _ => bail!("{} did not say that it runs\n{}", self.name, self.tail()),
        }
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}\n{}", self.name, self.tail()),
        }
    }

    /// Waits until it ends; one that does not is killed.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let Ok(status) = timeout(END_PATIENCE, self.child.wait()).await else {
            self.child.kill().await?;
            bail!(
                "{} did not end within {} s\n{}",
                self.name,
                END_PATIENCE.as_secs(),
                self.tail()
            );
        };
        Ok(status?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()?)
            .ok()
            .and_then(Pid::from_raw)
            .context("a process without a number")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Asks it to stop, as service managers do, and waits until it has.
    ///
    /// # Errors
    /// When it does not stop in time or ends with an error.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        ensure!(
            status.success(),
            "{} stopped with {status}\n{}",
            self.name,
            self.tail()
        );
        Ok(())
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// When the system does not.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// The most memory that it ever held, in bytes.
    ///
    /// # Errors
    /// When the system does not tell, or it has ended.
    pub fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    fn tail(&self) -> String {
        tail(&self.log)
    }
}

/// The last lines of a log, with its name.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    format!("--- the end of {}\n{shown}", log.display())
}
