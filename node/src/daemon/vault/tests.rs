//! Protections of a data key, and changes of them that are interrupted.

use super::*;
use sealpost_e2ee::vault::{Column, UnwrapError, open_column, seal_column};
use std::{
    fs::File,
    io::{Read as _, Seek as _},
};
use tempfile::TempDir;

const OLD: &str = "the old passphrase";
const NEW: &str = "the new passphrase";

/// Secrets that a test knows.
#[derive(Default)]
pub(in crate::daemon) struct KnownSecrets {
    passphrase: Option<&'static str>,
    credential: Option<KeyFile>,
}

impl KeySecrets for KnownSecrets {
    fn passphrase(&self) -> Result<Passphrase, VaultError> {
        self.passphrase
            .map(passphrase)
            .ok_or(VaultError::NoTerminal)
    }

    fn key_file(&self) -> Result<Option<KeyFile>, VaultError> {
        Ok(None)
    }

    fn credential(&self) -> Result<KeyFile, VaultError> {
        let missing = || VaultError::CredentialMissing {
            name: "sealpost-key".to_owned(),
        };
        self.credential.clone().ok_or_else(missing)
    }
}

/// Opens the data key of a node that a key file protects.
pub(in crate::daemon) fn open_with_key_file_only(directory: &Path) -> DataKey {
    open(directory, &KnownSecrets::default()).unwrap()
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned()))
}

fn credential() -> KeyFile {
    KeyFile::generate(&mut sealpost_service::entropy())
}

/// Data directory with a protected data key and no database.
struct Fixture {
    parent: TempDir,
    data_key: DataKey,
    credential: KeyFile,
}

impl Fixture {
    fn new(protection: &NewProtection) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let directory = DataDir::open(&parent.path().join("data")).unwrap();
        Self {
            data_key: create(&directory, protection).unwrap(),
            credential: credential(),
            parent,
        }
    }

    fn data(&self) -> PathBuf {
        self.parent.path().join("data")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.parent.path().join(name)
    }

    fn credential_protection(&self) -> NewProtection {
        NewProtection::Credential(self.credential.clone())
    }

    /// Secrets that open the directory if `passphrase` does, or the credential, or its key file.
    fn secrets(&self, passphrase: &'static str) -> KnownSecrets {
        KnownSecrets {
            passphrase: Some(passphrase),
            credential: Some(self.credential.clone()),
        }
    }

    /// Whether the directory opens, and its data key is still the same.
    fn opens(&self, passphrase: &'static str) -> bool {
        open(&self.data(), &self.secrets(passphrase)).is_ok_and(|key| self.is_same(&key))
    }

    fn is_same(&self, data_key: &DataKey) -> bool {
        let place = Column {
            table: "t",
            pk: b"1",
            column: "c",
            version: 0,
        };
        let mut rng = sealpost_service::entropy();
        let sealed = seal_column(&self.data_key, &place, b"value", &mut rng);
        open_column(data_key, &place, &sealed).is_ok()
    }

    fn change(&self, passphrase: &'static str, to: &NewProtection) -> KeyProtection {
        let vault = LockedVault::open(&self.data(), &self.secrets(passphrase)).unwrap();
        vault.change(to, false).unwrap().protection
    }

    /// Lists the data directory, without the lock.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock")
            .collect();
        names.sort();
        names
    }
}

#[test]
fn each_protection_opens_with_its_own_secret() {
    let fixture = Fixture::new(&NewProtection::KeyFile(None));
    assert!(fixture.opens(OLD));
    fixture.change(OLD, &NewProtection::Passphrase(passphrase(OLD)));
    assert!(fixture.opens(OLD));
    assert!(!fixture.opens(NEW));
    fixture.change(OLD, &fixture.credential_protection());
    assert!(fixture.opens(NEW));
    let other = KnownSecrets {
        credential: Some(KeyFile::generate(&mut sealpost_service::entropy())),
        ..KnownSecrets::default()
    };
    let error = open(&fixture.data(), &other).err().unwrap();
    assert!(matches!(
        error,
        VaultError::Unwrap(UnwrapError::WrongCredential)
    ));
    let outside = fixture.path("outside");
    fixture.change(NEW, &NewProtection::KeyFile(Some(outside.clone())));
    assert!(fixture.opens(NEW));
    fs::rename(&outside, fixture.path("moved")).unwrap();
    let error = open(&fixture.data(), &other).err().unwrap();
    assert!(matches!(&error, VaultError::KeyFileMissing { path } if *path == outside));
}

