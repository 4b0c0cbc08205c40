//! Test vectors of cards, prekeys, handshake, ratchet, envelope and plaintext.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a vector that is not as it should be fails the test"
)]

use sealpost_e2ee::card::SignedCard;
use sealpost_e2ee::envelope::{EnvelopeDirection, OuterKey, open_envelope, padded_len};
use sealpost_e2ee::keys::{ConnId, ExporterSecret, Fingerprint, Identity, InviteSecret};
use sealpost_e2ee::payload;
use sealpost_e2ee::plaintext::Plaintext;
use sealpost_e2ee::prekeys::{
    BundleError, PrekeyBundle, PrekeySecrets, Scope, SealedPrekeysKey, open_prekeys,
};
use sealpost_e2ee::sessions::{
    Content, Continuity, OpenContext, OpenOutcome, RejectReason, Sessions, open_pairing,
    prefix_hash,
};
use sealpost_proto::{InviteId, MailboxId, Timestamp, b64};
use serde_json::Value;

const CARD: &str = include_str!("../../../proto/vectors/card.json");
const PREKEYS: &str = include_str!("../../../proto/vectors/prekeys.json");
const HANDSHAKE: &str = include_str!("../../../proto/vectors/handshake.json");
const RATCHET: &str = include_str!("../../../proto/vectors/ratchet.json");
const ENVELOPE: &str = include_str!("../../../proto/vectors/envelope.json");
const PLAINTEXT: &str = include_str!("../../../proto/vectors/plaintext.json");

fn file(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn list<'a>(vectors: &'a Value, name: &str) -> &'a [Value] {
    let list = vectors[name].as_array().unwrap();
    assert!(!list.is_empty(), "{name}");
    list
}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    b64::parse(vector[name].as_str().unwrap()).unwrap()
}

fn array<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    b64::parse_array(vector[name].as_str().unwrap()).unwrap()
}

fn number(vector: &Value, name: &str) -> u64 {
    vector[name].as_u64().unwrap()
}

fn identity(seeds: &Value) -> Identity {
    Identity::from_seeds(&array(seeds, "ed_seed"), &array(seeds, "x_seed"))
}

fn mailbox(vector: &Value) -> MailboxId {
    MailboxId::from_bytes(array(vector, "mailbox"))
}

fn dir(vector: &Value) -> EnvelopeDirection {
    if number(vector, "dir") == 0 {
        EnvelopeDirection::InviteeToInviter
    } else {
        EnvelopeDirection::InviterToInvitee
    }
}

#[test]
fn card_vectors() {
    let vectors = file(CARD);
    for vector in list(&vectors, "valid") {
        let identity = identity(&vector["seeds"]);
        assert_eq!(identity.public().ik_ed(), &array(vector, "ik_ed"));
        assert_eq!(identity.public().ik_x(), &array(vector, "ik_x"));
        assert_eq!(
            identity.fingerprint().as_bytes(),
            &array(vector, "fingerprint")
        );
        let created = Timestamp::from_millis(number(vector, "created"));
        let card = identity
            .sign_card(vector["name"].as_str().unwrap(), created)
            .unwrap();
        assert_eq!(card.as_bytes(), bytes(vector, "card"));
        assert_eq!(SignedCard::parse_verified(card.as_bytes()).unwrap(), card);
    }
    for vector in list(&vectors, "invalid") {
        assert!(
            SignedCard::parse_verified(&bytes(vector, "card")).is_err(),
            "{}",
            vector["name"]
        );
    }
    for vector in list(&vectors, "connections") {
        let [a, b] = [0, 1].map(|at| {
            Fingerprint::from_bytes(
                b64::parse_array(vector["fingerprints"][at].as_str().unwrap()).unwrap(),
            )
        });
        let invite_id = InviteId::from_bytes(array(vector, "invite_id"));
        assert_eq!(
            ConnId::derive(&a, &b, &invite_id).as_bytes(),
            &array(vector, "conn_id")
        );
    }
}

fn scope(vector: &Value) -> Scope {
    match vector["scope_of"].get("invite_id") {
        Some(_) => Scope::invite(&InviteId::from_bytes(array(
            &vector["scope_of"],
            "invite_id",
        ))),
        None => Scope::connection(&ConnId::from_bytes(array(&vector["scope_of"], "conn_id"))),
    }
}

