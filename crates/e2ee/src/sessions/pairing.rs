//! Opens connection requests: INITs in an invite's mailbox, which belong to no connection yet.

use super::open::{Decrypted, VerifiedInit};
use super::{INIT_MARKER, Pairing, RejectReason, Sessions};
use crate::card::SignedCard;
use crate::handshake::{InitPrefix, InitReason, ResponderHandshake};
use crate::keys::{ConnId, Identity};
use crate::prekeys::PrekeySecrets;
use sealpost_proto::{InviteId, Timestamp};

/// Opens an INIT from an invite's mailbox, sent by an unknown peer, with the secrets of that
/// invite's bundles.
///
/// # Errors
/// [`RejectReason`]; the caller discards and counts the envelope and sends no response.
pub fn open_pairing(
    identity: &Identity,
    invite_id: &InviteId,
    bundles: &[PrekeySecrets],
    inner: &[u8],
    now: Timestamp,
) -> Result<Pairing, RejectReason> {
    let init = inner
        .strip_prefix(&INIT_MARKER)
        .ok_or(RejectReason::UnknownSession)?;
    let (prefix, msg) = InitPrefix::parse(init).map_err(|_| RejectReason::Malformed)?;
    let mut sessions = Sessions::new();
    if sessions.is_too_far_ahead(prefix.session_epoch(), now) {
        return Err(RejectReason::EpochTooFarAhead);
    }
    if !prefix.is_addressed_to(identity.fingerprint(), None) {
        return Err(RejectReason::HandshakeInvalid);
    }
    let secrets = bundles
        .iter()
        .find(|secrets| secrets.bundle_id() == prefix.bundle())
        .ok_or(RejectReason::BundleUnknown)?;
    let (verified, peer_card, conn_id) =
        verify_pairing_init(&prefix, identity, secrets, invite_id)?;
    let prefix_hash = prefix.hash();
    let decrypted = sessions
        .replace_session(&prefix, prefix_hash, secrets, verified, msg, now)
        .map_err(|rejection| rejection.reason)?;
    let Decrypted {
        content,
        msg_hash,
        new_session,
        ..
    } = decrypted;
    let new_session = new_session.ok_or(RejectReason::HandshakeInvalid)?;
    Ok(Pairing {
        sessions,
        conn_id,
        peer_card,
        new_session,
        content,
        msg_hash,
        prefix_hash,
    })
}

/// Verifies a pairing INIT. Its card identifies the peer, and so determines the connection's id. A
/// node cannot connect to itself.
fn verify_pairing_init(
    prefix: &InitPrefix<'_>,
    identity: &Identity,
    secrets: &PrekeySecrets,
    invite_id: &InviteId,
) -> Result<(VerifiedInit, SignedCard, ConnId), RejectReason> {
    let invalid = RejectReason::HandshakeInvalid;
    let responder = ResponderHandshake::new(prefix, identity, secrets).ok_or(invalid)?;
    let card = responder.open_card().ok_or(invalid)?;
    if card.identity() == identity.public() {
        return Err(invalid);
    }
    let conn_id = ConnId::derive(
        identity.fingerprint(),
        card.identity().fingerprint(),
        invite_id,
    );
    let (keys, hello) = responder.finish(card.identity(), &conn_id).ok_or(invalid)?;
    if hello.reason != InitReason::Pairing || !hello.has_no_previous() {
        return Err(invalid);
    }
    Ok((
        VerifiedInit {
            keys,
            hello,
            card: Some(card.clone()),
        },
        card,
        conn_id,
    ))
}
