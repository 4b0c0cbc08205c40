//! `sealpost-relay check`: checks everything that a relay needs, while it runs or not, and suggests
//! what to fix.

mod disk;
mod tls;

use super::error::{CliError, CommandFailure};
use crate::{
    blobs::{Blobs, PartName},
    config::{Config, Egress, Overrides},
    data_layout::{BLOBS_DIR, DATABASE_FILE, SECRET_FILE},
    settings::{Settings, create_client},
    store::{Inspection, StoreError},
};
use clap::Args;
use http::{HeaderMap, Method};
use sealpost_egress::{Guard, Request};
use sealpost_proto::{
    BlobId, Origin, Timestamp,
    limits::{CLOCK_BEHIND_MAX, WEBHOOK_TIMEOUT},
    wire::WellKnown,
};
use sealpost_service::{
    Clock as _, DataDir, SystemClock,
    checks::{CheckReport, CheckStatus},
    units::shell_quote,
};
use sealpost_sqlite::Schema;
use std::{
    fs::{self, Metadata},
    io::stdout,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// Permission bits of group and others.
const GROUP_AND_OTHERS: u32 = 0o077;
const SECRET_BYTES: u64 = 32;
const CORRECT_SETTINGS: &str = "correct it; sealpost-relay config show --origin lists all settings";
const RESTORE: &str = "stop the relay and restore a backup";
/// Maximum number of results about single files; further ones are only counted.
const FILE_FINDINGS_MAX: u64 = 5;

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// Runs all checks and prints the report.
///
/// # Errors
/// If a check failed, so that the exit code is 1.
pub(super) async fn run(Check { json, overrides }: &Check) -> anyhow::Result<()> {
    let report = run_checks(overrides).await;
    let written = if *json {
        report.write_json(&mut stdout())
    } else {
        report.write_text(&mut stdout())
    };
    let failed = report.count(CheckStatus::Failed);
    let error = match written {
        Err(error) => CliError::Output(error),
        Ok(()) if failed == 0 => return Ok(()),
        Ok(()) => CliError::ChecksFailed {
            failed,
            all: report.results().len(),
        },
    };
    Err(CommandFailure {
        error,
        as_json: *json,
    }
    .into())
}

async fn run_checks(overrides: &Overrides) -> CheckReport {
    let mut report = CheckReport::default();
    let config = match overrides.load() {
        Ok(loaded) => loaded.config,
        Err(error) => {
            report.fail("settings", error, CORRECT_SETTINGS);
            return report;
        }
    };
    check_settings(&mut report, overrides, &config);
    let is_running = check_directory(&mut report, &config.data);
    if config.data.join(DATABASE_FILE).exists() {
        check_secret(&mut report, &config.data.join(SECRET_FILE));
        check_database(&mut report, &config.data);
    }
    disk::check(&mut report, &config, is_running);
    tls::check(&mut report, &config, SystemClock.now());
    if let Some(origin) = &config.public_url {
        check_public_address(&mut report, &config.egress, origin, is_running).await;
    }
    report
}

fn quote_path(path: &Path) -> String {
    shell_quote(&path.to_string_lossy())
}

fn check_settings(report: &mut CheckReport, overrides: &Overrides, config: &Config) {
    match Settings::new(config) {
        Ok(_) if config.public_url.is_none() && !config.listen.ip().is_loopback() => {
            report.fail(
                "settings",
                "the relay cannot start without public_url",
                "set public_url to the address that nodes use",
            );
        }
        Ok(_) => report.ok("settings", "valid"),
        Err(error) => report.fail("settings", error, CORRECT_SETTINGS),
    }
    if let Some(file) = overrides.file()
        && !config.registration.tokens.is_empty()
        && fs::metadata(file).is_ok_and(|metadata| metadata.mode() & GROUP_AND_OTHERS != 0)
    {
        report.warn(
            "settings",
            format!("other users can read the tokens in {}", file.display()),
            format!("run chmod 600 {}", quote_path(file)),
        );
    }
}

/// Returns whether a relay is running on the directory.
fn check_directory(report: &mut CheckReport, path: &Path) -> bool {
    let display = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            report.fail(
                "directory",
                format!("{display} is not a directory"),
                "set another one with --data",
            );
            return false;
        }
        Err(error) => {
            report.warn(
                "directory",
                format!("{display}: {error}"),
                "start the relay; it creates the directory",
            );
            return false;
        }
    };
    check_permissions(report, path, &metadata);
    let is_running = DataDir::is_in_use(path);
    report.ok(
        "directory",
        if is_running {
            format!("a relay is running on {display}")
        } else {
            format!("no relay is running on {display}")
        },
    );
    if !path.join(DATABASE_FILE).exists() {
        report.warn(
            "database",
            "not found",
            "start the relay; it creates the database",
        );
    }
    is_running
}

