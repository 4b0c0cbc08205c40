//! `check`: looks at everything a relay needs, beside one that runs or without one, and says what to do next.

mod disk;
mod tls;

use crate::{
    blobs::{Blobs, PartName},
    config::{Config, Told},
    rules::Rules,
    serve::{BLOBS, DATABASE, SECRET},
    store::{Looked, StoreError},
};
use clap::Args;
use http::{HeaderMap, Method};
use sealpost_egress::{Client, Guard, Limits, Request};
use sealpost_proto::{BlobId, Origin, Timestamp, limits::CLOCK_BEHIND_MAX, wire::WellKnown};
use sealpost_service::{Clock as _, DataFolder, SystemClock};
use sealpost_sqlite::Schema;
use std::{
    fmt,
    fs::{self, Metadata},
    io::{Write as _, stdout},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

const OTHERS: u32 = 0o077;
const SECRET_BYTES: u64 = 32;
/// Lines about single files; what is beyond is only counted.
const NAMED_MAX: u64 = 5;

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// What was found, a line for each thing.
#[derive(Debug, Default)]
struct Findings(Vec<(Grade, &'static str, String)>);

impl Findings {
    fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push((Grade::Ok, about, text.into()));
    }

    fn warn(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push((Grade::Warn, about, text.into()));
    }

    fn fail(&mut self, about: &'static str, text: impl fmt::Display) {
        self.0.push((Grade::Fail, about, text.to_string()));
    }

    fn failed(&self) -> usize {
        self.0
            .iter()
            .filter(|(grade, ..)| *grade == Grade::Fail)
            .count()
    }
}

/// # Errors
/// When something was found that keeps a relay from its work.
pub(super) async fn run(Check { told }: &Check) -> anyhow::Result<()> {
    let findings = look_at_everything(told).await;
    let mut out = stdout();
    for (grade, about, text) in &findings.0 {
        writeln!(out, "{grade:<4}  {about:<10}  {text}")?;
    }
    match findings.failed() {
        0 => Ok(()),
        failed => anyhow::bail!("{failed} of {} checks failed", findings.0.len()),
    }
}

async fn look_at_everything(told: &Told) -> Findings {
    let mut findings = Findings::default();
    let config = match told.load() {
        Ok(loaded) => loaded.config,
        Err(error) => {
            findings.fail("settings", error);
            return findings;
        }
    };
    settings(&mut findings, told, &config);
    let runs = folder(&mut findings, &config.data);
    if config.data.join(DATABASE).exists() {
        secret(&mut findings, &config.data.join(SECRET));
        database(&mut findings, &config.data);
    }
    disk::look(&mut findings, &config, runs);
    tls::look(&mut findings, &config, SystemClock.now());
    if let Some(origin) = &config.public_url {
        address(&mut findings, origin, runs).await;
    }
    findings
}

fn settings(findings: &mut Findings, told: &Told, config: &Config) {
    match Rules::new(config) {
        Ok(_) if config.public_url.is_none() && !config.listen.ip().is_loopback() => {
            findings.fail(
                "settings",
                "the relay would not start: set public_url to the address that nodes use",
            );
        }
        Ok(_) => findings.ok("settings", "they are read; config show --origin lists them"),
        Err(error) => findings.fail("settings", error),
    }
    if let Some(file) = told.file()
        && !config.registration.tokens.is_empty()
        && fs::metadata(file).is_ok_and(|metadata| metadata.mode() & OTHERS != 0)
    {
        findings.warn(
            "settings",
            format!(
                "others can read the tokens in {0}: run chmod 600 {0}",
                file.display()
            ),
        );
    }
}

/// Says whether a relay runs on it.
fn folder(findings: &mut Findings, path: &Path) -> bool {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            findings.fail(
                "folder",
                format!("{shown} is not a folder: choose another one with --data"),
            );
            return false;
        }
        Err(error) => {
            findings.warn(
                "folder",
                format!("{shown}: {error}; the relay makes it at its first start"),
            );
            return false;
        }
    };
    permissions(findings, path, &metadata);
    let runs = DataFolder::is_in_use(path);
    findings.ok(
        "folder",
        if runs {
            format!("a relay runs on {shown}")
        } else {
            format!("no relay runs on {shown}")
        },
    );
    if !path.join(DATABASE).exists() {
        findings.warn(
            "database",
            "there is none yet; the relay makes it at its first start",
        );
    }
    runs
}

