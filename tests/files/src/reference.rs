//! The reference tools: `rage` piped into a plain upload with `curl`, and a plain download with
//! `curl` piped into `age`.

use anyhow::{Context as _, ensure};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Plain server and the tools that use it.
#[derive(Debug)]
pub(crate) struct ReferenceTools {
    rage: PathBuf,
    key: PathBuf,
    /// The file at the server.
    sealed: PathBuf,
    /// The result of the last download.
    pub(crate) opened: PathBuf,
    url: String,
    _server: Child,
}

impl ReferenceTools {
    /// Starts the server, which stores its data in `directory`. `rage` is the directory of that
    /// program if it is not in PATH.
    pub(crate) async fn start(directory: &Path, rage: Option<&Path>) -> anyhow::Result<Self> {
        let rage = rage.map(Path::to_owned).unwrap_or_default();
        let key = directory.join("key");
        let created = Command::new(rage.join("rage-keygen"))
            .arg("-o")
            .arg(&key)
            .stderr(Stdio::null())
            .status()
            .await;
        ensure!(
            created
                .context("rage-keygen was not found: run ./tests/run files, which installs it")?
                .success()
        );
        let this_program = std::env::current_exe()?;
        let mut server = Command::new(this_program);
        server
            .arg("plain")
            .arg("--data")
            .arg(directory)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut server = server.spawn()?;
        let stdout = server.stdout.take().context("no standard output")?;
        let address = BufReader::new(stdout)
            .lines()
            .next_line()
            .await?
            .context("the plain server does not start")?;
        let [sealed, opened] = ["sealed", "opened"].map(|name| directory.join(name));
        let url = format!("http://{address}/sealed");
        Ok(Self {
            rage: rage.join("rage"),
            key,
            sealed,
            opened,
            url,
            _server: server,
        })
    }

    /// Pipes `rage` into an upload; returns the time until the server has fsynced it.
    pub(crate) async fn upload(&self, file: &Path) -> anyhow::Result<Duration> {
        let mut rage = Command::new(&self.rage);
        rage.arg("-e").arg("-i").arg(&self.key).arg(file);
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-T", "-", &self.url]);
        remove_if_present(&self.sealed)?;
        let started = Instant::now();
        run_pipe(rage, curl).await?;
        Ok(started.elapsed())
    }

    /// Pipes a download into `age`; returns the times until the file is written and until it is
    /// fsynced.
    pub(crate) async fn download(&self) -> anyhow::Result<(Duration, Duration)> {
        let mut curl = Command::new("curl");
        curl.args(["-sf", &self.url]);
        let mut age = Command::new("age");
        age.arg("-d")
            .arg("-i")
            .arg(&self.key)
            .arg("-o")
            .arg(&self.opened);
        remove_if_present(&self.opened)?;
        let started = Instant::now();
        run_pipe(curl, age).await?;
        let written = started.elapsed();
        File::open(&self.opened).await?.sync_all().await?;
        Ok((written, started.elapsed()))
    }
}

/// Removes the file of the previous round, so that no round overwrites one.
fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs two programs with the output of the first piped into the second.
async fn run_pipe(mut from: Command, mut into: Command) -> anyhow::Result<()> {
    let mut from = from
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the first program of the pipe cannot start")?;
    let pipe: Stdio = from
        .stdout
        .take()
        .context("no standard output")?
        .try_into()?;
    let mut into = into
        .stdin(pipe)
        .stdout(Stdio::null())
        .spawn()
        .context("the second program of the pipe cannot start")?;
    let (from, into) = (from.wait().await?, into.wait().await?);
    ensure!(
        from.success() && into.success(),
        "a pipe ended with {from} and {into}"
    );
    Ok(())
}
