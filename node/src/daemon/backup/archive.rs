//! The archive inside a backup: a tar file with exactly the files of a data directory, so that
//! `age -d` and `tar` can restore a node as well.
//!
//! The first entry describes the backup. The last one has the SHA-256 digest of every other entry,
//! as `sha256sum` writes it, so that an archive without it is incomplete.

use super::error::BackupError;
use crate::{
    config::CONFIG_FILE,
    daemon::{
        serve::{DATABASE_FILE, FILES_DIR},
        vault::{DATA_KEY_FILE, KEY_FILE},
    },
    files::DiskFileId,
    hex,
};
use sealpost_proto::{Timestamp, limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Write},
};

/// Name of the first entry.
const INFO_FILE: &str = "backup.json";
/// Name of the last entry.
const DIGESTS_FILE: &str = "SHA256SUMS";
const FORMAT: &str = "sealpost-node-backup";
/// Version of the archive; it changes when older programs cannot restore it.
const VERSION: u32 = 1;
const PRIVATE_FILE: u32 = 0o600;

/// Description of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupInfo {
    format: String,
    version: u32,
    /// Version of the program that made the backup.
    pub(crate) program: String,
    /// Version of the schema of the database.
    pub(crate) schema: u32,
    /// When the backup was made, for people.
    pub(crate) created_at: String,
    /// Name of the node.
    pub(crate) name: String,
    /// Fingerprint of its identity in hexadecimal.
    pub(crate) fingerprint: String,
    /// Home relay.
    pub(crate) relay: String,
}

/// What only the node knows about its backup.
pub(super) struct NodeDescription {
    pub(super) name: String,
    pub(super) fingerprint: String,
    pub(super) relay: String,
}

impl BackupInfo {
    pub(super) fn new(node: NodeDescription, schema: u32, now: Timestamp) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            schema,
            created_at: crate::utc::format_minute(now),
            name: node.name,
            fingerprint: node.fingerprint,
            relay: node.relay,
        }
    }

    fn parse(json: &[u8], schema_supported: u32) -> Result<Self, BackupError> {
        let info: Self = serde_json::from_slice(json).map_err(|_| BackupError::NotABackup)?;
        if info.format != FORMAT {
            return Err(BackupError::NotABackup);
        }
        if info.version > VERSION || info.schema > schema_supported {
            return Err(BackupError::Newer {
                program: info.program,
            });
        }
        Ok(info)
    }
}

/// File of a data directory that a backup contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryName {
    Config,
    KeyFile,
    DataKey,
    Database,
    File(DiskFileId),
}

impl EntryName {
    fn parse(name: &str) -> Option<Self> {
        match name {
            CONFIG_FILE => Some(Self::Config),
            KEY_FILE => Some(Self::KeyFile),
            DATA_KEY_FILE => Some(Self::DataKey),
            DATABASE_FILE => Some(Self::Database),
            other => {
                let file = other.strip_prefix(FILES_DIR)?.strip_prefix('/')?;
                DiskFileId::parse(file).map(Self::File)
            }
        }
    }

    const fn bytes_max(self) -> u64 {
        match self {
            Self::Config | Self::KeyFile | Self::DataKey => limits::SECRET_FILE_BYTES_MAX,
            Self::Database => u64::MAX,
            Self::File(_) => limits::BLOB_BYTES_MAX,
        }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str(CONFIG_FILE),
            Self::KeyFile => f.write_str(KEY_FILE),
            Self::DataKey => f.write_str(DATA_KEY_FILE),
            Self::Database => f.write_str(DATABASE_FILE),
            Self::File(file) => write!(f, "{FILES_DIR}/{file}"),
        }
    }
}

/// Writer of an archive.
pub(super) struct ArchiveWriter<W: Write> {
    tar: tar::Builder<W>,
    modified_at: u64,
    /// Lines of the last entry.
    digests: String,
}

impl<W: Write> ArchiveWriter<W> {
    /// Starts an archive with its description.
    pub(super) fn start(output: W, info: &BackupInfo, now: Timestamp) -> io::Result<Self> {
        let mut archive = Self {
            tar: tar::Builder::new(output),
            modified_at: now.as_millis() / 1_000,
            digests: String::new(),
        };
        let json = serde_json::to_vec_pretty(info)?;
        archive.append(INFO_FILE, json.len() as u64, json.as_slice())?;
        Ok(archive)
    }

    pub(super) fn add(
        &mut self,
        name: EntryName,
        bytes: u64,
        content: impl Read,
    ) -> io::Result<()> {
        self.append(&name.to_string(), bytes, content)
    }

    fn append(&mut self, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes);
        header.set_mode(PRIVATE_FILE);
        header.set_mtime(self.modified_at);
        let mut content = DigestingReader::new(content.take(bytes));
        self.tar.append_data(&mut header, name, &mut content)?;
        if content.bytes != bytes {
            let reason = format!("{name} became shorter while it was read");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        self.digests += &digest_line(&content.finish(), name);
        Ok(())
    }