fn permissions(findings: &mut Findings, path: &Path, metadata: &Metadata) {
    let shown = path.display();
    if metadata.mode() & OTHERS != 0 {
        findings.warn(
            "folder",
            format!("others can look into {shown}: run chmod 700 {shown}"),
        );
    }
    // The owner of this directory is who runs this process.
    if let Ok(this) = fs::metadata("/proc/self")
        && this.uid() != metadata.uid()
    {
        let (owner, me) = (metadata.uid(), this.uid());
        findings.warn(
            "folder",
            format!(
                "{shown} belongs to user {owner}, this command runs as {me}: run it as {owner}"
            ),
        );
    }
}

fn secret(findings: &mut Findings, path: &Path) {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.mode() & OTHERS != 0 => {
            findings.fail(
                "secret",
                format!("others can read {shown}: run chmod 600 {shown}"),
            );
        }
        Ok(metadata) if metadata.len() != SECRET_BYTES => {
            findings.fail(
                "secret",
                format!("{shown} is damaged: restore it from a backup"),
            );
        }
        Ok(_) => findings.ok("secret", "it is there, and private"),
        Err(error) => {
            findings.warn(
                "secret",
                format!("{shown}: {error}; the next start makes another, and nodes sign in again"),
            );
        }
    }
}

fn database(findings: &mut Findings, folder: &Path) {
    let looked = match Looked::open(&folder.join(DATABASE)) {
        Ok(looked) => looked,
        Err(error) => return findings.fail("database", error),
    };
    match looked.schema {
        Schema { found, supported } if found < supported => {
            let text = format!(
                "schema {found}; the next start, or sealpost-relay migrate, makes it {supported}"
            );
            return findings.warn("schema", text);
        }
        Schema { found, .. } => findings.ok("schema", format!("{found}, the one of this version")),
    }
    match looked.damage() {
        Ok(damage) if damage.is_empty() => findings.ok("database", "it is whole"),
        Ok(damage) => {
            let text = format!(
                "it is damaged ({}): stop the relay and restore a backup",
                damage.join("; ")
            );
            return findings.fail("database", text);
        }
        Err(error) => return findings.fail("database", error),
    }
    if let Err(error) = blobs(findings, &looked, &folder.join(BLOBS)) {
        findings.fail("files", error);
    }
    match looked.heartbeat() {
        Ok(heartbeat) => clock(findings, SystemClock.now(), heartbeat),
        Err(error) => findings.fail("clock", error),
    }
}

fn clock(findings: &mut Findings, now: Timestamp, heartbeat: Option<Timestamp>) {
    match heartbeat {
        Some(heartbeat) if heartbeat > now.plus(CLOCK_BEHIND_MAX) => {
            let behind = heartbeat.since(now).as_secs();
            findings.fail(
                "clock",
                format!("it is {behind} s behind what the relay has seen: correct it, for example with NTP"),
            );
        }
        Some(_) | None => findings.ok("clock", "it does not contradict what the relay has seen"),
    }
}

