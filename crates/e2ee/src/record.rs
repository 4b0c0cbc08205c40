//! Records of fixed layout: big-endian integers, raw arrays, and `LP(x)`, a u32 length followed by
//! x.

use zeroize::Zeroizing;

/// Error when bytes do not have the expected layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed record")]
pub(crate) struct ParseRecordError;

/// Reads a record from front to back and checks every length.
pub(crate) struct Reader<'a> {
    input: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { input, position: 0 }
    }

    /// Returns the bytes read so far.
    pub(crate) fn consumed(&self) -> &'a [u8] {
        self.input.split_at(self.position).0
    }

    /// Returns the bytes not read yet.
    pub(crate) fn remaining(&self) -> &'a [u8] {
        self.input.split_at(self.position).1
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], ParseRecordError> {
        let bytes = self.remaining().get(..len).ok_or(ParseRecordError)?;
        self.position += len;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseRecordError> {
        self.bytes(N)?.try_into().map_err(|_| ParseRecordError)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ParseRecordError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ParseRecordError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ParseRecordError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ParseRecordError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads a byte that must be 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, ParseRecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ParseRecordError),
        }
    }

    /// Reads `LP(x)`.
    pub(crate) fn lp(&mut self) -> Result<&'a [u8], ParseRecordError> {
        let len = self.lp_len()?;
        self.bytes(len)
    }

    /// Reads only the length of an `LP(x)`, for a caller that needs the position before x.
    pub(crate) fn lp_len(&mut self) -> Result<usize, ParseRecordError> {
        usize::try_from(self.u32()?).map_err(|_| ParseRecordError)
    }

    /// Reads a number of records, up to `max`.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, ParseRecordError> {
        let count = self.lp_len()?;
        if count > max {
            Err(ParseRecordError)
        } else {
            Ok(count)
        }
    }

    pub(crate) fn expect_end(&self) -> Result<(), ParseRecordError> {
        if self.remaining().is_empty() {
            Ok(())
        } else {
            Err(ParseRecordError)
        }
    }
}

/// Writes a record that may contain secrets. The buffer is zeroised when dropped.
pub(crate) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// Creates a buffer that is not reallocated up to `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    /// Appends raw bytes. A buffer that must grow is copied and the old one zeroised, because `Vec`
    /// would leave secrets behind.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn flag(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.u32(len_u32(count))
    }

    pub(crate) fn lp(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).bytes(bytes)
    }

    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Converts a length to the form that `LP` uses.
#[expect(
    clippy::cast_possible_truncation,
    reason = "every length here is bounded far below 4 GiB"
)]
pub(crate) const fn len_u32(len: usize) -> u32 {
    len as u32
}

/// Appends `LP(bytes)` to a record without secrets.
pub(crate) fn push_lp(record: &mut Vec<u8>, bytes: &[u8]) {
    record.extend_from_slice(&len_u32(bytes.len()).to_be_bytes());
    record.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_record_reads_back() {
        let mut writer = Writer::with_capacity(1);
        writer.u8(7).u32(1).u64(2).flag(true).lp(b"abc");
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(
            (reader.u8(), reader.u32(), reader.u64()),
            (Ok(7), Ok(1), Ok(2))
        );
        assert_eq!((reader.flag(), reader.lp()), (Ok(true), Ok(&b"abc"[..])));
        assert_eq!(
            (reader.expect_end(), reader.u8()),
            (Ok(()), Err(ParseRecordError))
        );
        assert_eq!(Reader::new(&[0, 0, 0, 2, 1]).lp(), Err(ParseRecordError));
        assert_eq!(Reader::new(&[2]).flag(), Err(ParseRecordError));
    }
}
