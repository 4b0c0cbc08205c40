//! Backups of a node on disk with a connection, an invite and files.

use super::*;
use crate::{
    daemon::{
        NewNode, init,
        vault::{NewProtection, tests::open_with_key_file_only as open_data_key},
    },
    files::DiskFileId,
    pairing::{self, InviteOptions},
    store::{Store, connections, restoration},
    testing::TestNode,
};
use sealpost_age::{Identity, Passphrase, Recipient};
use sealpost_node_core::model::InviteKind;
use sealpost_proto::{Origin, limits};
use std::fs;
use tempfile::TempDir;
use zeroize::Zeroizing;

const KEY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
/// The key file is in the restored directory.
const KEY_FILE: NewProtection = NewProtection::KeyFile(None);
const FILE: DiskFileId = DiskFileId::from_bytes([7; 16]);

/// Creates a node.
pub(super) async fn init_node(data: &Path) {
    let new = NewNode {
        data: data.to_owned(),
        name: "Acme".to_owned(),
        relay: Origin::parse("https://relay.example").unwrap(),
        webhook_url: None,
        webhook_listen: None,
        registration_token: None,
        listen: ([127, 0, 0, 1], 0).into(),
        protection: NewProtection::KeyFile(None),
    };
    init(new).await.unwrap();
}

/// Node on disk whose daemon does not run.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fixture = Self { directory };
        init_node(&fixture.data()).await;
        fs::create_dir(fixture.data().join(FILES_DIR)).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Runs a transaction on the database of a data directory.
    async fn transact<T: Send + 'static>(
        data: &Path,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> T {
        let store = open(data);
        let done = store.write(SystemClock.now(), job).await.unwrap();
        store.close().await;
        done
    }

    async fn back_up(&self, name: &str) -> Result<CreatedBackup, BackupError> {
        let data = self.data();
        create(&data, open_data_key(&data), &self.path(name), recipient()).await
    }

    fn open(&self, name: &str) -> Result<OpenBackup, BackupError> {
        EncryptedBackup::open(&self.path(name))?.unlock(&identity())
    }

    /// Lists the entries of the parent directory that are not expected.
    fn leftovers(&self, expected: &[&str]) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !expected.contains(&name.as_str()))
            .collect()
    }
}

fn open(data: &Path) -> Store {
    open_store_at(&data.join(DATABASE_FILE), open_data_key(data)).unwrap()
}

fn recipient() -> Arc<Protection> {
    let recipient = Identity::parse(KEY).unwrap().recipient();
    Arc::new(Protection::Recipients(vec![recipient]))
}

fn identity() -> Secret {
    Secret::Identities(vec![Identity::parse(KEY).unwrap()])
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
}

/// Connects the node to a peer that exists in memory only, and adds an invite.
async fn add_connection(data: &Path) {
    let mut peer = TestNode::new("Bolt", 5);
    peer.now = SystemClock.now();
    let (_, invite, prekeys) = peer.invite(true);
    Fixture::transact(data, move |tx| {
        let settings = settings::load(tx)?.unwrap();
        let identity = NodeIdentity::from_settings(&settings, DownloadPolicy::Always)?;
        pairing::connect(tx, &identity, &invite, &prekeys, None)?;
        let options = InviteOptions {
            kind: InviteKind::Contact,
            lifetime: limits::INVITE_LIFETIME_DEFAULT,
            auto_accept: false,
        };
        pairing::create_invite(tx, &identity, options)?;
        Ok(())
    })
    .await;
}

/// Adds the row of a received file. A backup does not read its descriptor.
async fn add_file_row(data: &Path) {
    let sql = "INSERT INTO files (id, direction, status, disk_file, blob, descriptor, size, digests,
                   created_at) VALUES ('FIL-1111-2222-3333', 'in', 'ready', ?1, ?1, x'', 4, x'', 0)";
    Fixture::transact(data, |tx| tx.execute(sql, &[FILE.as_bytes()])).await;
}

