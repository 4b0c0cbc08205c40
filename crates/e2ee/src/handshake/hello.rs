//! `hello`, the encrypted field of an INIT that states why the session is started.

use super::{InitiateArgs, InitiateError, PreviousSession, SessionKeys};
use crate::keys::Incarnation;
use crate::payload::Resume;
use crate::record::{ParseRecordError, Reader, push_lp};
use sealpost_proto::limits::RESUME_BYTES_MAX;
use subtle::ConstantTimeEq as _;

/// Why an INIT was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitReason {
    /// `00`: the first session of a connection.
    Pairing,
    /// `01`: the sender lost its sessions.
    Restore,
    /// `02`: the sender could not open a message.
    Desync,
    /// `03`: the session reached its maximum age or message count.
    Rotate,
}

impl InitReason {
    /// Returns the byte that states this reason in `hello`.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Pairing => 0,
            Self::Restore => 1,
            Self::Desync => 2,
            Self::Rotate => 3,
        }
    }

    /// Returns the reason that a byte of `hello` states.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Pairing),
            1 => Some(Self::Restore),
            2 => Some(Self::Desync),
            3 => Some(Self::Rotate),
            _ => None,
        }
    }
}

/// Plaintext of `hello`.
pub(crate) struct Hello {
    pub(crate) incarnation: Incarnation,
    pub(crate) reason: InitReason,
    pub(crate) resume: Option<Resume>,
    previous: [u8; 16],
    tag: [u8; 32],
}

impl Hello {
    pub(super) fn encode(
        args: &InitiateArgs<'_>,
        previous: Option<&PreviousSession>,
        keys: &SessionKeys,
    ) -> Result<Vec<u8>, InitiateError> {
        let resume = args.resume.map(Resume::encode).unwrap_or_default();
        if resume.len() > RESUME_BYTES_MAX {
            return Err(InitiateError::ResumeTooLarge);
        }
        let mut hello = args.incarnation.as_bytes().to_vec();
        hello.push(args.reason.to_byte());
        push_lp(&mut hello, &resume);
        hello.extend_from_slice(&previous.map_or([0; 16], |previous| previous.id.0));
        hello.extend_from_slice(&previous.map_or([0; 32], |previous| {
            keys.compute_continuity_tag(&previous.exp)
        }));
        Ok(hello)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseRecordError> {
        let mut reader = Reader::new(bytes);
        let incarnation = Incarnation::from_bytes(reader.array()?);
        let reason = InitReason::from_byte(reader.u8()?).ok_or(ParseRecordError)?;
        let resume = reader.lp()?;
        let hello = Self {
            incarnation,
            reason,
            resume: Resume::parse(resume).ok(),
            previous: reader.array()?,
            tag: reader.array()?,
        };
        reader.expect_end()?;
        Ok(hello)
    }

    /// Whether it names no previous session.
    pub(crate) fn has_no_previous(&self) -> bool {
        self.previous == [0; 16] && self.tag == [0; 32]
    }

    /// Returns the candidate that `hello` names, if the tag was computed with its EXP.
    pub(crate) fn find_proven_session<'p>(
        &self,
        keys: &SessionKeys,
        candidates: impl IntoIterator<Item = &'p PreviousSession>,
    ) -> Option<&'p PreviousSession> {
        let mut matching = candidates
            .into_iter()
            .filter(|candidate| candidate.id.0 == self.previous);
        matching.find(|candidate| {
            keys.compute_continuity_tag(&candidate.exp)
                .ct_eq(&self.tag)
                .into()
        })
    }
}
