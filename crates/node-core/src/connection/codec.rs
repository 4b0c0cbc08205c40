//! Encoding of a connection for the vault: a CBOR array of the version and the fields, in order.

use super::{
    Connection, InviteMailbox, OwnMailbox, Phase, ReceivedSeqs, RepairRate, Role,
    received_seqs::IncarnationSeqs,
};
use minicbor::{Decoder, Encoder, decode, encode};
use sealpost_e2ee::{
    ConnId, ExporterSecret, Incarnation, InviteSecret, PeerIdentity, PrekeySecrets, Sessions,
    payload::Capability, prekeys::BundleId,
};
use sealpost_proto::{InviteId, MailboxId, MailboxRef, MessageId, Origin, SendKey, Timestamp};
use std::convert::Infallible;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const FIELDS: u64 = 23;

/// Error for stored bytes that are not a connection of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored connection is malformed")]
pub struct ParseConnectionError;

impl From<decode::Error> for ParseConnectionError {
    fn from(_: decode::Error) -> Self {
        Self
    }
}

type Output<'a> = Encoder<&'a mut Vec<u8>>;
type WriteResult = Result<(), encode::Error<Infallible>>;

impl Connection {
    /// Encodes the connection for the vault.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
        // Writing to a vector cannot fail.
        let _ = self.write(&mut Encoder::new(&mut *bytes));
        bytes
    }

    fn write(&self, out: &mut Output<'_>) -> WriteResult {
        out.array(FIELDS)?.u8(VERSION)?;
        out.bool(self.role == Role::Inviter)?;
        out.u8(phase_number(self.phase))?;
        out.bytes(self.invite_id.as_bytes())?
            .bytes(self.conn_id.as_bytes())?;
        out.array(2)?
            .bytes(self.peer.ik_ed())?
            .bytes(self.peer.ik_x())?;
        out.bytes(self.exp_pairing.expose())?;
        match &self.own_mailbox {
            Some(own) => out
                .array(2)?
                .bytes(own.id.as_bytes())?
                .bytes(own.send_key.expose())?,
            None => out.null()?,
        };
        match &self.peer_mailbox {
            Some(capability) => {
                write_mailbox(out.array(3)?, &capability.mailbox, &capability.send_key)?
            }
            None => drop(out.null()?),
        }
        match &self.invite_mailbox {
            Some(invite) => {
                write_mailbox(out.array(5)?, &invite.mailbox, &invite.send_key)?;
                // The maximum means that it never expires.
                let expires_at = invite.expires_at.map_or(u64::MAX, Timestamp::as_millis);
                out.bytes(invite.secret.expose())?.u64(expires_at)?;
            }
            None => drop(out.null()?),
        }
        match &self.accept_id {
            Some(id) => out.bytes(id.as_bytes())?,
            None => out.null()?,
        };
        out.bytes(&self.sessions.encode())?;
        out.array(self.bundles.len() as u64)?;
        for bundle in &self.bundles {
            out.bytes(&bundle.encode())?;
        }
        out.array(self.used_bundles.len() as u64)?;
        for bundle in &self.used_bundles {
            write_bundle_ref(out, *bundle)?;
        }
        write_bundle_ref(out, self.latest_bundle)?;
        out.u64(self.peer_bundle_epoch)?;
        out.array(2)?
            .bytes(self.incarnation.as_bytes())?
            .u64(self.next_seq)?;
        out.bool(self.has_used_own_bundle)?;
        write_received_seqs(out, &self.received_seqs)?;
        match self.recovered_at {
            Some(at) => out.u64(at.as_millis())?,
            None => out.null()?,
        };
        write_repair_rate(out, self.session_repairs)?;
        write_repair_rate(out, self.resume_repairs)?;
        write_repair_rate(out, self.answers)?;
        Ok(())
    }

    /// Decodes the output of [`Connection::encode`].
    ///
    /// # Errors
    /// [`ParseConnectionError`] for a different layout or version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseConnectionError> {
        let mut input = Decoder::new(bytes);
        if input.array()? != Some(FIELDS) || input.u8()? != VERSION {
            return Err(ParseConnectionError);
        }
        Ok(Self {
            role: if input.bool()? {
                Role::Inviter
            } else {
                Role::Invitee
            },
            phase: parse_phase(input.u8()?)?,
            invite_id: InviteId::from_bytes(parse_array(&mut input)?),
            conn_id: ConnId::from_bytes(parse_array(&mut input)?),
            peer: parse_peer(&mut input)?,
            exp_pairing: ExporterSecret::from_bytes(parse_array(&mut input)?),
            own_mailbox: parse_optional(&mut input, parse_own)?,
            peer_mailbox: parse_optional(&mut input, parse_capability)?,
            invite_mailbox: parse_optional(&mut input, parse_invite_mailbox)?,
            accept_id: parse_optional(&mut input, parse_array)?.map(MessageId::from_bytes),
            sessions: Sessions::parse(input.bytes()?).map_err(|_| ParseConnectionError)?,
            bundles: parse_list(&mut input, |input| {
                PrekeySecrets::parse(input.bytes()?).map_err(|_| ParseConnectionError)
            })?,
            used_bundles: parse_list(&mut input, parse_bundle_ref)?,
            latest_bundle: parse_bundle_ref(&mut input)?,
            peer_bundle_epoch: input.u64()?,
            incarnation: {
                expect_tuple(&mut input, 2)?;
                Incarnation::from_bytes(parse_array(&mut input)?)
            },
            next_seq: input.u64()?,
            has_used_own_bundle: input.bool()?,
            received_seqs: parse_received_seqs(&mut input)?,
            recovered_at: parse_optional(&mut input, |input| {
                Ok(Timestamp::from_millis(input.u64()?))
            })?,
            session_repairs: parse_repair_rate(&mut input)?,
            resume_repairs: parse_repair_rate(&mut input)?,
            answers: parse_repair_rate(&mut input)?,
        })
    }
}