#[tokio::test]
async fn restored_node_is_the_same() {
    let fixture = Fixture::new().await;
    add_connection(&fixture.data()).await;
    let stored = fixture.data().join(FILES_DIR).join(FILE.to_string());
    fs::write(&stored, b"blob").unwrap();
    fs::write(fixture.data().join(CONFIG_FILE), "[log]\n").unwrap();
    add_file_row(&fixture.data()).await;
    let created = fixture.back_up("backup").await.unwrap();
    assert_eq!((created.files, created.missing), (1, 0));
    let restored = fixture.path("restored");
    let contents = fixture
        .open("backup")
        .unwrap()
        .restore(&restored, &KEY_FILE, None)
        .unwrap();
    assert_eq!((contents.files, contents.missing), (1, 0));
    assert_eq!(contents.info.name, "Acme");
    assert_eq!(
        fs::read(restored.join(FILES_DIR).join(FILE.to_string())).unwrap(),
        b"blob"
    );
    assert_eq!(fs::read(restored.join(CONFIG_FILE)).unwrap(), b"[log]\n");
    for name in ["key", "data-key"] {
        let (old, new) = (fixture.data().join(name), restored.join(name));
        assert_ne!(fs::read(old).unwrap(), fs::read(new).unwrap(), "{name}");
    }
    let load = |tx: &mut Tx<'_>| Ok(settings::load(tx)?.unwrap().identity);
    assert_eq!(
        Fixture::transact(&fixture.data(), load).await,
        Fixture::transact(&restored, load).await
    );
    let row = Fixture::transact(&restored, |tx| restoration::load(tx)).await;
    assert_eq!(row.unwrap().restored_at, None);
    assert_eq!(fixture.leftovers(&["data", "backup", "restored"]), [""; 0]);
}

#[tokio::test]
async fn backup_contains_no_session_secrets() {
    let fixture = Fixture::new().await;
    add_connection(&fixture.data()).await;
    fixture.back_up("backup").await.unwrap();
    let restored = fixture.path("restored");
    fixture
        .open("backup")
        .unwrap()
        .restore(&restored, &KEY_FILE, None)
        .unwrap();
    let count = |tx: &mut Tx<'_>| {
        let (mut sessions, mut bundles) = (0, 0);
        for id in connections::find_all(tx)? {
            let secrets = connections::load_secrets(tx, id)?.secrets;
            sessions += usize::from(secrets.sessions.current_id().is_some());
            bundles += secrets.bundles.len() + secrets.used_bundles.len();
        }
        for invite in crate::store::invites::load_all(tx)? {
            bundles += invite.issued.bundles.len();
        }
        let rest: Option<u64> = tx.query_value(
            "SELECT (SELECT count(*) FROM opened_digests) + (SELECT count(*) FROM events) +
                 (SELECT count(*) FROM relay_jobs WHERE kind = 'publish_prekeys') +
                 (SELECT count(*) FROM outbox WHERE envelope IS NOT NULL)",
            &[],
        )?;
        Ok((sessions, bundles, rest.unwrap()))
    };
    let (sessions, bundles, rest) = Fixture::transact(&fixture.data(), count).await;
    assert!(
        sessions == 1 && bundles == 2 && rest > 0,
        "the test needs secrets"
    );
    assert_eq!(Fixture::transact(&restored, count).await, (0, 0, 0));
}

#[tokio::test]
async fn missing_files_do_not_fail_a_backup() {
    let fixture = Fixture::new().await;
    add_file_row(&fixture.data()).await;
    assert_eq!(fixture.back_up("backup").await.unwrap().missing, 1);
    let verified = fixture.open("backup").unwrap().verify().unwrap();
    assert_eq!((verified.files, verified.missing), (0, 1));
}

#[tokio::test]
async fn wrong_secrets_are_refused() {
    let fixture = Fixture::new().await;
    let protection = Arc::new(Protection::Passphrase(passphrase("correct horse")));
    let (data, data_key) = (fixture.data(), open_data_key(&fixture.data()));
    create(&data, data_key, &fixture.path("backup"), protection)
        .await
        .unwrap();
    let open = || EncryptedBackup::open(&fixture.path("backup")).unwrap();
    assert!(open().needs_passphrase());
    let unlock = |secret: &Secret| open().unlock(secret).map(drop).unwrap_err().to_string();
    let wrong = Secret::Passphrase(passphrase("wrong horse"));
    assert_eq!(unlock(&wrong), "the passphrase is wrong");
    assert_eq!(
        unlock(&identity()),
        "the backup is encrypted to a passphrase"
    );
    let correct = Secret::Passphrase(passphrase("correct horse"));
    open().unlock(&correct).unwrap().verify().unwrap();
    assert_eq!(fixture.leftovers(&["data", "backup"]), [""; 0]);
}