/// A protection by its name, where the passphrase differs between old and new.
fn protection(fixture: &Fixture, kind: &str, text: &str) -> NewProtection {
    match kind {
        "passphrase" => NewProtection::Passphrase(passphrase(text)),
        "key file" => NewProtection::KeyFile(None),
        "outside" => NewProtection::KeyFile(Some(fixture.path(text))),
        _ => fixture.credential_protection(),
    }
}

#[test]
fn interrupted_changes_leave_a_directory_that_opens() {
    for (from, to) in [
        ("key file", "key file"),
        ("key file", "outside"),
        ("key file", "passphrase"),
        ("key file", "credential"),
        ("outside", "outside"),
        ("outside", "passphrase"),
        ("passphrase", "passphrase"),
        ("passphrase", "key file"),
        ("credential", "outside"),
    ] {
        let mut count = 0;
        loop {
            let fixture = Fixture::new(&NewProtection::KeyFile(None));
            if from != "key file" {
                fixture.change(OLD, &protection(&fixture, from, OLD));
            }
            let new = protection(&fixture, to, NEW);
            let change =
                ProtectionChange::prepare(&fixture.data(), &fixture.data_key, &new).unwrap();
            let is_complete = count == change.count_steps();
            change.apply_first(count).unwrap();
            let secret = [OLD, NEW].into_iter().find(|secret| fixture.opens(secret));
            let secret = secret.unwrap_or_else(|| panic!("{from} to {to}: closed after {count}"));
            assert!(
                secret == NEW || !is_complete || to != "passphrase",
                "{from} to {to}"
            );
            drop(LockedVault::open(&fixture.data(), &fixture.secrets(secret)).unwrap());
            let is_by_key_file = matches!(describe(&fixture.data()), Ok(KeyProtection::KeyFile(_)));
            let expected: &[&str] = if is_by_key_file {
                &["data-key", "key"]
            } else {
                &["data-key"]
            };
            assert_eq!(fixture.names(), expected, "{from} to {to} after {count}");
            assert!(fixture.opens(secret), "{from} to {to} after {count}");
            if is_complete {
                break;
            }
            count += 1;
        }
    }
}

#[test]
fn interrupted_init_is_repeated() {
    for count in 0..4 {
        let parent = tempfile::tempdir().unwrap();
        let directory = DataDir::open(&parent.path().join("data")).unwrap();
        let protection = NewProtection::KeyFile(Some(parent.path().join("outside")));
        let data_key = DataKey::from_bytes([7; 32]);
        let change = ProtectionChange::prepare(directory.path(), &data_key, &protection).unwrap();
        change.apply_first(count).unwrap();
        create(&directory, &protection).unwrap();
        open_locked(&directory, &KnownSecrets::default()).unwrap();
    }
}

#[test]
fn init_refuses_the_directory_of_a_node() {
    let fixture = Fixture::new(&NewProtection::Passphrase(passphrase(OLD)));
    let directory = DataDir::open(&fixture.data()).unwrap();
    for other in [
        NewProtection::KeyFile(None),
        NewProtection::Passphrase(passphrase(NEW)),
        fixture.credential_protection(),
    ] {
        let error = create(&directory, &other).err().unwrap();
        assert!(matches!(error, VaultError::HoldsNode { .. }), "{error}");
    }
    assert!(fixture.opens(OLD));
}

/// Reads a file that may have lost its name.
fn read_again(file: &mut File) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