fn check_permissions(report: &mut CheckReport, path: &Path, metadata: &Metadata) {
    let display = path.display();
    if metadata.mode() & GROUP_AND_OTHERS != 0 {
        report.fail(
            "directory",
            format!("other users can access {display}"),
            format!("run chmod 700 {}", quote_path(path)),
        );
    }
    // The user of this process owns its directory in /proc.
    if let Ok(process) = fs::metadata("/proc/self")
        && process.uid() != metadata.uid()
    {
        let (owner, user) = (metadata.uid(), process.uid());
        report.warn(
            "directory",
            format!("{display} belongs to user {owner}, but this command runs as user {user}"),
            format!("run it as user {owner}"),
        );
    }
}

fn check_secret(report: &mut CheckReport, path: &Path) {
    let display = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.mode() & GROUP_AND_OTHERS != 0 => {
            report.fail(
                "secret",
                format!("other users can read {display}"),
                format!("run chmod 600 {}", quote_path(path)),
            );
        }
        Ok(metadata) if metadata.len() != SECRET_BYTES => {
            report.fail(
                "secret",
                format!("{display} is damaged"),
                "restore it from a backup",
            );
        }
        Ok(_) => report.ok("secret", "present and private"),
        Err(error) => {
            report.warn(
                "secret",
                format!("{display}: {error}"),
                "restore it from a backup, or start the relay: it creates a new one, and nodes \
                 sign in again",
            );
        }
    }
}

fn check_database(report: &mut CheckReport, directory: &Path) {
    let inspection = match Inspection::open(&directory.join(DATABASE_FILE)) {
        Ok(inspection) => inspection,
        Err(error) => return report.fail("database", error, RESTORE),
    };
    match inspection.schema {
        Schema { found, supported } if found < supported => {
            let text = format!("version {found}, older than {supported}");
            let next = "start the relay, or run sealpost-relay migrate, to upgrade it";
            return report.warn("schema", text, next);
        }
        Schema { found, .. } => report.ok("schema", format!("version {found}, up to date")),
    }
    match inspection.check_integrity() {
        Ok(damage) if damage.is_empty() => report.ok("database", "intact"),
        Ok(damage) => {
            let text = format!("damaged: {}", damage.join("; "));
            return report.fail("database", text, RESTORE);
        }
        Err(error) => return report.fail("database", error, RESTORE),
    }
    if let Err(error) = check_blobs(report, &inspection, &directory.join(BLOBS_DIR)) {
        report.fail("files", error, RESTORE);
    }
    match inspection.load_heartbeat() {
        Ok(heartbeat) => check_clock(report, SystemClock.now(), heartbeat),
        Err(error) => report.fail("clock", error, RESTORE),
    }
}

/// Compares the clock with a time that the relay has recorded or reported.
fn check_clock(report: &mut CheckReport, now: Timestamp, recorded: Option<Timestamp>) {
    match recorded {
        Some(recorded) if recorded > now.plus(CLOCK_BEHIND_MAX) => {
            let behind = recorded.since(now).as_secs();
            report.fail(
                "clock",
                format!("{behind} s behind the last time recorded by the relay"),
                "correct it, for example with NTP",
            );
        }
        Some(_) | None => report.ok("clock", "consistent with the times recorded by the relay"),
    }
}

