//! The descriptor of an attachment, part of a message's body.

use super::{FileKey, Sealed};
use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};
use sealpost_proto::limits::{
    FILE_NAME_BYTES_MAX, MAP_ENTRIES_MAX, MIME_BYTES_MAX, PREVIEW_BYTES_MAX,
};
use sealpost_proto::{BlobId, BlobRef, FetchToken, Origin};

/// What a recipient needs to fetch, open and display one file.
///
/// The wire form is a CBOR map of definite length with ascending integer keys; unknown keys are
/// skipped (docs/e2ee-files-invites-vault.md#descriptor).
#[derive(Clone)]
pub struct Descriptor {
    /// Relay and id of the blob.
    pub blob: BlobRef,
    /// Token that authorises fetching the blob.
    pub fetch_token: FetchToken,
    /// Key of the blob.
    pub file_key: FileKey,
    /// Lengths and hash of the blob.
    pub sealed: Sealed,
    /// File name as the sender gave it: 1 to 255 bytes of UTF-8. It may contain any character.
    pub name: String,
    /// Media type as the sender claims it, up to 127 bytes; empty if unknown. Only a hint.
    pub mime: String,
    /// Small version of an image as the sender made it: 1 to 16,384 bytes. It may contain anything.
    pub preview: Option<Vec<u8>>,
}

impl Descriptor {
    /// Checks the limits that a recipient will enforce, before the descriptor is encoded.
    ///
    /// # Errors
    /// [`DescriptorError`] as from [`Descriptor::parse`].
    pub fn check(&self) -> Result<(), DescriptorError> {
        check_name(&self.name)?;
        check_mime(&self.mime)?;
        self.preview.as_deref().map(check_preview).transpose()?;
        check_lengths(&self.sealed)
    }

    /// Encodes the descriptor as one CBOR map.
    ///
    /// # Errors
    /// The writer's errors; a `Vec<u8>` has none.
    pub fn encode<W: Write>(&self, encoder: &mut Encoder<W>) -> Result<(), EncodeError<W::Error>> {
        encoder.map(if self.preview.is_some() { 10 } else { 9 })?;
        encoder.u8(key::RELAY)?.str(self.blob.relay.as_str())?;
        encoder.u8(key::BLOB_ID)?.bytes(self.blob.id.as_bytes())?;
        encoder
            .u8(key::FETCH_TOKEN)?
            .bytes(self.fetch_token.expose())?;
        encoder.u8(key::FILE_KEY)?.bytes(self.file_key.expose())?;
        encoder.u8(key::CT_LEN)?.u64(self.sealed.ct_len)?;
        encoder.u8(key::CT_HASH)?.bytes(&self.sealed.ct_hash)?;
        encoder.u8(key::PT_LEN)?.u64(self.sealed.pt_len)?;
        encoder.u8(key::NAME)?.str(&self.name)?;
        encoder.u8(key::MIME)?.str(&self.mime)?;
        if let Some(preview) = &self.preview {
            encoder.u8(key::PREVIEW)?.bytes(preview)?;
        }
        Ok(())
    }

    /// Decodes one descriptor at the decoder's position.
    ///
    /// # Errors
    /// [`DescriptorError`] for the first problem found.
    pub fn parse(decoder: &mut Decoder<'_>) -> Result<Self, DescriptorError> {
        let mut entries = Entries::default();
        let count = decoder
            .map()?
            .filter(|count| *count <= MAP_ENTRIES_MAX)
            .ok_or(DescriptorError::Malformed)?;
        let mut last = None;
        for _ in 0..count {
            let key = decoder.u64()?;
            if last.is_some_and(|last| key <= last) {
                return Err(DescriptorError::Malformed);
            }
            last = Some(key);
            entries.read_entry(key, decoder)?;
        }
        entries.into_descriptor()
    }
}