fn write_mailbox(out: &mut Output<'_>, mailbox: &MailboxRef, key: &SendKey) -> WriteResult {
    out.str(mailbox.relay.as_str())?
        .bytes(mailbox.id.as_bytes())?
        .bytes(key.expose())?;
    Ok(())
}

fn write_bundle_ref(out: &mut Output<'_>, bundle: BundleId) -> WriteResult {
    out.array(2)?.u64(bundle.epoch)?.u32(bundle.spk_id)?;
    Ok(())
}

/// Writes the numbers above the first missing one as differences, which are short.
fn write_received_seqs(out: &mut Output<'_>, received: &ReceivedSeqs) -> WriteResult {
    out.array(received.incarnations().len() as u64)?;
    for entry in received.incarnations() {
        out.array(3)?.bytes(entry.incarnation.as_bytes())?;
        out.u64(entry.upto)?.array(entry.above.len() as u64)?;
        let mut previous = entry.upto;
        for seq in &entry.above {
            out.u64(seq - previous)?;
            previous = *seq;
        }
    }
    Ok(())
}

fn write_repair_rate(out: &mut Output<'_>, rate: RepairRate) -> WriteResult {
    out.array(2)?
        .u32(rate.count)?
        .u64(rate.last_at.as_millis())?;
    Ok(())
}

const fn phase_number(phase: Phase) -> u8 {
    match phase {
        Phase::RequestSent => 0,
        Phase::RequestReceived => 1,
        Phase::Accepting => 2,
        Phase::Accepted => 3,
        Phase::Rejected => 4,
        Phase::Blocked => 5,
    }
}

fn parse_phase(number: u8) -> Result<Phase, ParseConnectionError> {
    Phase::ALL
        .into_iter()
        .find(|phase| phase_number(*phase) == number)
        .ok_or(ParseConnectionError)
}

fn expect_tuple(input: &mut Decoder<'_>, len: u64) -> Result<(), ParseConnectionError> {
    if input.array()? == Some(len) {
        Ok(())
    } else {
        Err(ParseConnectionError)
    }
}