#[test]
fn old_key_files_are_overwritten() {
    for to in [
        NewProtection::KeyFile(None),
        NewProtection::Credential(credential()),
    ] {
        let fixture = Fixture::new(&NewProtection::KeyFile(None));
        let mut old = File::open(fixture.data().join(KEY_FILE)).unwrap();
        assert!(read_again(&mut old).starts_with(b"sealpost-key1."));
        fixture.change(OLD, &to);
        let content = read_again(&mut old);
        assert!(!content.is_empty() && content.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn key_files_outside_remain_unless_asked() {
    let fixture = Fixture::new(&NewProtection::KeyFile(None));
    let outside = fixture.path("outside");
    let shown = fixture.change(OLD, &NewProtection::KeyFile(Some(outside.clone())));
    assert_eq!(shown, KeyProtection::KeyFile(outside.clone()));
    let mut old = File::open(&outside).unwrap();
    let vault = LockedVault::open(&fixture.data(), &KnownSecrets::default()).unwrap();
    let changed = vault.change(&NewProtection::KeyFile(None), false).unwrap();
    assert_eq!(changed.old_key_file.as_ref(), Some(&outside));
    assert!(outside.exists());
    drop(vault);
    fixture.change(OLD, &NewProtection::KeyFile(Some(outside.clone())));
    let vault = LockedVault::open(&fixture.data(), &KnownSecrets::default()).unwrap();
    let again = NewProtection::KeyFile(Some(outside.clone()));
    let error = vault.change(&again, true).err().unwrap();
    assert!(matches!(error, VaultError::SameKeyFile { .. }), "{error}");
    let changed = vault.change(&NewProtection::KeyFile(None), true).unwrap();
    assert_eq!(changed.old_key_file, None);
    assert!(!outside.exists());
    assert!(read_again(&mut old).iter().all(|byte| *byte == 0));
    drop(vault);
    assert!(fixture.opens(OLD));
}

#[test]
fn copies_of_a_key_file_remain() {
    let fixture = Fixture::new(&NewProtection::KeyFile(None));
    let copy = fixture.path("copy");
    fs::hard_link(fixture.data().join(KEY_FILE), &copy).unwrap();
    fixture.change(OLD, &NewProtection::Passphrase(passphrase(NEW)));
    assert!(fs::read(&copy).unwrap().starts_with(b"sealpost-key1."));
}

#[test]
fn used_directories_are_refused() {
    let fixture = Fixture::new(&NewProtection::KeyFile(None));
    let _running = DataDir::open(&fixture.data()).unwrap();
    let error = LockedVault::open(&fixture.data(), &KnownSecrets::default());
    let error = error.err().unwrap();
    assert!(matches!(error, VaultError::DataDirectory(_)), "{error}");
    assert!(error.next().contains("stop the node"));
}

#[test]
fn directories_without_node_are_not_created() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("nothing");
    let error = LockedVault::open(&path, &KnownSecrets::default());
    assert!(matches!(error.err(), Some(VaultError::NoNode { .. })));
    assert!(!path.exists());
}

#[test]
fn short_passphrases_change_nothing() {
    let fixture = Fixture::new(&NewProtection::KeyFile(None));
    let vault = LockedVault::open(&fixture.data(), &KnownSecrets::default()).unwrap();
    let error = vault.change(&NewProtection::Passphrase(passphrase("short")), false);
    assert!(matches!(error.err(), Some(VaultError::Passphrase(_))));
    assert_eq!(fixture.names(), ["data-key", "key"]);
}

#[test]
fn open_key_files_of_others_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new(&NewProtection::KeyFile(None));
    let outside = fixture.path("outside");
    fs::write(&outside, credential().encode().as_bytes()).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
    let vault = LockedVault::open(&fixture.data(), &KnownSecrets::default()).unwrap();
    let error = vault.change(&NewProtection::KeyFile(Some(outside)), false);
    let error = error.err().unwrap();
    assert!(matches!(error, VaultError::Secret(_)), "{error}");
    assert!(error.next().starts_with("run chmod 600 "));
}