    /// Writes the last entry and returns the output.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let digests = std::mem::take(&mut self.digests);
        self.append(DIGESTS_FILE, digests.len() as u64, digests.as_bytes())?;
        self.tar.into_inner()
    }
}

fn digest_line(digest: &[u8], name: &str) -> String {
    format!("{}  {name}\n", hex::encode(digest))
}

/// Receiver of the entries of an archive.
pub(super) trait EntrySink {
    /// Accepts or refuses the backup before anything else of it is read.
    fn start(&mut self, info: &BackupInfo) -> Result<(), BackupError>;

    /// Stores one entry.
    fn store(
        &mut self,
        name: EntryName,
        bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), BackupError>;
}

/// Reads an archive to its end and checks that it is complete.
pub(super) fn read<R: Read>(
    input: R,
    schema_supported: u32,
    sink: &mut impl EntrySink,
) -> Result<(BackupInfo, R), BackupError> {
    let mut archive = tar::Archive::new(input);
    let mut entries = archive.entries().map_err(BackupError::from_read)?;
    let mut next = || -> Result<Option<(String, tar::Entry<'_, R>)>, BackupError> {
        match entries.next().transpose().map_err(BackupError::from_read)? {
            Some(entry) if entry.header().entry_type().is_file() => {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                Ok(Some((name, entry)))
            }
            Some(_) => Err(BackupError::Damaged(
                "it has an entry that is no file".to_owned(),
            )),
            None => Ok(None),
        }
    };
    let mut digests = BTreeMap::new();
    let info = match next()? {
        Some((name, entry)) if name == INFO_FILE => {
            let (json, digest) = read_small(entry, limits::SECRET_FILE_BYTES_MAX)?;
            digests.insert(name, digest);
            BackupInfo::parse(&json, schema_supported)?
        }
        _ => return Err(BackupError::NotABackup),
    };
    sink.start(&info)?;
    let expected = loop {
        let incomplete = || BackupError::Damaged("it is incomplete".to_owned());
        let (name, entry) = next()?.ok_or_else(incomplete)?;
        if name == DIGESTS_FILE {
            break read_small(entry, limits::BACKUP_DIGESTS_BYTES_MAX)?.0;
        }
        let digest = read_entry(&name, entry, sink)?;
        if digests.insert(name, digest).is_some() {
            return Err(BackupError::Damaged("an entry occurs twice".to_owned()));
        }
    };
    if next()?.is_some() {
        return Err(BackupError::Damaged("data follows its end".to_owned()));
    }
    check_digests(&digests, &expected)?;
    Ok((info, archive.into_inner()))
}

fn read_entry<R: Read>(
    name: &str,
    entry: tar::Entry<'_, R>,
    sink: &mut impl EntrySink,
) -> Result<Vec<u8>, BackupError> {
    let bytes = entry.size();
    let unexpected = || BackupError::Damaged(format!("it has an unexpected entry {name:?}"));
    let entry_name = EntryName::parse(name)
        .filter(|name| bytes <= name.bytes_max())
        .ok_or_else(unexpected)?;
    let mut content = DigestingReader::new(entry);
    sink.store(entry_name, bytes, &mut content)?;
    if content.bytes != bytes {
        return Err(BackupError::Damaged("it is incomplete".to_owned()));
    }
    Ok(content.finish())
}

/// Reads an entry of bounded size into memory, with its digest.
fn read_small(entry: impl Read, bytes_max: u64) -> Result<(Vec<u8>, Vec<u8>), BackupError> {
    let mut content = Vec::new();
    let mut bounded = entry.take(bytes_max + 1);
    bounded
        .read_to_end(&mut content)
        .map_err(BackupError::from_read)?;
    if content.len() as u64 > bytes_max {
        return Err(BackupError::Damaged("an entry is too large".to_owned()));
    }
    let digest = Sha256::digest(&content).to_vec();
    Ok((content, digest))
}

fn check_digests(digests: &BTreeMap<String, Vec<u8>>, expected: &[u8]) -> Result<(), BackupError> {
    let mut lines: Vec<String> = digests
        .iter()
        .map(|(name, digest)| digest_line(digest, name))
        .collect();
    let text = std::str::from_utf8(expected).unwrap_or_default();
    let mut listed: Vec<&str> = text.split_inclusive('\n').collect();
    lines.sort_unstable();
    listed.sort_unstable();
    if lines == listed {
        Ok(())
    } else {
        let reason = "its entries are not the ones that its list of digests names";
        Err(BackupError::Damaged(reason.to_owned()))
    }
}

/// Reader that computes the digest of what is read.
struct DigestingReader<R> {
    input: R,
    digest: Sha256,
    bytes: u64,
}

impl<R: Read> DigestingReader<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            digest: Sha256::new(),
            bytes: 0,
        }
    }

    fn finish(self) -> Vec<u8> {
        self.digest.finalize().to_vec()
    }
}

impl<R: Read> Read for DigestingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.digest.update(&buffer[..len]);
        self.bytes += len as u64;
        Ok(len)
    }
}