fn parse_array<const N: usize>(input: &mut Decoder<'_>) -> Result<[u8; N], ParseConnectionError> {
    input.bytes()?.try_into().map_err(|_| ParseConnectionError)
}

fn parse_optional<'b, T>(
    input: &mut Decoder<'b>,
    parse: impl FnOnce(&mut Decoder<'b>) -> Result<T, ParseConnectionError>,
) -> Result<Option<T>, ParseConnectionError> {
    if input.datatype()? == minicbor::data::Type::Null {
        input.null()?;
        return Ok(None);
    }
    parse(input).map(Some)
}

fn parse_list<'b, T>(
    input: &mut Decoder<'b>,
    mut parse: impl FnMut(&mut Decoder<'b>) -> Result<T, ParseConnectionError>,
) -> Result<Vec<T>, ParseConnectionError> {
    let len = input.array()?.ok_or(ParseConnectionError)?;
    (0..len).map(|_| parse(input)).collect()
}

fn parse_peer(input: &mut Decoder<'_>) -> Result<PeerIdentity, ParseConnectionError> {
    expect_tuple(input, 2)?;
    PeerIdentity::new(parse_array(input)?, parse_array(input)?).map_err(|_| ParseConnectionError)
}

fn parse_own(input: &mut Decoder<'_>) -> Result<OwnMailbox, ParseConnectionError> {
    expect_tuple(input, 2)?;
    Ok(OwnMailbox {
        id: MailboxId::from_bytes(parse_array(input)?),
        send_key: SendKey::from_bytes(parse_array(input)?),
    })
}

fn parse_mailbox(input: &mut Decoder<'_>) -> Result<(MailboxRef, SendKey), ParseConnectionError> {
    let relay = Origin::parse(input.str()?).map_err(|_| ParseConnectionError)?;
    let mailbox = MailboxRef {
        relay,
        id: MailboxId::from_bytes(parse_array(input)?),
    };
    Ok((mailbox, SendKey::from_bytes(parse_array(input)?)))
}

fn parse_capability(input: &mut Decoder<'_>) -> Result<Capability, ParseConnectionError> {
    expect_tuple(input, 3)?;
    let (mailbox, send_key) = parse_mailbox(input)?;
    Ok(Capability { mailbox, send_key })
}

fn parse_invite_mailbox(input: &mut Decoder<'_>) -> Result<InviteMailbox, ParseConnectionError> {
    expect_tuple(input, 5)?;
    let (mailbox, send_key) = parse_mailbox(input)?;
    let secret = InviteSecret::from_bytes(parse_array(input)?);
    let expires_at = Some(input.u64()?)
        .filter(|millis| *millis != u64::MAX)
        .map(Timestamp::from_millis);
    Ok(InviteMailbox {
        mailbox,
        secret,
        send_key,
        expires_at,
    })
}

fn parse_bundle_ref(input: &mut Decoder<'_>) -> Result<BundleId, ParseConnectionError> {
    expect_tuple(input, 2)?;
    Ok(BundleId {
        epoch: input.u64()?,
        spk_id: input.u32()?,
    })
}

fn parse_received_seqs(input: &mut Decoder<'_>) -> Result<ReceivedSeqs, ParseConnectionError> {
    let incarnations = parse_list(input, |input| {
        expect_tuple(input, 3)?;
        let mut entry = IncarnationSeqs::new(Incarnation::from_bytes(parse_array(input)?));
        entry.upto = input.u64()?;
        let mut previous = entry.upto;
        entry.above = parse_list(input, |input| {
            previous = previous.saturating_add(input.u64()?);
            Ok(previous)
        })?
        .into_iter()
        .collect();
        Ok(entry)
    })?;
    Ok(ReceivedSeqs::from_incarnations(incarnations))
}

fn parse_repair_rate(input: &mut Decoder<'_>) -> Result<RepairRate, ParseConnectionError> {
    expect_tuple(input, 2)?;
    Ok(RepairRate {
        count: input.u32()?,
        last_at: Timestamp::from_millis(input.u64()?),
    })
}