/// Error when a descriptor is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Not a CBOR map of the required form.
    #[error("not a descriptor: malformed, or its keys do not ascend")]
    Malformed,
    /// A required entry is missing.
    #[error("the descriptor has no entry {key}")]
    Missing {
        /// The integer key of the entry.
        key: u8,
    },
    /// The relay is not an origin in canonical form.
    #[error("the descriptor's relay is not a canonical origin")]
    Relay,
    /// The file name is empty or too long.
    #[error("file name of {actual_bytes} bytes, allowed are 1 to {limit_bytes}")]
    Name {
        /// The length found.
        actual_bytes: usize,
        /// [`FILE_NAME_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// The media type is too long.
    #[error("media type of {actual_bytes} bytes, limit {limit_bytes}")]
    Mime {
        /// The length found.
        actual_bytes: usize,
        /// [`MIME_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// The preview is empty or too long.
    #[error("preview of {actual_bytes} bytes, allowed are 1 to {limit_bytes}")]
    Preview {
        /// The length found.
        actual_bytes: usize,
        /// [`PREVIEW_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// A length exceeds its limit, or `ct_len` does not follow from `pt_len`.
    #[error("the descriptor's lengths exceed a limit or do not match")]
    Lengths,
}

impl From<DecodeError> for DescriptorError {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

mod key {
    pub(super) const RELAY: u8 = 0;
    pub(super) const BLOB_ID: u8 = 1;
    pub(super) const FETCH_TOKEN: u8 = 2;
    pub(super) const FILE_KEY: u8 = 3;
    pub(super) const CT_LEN: u8 = 4;
    pub(super) const CT_HASH: u8 = 5;
    pub(super) const PT_LEN: u8 = 6;
    pub(super) const NAME: u8 = 7;
    pub(super) const MIME: u8 = 8;
    pub(super) const PREVIEW: u8 = 9;
}

/// Entries of a descriptor while it is decoded.
#[derive(Default)]
struct Entries {
    relay: Option<Origin>,
    blob_id: Option<BlobId>,
    fetch_token: Option<FetchToken>,
    file_key: Option<FileKey>,
    ct_len: Option<u64>,
    ct_hash: Option<[u8; 32]>,
    pt_len: Option<u64>,
    name: Option<String>,
    mime: Option<String>,
    preview: Option<Vec<u8>>,
}

impl Entries {
    fn read_entry(&mut self, key: u64, decoder: &mut Decoder<'_>) -> Result<(), DescriptorError> {
        match u8::try_from(key).unwrap_or(u8::MAX) {
            key::RELAY => self.relay = Some(parse_relay(decoder.str()?)?),
            key::BLOB_ID => self.blob_id = Some(BlobId::from_bytes(parse_bytes(decoder)?)),
            key::FETCH_TOKEN => {
                self.fetch_token = Some(FetchToken::from_bytes(parse_bytes(decoder)?))
            }
            key::FILE_KEY => self.file_key = Some(FileKey::from_bytes(parse_bytes(decoder)?)),
            key::CT_LEN => self.ct_len = Some(decoder.u64()?),
            key::CT_HASH => self.ct_hash = Some(parse_bytes(decoder)?),
            key::PT_LEN => self.pt_len = Some(decoder.u64()?),
            key::NAME => self.name = Some(check_name(decoder.str()?)?.to_owned()),
            key::MIME => self.mime = Some(check_mime(decoder.str()?)?.to_owned()),
            key::PREVIEW => self.preview = Some(check_preview(decoder.bytes()?)?.to_vec()),
            _ => decoder.skip()?,
        }
        Ok(())
    }

    fn into_descriptor(self) -> Result<Descriptor, DescriptorError> {
        let missing = |key| DescriptorError::Missing { key };
        let relay = self.relay.ok_or(missing(key::RELAY))?;
        let id = self.blob_id.ok_or(missing(key::BLOB_ID))?;
        let fetch_token = self.fetch_token.ok_or(missing(key::FETCH_TOKEN))?;
        let file_key = self.file_key.ok_or(missing(key::FILE_KEY))?;
        let ct_len = self.ct_len.ok_or(missing(key::CT_LEN))?;
        let ct_hash = self.ct_hash.ok_or(missing(key::CT_HASH))?;
        let pt_len = self.pt_len.ok_or(missing(key::PT_LEN))?;
        let name = self.name.ok_or(missing(key::NAME))?;
        let mime = self.mime.ok_or(missing(key::MIME))?;
        let sealed = Sealed {
            ct_len,
            ct_hash,
            pt_len,
        };
        check_lengths(&sealed)?;
        Ok(Descriptor {
            blob: BlobRef { relay, id },
            fetch_token,
            file_key,
            sealed,
            name,
            mime,
            preview: self.preview,
        })
    }
}

fn parse_bytes<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], DescriptorError> {
    decoder
        .bytes()?
        .try_into()
        .map_err(|_| DescriptorError::Malformed)
}

fn parse_relay(text: &str) -> Result<Origin, DescriptorError> {
    Origin::parse(text)
        .ok()
        .filter(|origin| origin.as_str() == text)
        .ok_or(DescriptorError::Relay)
}

fn check_name(name: &str) -> Result<&str, DescriptorError> {
    match name.len() {
        1..=FILE_NAME_BYTES_MAX => Ok(name),
        actual_bytes => Err(DescriptorError::Name {
            actual_bytes,
            limit_bytes: FILE_NAME_BYTES_MAX,
        }),
    }
}

fn check_mime(mime: &str) -> Result<&str, DescriptorError> {
    match mime.len() {
        0..=MIME_BYTES_MAX => Ok(mime),
        actual_bytes => Err(DescriptorError::Mime {
            actual_bytes,
            limit_bytes: MIME_BYTES_MAX,
        }),
    }
}

fn check_preview(preview: &[u8]) -> Result<&[u8], DescriptorError> {
    match preview.len() {
        1..=PREVIEW_BYTES_MAX => Ok(preview),
        actual_bytes => Err(DescriptorError::Preview {
            actual_bytes,
            limit_bytes: PREVIEW_BYTES_MAX,
        }),
    }
}

fn check_lengths(sealed: &Sealed) -> Result<(), DescriptorError> {
    if sealed.has_valid_lengths() {
        Ok(())
    } else {
        Err(DescriptorError::Lengths)
    }
}