#[tokio::test]
async fn every_truncated_backup_is_refused() {
    let fixture = Fixture::new().await;
    fixture.back_up("backup").await.unwrap();
    let bytes = fs::read(fixture.path("backup")).unwrap();
    let restored = fixture.path("restored");
    let lengths = [0, 1, 100, 300, bytes.len() / 2, bytes.len() - 1];
    for length in lengths
        .into_iter()
        .chain((1..bytes.len()).step_by(64 * 1024 + 16))
    {
        fs::write(fixture.path("cut"), &bytes[..length]).unwrap();
        let verified = fixture.open("cut").and_then(OpenBackup::verify);
        assert!(verified.is_err(), "{length}");
        let opened = fixture.open("cut");
        let outcome = opened.and_then(|backup| backup.restore(&restored, &KEY_FILE, None));
        assert!(outcome.is_err() && !restored.exists(), "{length}");
    }
    fs::write(fixture.path("cut"), [bytes.as_slice(), b"x"].concat()).unwrap();
    let verified = fixture.open("cut").and_then(OpenBackup::verify);
    assert!(verified.is_err(), "data after its end");
    assert_eq!(fixture.leftovers(&["data", "backup", "cut"]), [""; 0]);
}

#[tokio::test]
async fn altered_archives_are_refused() {
    let fixture = Fixture::new().await;
    fixture.back_up("backup").await.unwrap();
    let archive = decrypt(&fixture.path("backup"));
    let entries = list(&archive);
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["backup.json", "key", "data-key", "node.db", "SHA256SUMS"]
    );
    let verify = |entries: &[(String, Vec<u8>)]| {
        encrypt(&fixture.path("altered"), &pack(entries));
        fixture.open("altered").and_then(OpenBackup::verify)
    };
    verify(&entries).unwrap();
    for (position, (name, _)) in entries.iter().enumerate() {
        let mut without = entries.clone();
        without.remove(position);
        assert!(verify(&without).is_err(), "without {name}");
        let mut altered = entries.clone();
        altered[position].1[0] ^= 1;
        assert!(verify(&altered).is_err(), "altered {name}");
        let mut twice = entries.clone();
        twice.insert(position, entries[position].clone());
        assert!(verify(&twice).is_err(), "{name} twice");
    }
    for name in [
        "../key",
        "/key",
        "files/../../key",
        "lock",
        "files/a",
        "node.db-wal",
    ] {
        let mut foreign = entries.clone();
        foreign.insert(1, (name.to_owned(), b"x".to_vec()));
        let error = verify(&foreign).unwrap_err().to_string();
        assert!(error.contains("unexpected entry"), "{error}");
    }
}

#[tokio::test]
async fn newer_backups_are_refused() {
    let fixture = Fixture::new().await;
    fixture.back_up("backup").await.unwrap();
    let mut entries = list(&decrypt(&fixture.path("backup")));
    for (old, new) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"schema\": 1", "\"schema\": 9"),
    ] {
        let info = String::from_utf8(entries[0].1.clone()).unwrap();
        assert!(info.contains(old), "{info}");
        let before = std::mem::replace(&mut entries[0].1, info.replace(old, new).into_bytes());
        encrypt(&fixture.path("newer"), &pack(&entries));
        let opened = fixture.open("newer").unwrap();
        let error = opened
            .restore(&fixture.path("restored"), &KEY_FILE, None)
            .unwrap_err();
        assert!(matches!(error, BackupError::Newer { .. }), "{error}");
        entries[0].1 = before;
    }
    assert_eq!(fixture.leftovers(&["data", "backup", "newer"]), [""; 0]);
}

#[tokio::test]
async fn restore_checks_which_node_it_is() {
    let fixture = Fixture::new().await;
    fixture.back_up("backup").await.unwrap();
    let restored = fixture.path("restored");
    let restore = |expected: &str| {
        let opened = fixture.open("backup").unwrap();
        opened.restore(&restored, &KEY_FILE, Some(expected))
    };
    let Err(BackupError::OtherNode { name, fingerprint }) = restore("00") else {
        panic!("another fingerprint was expected");
    };
    assert_eq!(name, "Acme");
    assert!(!restored.exists());
    restore(&fingerprint).unwrap();
}

