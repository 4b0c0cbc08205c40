//! What others would use: `rage` piped into a plain upload by `curl`, a plain download by `curl` piped into `age`.

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

/// The plain server and whoever uses it.
#[derive(Debug)]
pub(crate) struct Others {
    rage: PathBuf,
    key: PathBuf,
    /// At the server.
    sealed: PathBuf,
    /// What the last download came to.
    pub(crate) opened: PathBuf,
    url: String,
    _server: Child,
}

impl Others {
    /// Starts the server; everything is kept in `folder`. `rage` is the folder of that program, unless the shell finds it.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub(crate) async fn start(folder: &Path, rage: Option<&Path>) -> anyhow::Result<Self> {
        let rage = rage.map(Path::to_owned).unwrap_or_default();
        let key = folder.join("key");
        let made = Command::new(rage.join("rage-keygen"))
            .arg("-o")
            .arg(&key)
            .stderr(Stdio::null())
            .status()
            .await;
        ensure!(
            made.context("there is no rage-keygen: run ./tests/run files, which gets it")?
                .success()
        );
        let this = std::env::current_exe()?;
        let mut server = Command::new(this);
        server
            .arg("plain")
            .arg("--data")
            .arg(folder)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut server = server.spawn()?;
        let stdout = server.stdout.take().context("no standard output")?;
        let address = BufReader::new(stdout)
            .lines()
            .next_line()
            .await?
            .context("the plain server does not start")?;
        let [sealed, opened] = ["sealed", "opened"].map(|name| folder.join(name));
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

    /// `rage` piped into an upload: until the server has fsynced it.
    ///
    /// # Errors
    /// When one of the programs fails.
    pub(crate) async fn upload(&self, file: &Path) -> anyhow::Result<Duration> {
        let mut rage = Command::new(&self.rage);
        rage.arg("-e").arg("-i").arg(&self.key).arg(file);
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-T", "-", &self.url]);
        forget(&self.sealed)?;
        let began = Instant::now();
        pipe(rage, curl).await?;
        Ok(began.elapsed())
    }

    /// A download piped into `age`: until the file is there, and then until it is fsynced.
    ///
    /// # Errors
    /// When one of the programs fails.
    pub(crate) async fn download(&self) -> anyhow::Result<(Duration, Duration)> {
        let mut curl = Command::new("curl");
        curl.args(["-sf", &self.url]);
        let mut age = Command::new("age");
        age.arg("-d")
            .arg("-i")
            .arg(&self.key)
            .arg("-o")
            .arg(&self.opened);
        forget(&self.opened)?;
        let began = Instant::now();
        pipe(curl, age).await?;
        let there = began.elapsed();
        File::open(&self.opened).await?.sync_all().await?;
        Ok((there, began.elapsed()))
    }
}

/// Takes away what the round before left, so that none overwrites.
fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs two programs, the first one's output into the second.
async fn pipe(mut from: Command, mut into: Command) -> anyhow::Result<()> {
    let mut from = from
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the first of a pipe")?;
    let pipe: Stdio = from
        .stdout
        .take()
        .context("no standard output")?
        .try_into()?;
    let mut into = into
        .stdin(pipe)
        .stdout(Stdio::null())
        .spawn()
        .context("the second of a pipe")?;
    let (from, into) = (from.wait().await?, into.wait().await?);
    ensure!(
        from.success() && into.success(),
        "a pipe ended with {from} and {into}"
    );
    Ok(())
}
