//! Storage encoding of sessions (docs/e2ee.md#session-serialisation).

use super::Sessions;
use super::state::{CurrentSession, HighestSession, OldSession, RetiredSessions, Stage};
use crate::handshake::PreviousSession;
use crate::keys::SessionId;
use crate::primitive::Key;
use crate::ratchet::{Ratchet, Receiver};
use crate::record::{ParseRecordError, Reader, Writer};
use sealpost_proto::{
    Timestamp,
    limits::{
        OLD_SESSIONS_MAX, PREVIOUS_SESSIONS_MAX, REPLACED_SESSIONS_MAX, RETIRED_SESSIONS_MAX,
    },
};
use zeroize::Zeroizing;

const SESSIONS_VERSION: u8 = 1;
/// A state without skipped keys fits into this capacity; a larger one is copied once.
const TYPICAL_BYTES: usize = 4_096;

/// Error when stored sessions cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored sessions are malformed")]
pub struct ParseSessionsError;

impl Sessions {
    /// Encodes the state for the vault.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::with_capacity(TYPICAL_BYTES);
        writer
            .u8(SESSIONS_VERSION)
            .u64(self.last_epoch)
            .u64(self.highest_session.epoch)
            .flag(self.highest_session.id.is_some());
        if let Some(id) = &self.highest_session.id {
            writer.bytes(id.as_bytes());
        }
        write_previous(&mut writer, &self.confirmed);
        writer.flag(self.current.is_some());
        if let Some(current) = &self.current {
            current.write(&mut writer);
        }
        writer.count(self.old.len());
        for old in &self.old {
            old.write(&mut writer);
        }
        self.retired.write(&mut writer);
        if !self.replaced.is_empty() {
            write_previous(&mut writer, &self.replaced);
        }
        writer.finish()
    }

    /// Parses the output of [`Sessions::encode`].
    ///
    /// # Errors
    /// [`ParseSessionsError`] for a wrong layout or version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseSessionsError> {
        let mut reader = Reader::new(bytes);
        let sessions = Self::read(&mut reader).map_err(|_| ParseSessionsError)?;
        reader.expect_end().map_err(|_| ParseSessionsError)?;
        Ok(sessions)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        if reader.u8()? != SESSIONS_VERSION {
            return Err(ParseRecordError);
        }
        let last = reader.u64()?;
        let highest = HighestSession {
            epoch: reader.u64()?,
            id: read_option(reader, read_id)?,
        };
        let confirmed = read_list(reader, PREVIOUS_SESSIONS_MAX, read_previous)?;
        let current = read_option(reader, CurrentSession::read)?;
        let old = read_list(reader, OLD_SESSIONS_MAX, OldSession::read)?;
        let ids = read_list(reader, RETIRED_SESSIONS_MAX, read_id)?;
        let prefixes = read_list(reader, RETIRED_SESSIONS_MAX, |reader| reader.array())?;
        let replaced = read_replaced(reader)?;
        Ok(Self {
            last_epoch: last,
            highest_session: highest,
            current,
            old,
            confirmed,
            replaced,
            retired: RetiredSessions { ids, prefixes },
        })
    }
}

fn read_id(reader: &mut Reader<'_>) -> Result<SessionId, ParseRecordError> {
    reader.array().map(SessionId)
}

fn read_previous(reader: &mut Reader<'_>) -> Result<PreviousSession, ParseRecordError> {
    Ok(PreviousSession {
        id: read_id(reader)?,
        exp: reader.array().map(Key)?,
    })
}

/// Reads the list that ends a record. It is absent rather than empty.
fn read_replaced(reader: &mut Reader<'_>) -> Result<Vec<PreviousSession>, ParseRecordError> {
    if reader.remaining().is_empty() {
        return Ok(Vec::new());
    }
    let replaced = read_list(reader, REPLACED_SESSIONS_MAX, read_previous)?;
    if replaced.is_empty() {
        return Err(ParseRecordError);
    }
    Ok(replaced)
}

fn write_previous(writer: &mut Writer, sessions: &[PreviousSession]) {
    writer.count(sessions.len());
    for previous in sessions {
        writer.bytes(previous.id.as_bytes()).bytes(&previous.exp.0);
    }
}

fn read_option<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, ParseRecordError>,
) -> Result<Option<T>, ParseRecordError> {
    if reader.flag()? {
        read(reader).map(Some)
    } else {
        Ok(None)
    }
}

fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    max: usize,
    read: impl Fn(&mut Reader<'a>) -> Result<T, ParseRecordError>,
) -> Result<Vec<T>, ParseRecordError> {
    (0..reader.count(max)?).map(|_| read(reader)).collect()
}

fn write_prefix_hash(writer: &mut Writer, prefix_hash: Option<&[u8; 32]>) {
    writer.flag(prefix_hash.is_some());
    if let Some(hash) = prefix_hash {
        writer.bytes(hash);
    }
}

impl CurrentSession {
    fn write(&self, writer: &mut Writer) {
        writer
            .bytes(self.id.as_bytes())
            .u64(self.epoch)
            .u64(self.started.as_millis());
        writer.bytes(&self.ad).bytes(&self.exp.0);
        write_prefix_hash(writer, self.prefix_hash.as_ref());
        match &self.stage {
            Stage::Initiated { prefix } => writer.u8(0).lp(prefix),
            Stage::Responded => writer.u8(1),
            Stage::Confirmed => writer.u8(2),
        };
        writer.u64(self.sealed).u64(self.opened);
        self.ratchet.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        Ok(Self {
            id: read_id(reader)?,
            epoch: reader.u64()?,
            started: Timestamp::from_millis(reader.u64()?),
            ad: reader.array()?,
            exp: reader.array().map(Key)?,
            prefix_hash: read_option(reader, |reader| reader.array())?,
            stage: Stage::read(reader)?,
            sealed: reader.u64()?,
            opened: reader.u64()?,
            ratchet: Ratchet::read(reader)?,
        })
    }
}

impl Stage {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        match reader.u8()? {
            0 => Ok(Self::Initiated {
                prefix: reader.lp()?.to_vec(),
            }),
            1 => Ok(Self::Responded),
            2 => Ok(Self::Confirmed),
            _ => Err(ParseRecordError),
        }
    }
}

impl OldSession {
    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.id.as_bytes());
        write_prefix_hash(writer, self.prefix_hash.as_ref());
        writer.bytes(&self.ad).u64(self.until.as_millis());
        self.receiver.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        Ok(Self {
            id: read_id(reader)?,
            prefix_hash: read_option(reader, |reader| reader.array())?,
            ad: reader.array()?,
            until: Timestamp::from_millis(reader.u64()?),
            receiver: Receiver::read(reader)?,
        })
    }
}

impl RetiredSessions {
    fn write(&self, writer: &mut Writer) {
        writer.count(self.ids.len());
        for id in &self.ids {
            writer.bytes(id.as_bytes());
        }
        writer.count(self.prefixes.len());
        for prefix in &self.prefixes {
            writer.bytes(prefix);
        }
    }
}
