//! Decrypting reader of a verified blob.

use bytes::Bytes;
use sealpost_e2ee::attachment::{BlobOpener, FileKey, Sealed};
use sealpost_proto::limits::CHUNK_BYTES;
use std::{fs::File, io, io::Read as _, path::Path};

/// Size of the plaintext pieces.
const PIECE_BYTES: usize = 4 * CHUNK_BYTES;

/// Decrypts a sealed file chunk by chunk, with one piece in memory.
pub(super) struct Reader {
    file: File,
    opener: Option<BlobOpener>,
    chunk: Vec<u8>,
}

impl Reader {
    pub(super) fn open(path: &Path, file_key: &FileKey, sealed: &Sealed) -> io::Result<Self> {
        let opener = BlobOpener::for_verified(file_key, sealed).map_err(io::Error::other)?;
        Ok(Self {
            file: File::open(path)?,
            opener: Some(opener),
            chunk: Vec::new(),
        })
    }

    /// Returns the next piece of plaintext, or `None` after the end has been verified.
    pub(super) fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        while let Some(opener) = &mut self.opener
            && piece.len() < PIECE_BYTES
        {
            self.chunk.resize(opener.next_chunk_bytes(), 0);
            if self.chunk.is_empty() {
                let opener = self.opener.take();
                let _verified = opener
                    .map(BlobOpener::finish)
                    .transpose()
                    .map_err(io::Error::other)?;
                break;
            }
            self.file.read_exact(&mut self.chunk)?;
            piece.extend_from_slice(
                opener
                    .open_chunk(&mut self.chunk)
                    .map_err(io::Error::other)?,
            );
        }
        Ok((!piece.is_empty()).then(|| piece.into()))
    }
}
