//! Reading a verified blob: part by part, each opened before it is handed out.

use bytes::Bytes;
use sealpost_e2ee::attachment::{BlobOpener, FileKey, Sealed};
use std::{fs::File, io, io::Read as _, path::Path};

/// Opens a sealed file part by part; holds one part in memory.
pub(super) struct Reader {
    file: File,
    opener: Option<BlobOpener>,
    part: Vec<u8>,
}

impl Reader {
    pub(super) fn open(path: &Path, file_key: &FileKey, sealed: &Sealed) -> io::Result<Self> {
        let opener = BlobOpener::of_verified(file_key, sealed).map_err(io::Error::other)?;
        Ok(Self { file: File::open(path)?, opener: Some(opener), part: Vec::new() })
    }

    /// The plaintext of the next part; none after the last, when everything was checked.
    pub(super) fn next_part(&mut self) -> io::Result<Option<Bytes>> {
        let Some(opener) = &mut self.opener else { return Ok(None) };
        let len = opener.next_part_bytes();
        if len == 0 {
            let opener = self.opener.take();
            let _verified = opener.map(BlobOpener::finish).transpose().map_err(io::Error::other)?;
            return Ok(None);
        }
        self.part.resize(len, 0);
        self.file.read_exact(&mut self.part)?;
        let opened = opener.open_part(&mut self.part).map_err(io::Error::other)?;
        let mut plaintext = Vec::with_capacity(opened.pt_bytes());
        opened.for_each(|piece| plaintext.extend_from_slice(piece));
        Ok(Some(plaintext.into()))
    }
}
