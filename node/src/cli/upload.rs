//! Files on their way into the daemon: looked at before any byte moves, streamed, and looked at again, because a file
//! that changed in between would arrive as something that never existed.

use super::{bars::Bars, client::Client, error::CliError, units};
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

/// Read and handed on at a time.
const PIECE_BYTES: u64 = 256 * 1024;
/// Pieces that are read ahead.
const PIECES_AHEAD: usize = 2;

/// A file that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalFile {
    path: PathBuf,
    name: FileName,
    state: State,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl LocalFile {
    /// Looks at all files of a message.
    ///
    /// # Errors
    /// The first that cannot be sent, or what is too much together.
    pub(super) fn check_all(paths: &[PathBuf]) -> Result<Vec<Self>, CliError> {
        if paths.len() > FILES_PER_MESSAGE_MAX {
            let detail = format!(
                "{} files, the limit is {FILES_PER_MESSAGE_MAX} in one message",
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
            .fold(0_u64, |sum, file| sum.saturating_add(file.state.bytes));
        if total > MESSAGE_FILES_BYTES_MAX {
            let limit = units::size(MESSAGE_FILES_BYTES_MAX);
            let detail = format!(
                "the files have {} together, the limit is {limit}",
                units::size(total)
            );
            return Err(CliError::problem(ProblemCode::FilesTooLarge, detail));
        }
        Ok(files)
    }

    fn check(path: &Path) -> Result<Self, CliError> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() {
            let next = format!(
                "pack it first, as in: tar -czf folder.tar.gz {}",
                units::quoted(&path.to_string_lossy())
            );
            return Err(CliError::refused(
                format!("{} is a folder", path.display()),
                next,
            ));
        }
        if !metadata.is_file() {
            let what = format!("{} is not a regular file", path.display());
            return Err(CliError::refused(what, "save its content in a file first"));
        }
        let state = State::of(&metadata);
        if state.bytes > FILE_BYTES_MAX {
            let (size, limit) = (units::size(state.bytes), units::size(FILE_BYTES_MAX));
            let detail = format!("{} has {size}, the limit is {limit}", path.display());
            return Err(CliError::problem(ProblemCode::FileTooLarge, detail));
        }
        if !has_length(path, state.bytes).map_err(|error| unreadable(path, &error))? {
            let what = format!(
                "{} holds more or less than the {} bytes that it says",
                path.display(),
                state.bytes
            );
            let next = "wait until nothing writes to it; of a file that the system makes up, save the content in another";
            return Err(CliError::refused(what, next));
        }
        Ok(Self {
            path: path.to_owned(),
            name: file_name(path)?,
            state,
        })
    }

    /// Hands the file to the daemon.
    ///
    /// # Errors
    /// `file_changed` when it is not what it was; then the daemon keeps nothing of it. Else what the daemon refuses.
    pub(super) async fn stage(&self, client: &Client, bars: &Bars) -> Result<Attachment, CliError> {
        let file = File::open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        let bar = bars.own(self.name.as_str(), self.state.bytes);
        let moved = bar.clone();
        let pieces = read_ahead(file, self.state.bytes)
            .inspect_ok(move |piece| moved.inc(piece.len() as u64));
        let query = StageQuery {
            filename: self.name.as_str().to_owned(),
        };
        let body = reqwest::Body::wrap_stream(pieces);
        let staged: Result<Attachment, _> = client
            .upload(&["v1", "attachments"], &query, self.state.bytes, body)
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
        let detail = format!("{} changed while it was read", self.path.display());
        Err(Problem::new(ProblemCode::FileChanged, detail).into())
    }

    fn is_unchanged(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|metadata| State::of(&metadata) == self.state)
    }
}

/// The first so many bytes of a file, or fewer when it ends before; read while those before them are on their way.
fn read_ahead(mut file: File, bytes: u64) -> impl Stream<Item = io::Result<Bytes>> {
    let (ahead, pieces) = mpsc::channel(PIECES_AHEAD);
    spawn_blocking(move || {
        let mut left = bytes;
        while left > 0 {
            let next = left.min(PIECE_BYTES);
            let mut piece = Vec::with_capacity(usize::try_from(next).unwrap_or_default());
            let read = (&mut file).take(next).read_to_end(&mut piece);
            left = if read.as_ref().is_ok_and(|read| *read as u64 == next) {
                left - next
            } else {
                0
            };
            if ahead
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

/// What the kernel makes up as it is read, as in `/proc` and `/sys`, has a length that means nothing.
fn has_length(path: &Path, bytes: u64) -> io::Result<bool> {
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
    CliError::refused(
        format!("{} cannot be read: {error}", path.display()),
        "check the path and its permissions",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(paths: &[PathBuf]) -> &'static str {
        LocalFile::check_all(paths).unwrap_err().code()
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_a_byte_moves() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: u64| {
            let path = folder.path().join(name);
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
        assert_eq!(refusal(&vec![largest; 6]), "too_many_files");
        assert_eq!(
            refusal(&[file("larger.bin", FILE_BYTES_MAX + 1)]),
            "file_too_large"
        );
        assert_eq!(refusal(&[file("a\u{202e}b", 1)]), "file_name_invalid");
        assert_eq!(refusal(&[folder.path().to_owned()]), "refused");
        assert_eq!(refusal(&[folder.path().join("none")]), "refused");
        assert_eq!(refusal(&["/dev/null".into()]), "refused");
        assert_eq!(
            refusal(&["/proc/self/status".into()]),
            "refused",
            "it says that it is empty"
        );
        assert_eq!(
            LocalFile::check_all(&[file("empty.txt", 0)]).unwrap().len(),
            1
        );
    }
}
