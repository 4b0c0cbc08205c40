//! Sealed files on this node's disk: one file for each blob, exactly the bytes that travel. What is not complete has another
//! name, so nothing half-done is ever taken for a file.

use crate::fault::Fault;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use sealpost_e2ee::attachment::{BlobOpener, BlobSalt, BlobSealer, FileKey, SealStep, Sealed};
use sealpost_proto::{BlobId, limits};
use sha2::{Digest as _, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, SeekFrom},
};

/// The folder of sealed files.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
}

/// A file that was just sealed.
pub struct Staged {
    /// Its blob.
    pub blob: BlobId,
    /// Its key.
    pub file_key: FileKey,
    /// Its lengths and digest.
    pub sealed: Sealed,
    /// SHA-256 of the plaintext.
    pub sha256: [u8; 32],
    /// The first bytes of the plaintext, to tell its type.
    pub first_bytes: Vec<u8>,
}

/// What the parts that were fetched came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The file that its sender described, with the SHA-256 of its plaintext.
    Whole([u8; 32]),
    /// Another one.
    Other,
    /// The parts are not on this disk.
    Missing,
}

/// Why a file was not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// More than a file may have.
    #[error("the file is over {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// Fewer or more bytes came than were announced.
    #[error("{actual_bytes} bytes came, {announced_bytes} were announced")]
    Changed {
        /// What came.
        actual_bytes: u64,
        /// What was announced.
        announced_bytes: u64,
    },
    /// The caller went away.
    #[error("the upload was cut off")]
    CutOff,
    /// Our disk.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// How much of a file is looked at to tell its type.
const FIRST_BYTES: usize = limits::SNIFFED_BYTES;

