//! Scheduled backups: made at an interval into one directory, of which the latest ones remain.

use super::{BackupError, Protection, create, protection::read_passphrase, unfinished::file_error};
use crate::{
    config,
    daemon::{
        Database,
        worker::{NextRun, PeriodicTask, Worker},
    },
    fault::Fault,
    store::events::{self, Subject},
    utc,
};
use anyhow::{Context as _, bail};
use sealpost_age::Recipient;
use sealpost_e2ee::vault::DataKey;
use sealpost_proto::{Timestamp, limits};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const EXTENSION: &str = ".age";
/// Characters of the fingerprint in the name of a backup, so that nodes can share a directory.
const FINGERPRINT_CHARACTERS: usize = 16;

/// Schedule of the backups of this node, with the secret that encrypts them.
pub(crate) struct BackupSchedule {
    every: Duration,
    /// How many backups remain.
    copies: usize,
    /// Where the backups are written.
    target: PathBuf,
    /// Data directory of the node.
    data: PathBuf,
    data_key: DataKey,
    /// Beginning of the names of the backups.
    prefix: String,
    protection: Arc<Protection>,
}

impl BackupSchedule {
    /// Reads the schedule from the settings; `None` if no backups are scheduled.
    ///
    /// # Errors
    /// A setting is missing, or the passphrase cannot be read.
    pub(crate) fn from_settings(
        settings: &config::Backup,
        data: &Path,
        data_key: DataKey,
        fingerprint: &str,
    ) -> anyhow::Result<Option<Self>> {
        let Some(every) = settings.every.interval() else {
            return Ok(None);
        };
        if settings.directory.is_empty() {
            bail!("backup.every is set: set backup.directory too, to where the backups go");
        }
        let protection = match (&*settings.recipient, &*settings.passphrase_file) {
            ("", "") => bail!(
                "backup.every is set: set backup.recipient or backup.passphrase_file too, which \
                 encrypts the backups"
            ),
            ("", path) => Protection::Passphrase(
                read_passphrase(Path::new(path)).context("backup.passphrase_file")?,
            ),
            (recipient, "") => Protection::Recipients(vec![
                Recipient::parse(recipient).context("backup.recipient")?,
            ]),
            _ => bail!("set either backup.recipient or backup.passphrase_file, not both"),
        };
        let prefix: String = fingerprint.chars().take(FINGERPRINT_CHARACTERS).collect();
        Ok(Some(Self {
            every,
            copies: settings.copies.try_into().unwrap_or(usize::MAX).max(1),
            target: PathBuf::from(&settings.directory),
            data: data.to_owned(),
            data_key,
            prefix: format!("sealpost-{prefix}-"),
            protection: Arc::new(protection),
        }))
    }

    /// Returns the backups of this node in the directory, oldest first.
    fn list(&self) -> Result<Vec<(Timestamp, PathBuf)>, BackupError> {
        let failed = file_error(&self.target);
        let mut backups = Vec::new();
        for entry in fs::read_dir(&self.target).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            if let Some(at) = self.parse_name(&path) {
                backups.push((at, path));
            }
        }
        backups.sort();
        Ok(backups)
    }

    fn parse_name(&self, path: &Path) -> Option<Timestamp> {
        let name = path.file_name()?.to_str()?;
        let time = name.strip_prefix(&self.prefix)?.strip_suffix(EXTENSION)?;
        utc::parse_compact(time)
    }

    /// Returns when the next backup is due. A backup from the future was made while the clock was
    /// wrong.
    fn next_due(&self, now: Timestamp) -> Result<Timestamp, BackupError> {
        let latest = self.list()?.pop().map(|(at, _)| at);
        Ok(match latest {
            Some(at) if at <= now => at.plus(self.every),
            _ => now,
        })
    }

    /// Makes a backup and deletes the oldest ones. Returns its path.
    async fn run(&self, now: Timestamp) -> Result<PathBuf, BackupError> {
        self.remove_unfinished()?;
        let name = format!("{}{}{EXTENSION}", self.prefix, utc::format_compact(now));
        let destination = self.target.join(name);
        let data_key = self.data_key.clone();
        let protection = Arc::clone(&self.protection);
        let created = create(&self.data, data_key, &destination, protection).await?;
        let backups = self.list()?;
        let excess = backups.len().saturating_sub(self.copies);
        for (_, path) in &backups[..excess] {
            fs::remove_file(path).map_err(file_error(path))?;
        }
        Ok(created.path)
    }

    /// Removes what an interrupted scheduled backup left behind.
    fn remove_unfinished(&self) -> Result<(), BackupError> {
        let failed = file_error(&self.target);
        for entry in fs::read_dir(&self.target).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            let is_unfinished = path.extension().is_some_and(|end| end == "unfinished");
            if is_unfinished && self.parse_name(&path.with_extension("")).is_some() {
                fs::remove_file(&path).map_err(file_error(&path))?;
            }
        }
        Ok(())
    }
}