#[tokio::test]
async fn restore_replaces_nothing() {
    let fixture = Fixture::new().await;
    fixture.back_up("backup").await.unwrap();
    let restore = |directory: &Path| {
        fixture
            .open("backup")
            .unwrap()
            .restore(directory, &KEY_FILE, None)
    };
    let error = restore(&fixture.data()).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
    let running = sealpost_service::DataDir::open(&fixture.data()).unwrap();
    let error = restore(&fixture.data()).unwrap_err();
    assert!(matches!(error, BackupError::DataDirectory(_)), "{error}");
    drop(running);
    let empty = fixture.path("empty");
    fs::create_dir(&empty).unwrap();
    restore(&empty).unwrap();
    let interrupted = fixture.path("new.unfinished");
    fs::create_dir(&interrupted).unwrap();
    let error = restore(&fixture.path("new")).unwrap_err();
    assert!(matches!(error, BackupError::Unfinished { .. }), "{error}");
    assert!(interrupted.exists(), "it may belong to a restore that runs");
}

#[tokio::test]
async fn backup_overwrites_nothing() {
    let fixture = Fixture::new().await;
    fs::write(fixture.path("backup"), "mine").unwrap();
    let error = fixture.back_up("backup").await.unwrap_err();
    assert!(matches!(error, BackupError::Exists { .. }), "{error}");
    assert_eq!(fs::read(fixture.path("backup")).unwrap(), b"mine");
    fs::write(fixture.path("other.unfinished"), "").unwrap();
    let error = fixture.back_up("other").await.unwrap_err();
    assert!(matches!(error, BackupError::Unfinished { .. }), "{error}");
    let data_key = open_data_key(&fixture.data());
    let (nothing, new) = (fixture.path("nothing"), fixture.path("new"));
    let error = create(&nothing, data_key, &new, recipient()).await;
    assert!(matches!(error, Err(BackupError::File { .. })), "{error:?}");
    assert_eq!(
        fixture.leftovers(&["data", "backup", "other.unfinished"]),
        [""; 0]
    );
}

#[tokio::test]
async fn concurrent_backups_are_refused() {
    let fixture = Fixture::new().await;
    let lock = lock(&fixture.data().join(LOCK_FILE)).unwrap();
    let error = fixture.back_up("backup").await.unwrap_err();
    assert!(matches!(error, BackupError::Running), "{error}");
    drop(lock);
    fs::write(
        fixture.data().join(COPY_FILE),
        "of a backup that was killed",
    )
    .unwrap();
    fixture.back_up("backup").await.unwrap();
    assert!(!fixture.data().join(COPY_FILE).exists());
}

#[tokio::test]
async fn stopped_backups_leave_nothing() {
    let fixture = Fixture::new().await;
    let stop = CancellationToken::new();
    stop.cancel();
    let (data, destination) = (fixture.data(), fixture.path("backup"));
    let protection = recipient();
    let stopped = create_until(
        &data,
        &open_data_key(&data),
        &destination,
        &protection,
        &stop,
    )
    .await;
    assert!(stopped.unwrap_err().to_string().contains("stopped"));
    assert_eq!(fixture.leftovers(&["data"]), [""; 0]);
    assert!(!data.join(COPY_FILE).exists());
}

#[test]
fn identity_files_are_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.txt");
    let write = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&format!("# created: today\n# public key: age1…\n{KEY}\n"));
    assert_eq!(read_identities(&path).unwrap().len(), 1);
    for text in ["", "# nothing\n", "AGE-SECRET-KEY-1"] {
        write(text);
        assert!(read_identities(&path).is_err(), "{text}");
    }
    write("secret\r\n");
    let protection = read_passphrase(&path).unwrap();
    drop(protection);
    write("\n");
    assert!(read_passphrase(&path).is_err());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = read_passphrase(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

fn decrypt(path: &Path) -> Vec<u8> {
    let sealpost_age::EncryptedFile::Recipients(file) =
        sealpost_age::EncryptedFile::read(File::open(path).unwrap()).unwrap()
    else {
        panic!("a passphrase");
    };
    let mut content = Vec::new();
    let mut decryptor = file.unlock(&[Identity::parse(KEY).unwrap()]).unwrap();
    io::Read::read_to_end(&mut decryptor, &mut content).unwrap();
    content
}

fn encrypt(path: &Path, content: &[u8]) {
    let recipient: Recipient = Identity::parse(KEY).unwrap().recipient();
    let output = File::create(path).unwrap();
    let mut rng = sealpost_service::entropy();
    let mut encryptor =
        sealpost_age::Encryptor::for_recipients(output, &[recipient], &mut rng).unwrap();
    encryptor.write_all(content).unwrap();
    encryptor.finish().unwrap();
}

fn list(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        io::Read::read_to_end(&mut entry, &mut content).unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        (name, content)
    });
    entries.collect()
}

fn pack(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        // `set_path` refuses the paths that an attacker would use.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.append(&header, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}