#[test]
fn prekey_bundle_vectors() {
    let vectors = file(PREKEYS);
    let owner = identity(&vectors["owner"]);
    let valid = list(&vectors, "valid");
    for vector in valid {
        let bundle =
            PrekeyBundle::parse_verified(&bytes(vector, "base"), owner.public(), &scope(vector))
                .unwrap();
        assert_eq!(bundle.bundle_id().epoch, number(vector, "epoch"));
        assert_eq!(
            u64::from(bundle.bundle_id().spk_id),
            number(vector, "spk_id")
        );
        assert_eq!(
            bundle.incarnation().as_bytes(),
            &array(vector, "incarnation")
        );
        assert_eq!(bundle.not_after().as_millis(), number(vector, "not_after"));
        let secrets = PrekeySecrets::parse(&bytes(vector, "secrets")).unwrap();
        assert_eq!(
            (secrets.bundle(), secrets.bundle_id()),
            (bundle.as_bytes(), bundle.bundle_id())
        );
        assert_eq!(secrets.encode()[..], bytes(vector, "secrets"));
    }
    for vector in list(&vectors, "invalid") {
        let parsed =
            PrekeyBundle::parse_verified(&bytes(vector, "base"), owner.public(), &scope(&valid[0]));
        assert!(parsed.is_err(), "{}", vector["name"]);
    }
    let bundle =
        PrekeyBundle::parse_verified(&bytes(&valid[0], "base"), owner.public(), &scope(&valid[0]))
            .unwrap();
    for vector in list(&vectors, "freshness") {
        let now = Timestamp::from_millis(number(vector, "now"));
        let expected = match vector["outcome"].as_str().unwrap() {
            "expired" => Err(BundleError::Expired),
            "early" => Err(BundleError::NotYetValid),
            "replayed" => Err(BundleError::Replayed),
            _ => Ok(()),
        };
        assert_eq!(
            bundle.check_fresh(now, number(vector, "last_epoch")),
            expected
        );
    }
}

fn relay_key(vector: &Value) -> SealedPrekeysKey {
    if vector.get("invite_secret").is_some() {
        SealedPrekeysKey::for_invite(&InviteSecret::from_bytes(array(vector, "invite_secret")))
    } else {
        SealedPrekeysKey::for_mailbox(
            &ExporterSecret::from_bytes(array(vector, "exp_pairing")),
            dir(vector),
        )
    }
}

#[test]
fn sealed_prekeys_vectors() {
    let vectors = &file(PREKEYS)["relay"];
    for vector in list(vectors, "valid") {
        let opened = open_prekeys(
            &relay_key(vector),
            &mailbox(vector),
            &bytes(vector, "sealed"),
        );
        let (card, bundle) = opened.unwrap();
        let expected = vector.get("card").map(|_| bytes(vector, "card"));
        assert_eq!(
            (card.map(|card| card.as_bytes().to_vec()), bundle),
            (expected, bytes(vector, "base"))
        );
    }
    for vector in list(vectors, "invalid") {
        let opened = open_prekeys(
            &relay_key(vector),
            &mailbox(vector),
            &bytes(vector, "sealed"),
        );
        assert!(opened.is_err(), "{}", vector["name"]);
    }
}

fn record(content: &Content) -> Vec<u8> {
    let Content::Plaintext(plaintext) = content else {
        panic!("unparseable")
    };
    plaintext.encode().unwrap().to_vec()
}

fn reason_name(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::Malformed => "malformed",
        RejectReason::UnknownSession => "unknown_session",
        RejectReason::NoHeaderKey => "no_header_key",
        RejectReason::GapTooLarge => "gap_too_large",
        RejectReason::Consumed { .. } => "consumed",
        RejectReason::BodyInvalid => "body_invalid",
        RejectReason::BundleUnknown => "base_not_held",
        RejectReason::HandshakeInvalid => "handshake_invalid",
        RejectReason::EpochTooFarAhead => "epoch_too_far_ahead",
        _ => "another",
    }
}