/// Outcome of the scheduled backups, for the status of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BackupState {
    /// Whether backups are scheduled.
    pub(crate) is_scheduled: bool,
    pub(crate) last_at: Option<Timestamp>,
    pub(crate) next_at: Option<Timestamp>,
    /// Why the last attempt failed, unless one has succeeded since.
    pub(crate) failure: Option<String>,
}

/// [`BackupState`] that the task updates.
#[derive(Debug, Default)]
pub(crate) struct BackupStatus(Mutex<BackupState>);

impl BackupStatus {
    pub(crate) fn load(&self) -> BackupState {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BackupState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the scheduled backups until shutdown.
pub(in crate::daemon) async fn run(
    schedule: BackupSchedule,
    status: Arc<BackupStatus>,
    database: Database,
    worker: Worker,
) {
    status.lock().is_scheduled = true;
    let task = ScheduledBackups {
        schedule,
        status,
        database,
    };
    worker.run_timed(task).await;
}

struct ScheduledBackups {
    schedule: BackupSchedule,
    status: Arc<BackupStatus>,
    database: Database,
}

impl PeriodicTask for ScheduledBackups {
    const ACTION: &'static str = "back up the node";
    const FAULT_RETRY_DELAY: Duration = limits::BACKUP_RETRY_INTERVAL;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        match self.back_up_if_due().await {
            Ok(next_at) => Ok(NextRun::Idle(Some(next_at))),
            Err(error) => {
                let failure = error.to_string();
                tracing::error!(reason = failure, "the scheduled backup failed");
                self.status.lock().failure = Some(failure);
                self.publish().await?;
                Ok(NextRun::Pause(
                    limits::BACKUP_RETRY_INTERVAL.min(self.schedule.every),
                ))
            }
        }
    }
}

impl ScheduledBackups {
    /// Returns when the next backup is due.
    async fn back_up_if_due(&mut self) -> Result<Timestamp, BackupError> {
        let now = self.database.now();
        let next_at = self.schedule.next_due(now)?;
        if next_at > now {
            let mut state = self.status.lock();
            state.last_at =
                Some(Timestamp::from_millis(next_at.as_millis().saturating_sub(
                    sealpost_proto::time::millis(self.schedule.every),
                )));
            state.next_at = Some(next_at);
            return Ok(next_at);
        }
        let path = self.schedule.run(now).await?;
        tracing::info!(backup = %path.display(), "the node was backed up");
        let next_at = now.plus(self.schedule.every);
        *self.status.lock() = BackupState {
            is_scheduled: true,
            last_at: Some(now),
            next_at: Some(next_at),
            failure: None,
        };
        self.publish().await?;
        Ok(next_at)
    }