impl Files {
    /// Opens the folder, and makes it when there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub async fn open(folder: PathBuf) -> io::Result<Self> {
        tokio::fs::create_dir_all(&folder).await?;
        Ok(Self { folder })
    }

    /// Removes what a crash left behind: whatever belongs to no blob that `is_known`, and what was only half sealed.
    ///
    /// # Errors
    /// When the folder cannot be read, or `is_known` fails.
    pub async fn remove_leftovers<F>(&self, is_known: impl Fn(BlobId) -> F) -> Result<(), Fault>
    where
        F: Future<Output = Result<bool, Fault>>,
    {
        let mut entries = tokio::fs::read_dir(&self.folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let path = entry.path();
            let blob = path.file_stem().and_then(|stem| stem.to_str()?.parse::<BlobId>().ok());
            let is_half_sealed = path.extension().is_some_and(|extension| extension == STAGING);
            let keep = match blob {
                Some(blob) if !is_half_sealed => is_known(blob).await?,
                _ => false,
            };
            if !keep {
                tracing::info!(file = %path.display(), "removed what an interrupted run left behind");
                tokio::fs::remove_file(path).await?;
            }
        }
        Ok(())
    }

    fn path(&self, blob: &BlobId) -> PathBuf {
        self.folder.join(blob.to_string())
    }

    fn half_done(&self, blob: &BlobId, extension: &str) -> PathBuf {
        self.folder.join(format!("{blob}.{extension}"))
    }

    /// Seals a file while it arrives, and returns when it is on disk. `announced` is the length that its sender said.
    ///
    /// # Errors
    /// [`StageError`]; nothing is left on disk then.
    pub async fn stage<S, E>(&self, body: S, announced: u64) -> Result<Staged, StageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        if announced > limits::FILE_BYTES_MAX {
            return Err(StageError::TooLarge { limit_bytes: limits::FILE_BYTES_MAX });
        }
        let blob = BlobId::from_bytes(sealpost_service::random_array());
        let path = self.half_done(&blob, STAGING);
        let staged = self.seal_into(&path, blob, body, announced).await;
        match staged {
            Ok(staged) => {
                tokio::fs::rename(&path, self.path(&blob)).await?;
                self.sync_folder().await?;
                Ok(staged)
            }
            Err(error) => {
                let _ = tokio::fs::remove_file(&path).await;
                Err(error)
            }
        }
    }

    async fn seal_into<S, E>(
        &self,
        path: &Path,
        blob: BlobId,
        mut body: S,
        announced: u64,
    ) -> Result<Staged, StageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let (file_key, salt) = {
            let mut rng = sealpost_service::entropy();
            (FileKey::generate(&mut rng), BlobSalt::generate(&mut rng))
        };
        let mut file = create(path).await?;
        let mut sealer = BlobSealer::new(&file_key, &salt);
        let mut sha256 = Sha256::new();
        let mut first_bytes = Vec::new();
        let mut actual = 0_u64;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| StageError::CutOff)?;
            actual += piece.len() as u64;
            if actual > announced {
                return Err(StageError::Changed { actual_bytes: actual, announced_bytes: announced });
            }
            sha256.update(&piece);
            first_bytes.extend(piece.iter().take(FIRST_BYTES - first_bytes.len()));
            let mut rest = &piece[..];
            while let Some(part) =
                sealer.push(&mut rest).map_err(|_| StageError::TooLarge { limit_bytes: limits::FILE_BYTES_MAX })?
            {
                file.write_all(part.bytes).await?;
            }
        }
        if actual != announced {
            return Err(StageError::Changed { actual_bytes: actual, announced_bytes: announced });
        }
        let mut tail = sealer.finish();
        let sealed = loop {
            match tail.step() {
                SealStep::Part(part) => file.write_all(part.bytes).await?,
                SealStep::Done(sealed) => break sealed,
            }
        };
        file.flush().await?;
        file.sync_all().await?;
        Ok(Staged { blob, file_key, sealed, sha256: sha256.finalize().into(), first_bytes })
    }

    /// Reads a range of a complete blob.
    ///
    /// # Errors
    /// When the file is missing, short or unreadable.
    pub async fn read_range(&self, blob: &BlobId, range: std::ops::Range<u64>) -> io::Result<Bytes> {
        let mut file = File::open(self.path(blob)).await?;
        file.seek(SeekFrom::Start(range.start)).await?;
        let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        file.read_exact(&mut bytes).await?;
        Ok(bytes.into())
    }

    /// Writes one part of a blob that is being fetched, and returns when it is on disk.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn write_part(&self, blob: &BlobId, at: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.half_done(blob, FETCHING);
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).await?;
        file.seek(SeekFrom::Start(at)).await?;
        file.write_all(bytes).await?;
        file.flush().await?;
        file.sync_data().await
    }

    /// Checks a blob that was fetched as a whole: keys, lengths, padding, digest. Only then does it get its name. One that
    /// has it already, because the process ended before that was written down, is checked where it is.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn verify_fetched(&self, blob: &BlobId, file_key: &FileKey, sealed: &Sealed) -> io::Result<Fetched> {
        if self.has(blob).await {
            let verified = verify(&self.path(blob), file_key, sealed).await?;
            return Ok(verified.map_or(Fetched::Other, Fetched::Whole));
        }
        let path = self.half_done(blob, FETCHING);
        if !tokio::fs::try_exists(&path).await? {
            return Ok(Fetched::Missing);
        }
        let Some(sha256) = verify(&path, file_key, sealed).await? else {
            tokio::fs::remove_file(&path).await?;
            return Ok(Fetched::Other);
        };
        tokio::fs::rename(&path, self.path(blob)).await?;
        self.sync_folder().await?;
        Ok(Fetched::Whole(sha256))
    }

    /// Whether a complete blob is here.
    pub async fn has(&self, blob: &BlobId) -> bool {
        tokio::fs::try_exists(self.path(blob)).await.unwrap_or(false)
    }

    /// The plaintext of a complete blob, part by part. An error ends the stream: what came before it is authentic, but the
    /// file is not whole.
    ///
    /// # Errors
    /// When the file is missing or its lengths are not the described ones.
    pub async fn read_plaintext(
        &self,
        blob: &BlobId,
        file_key: &FileKey,
        sealed: &Sealed,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        let reader = Reader::open(&self.path(blob), file_key, sealed).await?;
        Ok(futures_util::stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        }))
    }

    /// Removes a blob, in whatever state; one that is not there is no error.
    pub async fn remove(&self, blob: &BlobId) {
        for path in [self.path(blob), self.half_done(blob, FETCHING)] {
            if let Err(error) = tokio::fs::remove_file(&path).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a sealed file could not be removed");
            }
        }
    }

    async fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder).await?.sync_all().await
    }
}

