//! The header: version line, recipient stanzas, and the MAC over both.

use crate::file_key::{FileKey, MAC_BYTES};
use crate::passphrase::{SCRYPT_TYPE, ScryptStanza, ScryptStanzaError};
use crate::primitive::{decode_base64_array, encode_base64};
use crate::stanza::{STANZA_PREFIX, Stanza};
use crate::x25519::{MalformedX25519Stanza, X25519_TYPE, X25519Stanza};
use sealpost_proto::limits::{AGE_HEADER_BYTES_MAX, SCRYPT_WORK_FACTOR_MAX};
use std::io::{self, BufRead, Read as _};

const VERSION_PREFIX: &[u8] = b"age-encryption.org/";
const VERSION_LINE: &str = "age-encryption.org/v1\n";
/// Start of the last line. The MAC covers the header up to here.
const MAC_PREFIX: &str = "---";

/// Error when a file does not start with a header that this crate supports.
#[derive(Debug, thiserror::Error)]
pub enum ReadHeaderError {
    /// Reading failed.
    #[error(transparent)]
    Input(#[from] io::Error),
    /// The file has no version line.
    #[error("not an age file")]
    NotAge,
    /// The version is not v1.
    #[error("the file has a version of the age format other than v1")]
    UnsupportedVersion,
    /// The file ends within the header or before the payload.
    #[error("the file is incomplete: it ends in its header")]
    Incomplete,
    /// The header does not follow the specification.
    #[error("the file is damaged: its header is malformed")]
    Malformed,
    /// The header exceeds [`AGE_HEADER_BYTES_MAX`].
    #[error("the file's header is larger than {AGE_HEADER_BYTES_MAX} bytes")]
    TooLarge,
    /// Deriving the key would take more memory and time than [`SCRYPT_WORK_FACTOR_MAX`] allows.
    #[error("the file's work factor for its passphrase is above {SCRYPT_WORK_FACTOR_MAX}")]
    WorkFactorTooHigh,
}

/// Header of a file.
pub(crate) struct Header {
    /// The bytes that the MAC covers.
    covered: Vec<u8>,
    stanzas: Vec<Stanza>,
    mac: [u8; MAC_BYTES],
}

/// The stanzas that wrap the file key, by their type.
pub(crate) enum KeyStanzas {
    Passphrase(ScryptStanza),
    /// Without stanzas of unknown types, which the specification says to ignore.
    Recipients(Vec<X25519Stanza>),
}

impl Header {
    /// Creates the header of a new file.
    pub(crate) fn new(stanzas: Vec<Stanza>, file_key: &FileKey) -> Self {
        let mut text = VERSION_LINE.to_owned();
        stanzas.iter().for_each(|stanza| stanza.encode(&mut text));
        text.push_str(MAC_PREFIX);
        let covered = text.into_bytes();
        let mac = file_key.header_mac(&covered);
        Self {
            covered,
            stanzas,
            mac,
        }
    }

    /// Encodes the header with the line break at its end.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let end = format!(" {}\n", encode_base64(&self.mac));
        [self.covered.as_slice(), end.as_bytes()].concat()
    }

    /// Reads a header and leaves `input` behind it.
    pub(crate) fn read(input: &mut impl BufRead) -> Result<Self, ReadHeaderError> {
        let mut text = Vec::new();
        let mut line_start = 0;
        let mut is_complete = read_line(input, &mut text)?;
        check_version_line(&text)?;
        while is_complete && !text[line_start..].starts_with(MAC_PREFIX.as_bytes()) {
            line_start = text.len();
            is_complete = read_line(input, &mut text)?;
        }
        if is_complete {
            Self::parse(text).ok_or(ReadHeaderError::Malformed)
        } else if text.len() < AGE_HEADER_BYTES_MAX {
            Err(ReadHeaderError::Incomplete)
        } else {
            Err(ReadHeaderError::TooLarge)
        }
    }

    /// Parses a header that ends with its MAC and a line break.
    fn parse(text: Vec<u8>) -> Option<Self> {
        let mut lines = text.strip_suffix(b"\n")?.split(|&byte| byte == b'\n');
        let _version = lines.next()?;
        let mut stanzas = Vec::new();
        let mac = loop {
            let line = lines.next()?;
            match line.strip_prefix(STANZA_PREFIX.as_bytes()) {
                Some(arguments) => stanzas.push(Stanza::parse(arguments, &mut lines)?),
                None => break line.strip_prefix(MAC_PREFIX.as_bytes())?,
            }
        };
        let covered_bytes = text.len() - mac.len() - b"\n".len();
        let mac = decode_base64_array(mac.strip_prefix(b" ")?)?;
        if stanzas.is_empty() {
            return None;
        }
        let mut covered = text;
        covered.truncate(covered_bytes);
        Some(Self {
            covered,
            stanzas,
            mac,
        })
    }