/// What the database and the folder of blobs say of each other.
fn blobs(findings: &mut Findings, looked: &Looked, folder: &Path) -> Result<(), StoreError> {
    let failed = |reason: String| StoreError::Failed { reason };
    let _held = Blobs::hold(folder).map_err(|error| failed(error.to_string()))?;
    let snapshot = looked.snapshot()?;
    let (mut whole, mut broken, mut orphans) = (0_u64, 0_u64, 0_u64);
    snapshot.each_part(|name: PartName, bytes| {
        let path = folder.join(name.file());
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes) {
            whole += 1;
            return Ok::<_, StoreError>(());
        }
        broken += 1;
        if broken <= NAMED_MAX {
            findings.fail(
                "files",
                format!(
                    "{} is missing or cut short: restore it from a backup",
                    path.display()
                ),
            );
        }
        Ok(())
    })?;
    for entry in fs::read_dir(folder)
        .map_err(|error| failed(error.to_string()))?
        .flatten()
    {
        let known = match entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<BlobId>().ok())
        {
            Some(blob) => snapshot.knows_blob(blob)?,
            None => false,
        };
        orphans += u64::from(!known);
        if !known && orphans <= NAMED_MAX {
            findings.warn(
                "files",
                format!("{0} belongs to nothing: rm -r {0}", entry.path().display()),
            );
        }
    }
    let text = format!(
        "{whole} parts are there, {broken} are missing or cut short, {orphans} folders belong to nothing"
    );
    if broken == 0 {
        findings.ok("files", text)
    } else {
        findings.fail("files", text)
    }
    Ok(())
}

/// Whether nodes would find this relay where it says that it is.
async fn address(findings: &mut Findings, origin: &Origin, runs: bool) {
    match ask(origin).await {
        Ok(known) if known.origin != *origin => {
            let other = known.origin;
            findings.fail(
                "address",
                format!("at {origin} answers a relay that calls itself {other}: make public_url the same"),
            );
        }
        Ok(known) => {
            findings.ok("address", format!("{origin} answers as this relay"));
            clock(findings, SystemClock.now(), Some(known.relay_time));
        }
        Err(reason) if runs => {
            findings.fail(
                "address",
                format!("{origin} does not answer ({reason}): look at the proxy and the name"),
            );
        }
        Err(reason) => findings.warn(
            "address",
            format!("{origin} does not answer ({reason}), nor does a relay run here"),
        ),
    }
}

