//! The room on the disk and the reserve on it.

use super::Findings;
use crate::{
    config::Config,
    serve::BLOBS,
    storage::{Disk, FILE},
};
use sealpost_relay_core::space::{Reserve, Space};
use sealpost_service::units::size;
use std::fs;

pub(super) fn look(findings: &mut Findings, config: &Config, runs: bool) {
    let (folders, path) = (
        [config.data.clone(), config.data.join(BLOBS)],
        config.data.join(FILE),
    );
    if !config.data.is_dir() {
        return;
    }
    let file = fs::metadata(&path).ok();
    let Some(Disk {
        free_bytes,
        held_bytes,
        reserve_bytes,
    }) = Disk::look(&folders, file.as_ref(), config.storage.reserve())
    else {
        return findings.fail(
            "storage",
            format!(
                "the system does not say how much is free in {}",
                config.data.display()
            ),
        );
    };
    let (free, reserve) = (size(free_bytes), size(reserve_bytes));
    let wanted_bytes = Reserve::of_file(reserve_bytes);
    if Space::default().step(free_bytes, reserve_bytes) == Space::Low {
        let text = format!(
            "{free} are free, {reserve} are kept to finish what was accepted: make room, the relay takes nothing new until then"
        );
        return findings.fail("storage", text);
    }
    let text = format!("{free} are free, of which {reserve} are kept to finish what was accepted");
    match (held_bytes < wanted_bytes, runs) {
        (true, true) => {
            let (held, wanted, shown) = (size(held_bytes), size(wanted_bytes), path.display());
            let why = "its log says why, if the setting is not newer than its start";
            findings.warn(
                "storage",
                format!(
                    "{text}, but {shown} has only {held} of {wanted}: others may take them; {why}"
                ),
            );
        }
        (true, false) => findings.ok(
            "storage",
            format!("{text}; the next start makes the file of the reserve"),
        ),
        (false, _) => findings.ok("storage", text),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};
    use std::{fs::File, io::Write as _};

    #[test]
    fn room_for_the_reserve_and_its_file_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            data: folder.path().to_owned(),
            ..Config::default()
        };
        (config.storage.reserve_bytes, config.storage.reserve_percent) = (1024 * 1024, 100);
        let found = |config: &Config, runs| {
            let mut findings = Findings::default();
            look(&mut findings, config, runs);
            findings
                .0
                .pop()
                .map(|(grade, _, text)| (grade, text))
                .unwrap()
        };
        let (grade, text) = found(&config, false);
        assert!(
            grade == Grade::Ok && text.contains("the next start makes"),
            "{text}"
        );
        let (grade, text) = found(&config, true);
        assert!(
            grade == Grade::Warn && text.contains("has only 0 B of"),
            "{text}"
        );
        let mut file = File::create(folder.path().join(FILE)).unwrap();
        file.write_all(&vec![1; 256 * 1024]).unwrap();
        file.sync_all().unwrap();
        let (grade, text) = found(&config, true);
        assert!(grade == Grade::Ok && !text.contains("next start"), "{text}");
        config.storage.reserve_bytes = u64::MAX;
        let (grade, text) = found(&config, true);
        assert!(grade == Grade::Fail && text.contains("make room"), "{text}");
    }
}
