//! Upload of local files to the daemon.
//!
//! A file is checked before any byte is sent and again after the last one. If it changed in
//! between, the bytes sent may be a mixture of both versions, and the upload is discarded.

use super::{client::Client, error::CliError, progress_bars::ProgressBars, units};
use crate::api::{
    model::{Attachment, StageQuery},
    problem::{Problem, ProblemCode},
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream::unfold};
use sealpost_node_core::filename::FileName;
use sealpost_proto::limits::{FILE_BYTES_MAX, FILES_PER_MESSAGE_MAX, MESSAGE_FILES_BYTES_MAX};
use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};
use tokio::{sync::mpsc, task::spawn_blocking};

/// Size of one read.
const PIECE_BYTES: u64 = 256 * 1024;
/// Number of pieces read ahead of the network.
const READ_AHEAD_PIECES: usize = 2;

/// Local file that passed the checks before sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalFile {
    path: PathBuf,
    name: FileName,
    version: FileVersion,
}

/// Size and modification time, which reveal a change of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileVersion {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl FileVersion {
    fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl LocalFile {
    /// Checks all files of a message: their number, each file, and the total size.
    pub(super) fn check_all(paths: &[PathBuf]) -> Result<Vec<Self>, CliError> {
        if paths.len() > FILES_PER_MESSAGE_MAX {
            let detail = format!(
                "{} files; the limit is {FILES_PER_MESSAGE_MAX} per message",
                paths.len()
            );
            return Err(CliError::problem(ProblemCode::TooManyFiles, detail));
        }
        let files = paths
            .iter()
            .map(|path| Self::check(path))
            .collect::<Result<Vec<_>, _>>()?;
        let total = files
            .iter()
            .fold(0_u64, |sum, file| sum.saturating_add(file.version.bytes));
        if total > MESSAGE_FILES_BYTES_MAX {
            let (total, limit) = units::format_unequal(total, MESSAGE_FILES_BYTES_MAX);
            let detail = format!("the files have {total} in total; the limit is {limit}");
            return Err(CliError::problem(ProblemCode::FilesTooLarge, detail));
        }
        Ok(files)
    }

    fn check(path: &Path) -> Result<Self, CliError> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() {
            let next = format!(
                "pack it first, for example: tar -czf directory.tar.gz {}",
                units::shell_quote(&path.to_string_lossy())
            );
            return Err(CliError::failed(
                format!("{} is a directory", path.display()),
                next,
            ));
        }
        if !metadata.is_file() {
            let message = format!("{} is not a regular file", path.display());
            return Err(CliError::failed(
                message,
                "copy its content to a file first",
            ));
        }
        let version = FileVersion::from_metadata(&metadata);
        if version.bytes > FILE_BYTES_MAX {
            let (size, limit) = units::format_unequal(version.bytes, FILE_BYTES_MAX);
            let detail = format!("{} has {size}; the limit is {limit}", path.display());
            return Err(CliError::problem(ProblemCode::FileTooLarge, detail));
        }
        if !length_matches(path, version.bytes).map_err(|error| unreadable(path, &error))? {
            let message = format!(
                "the content of {} does not match its size of {} bytes",
                path.display(),
                version.bytes
            );
            let next = "wait until no program writes to the file; copy a file of /proc or /sys to \
                        a regular file first";
            return Err(CliError::failed(message, next));
        }
        Ok(Self {
            path: path.to_owned(),
            name: file_name(path)?,
            version,
        })
    }

    /// Uploads the file to the daemon.
    ///
    /// # Errors
    /// `file_changed` when the file changed meanwhile; then the upload is deleted.
    pub(super) async fn stage(
        &self,
        client: &Client,
        bars: &ProgressBars,
    ) -> Result<Attachment, CliError> {
        let file = File::open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        let bar = bars.add_local(self.name.as_str(), self.version.bytes);
        let progress = bar.clone();
        let pieces = read_ahead(file, self.version.bytes)
            .inspect_ok(move |piece| progress.inc(piece.len() as u64));
        let query = StageQuery {
            filename: self.name.as_str().to_owned(),
        };
        let body = reqwest::Body::wrap_stream(pieces);
        let staged: Result<Attachment, _> = client
            .upload(&["v1", "attachments"], &query, self.version.bytes, body)
            .await;
        bar.finish_and_clear();
        if self.is_unchanged() {
            return staged;
        }
        if let Ok(attachment) = staged {
            client
                .delete(&["v1", "attachments", &attachment.id])
                .await?;
        }
        let detail = format!("{} changed during the upload", self.path.display());
        Err(Problem::new(ProblemCode::FileChanged, detail).into())
    }

    fn is_unchanged(&self) -> bool {
        std::fs::metadata(&self.path)
            .is_ok_and(|metadata| FileVersion::from_metadata(&metadata) == self.version)
    }
}