const STAGING: &str = "staging";
const FETCHING: &str = "fetching";

async fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).await
}

/// Reads a sealed file part by part and opens each; holds one part in memory.
struct Reader {
    file: File,
    opener: Option<BlobOpener>,
    part: Vec<u8>,
}

impl Reader {
    async fn open(path: &Path, file_key: &FileKey, sealed: &Sealed) -> io::Result<Self> {
        let opener = BlobOpener::new(file_key, sealed).map_err(io::Error::other)?;
        Ok(Self { file: File::open(path).await?, opener: Some(opener), part: Vec::new() })
    }

    /// The plaintext of the next part; none after the last, when everything was verified.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(opener) = &mut self.opener else { return Ok(None) };
        let len = opener.next_part_bytes();
        if len == 0 {
            let opener = self.opener.take();
            let _verified = opener.map(BlobOpener::finish).transpose().map_err(io::Error::other)?;
            return Ok(None);
        }
        self.part.resize(len, 0);
        self.file.read_exact(&mut self.part).await?;
        let opened = opener.open_part(&mut self.part).map_err(io::Error::other)?;
        let mut plaintext = Vec::with_capacity(opened.pt_bytes());
        opened.for_each(|piece| plaintext.extend_from_slice(piece));
        Ok(Some(plaintext.into()))
    }
}