/// Compares the database with the files in the blob directory, in both directions.
fn check_blobs(
    report: &mut CheckReport,
    inspection: &Inspection,
    directory: &Path,
) -> Result<(), StoreError> {
    let failed = |reason: String| StoreError::Failed { reason };
    let _lock = Blobs::lock_shared(directory).map_err(|error| failed(error.to_string()))?;
    let snapshot = inspection.start_snapshot()?;
    let (mut intact, mut broken, mut orphans) = (0_u64, 0_u64, 0_u64);
    snapshot.visit_parts(|name: PartName, bytes| {
        let path = directory.join(name.relative_path());
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes) {
            intact += 1;
            return Ok::<_, StoreError>(());
        }
        broken += 1;
        if broken <= FILE_FINDINGS_MAX {
            report.fail(
                "files",
                format!("{} is missing or truncated", path.display()),
                "restore it from a backup",
            );
        }
        Ok(())
    })?;
    for entry in fs::read_dir(directory)
        .map_err(|error| failed(error.to_string()))?
        .flatten()
    {
        let is_known = match entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<BlobId>().ok())
        {
            Some(blob) => snapshot.contains_blob(blob)?,
            None => false,
        };
        orphans += u64::from(!is_known);
        if !is_known && orphans <= FILE_FINDINGS_MAX {
            report.warn(
                "files",
                format!("{} is not in the database", entry.path().display()),
                format!("rm -r {}", quote_path(&entry.path())),
            );
        }
    }
    let text = format!(
        "{intact} parts are intact, {broken} are missing or truncated, {orphans} directories are \
         not in the database"
    );
    if broken == 0 {
        report.ok("files", text)
    } else {
        report.fail("files", text, RESTORE)
    }
    Ok(())
}

/// Checks that the public URL leads to this relay.
async fn check_public_address(
    report: &mut CheckReport,
    egress: &Egress,
    origin: &Origin,
    is_running: bool,
) {
    match fetch_well_known(egress, origin).await {
        Ok(known) if known.origin != *origin => {
            let other = known.origin;
            report.fail(
                "address",
                format!("the relay at {origin} has public_url {other}"),
                "set public_url to the address that nodes use",
            );
        }
        Ok(known) => {
            report.ok("address", format!("{origin} leads to this relay"));
            check_clock(report, SystemClock.now(), Some(known.relay_time));
        }
        Err(reason) if is_running => {
            report.fail(
                "address",
                format!("{origin} does not respond ({reason})"),
                "check the proxy and the DNS name",
            );
        }
        Err(reason) => report.warn(
            "address",
            format!("{origin} does not respond ({reason}), and no relay is running here"),
            "start the relay, then check again",
        ),
    }
}