/// Streams up to `bytes` bytes of a file, reading ahead of the consumer on a blocking thread.
fn read_ahead(mut file: File, bytes: u64) -> impl Stream<Item = io::Result<Bytes>> {
    let (sender, pieces) = mpsc::channel(READ_AHEAD_PIECES);
    spawn_blocking(move || {
        let mut remaining = bytes;
        while remaining > 0 {
            let next = remaining.min(PIECE_BYTES);
            let mut piece = Vec::with_capacity(usize::try_from(next).unwrap_or_default());
            let read = (&mut file).take(next).read_to_end(&mut piece);
            remaining = if read.as_ref().is_ok_and(|read| *read as u64 == next) {
                remaining - next
            } else {
                0
            };
            if sender
                .blocking_send(read.map(|_| Bytes::from(piece)))
                .is_err()
            {
                break;
            }
        }
    });
    unfold(pieces, |mut pieces| async {
        Some((pieces.recv().await?, pieces))
    })
}

/// Returns whether a file ends at its reported length. Files in `/proc` and `/sys` do not: the
/// kernel generates their content on reading.
fn length_matches(path: &Path, bytes: u64) -> io::Result<bool> {
    let file = File::open(path)?;
    let has_byte = |at| Ok::<_, io::Error>(file.read_at(&mut [0], at)? > 0);
    Ok(bytes.checked_sub(1).map_or(Ok(true), has_byte)? && !has_byte(bytes)?)
}

fn file_name(path: &Path) -> Result<FileName, CliError> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    FileName::parse(name).map_err(|refusal| {
        let detail = format!("{}: {refusal}", path.display());
        CliError::problem(ProblemCode::FileNameInvalid, detail)
    })
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(
        format!("cannot read {}: {error}", path.display()),
        "check the path and its permissions",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal_code(paths: &[PathBuf]) -> &'static str {
        LocalFile::check_all(paths).unwrap_err().code()
    }

    #[test]
    fn unsendable_files_are_refused_before_upload() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: u64| {
            let path = directory.path().join(name);
            File::create(&path).unwrap().set_len(bytes).unwrap();
            path
        };
        let largest = file("largest.bin", FILE_BYTES_MAX);
        assert_eq!(
            LocalFile::check_all(&vec![largest.clone(); 5])
                .unwrap()
                .len(),
            5
        );
        assert_eq!(refusal_code(&vec![largest; 6]), "too_many_files");
        assert_eq!(
            refusal_code(&[file("larger.bin", FILE_BYTES_MAX + 1)]),
            "file_too_large"
        );
        assert_eq!(refusal_code(&[file("a\u{202e}b", 1)]), "file_name_invalid");
        assert_eq!(refusal_code(&[directory.path().to_owned()]), "failed");
        assert_eq!(refusal_code(&[directory.path().join("none")]), "failed");
        assert_eq!(refusal_code(&["/dev/null".into()]), "failed");
        assert_eq!(
            refusal_code(&["/proc/self/status".into()]),
            "failed",
            "it reports a size of zero"
        );
        assert_eq!(
            LocalFile::check_all(&[file("empty.txt", 0)]).unwrap().len(),
            1
        );
    }
}
