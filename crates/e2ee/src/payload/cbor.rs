//! CBOR (RFC 8949) of payloads: maps of definite length with ascending integer keys. A reader skips
//! unknown keys.

use super::PayloadError;
use minicbor::data::Type;
use minicbor::encode::Error as EncodeError;
use minicbor::{Decoder, Encoder};
use sealpost_proto::limits::MAP_ENTRIES_MAX;
use std::convert::Infallible;

type Result<T> = std::result::Result<T, PayloadError>;
type EncodeResult = std::result::Result<(), EncodeError<Infallible>>;

/// Writes one map. The caller adds keys in ascending order.
#[derive(Default)]
pub(super) struct MapWriter {
    entries: u8,
    body: Vec<u8>,
}

impl MapWriter {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn put(
        &mut self,
        key: u8,
        value: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> EncodeResult,
    ) -> &mut Self {
        self.entries += 1;
        let mut encoder = Encoder::new(&mut self.body);
        #[expect(clippy::expect_used, reason = "a Vec takes whatever is written")]
        encoder.u8(key).and_then(value).expect("infallible");
        self
    }

    pub(super) fn bytes(&mut self, key: u8, bytes: &[u8]) -> &mut Self {
        self.put(key, |e| e.bytes(bytes)?.ok())
    }

    pub(super) fn text(&mut self, key: u8, text: &str) -> &mut Self {
        self.put(key, |e| e.str(text)?.ok())
    }

    pub(super) fn number(&mut self, key: u8, number: impl Into<u64>) -> &mut Self {
        let number = number.into();
        self.put(key, |e| e.u64(number)?.ok())
    }

    /// Adds a flag if it is true.
    pub(super) fn flag(&mut self, key: u8, flag: bool) -> &mut Self {
        if flag {
            self.put(key, |e| e.bool(true)?.ok())
        } else {
            self
        }
    }

    pub(super) fn optional_bytes(&mut self, key: u8, bytes: Option<&[u8]>) -> &mut Self {
        if let Some(bytes) = bytes {
            self.bytes(key, bytes)
        } else {
            self
        }
    }

    pub(super) fn optional_text(&mut self, key: u8, text: Option<&str>) -> &mut Self {
        if let Some(text) = text {
            self.text(key, text)
        } else {
            self
        }
    }

    pub(super) fn optional_number(&mut self, key: u8, number: Option<u64>) -> &mut Self {
        if let Some(number) = number {
            self.number(key, number)
        } else {
            self
        }
    }

    pub(super) fn optional_item(&mut self, key: u8, item: Option<Vec<u8>>) -> &mut Self {
        if let Some(item) = item {
            self.item(key, &item)
        } else {
            self
        }
    }

    /// Adds a nested item that is already encoded.
    pub(super) fn item(&mut self, key: u8, item: &[u8]) -> &mut Self {
        self.put(key, |e| {
            e.writer_mut().extend_from_slice(item);
            Ok(())
        })
    }

    /// Adds an array of encoded items if it is not empty.
    pub(super) fn items(&mut self, key: u8, items: &[Vec<u8>]) -> &mut Self {
        if items.is_empty() {
            return self;
        }
        self.put(key, |e| {
            e.array(items.len() as u64)?
                .writer_mut()
                .extend_from_slice(&items.concat());
            Ok(())
        })
    }

    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut map = encode(|e| e.map(u64::from(self.entries))?.ok());
        map.append(&mut self.body);
        map
    }
}

/// Encodes one CBOR item.
pub(super) fn encode(item: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> EncodeResult) -> Vec<u8> {
    let mut bytes = Vec::new();
    #[expect(clippy::expect_used, reason = "a Vec takes whatever is written")]
    item(&mut Encoder::new(&mut bytes)).expect("infallible");
    bytes
}

/// Keys and encoded values of one map.
pub(super) struct Map<'b>(Vec<(u64, &'b [u8])>);