async fn ask(origin: &Origin) -> Result<WellKnown, String> {
    let everything = ["0.0.0.0/0", "::/0"]
        .iter()
        .filter_map(|range| range.parse().ok())
        .collect();
    let client = Client::new(Guard::new(everything), Limits::default())
        .map_err(|error| error.to_string())?;
    let url = url::Url::parse(&format!("{origin}/.well-known/sealpost"))
        .map_err(|error| error.to_string())?;
    let request = Request {
        method: Method::GET,
        url: &url,
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    let answer = client
        .call(request)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("status {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|_| "what answers is not a relay".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Cli, Command},
        serve::{Running, start},
    };
    use bytes::Bytes;
    use clap::Parser as _;
    use sealpost_service::Shutdown;
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};
    use tempfile::TempDir;

    async fn check(folder: &Path, more: &[&str]) -> Findings {
        let data = [
            "sealpost-relay",
            "check",
            "--data",
            folder.to_str().unwrap(),
        ];
        let Command::Check(check) = Cli::try_parse_from(data.iter().chain(more))
            .unwrap()
            .command
        else {
            panic!("check was asked for")
        };
        look_at_everything(&check.told).await
    }

    fn private_folder() -> TempDir {
        let private = fs::Permissions::from_mode(0o700);
        tempfile::Builder::new()
            .permissions(private)
            .tempdir()
            .unwrap()
    }

    async fn relay(folder: &TempDir) -> (Running, Shutdown) {
        let shutdown = Shutdown::new();
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: folder.path().to_owned(),
            ..Config::default()
        };
        (
            start(config, Arc::new(SystemClock), shutdown.clone())
                .await
                .unwrap(),
            shutdown,
        )
    }

    fn complaints(findings: &Findings) -> Vec<&'static str> {
        findings
            .0
            .iter()
            .filter(|(grade, ..)| *grade != Grade::Ok)
            .map(|(_, about, _)| *about)
            .collect()
    }

    #[tokio::test]
    async fn a_relay_that_runs_is_in_order_and_found_where_it_says() {
        let folder = private_folder();
        let (running, shutdown) = relay(&folder).await;
        let findings = check(folder.path(), &["--public-url", running.origin.as_str()]).await;
        assert_eq!(complaints(&findings), [""; 0], "{findings:?}");
        assert!(
            findings
                .0
                .iter()
                .any(|(_, about, text)| *about == "address" && text.contains("as this relay"))
        );
        let findings = check(folder.path(), &["--public-url", "http://localhost:1"]).await;
        assert_eq!(findings.failed(), 1, "{findings:?}");
        shutdown.trigger();
        running.ended().await;
        let findings = check(folder.path(), &["--public-url", "http://localhost:1"]).await;
        assert_eq!(
            (findings.failed(), complaints(&findings)),
            (0, vec!["address"]),
            "{findings:?}"
        );
    }

    #[tokio::test]
    async fn missing_parts_and_folders_of_nobody_are_found() {
        let folder = private_folder();
        let (running, shutdown) = relay(&folder).await;
        shutdown.trigger();
        running.ended().await;
        let name = PartName {
            blob: BlobId::from_bytes([1; 16]),
            number: 0,
            digest: [2; 32],
        };
        let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
        let blob = "INSERT INTO blobs (blob, account, size, token_hash, expires_at, touched_at) VALUES (?, x'00', 50, x'00', 0, 0)";
        database.execute(blob, [name.blob.as_bytes()]).unwrap();
        let part = "INSERT INTO parts (blob, number, digest) VALUES (?, 0, ?)";
        database
            .execute(part, rusqlite::params![name.blob.as_bytes(), name.digest])
            .unwrap();
        assert_eq!(
            check(folder.path(), &[]).await.failed(),
            2,
            "the part, and the sum"
        );
        let blobs = Blobs::open(&folder.path().join(BLOBS)).unwrap();
        blobs
            .write(&name, Bytes::from_static(&[5; 50]))
            .await
            .unwrap();
        assert_eq!(complaints(&check(folder.path(), &[]).await), [""; 0]);
        blobs
            .write(&name, Bytes::from_static(&[5; 49]))
            .await
            .unwrap();
        assert_eq!(
            check(folder.path(), &[]).await.failed(),
            2,
            "it is cut short"
        );
        let nobodys = PartName {
            blob: BlobId::from_bytes([9; 16]),
            ..name
        };
        blobs
            .write(&nobodys, Bytes::from_static(b"x"))
            .await
            .unwrap();
        assert_eq!(complaints(&check(folder.path(), &[]).await), ["files"; 3]);
    }

    #[tokio::test]
    async fn what_others_can_read_and_what_is_damaged_is_said() {
        let folder = private_folder();
        assert_eq!(
            complaints(&check(folder.path(), &[]).await),
            ["database"],
            "none yet"
        );
        let (running, shutdown) = relay(&folder).await;
        shutdown.trigger();
        running.ended().await;
        let secret = folder.path().join(SECRET);
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            complaints(&check(folder.path(), &[]).await),
            ["folder", "secret"]
        );
        fs::write(folder.path().join(DATABASE), "no database").unwrap();
        assert_eq!(
            complaints(&check(folder.path(), &[]).await),
            ["folder", "secret", "database"]
        );
        let findings = check(folder.path(), &["--listen", "0.0.0.0:8440"]).await;
        assert!(complaints(&findings).contains(&"settings"), "{findings:?}");
        assert_eq!(
            complaints(&check(Path::new("/nowhere"), &["--config", "/nowhere.toml"]).await),
            ["settings"]
        );
    }

    #[test]
    fn a_clock_that_went_back_is_noticed() {
        let seen = Timestamp::from_millis(1_800_000_000_000);
        for (behind, failed) in [(0, 0), (59, 0), (61, 1)] {
            let mut findings = Findings::default();
            clock(
                &mut findings,
                seen.minus(Duration::from_secs(behind)),
                Some(seen),
            );
            assert_eq!(findings.failed(), failed);
        }
    }
}