    /// Announces that the status of the node has changed.
    async fn publish(&self) -> Result<(), Fault> {
        self.database
            .write_without_wake_up(|tx| events::add(tx, Subject::Node))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Backup, BackupInterval},
        daemon::{NodeComponents, vault::tests::open_with_key_file_only},
    };
    use sealpost_proto::Origin;
    use sealpost_service::ManualClock;

    const DAY: Duration = Duration::from_secs(86_400);
    const START: Timestamp = Timestamp::from_millis(1_795_183_500_000);
    const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

    fn settings(target: &Path) -> Backup {
        Backup {
            every: BackupInterval::Every(DAY),
            copies: 2,
            directory: target.to_str().unwrap().to_owned(),
            recipient: RECIPIENT.to_owned(),
            passphrase_file: String::new(),
        }
    }

    fn names(target: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(target)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn incomplete_settings_are_refused() {
        let target = tempfile::tempdir().unwrap();
        let load = |change: &dyn Fn(&mut Backup)| {
            let mut settings = settings(target.path());
            change(&mut settings);
            let data_key = DataKey::from_bytes([7; 32]);
            BackupSchedule::from_settings(&settings, Path::new("data"), data_key, "00ff")
        };
        assert!(load(&|_| {}).unwrap().is_some());
        assert!(
            load(&|one| one.every = BackupInterval::Off)
                .unwrap()
                .is_none()
        );
        for change in [
            &(|one: &mut Backup| one.directory.clear()) as &dyn Fn(&mut Backup),
            &|one| one.recipient.clear(),
            &|one| one.recipient.push('x'),
            &|one| one.passphrase_file.push('x'),
            &|one| {
                one.recipient.clear();
                one.passphrase_file = "/no/such/file".to_owned();
            },
        ] {
            let error = load(change).map(drop).unwrap_err();
            assert!(format!("{error:#}").contains("backup."), "{error:#}");
        }
    }

    #[tokio::test]
    async fn latest_backups_remain() {
        let (data, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let node = data.path().join("node");
        crate::daemon::backup::tests::init_node(&node).await;
        let clock = ManualClock::new(START);
        let origin = Origin::parse("http://127.0.0.1:1").unwrap();
        let components = NodeComponents::for_test(data.path(), origin, clock.clone()).await;
        let schedule = BackupSchedule::from_settings(
            &settings(target.path()),
            &node,
            open_with_key_file_only(&node),
            "00ff",
        )
        .unwrap()
        .unwrap();
        let status = Arc::new(BackupStatus::default());
        let mut task = ScheduledBackups {
            schedule,
            status: Arc::clone(&status),
            database: components.database.clone(),
        };
        let first = "sealpost-00ff-20261120T140500Z.age";
        let foreign = "sealpost-00fe-20201120T140500Z.age";
        fs::write(target.path().join(foreign), "of another node").unwrap();
        let interrupted = "sealpost-00ff-20201120T140500Z.age.unfinished";
        fs::write(target.path().join(interrupted), "").unwrap();
        let next = NextRun::Idle(Some(START.plus(DAY)));
        assert_eq!(task.run_once().await.unwrap(), next);
        assert_eq!(task.run_once().await.unwrap(), next);
        assert_eq!(names(target.path()), [foreign, first]);
        for _ in 0..2 {
            clock.advance(DAY);
            task.run_once().await.unwrap();
        }
        let rest = [
            foreign,
            "sealpost-00ff-20261121T140500Z.age",
            "sealpost-00ff-20261122T140500Z.age",
        ];
        assert_eq!(names(target.path()), rest);
        assert_eq!(status.load().failure, None);

        fs::remove_dir_all(target.path()).unwrap();
        let retry = NextRun::Pause(limits::BACKUP_RETRY_INTERVAL);
        assert_eq!(task.run_once().await.unwrap(), retry);
        assert!(status.load().failure.is_some());
        fs::create_dir(target.path()).unwrap();
        task.run_once().await.unwrap();
        assert_eq!(status.load().failure, None);
    }
}