impl<'b> Map<'b> {
    /// Parses one map that spans all of `bytes`.
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let count = decoder
            .map()?
            .filter(|count| *count <= MAP_ENTRIES_MAX)
            .ok_or(PayloadError::Malformed)?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let key = decoder.u64()?;
            if entries.last().is_some_and(|(last, _)| key <= *last) {
                return Err(PayloadError::Malformed);
            }
            entries.push((key, next_item(&mut decoder, bytes)?));
        }
        if decoder.position() != bytes.len() {
            return Err(PayloadError::Malformed);
        }
        Ok(Self(entries))
    }

    pub(super) fn optional<T>(
        &self,
        key: u8,
        read: impl FnOnce(&'b [u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        let entry = self.0.iter().find(|(entry, _)| *entry == u64::from(key));
        entry.map(|(_, item)| read(item)).transpose()
    }

    pub(super) fn required<T>(
        &self,
        key: u8,
        read: impl FnOnce(&'b [u8]) -> Result<T>,
    ) -> Result<T> {
        self.optional(key, read)?
            .ok_or(PayloadError::Missing { key })
    }

    pub(super) fn flag(&self, key: u8) -> Result<bool> {
        Ok(self
            .optional(key, |item| decode_exact(item, |d| Ok(d.bool()?)))?
            .unwrap_or(false))
    }

    /// Parses an array of up to `max` items; empty if absent.
    pub(super) fn items<T>(
        &self,
        key: u8,
        max: usize,
        read: impl Fn(&'b [u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let Some(array) = self.optional(key, Ok)? else {
            return Ok(Vec::new());
        };
        let mut decoder = Decoder::new(array);
        let count = decoder.array()?.ok_or(PayloadError::Malformed)?;
        if count > max as u64 {
            return Err(PayloadError::TooMany { key });
        }
        (0..count)
            .map(|_| read(next_item(&mut decoder, array)?))
            .collect()
    }
}

fn next_item<'b>(decoder: &mut Decoder<'b>, bytes: &'b [u8]) -> Result<&'b [u8]> {
    let start = decoder.position();
    decoder.skip()?;
    bytes
        .get(start..decoder.position())
        .ok_or(PayloadError::Malformed)
}

/// Decodes one item that spans all of `item`.
pub(super) fn decode_exact<'b, T>(
    item: &'b [u8],
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T>,
) -> Result<T> {
    let mut decoder = Decoder::new(item);
    let value = read(&mut decoder)?;
    if decoder.position() == item.len() {
        Ok(value)
    } else {
        Err(PayloadError::Malformed)
    }
}

pub(super) fn parse_u64(item: &[u8]) -> Result<u64> {
    decode_exact(item, |d| Ok(d.u64()?))
}

pub(super) fn parse_u8(item: &[u8]) -> Result<u8> {
    decode_exact(item, |d| Ok(d.u8()?))
}

/// Parses a byte string of definite length, up to `max` bytes.
pub(super) fn parse_bytes(max: usize) -> impl Fn(&[u8]) -> Result<Vec<u8>> {
    move |item| {
        let bytes = decode_exact(item, |d| Ok(d.bytes()?))?;
        if bytes.len() > max {
            Err(PayloadError::TooLong { limit_bytes: max })
        } else {
            Ok(bytes.to_vec())
        }
    }
}

/// Parses a byte string of exactly `N` bytes.
pub(super) fn parse_array<const N: usize>(item: &[u8]) -> Result<[u8; N]> {
    decode_exact(item, |d| Ok(d.bytes()?))?
        .try_into()
        .map_err(|_| PayloadError::Malformed)
}

/// Parses a text string of definite length, up to `max` bytes.
pub(super) fn parse_text(max: usize) -> impl Fn(&[u8]) -> Result<String> {
    move |item| {
        if Decoder::new(item).datatype()? != Type::String {
            return Err(PayloadError::Malformed);
        }
        let text = decode_exact(item, |d| Ok(d.str()?))?;
        if text.len() > max {
            Err(PayloadError::TooLong { limit_bytes: max })
        } else {
            Ok(text.to_owned())
        }
    }
}