    /// Parses the stanzas that wrap the file key. A stanza for a passphrase must be the only one of
    /// the header: whoever knows the passphrase expects that only others who know it can have made
    /// the file.
    pub(crate) fn key_stanzas(&self) -> Result<KeyStanzas, ReadHeaderError> {
        let is_scrypt = |stanza: &Stanza| stanza.recipient_type() == SCRYPT_TYPE;
        match self.stanzas.as_slice() {
            [stanza] if is_scrypt(stanza) => {
                return Ok(KeyStanzas::Passphrase(ScryptStanza::parse(stanza)?));
            }
            stanzas if stanzas.iter().any(is_scrypt) => return Err(ReadHeaderError::Malformed),
            _ => {}
        }
        let stanzas = self
            .stanzas
            .iter()
            .filter(|stanza| stanza.recipient_type() == X25519_TYPE)
            .map(X25519Stanza::parse)
            .collect::<Result<_, _>>()?;
        Ok(KeyStanzas::Recipients(stanzas))
    }

    #[cfg(test)]
    pub(crate) fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Whether the file key's owner made this header.
    pub(crate) fn is_authentic(&self, file_key: &FileKey) -> bool {
        file_key.is_header_mac(&self.covered, &self.mac)
    }
}

/// Appends one line with its line break to `text`. Returns whether the line is complete; it is not
/// where the input or the space for the header ends.
fn read_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    let allowed = AGE_HEADER_BYTES_MAX - text.len();
    let len = input.take(allowed as u64).read_until(b'\n', text)?;
    Ok(len > 0 && text.ends_with(b"\n"))
}

/// Checks the first line. An incomplete one is accepted if it starts correctly.
fn check_version_line(line: &[u8]) -> Result<(), ReadHeaderError> {
    let version = line
        .strip_prefix(VERSION_PREFIX)
        .ok_or(ReadHeaderError::NotAge)?;
    match version.strip_suffix(b"\n") {
        None | Some(b"v1") => Ok(()),
        Some(version) if !version.is_empty() && version.iter().all(u8::is_ascii_graphic) => {
            Err(ReadHeaderError::UnsupportedVersion)
        }
        Some(_) => Err(ReadHeaderError::Malformed),
    }
}

impl From<ScryptStanzaError> for ReadHeaderError {
    fn from(error: ScryptStanzaError) -> Self {
        match error {
            ScryptStanzaError::Malformed => Self::Malformed,
            ScryptStanzaError::WorkFactorTooHigh => Self::WorkFactorTooHigh,
        }
    }
}

impl From<MalformedX25519Stanza> for ReadHeaderError {
    fn from(_: MalformedX25519Stanza) -> Self {
        Self::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, repeat};

    /// Header with one stanza of an unknown type, of `bytes` in all.
    fn padded_header(bytes: usize) -> Vec<u8> {
        let mac = "A".repeat(43);
        let text = |argument: &str| format!("age-encryption.org/v1\n-> {argument}\n\n--- {mac}\n");
        let missing = bytes - text("").len();
        text(&"x".repeat(missing)).into_bytes()
    }

    #[test]
    fn header_size_is_limited() {
        let largest = padded_header(64 * 1024);
        assert_eq!(largest.len(), 64 * 1024);
        assert!(Header::read(&mut largest.as_slice()).is_ok());
        let larger = padded_header(64 * 1024 + 1);
        let refused = Header::read(&mut larger.as_slice()).err().unwrap();
        assert!(matches!(refused, ReadHeaderError::TooLarge), "{refused}");
    }

    #[test]
    fn endless_headers_are_not_read_to_the_end() {
        let version = b"age-encryption.org/v1\n".as_slice();
        let mut endless = BufReader::new(version.chain(repeat(b'a')));
        let refused = Header::read(&mut endless).err().unwrap();
        assert!(matches!(refused, ReadHeaderError::TooLarge), "{refused}");
        let mut endless = BufReader::new(repeat(0));
        let refused = Header::read(&mut endless).err().unwrap();
        assert!(matches!(refused, ReadHeaderError::NotAge), "{refused}");
    }

    #[test]
    fn header_errors_name_their_cause() {
        let read = |text: &str| Header::read(&mut text.as_bytes()).err().unwrap();
        assert!(matches!(read(""), ReadHeaderError::NotAge));
        assert!(matches!(read("SQLite format 3\n"), ReadHeaderError::NotAge));
        let armored = "-----BEGIN AGE ENCRYPTED FILE-----\n";
        assert!(matches!(read(armored), ReadHeaderError::NotAge));
        let version = "age-encryption.org/v2\n";
        assert!(matches!(read(version), ReadHeaderError::UnsupportedVersion));
        let no_version = "age-encryption.org/\n";
        assert!(matches!(read(no_version), ReadHeaderError::Malformed));
        let cut = "age-encryption.org/v1\n-> X25519 ";
        for len in "age-encryption.org/".len()..=cut.len() {
            assert!(matches!(read(&cut[..len]), ReadHeaderError::Incomplete));
        }
        let no_stanza = format!("age-encryption.org/v1\n--- {}\n", "A".repeat(43));
        assert!(matches!(read(&no_stanza), ReadHeaderError::Malformed));
    }
}