#[test]
fn pairing_vector() {
    let vectors = file(HANDSHAKE);
    let (pairing, now) = (
        &vectors["pairing"],
        Timestamp::from_millis(number(&vectors, "now")),
    );
    let me = identity(&pairing["b"]);
    let invite_id = InviteId::from_bytes(array(pairing, "invite_id"));
    let bundles = [PrekeySecrets::parse(&bytes(pairing, "prekey_secrets")).unwrap()];
    let inner = bytes(pairing, "inner");
    let opened = open_pairing(&me, &invite_id, &bundles, &inner, now)
        .ok()
        .unwrap();
    assert_eq!(opened.peer_card.as_bytes(), bytes(pairing, "card"));
    assert_eq!(opened.conn_id.as_bytes(), &array(pairing, "conn_id"));
    assert_eq!(
        opened.new_session.session_id.as_bytes(),
        &array(pairing, "session_id")
    );
    assert_eq!(
        opened.new_session.session_epoch,
        number(pairing, "session_epoch")
    );
    assert_eq!(opened.new_session.exp.expose(), &array(pairing, "exp"));
    assert_eq!(
        opened.new_session.peer_incarnation.as_bytes(),
        &array(&pairing["hello"], "incarnation")
    );
    assert_eq!(prefix_hash(&inner), Some(array(pairing, "prefix_hash")));
    assert_eq!(
        (opened.msg_hash, record(&opened.content)),
        (array(pairing, "msg_hash"), bytes(pairing, "record"))
    );
    for vector in list(&vectors, "invalid") {
        let refused = open_pairing(&me, &invite_id, &bundles, &bytes(vector, "inner"), now).err();
        assert_eq!(
            refused.map(reason_name),
            vector["why"].as_str(),
            "{}",
            vector["name"]
        );
    }
}

#[test]
fn rotation_vector() {
    let vectors = file(HANDSHAKE);
    let rotation = &vectors["rotation"];
    let (me, peer) = (identity(&rotation["b"]), identity(&rotation["a"]));
    let context = OpenContext {
        identity: &me,
        peer: peer.public(),
        conn_id: ConnId::from_bytes(array(rotation, "conn_id")),
        bundles: &[PrekeySecrets::parse(&bytes(rotation, "prekey_secrets")).unwrap()],
        now: Timestamp::from_millis(number(&vectors, "now")),
    };
    let sessions = Sessions::parse(&bytes(rotation, "b_sessions")).unwrap();
    let OpenOutcome::Opened(opened) = sessions.open(&context, &bytes(rotation, "inner")) else {
        panic!("did not open")
    };
    let new = opened.new_session.unwrap();
    assert_eq!(new.continuity, Continuity::Proven);
    assert_eq!(new.session_id.as_bytes(), &array(rotation, "session_id"));
    assert_eq!(new.exp.expose(), &array(rotation, "exp"));
    assert_eq!(
        new.resume.unwrap().encode(),
        bytes(&rotation["hello"], "resume")
    );
    assert_eq!(record(&opened.content), bytes(rotation, "record"));
    assert_eq!(
        opened.sessions.encode()[..],
        bytes(rotation, "b_sessions_after")
    );
}

#[test]
fn ratchet_vectors() {
    let vectors = file(RATCHET);
    let (me, peer) = (identity_of(101), identity_of(1));
    let context = OpenContext {
        identity: &me,
        peer: peer.public(),
        conn_id: ConnId::from_bytes([0; 32]),
        bundles: &[],
        now: Timestamp::from_millis(number(&vectors, "now")),
    };
    for scenario in list(&vectors, "stories") {
        let mut sessions = Sessions::parse(&bytes(scenario, "sessions")).unwrap();
        for step in list(scenario, "steps") {
            if step.get("sessions").is_some() {
                sessions = Sessions::parse(&bytes(step, "sessions")).unwrap();
                continue;
            }
            match sessions.open(&context, &bytes(step, "inner")) {
                OpenOutcome::Opened(opened) => {
                    assert_eq!(
                        record(&opened.content),
                        bytes(step, "record"),
                        "{}",
                        scenario["name"]
                    );
                    sessions = opened.sessions;
                }
                OpenOutcome::Rejected(refused) => {
                    assert_eq!(
                        Some(reason_name(refused.reason)),
                        step["why"].as_str(),
                        "{}",
                        scenario["name"]
                    );
                    assert!(refused.sessions.is_none());
                }
            }
        }
        assert_eq!(
            sessions.encode()[..],
            bytes(scenario, "sessions_after"),
            "{}",
            scenario["name"]
        );
    }
}