async fn verify(path: &Path, file_key: &FileKey, sealed: &Sealed) -> io::Result<Option<[u8; 32]>> {
    let Ok(opener) = BlobOpener::new(file_key, sealed) else { return Ok(None) };
    let file = File::open(path).await?;
    let mut reader = Reader { file, opener: Some(opener), part: Vec::new() };
    let mut sha256 = Sha256::new();
    loop {
        match reader.next().await {
            Ok(Some(piece)) => sha256.update(&piece),
            Ok(None) => return Ok(Some(sha256.finalize().into())),
            // Ours to report: the opener's own refusals are of kind `Other`.
            Err(error) if error.kind() == io::ErrorKind::Other || error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{TryStreamExt as _, stream};
    use std::convert::Infallible;

    const TEXT: &[u8] = b"a file of a few bytes";

    async fn files() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().join("files")).await.unwrap();
        (folder, files)
    }

    fn left(files: &Files) -> usize {
        std::fs::read_dir(&files.folder).unwrap().count()
    }

    async fn stage(files: &Files, pieces: &[&'static [u8]], announced: u64) -> Result<Staged, StageError> {
        let pieces = pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece)));
        files.stage(stream::iter(pieces), announced).await
    }

    async fn read(files: &Files, staged: &Staged) -> io::Result<Vec<u8>> {
        let pieces = files.read_plaintext(&staged.blob, &staged.file_key, &staged.sealed).await?;
        Ok(pieces.try_collect::<Vec<_>>().await?.concat())
    }

    /// The staged blob as it would come from a relay, into a folder of its own.
    async fn fetched(from: &Files, staged: &Staged, change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, Files) {
        let (folder, to) = files().await;
        let mut blob = from.read_range(&staged.blob, 0..staged.sealed.ct_len).await.unwrap().to_vec();
        change(&mut blob);
        to.write_part(&staged.blob, 0, &blob).await.unwrap();
        (folder, to)
    }

    async fn verify(files: &Files, staged: &Staged) -> Fetched {
        files.verify_fetched(&staged.blob, &staged.file_key, &staged.sealed).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_is_sealed_on_disk_and_reads_as_it_was() {
        let (_folder, files) = files().await;
        let staged = stage(&files, &[b"a file of ", b"", b"a few bytes"], TEXT.len() as u64).await.unwrap();
        assert_eq!(staged.sha256, <[u8; 32]>::from(Sha256::digest(TEXT)));
        assert_eq!((staged.first_bytes.as_slice(), staged.sealed.pt_len), (TEXT, TEXT.len() as u64));
        assert_eq!(read(&files, &staged).await.unwrap(), TEXT);
        let on_disk = std::fs::read(files.path(&staged.blob)).unwrap();
        assert!(!on_disk.windows(6).any(|window| window == b"a file"));
    }

    #[tokio::test]
    async fn what_is_not_as_announced_leaves_nothing() {
        let (_folder, files) = files().await;
        for announced in [0, TEXT.len() as u64 - 1, TEXT.len() as u64 + 1] {
            let refused = stage(&files, &[TEXT], announced).await.err();
            assert!(matches!(refused, Some(StageError::Changed { .. })), "{announced}");
            assert_eq!(left(&files), 0, "{announced}");
        }
        let refused = stage(&files, &[TEXT], limits::FILE_BYTES_MAX + 1).await.err();
        assert!(matches!(refused, Some(StageError::TooLarge { limit_bytes: limits::FILE_BYTES_MAX })));
        let cut = stream::iter([Ok(Bytes::from_static(TEXT)), Err(io::Error::other("gone"))]);
        assert!(matches!(files.stage(cut, 100).await, Err(StageError::CutOff)));
        assert_eq!(left(&files), 0);
    }

    #[tokio::test]
    async fn what_was_fetched_is_handed_out_only_when_it_is_what_was_described() {
        let (_folder, ours) = files().await;
        let staged = stage(&ours, &[TEXT], TEXT.len() as u64).await.unwrap();
        let (_folder, whole) = fetched(&ours, &staged, |_| ()).await;
        assert!(!whole.has(&staged.blob).await && read(&whole, &staged).await.is_err(), "not verified yet");
        assert_eq!(verify(&whole, &staged).await, Fetched::Whole(staged.sha256));
        assert_eq!(read(&whole, &staged).await.unwrap(), TEXT);
    }

    #[tokio::test]
    async fn what_was_changed_or_cut_on_the_way_is_thrown_away() {
        let (_folder, ours) = files().await;
        let staged = stage(&ours, &[TEXT], TEXT.len() as u64).await.unwrap();
        let changes: [fn(&mut Vec<u8>); 3] = [|blob| blob[100] ^= 1, |blob| blob[0] ^= 1, |blob| blob.truncate(4_000)];
        for change in changes {
            let (_folder, theirs) = fetched(&ours, &staged, change).await;
            assert_eq!(verify(&theirs, &staged).await, Fetched::Other);
            assert!(!theirs.has(&staged.blob).await && read(&theirs, &staged).await.is_err());
            assert_eq!(left(&theirs), 0);
        }
    }

    #[tokio::test]
    async fn what_an_interrupted_run_left_goes_and_what_rows_know_stays() {
        let (_folder, files) = files().await;
        let [known, unknown] = [stage(&files, &[TEXT], 21).await.unwrap(), stage(&files, &[TEXT], 21).await.unwrap()];
        let half = BlobId::from_bytes([1; 16]);
        files.write_part(&known.blob, 0, b"the rest comes later").await.unwrap();
        files.write_part(&half, 0, b"nobody waits for this").await.unwrap();
        std::fs::write(files.half_done(&half, STAGING), b"half sealed").unwrap();
        std::fs::write(files.folder.join("strange"), b"").unwrap();
        let is_known = |blob| std::future::ready(Ok(blob == known.blob));
        files.remove_leftovers(is_known).await.unwrap();
        assert_eq!(left(&files), 2, "the blob and what is being fetched of it");
        assert!(files.has(&known.blob).await && !files.has(&unknown.blob).await);
        assert_eq!(read(&files, &known).await.unwrap(), TEXT);
    }

    #[tokio::test]
    async fn a_file_that_was_named_before_the_process_ended_is_found_again() {
        let (_ours, ours) = files().await;
        let staged = stage(&ours, &[TEXT], TEXT.len() as u64).await.unwrap();
        let (_theirs, theirs) = files().await;
        assert_eq!(verify(&theirs, &staged).await, Fetched::Missing);
        let (_whole, whole) = fetched(&ours, &staged, |_| ()).await;
        for _ in 0..2 {
            assert_eq!(verify(&whole, &staged).await, Fetched::Whole(staged.sha256));
        }
        let other_key = FileKey::from_bytes([7; 32]);
        let other = whole.verify_fetched(&staged.blob, &other_key, &staged.sealed).await.unwrap();
        assert_eq!((other, whole.has(&staged.blob).await), (Fetched::Other, true), "another's file stays");
    }
}
