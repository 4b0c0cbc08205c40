//! Check of the free disk space and the reserve.

use crate::{
    config::Config,
    data_layout::{BLOBS_DIR, RESERVE_FILE},
    storage::DiskUsage,
};
use sealpost_relay_core::space::{DiskSpace, Reserve};
use sealpost_service::{checks::CheckReport, units::format_unequal};
use std::fs;

pub(super) fn check(report: &mut CheckReport, config: &Config, is_running: bool) {
    let (directories, path) = (
        [config.data.clone(), config.data.join(BLOBS_DIR)],
        config.data.join(RESERVE_FILE),
    );
    if !config.data.is_dir() {
        return;
    }
    let file = fs::metadata(&path).ok();
    let Some(DiskUsage {
        free_bytes,
        reserve_file_bytes,
        reserve_bytes,
    }) = DiskUsage::measure(&directories, file.as_ref(), config.storage.reserve())
    else {
        return report.fail(
            "storage",
            format!(
                "the system does not report the free space of {}",
                config.data.display()
            ),
            "use a disk whose free space the system reports",
        );
    };
    let (free, reserve) = format_unequal(free_bytes, reserve_bytes);
    let wanted_bytes = Reserve::file_bytes(reserve_bytes);
    if DiskSpace::default().step(free_bytes, reserve_bytes) == DiskSpace::Low {
        let text = format!("{free} free, but {reserve} are reserved");
        let next = "free some space; until then the relay refuses new data";
        return report.fail("storage", text, next);
    }
    let text = format!("{free} free, of which {reserve} are reserved");
    match (reserve_file_bytes < wanted_bytes, is_running) {
        (true, true) => {
            let (actual, wanted) = format_unequal(reserve_file_bytes, wanted_bytes);
            let display = path.display();
            report.warn(
                "storage",
                format!("{text}, but {display} has only {actual} of {wanted}"),
                "restart the relay if the setting changed, otherwise see its log",
            );
        }
        (true, false) => report.ok(
            "storage",
            format!("{text}; the next start creates the reserve file"),
        ),
        (false, _) => report.ok("storage", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_service::{checks::CheckStatus, config::ByteSize};
    use std::{fs::File, io::Write as _};

    #[test]
    fn reserve_file_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config {
            data: directory.path().to_owned(),
            ..Config::default()
        };
        (config.storage.reserve_bytes, config.storage.reserve_percent) =
            (ByteSize::from_bytes(1024 * 1024), 100);
        let found = |config: &Config, is_running| {
            let mut report = CheckReport::default();
            check(&mut report, config, is_running);
            report
                .results()
                .last()
                .map(|result| {
                    let next = result.next.as_deref().unwrap_or_default();
                    (result.status, format!("{}: {next}", result.text))
                })
                .unwrap()
        };
        let (status, text) = found(&config, false);
        assert!(
            status == CheckStatus::Ok && text.contains("the next start creates"),
            "{text}"
        );
        let (status, text) = found(&config, true);
        assert!(
            status == CheckStatus::Warning && text.contains("has only 0 B of"),
            "{text}"
        );
        let mut file = File::create(directory.path().join(RESERVE_FILE)).unwrap();
        file.write_all(&vec![1; 256 * 1024]).unwrap();
        file.sync_all().unwrap();
        let (status, text) = found(&config, true);
        assert!(
            status == CheckStatus::Ok && !text.contains("next start"),
            "{text}"
        );
        config.storage.reserve_bytes = ByteSize::from_bytes(u64::MAX);
        let (status, text) = found(&config, true);
        assert!(
            status == CheckStatus::Failed && text.contains("free some space"),
            "{text}"
        );
    }
}