async fn fetch_well_known(egress: &Egress, origin: &Origin) -> Result<WellKnown, String> {
    // The operator chose this address, so private ones are allowed too.
    let all_addresses = ["0.0.0.0/0", "::/0"]
        .iter()
        .filter_map(|range| range.parse().ok())
        .collect();
    let client = create_client(egress, Guard::new(all_addresses), WEBHOOK_TIMEOUT)
        .map_err(|error| error.to_string())?;
    let url = url::Url::parse(&format!("{origin}/.well-known/sealpost"))
        .map_err(|error| error.to_string())?;
    let request = Request {
        method: Method::GET,
        url: &url,
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    let response = client
        .call(request)
        .await
        .map_err(|error| error.to_string())?;
    if response.status != 200 {
        return Err(format!("status {}", response.status));
    }
    serde_json::from_slice(&response.body).map_err(|_| "not a Sealpost relay".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Cli, Command},
        data_layout::temporary_data_directory,
        serve::{Running, start},
    };
    use bytes::Bytes;
    use clap::Parser as _;
    use sealpost_service::Shutdown;
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};
    use tempfile::TempDir;

    async fn check(directory: &Path, more: &[&str]) -> CheckReport {
        let data = [
            "sealpost-relay",
            "check",
            "--data",
            directory.to_str().unwrap(),
        ];
        let Command::Check(check) = Cli::try_parse_from(data.iter().chain(more))
            .unwrap()
            .command
        else {
            panic!("not `check`")
        };
        run_checks(&check.overrides).await
    }

    async fn start_relay(directory: &TempDir) -> (Running, Shutdown) {
        let shutdown = Shutdown::new();
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: directory.path().to_owned(),
            ..Config::default()
        };
        (
            start(config, Arc::new(SystemClock), shutdown.clone())
                .await
                .unwrap(),
            shutdown,
        )
    }

    /// Returns the subjects of all report that are not ok.
    fn problems(report: &CheckReport) -> Vec<&'static str> {
        let results = report.results().iter();
        results
            .filter(|result| result.status != CheckStatus::Ok)
            .map(|result| result.subject)
            .collect()
    }

    #[tokio::test]
    async fn running_relay_passes_all_checks() {
        let directory = temporary_data_directory();
        let (running, shutdown) = start_relay(&directory).await;
        let report = check(directory.path(), &["--public-url", running.origin.as_str()]).await;
        assert_eq!(problems(&report), [""; 0], "{report:?}");
        assert!(
            report
                .results()
                .iter()
                .any(|result| result.subject == "address" && result.text.contains("to this relay"))
        );
        let report = check(directory.path(), &["--public-url", "http://localhost:1"]).await;
        assert_eq!(report.count(CheckStatus::Failed), 1, "{report:?}");
        shutdown.trigger();
        running.ended().await;
        let report = check(directory.path(), &["--public-url", "http://localhost:1"]).await;
        assert_eq!(
            (report.count(CheckStatus::Failed), problems(&report)),
            (0, vec!["address"]),
            "{report:?}"
        );
    }

    #[tokio::test]
    async fn blob_inconsistencies_are_reported() {
        let directory = temporary_data_directory();
        let (running, shutdown) = start_relay(&directory).await;
        shutdown.trigger();
        running.ended().await;
        let name = PartName {
            blob: BlobId::from_bytes([1; 16]),
            number: 0,
            digest: [2; 32],
        };
        let database = rusqlite::Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
        let blob = "INSERT INTO blobs (id, account_id, size_bytes, token_hash, expires_at, \
                    last_upload_at) VALUES (?, x'00', 50, x'00', 0, 0)";
        database.execute(blob, [name.blob.as_bytes()]).unwrap();
        let part = "INSERT INTO blob_parts (blob_id, number, digest) VALUES (?, 0, ?)";
        database
            .execute(part, rusqlite::params![name.blob.as_bytes(), name.digest])
            .unwrap();
        assert_eq!(
            check(directory.path(), &[])
                .await
                .count(CheckStatus::Failed),
            2,
            "one finding for the part and one for the total"
        );
        let blobs = Blobs::open(&directory.path().join(BLOBS_DIR)).unwrap();
        blobs
            .write(&name, Bytes::from_static(&[5; 50]))
            .await
            .unwrap();
        assert_eq!(problems(&check(directory.path(), &[]).await), [""; 0]);
        blobs
            .write(&name, Bytes::from_static(&[5; 49]))
            .await
            .unwrap();
        assert_eq!(
            check(directory.path(), &[])
                .await
                .count(CheckStatus::Failed),
            2,
            "a truncated part"
        );
        let unknown = PartName {
            blob: BlobId::from_bytes([9; 16]),
            ..name
        };
        blobs
            .write(&unknown, Bytes::from_static(b"x"))
            .await
            .unwrap();
        assert_eq!(problems(&check(directory.path(), &[]).await), ["files"; 3]);
    }

    #[tokio::test]
    async fn unsafe_or_damaged_files_are_reported() {
        let directory = temporary_data_directory();
        assert_eq!(
            problems(&check(directory.path(), &[]).await),
            ["database"],
            "no database yet"
        );
        let (running, shutdown) = start_relay(&directory).await;
        shutdown.trigger();
        running.ended().await;
        let secret = directory.path().join(SECRET_FILE);
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            problems(&check(directory.path(), &[]).await),
            ["directory", "secret"]
        );
        fs::write(directory.path().join(DATABASE_FILE), "no database").unwrap();
        assert_eq!(
            problems(&check(directory.path(), &[]).await),
            ["directory", "secret", "database"]
        );
        let report = check(directory.path(), &["--listen", "0.0.0.0:8440"]).await;
        assert!(problems(&report).contains(&"settings"), "{report:?}");
        assert_eq!(
            problems(&check(Path::new("/nowhere"), &["--config", "/nowhere.toml"]).await),
            ["settings"]
        );
    }

    #[test]
    fn clock_behind_recorded_time_fails() {
        let recorded = Timestamp::from_millis(1_800_000_000_000);
        for (behind, failures) in [(0, 0), (59, 0), (61, 1)] {
            let mut report = CheckReport::default();
            let now = recorded.minus(Duration::from_secs(behind));
            check_clock(&mut report, now, Some(recorded));
            assert_eq!(report.count(CheckStatus::Failed), failures);
        }
    }
}