fn identity_of(seed: u8) -> Identity {
    Identity::from_seeds(&[seed; 32], &[seed + 1; 32])
}

fn outer_key(vector: &Value) -> OuterKey {
    if vector.get("invite_secret").is_some() {
        OuterKey::for_invite(&InviteSecret::from_bytes(array(vector, "invite_secret")))
    } else {
        OuterKey::for_mailbox(
            &ExporterSecret::from_bytes(array(vector, "exp_pairing")),
            dir(vector),
        )
    }
}

#[test]
fn envelope_vectors() {
    let vectors = file(ENVELOPE);
    for vector in list(&vectors, "sizes") {
        let length = usize::try_from(number(vector, "length")).unwrap();
        assert_eq!(
            padded_len(length).map(|size| size as u64),
            vector["size"].as_u64(),
            "{length}"
        );
    }
    for vector in list(&vectors, "valid") {
        let envelope = bytes(vector, "envelope");
        let inner = open_envelope(&outer_key(&vector["key"]), &mailbox(vector), &envelope).unwrap();
        let expected: Vec<_> = (0..number(vector, "inner_bytes"))
            .map(|at| u8::try_from(1 + at % 251).unwrap())
            .collect();
        assert_eq!(inner, expected);
    }
    for vector in list(&vectors, "invalid") {
        let opened = open_envelope(
            &outer_key(&vector["key"]),
            &mailbox(vector),
            &bytes(vector, "envelope"),
        );
        assert!(opened.is_err(), "{}", vector["name"]);
    }
}

#[test]
fn plaintext_vectors() {
    let vectors = file(PLAINTEXT);
    for vector in list(&vectors, "valid") {
        let plaintext = Plaintext::parse(&bytes(vector, "record")).unwrap();
        assert_eq!(u64::from(plaintext.kind.0), number(vector, "kind"));
        assert_eq!(plaintext.seq.to_string(), vector["seq"].as_str().unwrap());
        assert_eq!(plaintext.sent_at.as_millis(), number(vector, "sent"));
        assert_eq!(
            plaintext.message_id.as_bytes(),
            &array(vector, "message_id")
        );
        assert_eq!(
            plaintext.incarnation.as_bytes(),
            &array(vector, "incarnation")
        );
        assert_eq!(plaintext.body, bytes(vector, "body"));
        assert_eq!(plaintext.encode().unwrap()[..], bytes(vector, "record"));
    }
    for vector in list(&vectors, "invalid") {
        assert!(
            Plaintext::parse(&bytes(vector, "record")).is_err(),
            "{}",
            vector["name"]
        );
    }
}

/// Parses a body of this kind and encodes it again.
fn rewritten(kind: &str, body: &[u8]) -> Result<Vec<u8>, payload::PayloadError> {
    macro_rules! of {
        ($($name:literal => $type:ident),* $(,)?) => {
            match kind {
                $($name => payload::$type::parse(body).map(|payload| payload.encode()),)*
                _ => panic!("{kind}"),
            }
        };
    }
    of!(
        "message" => Message,
        "edit" => Edit,
        "retract" => Retract,
        "reaction" => Reaction,
        "receipt" => Receipt,
        "chat" => Chat,
        "profile" => Profile,
        "connection_request" => ConnectionRequest,
        "connection_accept" => ConnectionAccept,
        "connection_reject" => ConnectionReject,
        "connection_moved" => ConnectionMoved,
        "resend" => Resend,
        "probe" => Probe,
    )
}

#[test]
fn payload_vectors() {
    let vectors = file(PLAINTEXT);
    for vector in list(&vectors, "payloads") {
        let (kind, body) = (vector["kind"].as_str().unwrap(), bytes(vector, "body"));
        assert_eq!(rewritten(kind, &body).unwrap(), body, "{kind}");
    }
    for vector in list(&vectors, "invalid_payloads") {
        let (kind, body) = (vector["kind"].as_str().unwrap(), bytes(vector, "body"));
        assert!(
            rewritten(kind, &body).is_err(),
            "{kind}: {}",
            vector["name"]
        );
    }
}
