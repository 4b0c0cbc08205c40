//! The local checkpoint file: a copy of the latest checkpoint outside the data directory, which
//! remains when the data directory is replaced by an older copy.

use crate::{hex, identity::NodeIdentity};
use sealpost_service::{read_secret_file, write_secret_file};
use std::{
    env,
    path::{Path, PathBuf},
};

/// Value of the setting for no file.
const OFF: &str = "off";
/// Directory below that of the user's state.
const STATE_SUBDIRECTORY: &str = "sealpost";

/// Location of the file, one for each identity. Without it a node only compares its database with
/// the checkpoint at the relay.
#[derive(Debug, Clone)]
pub(super) struct CheckpointFile {
    path: Option<PathBuf>,
}

impl CheckpointFile {
    /// Returns the file of an identity in the directory of the setting, or in the user's state
    /// directory if the setting is empty.
    pub(super) fn locate(setting: &str, identity: &NodeIdentity) -> Self {
        let directory = match setting {
            OFF => None,
            "" => default_directory(|name| env::var_os(name).map(PathBuf::from)),
            path => Some(PathBuf::from(path)),
        };
        let fingerprint = hex::encode(identity.keys.fingerprint().as_bytes());
        Self {
            path: directory.map(|directory| directory.join(format!("{fingerprint}.checkpoint"))),
        }
    }

    /// Reads the file. A file that cannot be read is logged, and counts as absent.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let path = self.path.as_deref()?;
        match read_secret_file(path) {
            Ok(content) => content.map(|content| content.to_vec()),
            Err(error) => {
                tracing::warn!(%error, "the local checkpoint cannot be read");
                None
            }
        }
    }

    /// Replaces the file. A failure is logged: the checkpoint at the relay remains.
    pub(super) fn write(&self, sealed: &[u8]) {
        let Some(path) = self.path.as_deref() else {
            return;
        };
        if let Err(error) = write_secret_file(path, sealed) {
            tracing::warn!(
                path = %path.display(),
                %error,
                "the local checkpoint cannot be written; set checkpoint.directory to a directory \
                 outside the data directory, or to \"off\""
            );
        }
    }
}

/// Returns the directory for state that outlives a single run, according to the XDG Base Directory
/// Specification.
fn default_directory(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let state = variable("XDG_STATE_HOME").and_then(absolute).or_else(|| {
        let home = variable("HOME").and_then(absolute)?;
        Some(home.join(Path::new(".local/state")))
    });
    state.map(|state| state.join(STATE_SUBDIRECTORY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestNode;
    use std::os::unix::fs::PermissionsExt as _;

    fn in_environment(variables: &[(&str, &str)]) -> Option<PathBuf> {
        default_directory(|name| {
            let mut variables = variables.iter();
            let (_, value) = variables.find(|(known, _)| *known == name)?;
            Some(PathBuf::from(value))
        })
    }

    #[test]
    fn default_is_in_the_state_directory() {
        let home = ("HOME", "/home/acme");
        for (variables, expected) in [
            (vec![home], Some("/home/acme/.local/state/sealpost")),
            (
                vec![home, ("XDG_STATE_HOME", "/state")],
                Some("/state/sealpost"),
            ),
            (
                vec![home, ("XDG_STATE_HOME", "relative")],
                Some("/home/acme/.local/state/sealpost"),
            ),
            (vec![], None),
        ] {
            assert_eq!(in_environment(&variables), expected.map(PathBuf::from));
        }
    }

    #[test]
    fn file_is_private_and_belongs_to_the_identity() {
        let parent = tempfile::tempdir().unwrap();
        let state = parent.path().join("new/state");
        let setting = state.to_str().unwrap();
        let [acme, bolt] = [1, 2].map(|seed| TestNode::new("Acme", seed).identity);
        let file = CheckpointFile::locate(setting, &acme);
        assert_eq!(file.read(), None);
        file.write(b"one");
        file.write(b"two");
        assert_eq!(file.read().as_deref(), Some(&b"two"[..]));
        assert_eq!(CheckpointFile::locate(setting, &bolt).read(), None);
        let metadata = file.path.unwrap().metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn unusable_directory_is_harmless() {
        let acme = TestNode::new("Acme", 1).identity;
        for setting in ["off", "/dev/null/state"] {
            let file = CheckpointFile::locate(setting, &acme);
            file.write(b"one");
            assert_eq!(file.read(), None);
        }
    }
}
