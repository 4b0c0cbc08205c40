//! Test vectors of invites, safety numbers and the vault, and properties of their parsers.

#![expect(
    clippy::unwrap_used,
    reason = "a vector that is not as it should be fails the test"
)]

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sealpost_e2ee::invite::{
    INVITE_TEXT_BYTES_MAX, Invite, InviteError, InviteKind, InviteRefusal,
};
use sealpost_e2ee::keys::{Fingerprint, PeerIdentity};
use sealpost_e2ee::safety_number::{HalfFingerprint, Mismatch, SafetyNumber, VerificationCode};
use sealpost_e2ee::vault::{
    Column, DataKey, KEY_FILE_BYTES_MAX, KeyFile, KeyFileError, Passphrase, UnwrapError,
    WRAPPED_KEY_BYTES_MAX, open_column, seal_column,
};
use sealpost_proto::{MailboxId, MailboxRef, Origin, Timestamp, b64};
use serde_json::Value;

const INVITE: &str = include_str!("../../../proto/vectors/invite.json");
const SAFETY_NUMBER: &str = include_str!("../../../proto/vectors/safety_number.json");
const VAULT: &str = include_str!("../../../proto/vectors/vault.json");
const VAULT_PROTECTION: &str = include_str!("../../../proto/vectors/vault_protection.json");

fn list(file: &str, name: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(file).unwrap();
    let list = vectors[name].as_array().unwrap().clone();
    assert!(!list.is_empty(), "{name}");
    list
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    b64::parse(text(vector, name)).unwrap()
}

fn array<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    b64::parse_array(text(vector, name)).unwrap()
}

fn fingerprint(vector: &Value, name: &str) -> Fingerprint {
    Fingerprint::from_bytes(array(vector, name))
}

#[test]
fn invite_vectors_round_trip() {
    for vector in list(INVITE, "valid") {
        for form in ["link", "uri"] {
            let invite = Invite::parse(text(&vector, form)).unwrap();
            assert_eq!(
                (invite.encode_link().as_str(), invite.encode_uri().as_str()),
                (text(&vector, "link"), text(&vector, "uri"))
            );
            assert_eq!(invite.mailbox().relay.as_str(), text(&vector, "relay"));
            assert_eq!(invite.mailbox().id.as_bytes(), &array(&vector, "mailbox"));
            assert_eq!(invite.id().as_bytes(), &array(&vector, "invite_id"));
            assert_eq!(invite.secret().expose(), &array(&vector, "secret"));
            assert_eq!(*invite.fingerprint(), fingerprint(&vector, "fingerprint"));
            assert_eq!(invite.send_key().expose(), &array(&vector, "send_key"));
            let kind = match text(&vector, "kind") {
                "contact_address" => InviteKind::ContactAddress,
                _ => InviteKind::SingleUse {
                    expires: Timestamp::from_millis(vector["expiry"].as_u64().unwrap()),
                },
            };
            assert_eq!(invite.kind(), kind);
            assert!(text(&vector, form).len() <= INVITE_TEXT_BYTES_MAX);
        }
    }
}

#[test]
fn invalid_invites_give_the_expected_error() {
    for vector in list(INVITE, "invalid") {
        let reason = match Invite::parse(text(&vector, "text")).unwrap_err() {
            InviteError::NotAnInvite => "not_an_invite",
            InviteError::Damaged => "damaged",
            InviteError::UnknownVersion { .. } => "unknown_version",
            InviteError::UnknownKind { .. } => "unknown_kind",
            InviteError::Malformed => "malformed",
            InviteError::ForeignOrigin { .. } => "foreign_origin",
        };
        assert_eq!(reason, text(&vector, "reason"), "{}", vector["name"]);
    }
}

#[test]
fn unusable_invites_are_refused() {
    for vector in list(INVITE, "refused") {
        let invite = Invite::parse(text(&vector, "link")).unwrap();
        let now = Timestamp::from_millis(vector["now"].as_u64().unwrap());
        let refusal = match invite.check(now, &fingerprint(&vector, "own")) {
            Ok(()) => None,
            Err(InviteRefusal::Expired { .. }) => Some("expired"),
            Err(InviteRefusal::Own) => Some("own"),
        };
        assert_eq!(refusal, vector["refusal"].as_str(), "{}", vector["name"]);
    }
}

fn some_invite(kind: InviteKind) -> Invite {
    let mailbox = MailboxRef {
        relay: Origin::parse("https://relay.example").unwrap(),
        id: MailboxId::from_bytes([4; 16]),
    };
    Invite::generate(
        kind,
        mailbox,
        Fingerprint::from_bytes([5; 32]),
        &mut ChaCha20Rng::from_seed([6; 32]),
    )
}

#[test]
fn flipped_bits_give_no_other_invite() {
    for kind in [
        InviteKind::ContactAddress,
        InviteKind::SingleUse {
            expires: Timestamp::from_millis(1),
        },
    ] {
        let invite = some_invite(kind);
        for form in [invite.encode_link(), invite.encode_uri()] {
            for bit in 0..form.len() * 8 {
                let mut altered = form.as_bytes().to_vec();
                altered[bit / 8] ^= 1 << (bit % 8);
                let Ok(altered) = String::from_utf8(altered) else {
                    continue;
                };
                // A host name is case-insensitive; any other change must be refused.
                let same = altered.to_lowercase() == form.to_lowercase()
                    && bit / 8 < "https://relay.example".len();
                match Invite::parse(&altered) {
                    Ok(parsed) => assert!(
                        same && parsed.encode_link() == invite.encode_link(),
                        "{altered}"
                    ),
                    Err(_) => assert!(!same || form.starts_with("sealpost:"), "{altered}"),
                }
            }
        }
    }
}

#[test]
fn truncated_invites_are_refused() {
    let link = some_invite(InviteKind::ContactAddress).encode_link();
    for length in 0..link.len() {
        assert!(Invite::parse(&link[..length]).is_err(), "{length}");
    }
    assert!(Invite::parse(&format!(" \n{} \t", link.as_str())).is_ok());
}

#[test]
fn debug_output_hides_the_secret() {
    let invite = some_invite(InviteKind::ContactAddress);
    let printed = format!("{invite:?}");
    assert!(printed.contains("relay.example"));
    assert!(
        !printed.contains(&b64::encode(invite.secret().expose())) && !printed.contains("secret")
    );
}

#[test]
fn number_matches_signals_published_example() {
    for vector in list(SAFETY_NUMBER, "signal") {
        let [one, other] = ["one", "other"].map(|side| {
            let version = u16::try_from(vector["version"].as_u64().unwrap()).unwrap();
            let iterations = u32::try_from(vector["iterations"].as_u64().unwrap()).unwrap();
            let side = &vector[side];
            HalfFingerprint::compute(
                version,
                text(side, "id").as_bytes(),
                &hexadecimal(text(side, "key")),
                iterations,
            )
        });
        assert_eq!(
            SafetyNumber::from_halves(&one, &other).as_digits(),
            text(&vector, "digits")
        );
        assert_eq!(
            SafetyNumber::from_halves(&other, &one).as_digits(),
            text(&vector, "digits")
        );
    }
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[test]
fn both_sides_compute_the_same_number() {
    for vector in list(SAFETY_NUMBER, "pairs") {
        let [one, other] = ["one", "other"].map(|side| {
            let side = &vector[side];
            let identity = PeerIdentity::new(array(side, "ik_ed"), array(side, "ik_x")).unwrap();
            assert_eq!(*identity.fingerprint(), fingerprint(side, "fingerprint"));
            identity
        });
        let number = SafetyNumber::for_identities(&one, &other);
        assert_eq!(number, SafetyNumber::for_identities(&other, &one));
        assert_eq!(
            (number.as_digits(), number.to_string().as_str()),
            (text(&vector, "digits"), text(&vector, "shown"))
        );
        assert!(
            number.matches(text(&vector, "shown"))
                && number.matches(&format!("{} ", text(&vector, "digits")))
        );
        assert!(!number.matches(&text(&vector, "digits")[1..]) && !number.matches(""));
        assert_ne!(number, SafetyNumber::for_identities(&one, &one));
    }
}

#[test]
fn codes_verify_only_the_pair_they_name() {
    for vector in list(SAFETY_NUMBER, "codes") {
        let code = VerificationCode::parse(text(&vector, "code")).unwrap();
        assert_eq!(code.encode(), text(&vector, "code"));
        let mismatch =
            match code.compare(&fingerprint(&vector, "own"), &fingerprint(&vector, "peer")) {
                Ok(()) => None,
                Err(Mismatch::OwnCode) => Some("own_code"),
                Err(Mismatch::PeerIdentity) => Some("peer"),
                Err(Mismatch::OwnIdentity) => Some("own"),
            };
        assert_eq!(mismatch, vector["mismatch"].as_str(), "{}", vector["name"]);
    }
    for vector in list(SAFETY_NUMBER, "invalid_codes") {
        assert!(
            VerificationCode::parse(text(&vector, "code")).is_err(),
            "{}",
            vector["name"]
        );
    }
}

fn open_vector(vector: &Value) -> Option<Vec<u8>> {
    let pk = bytes(vector, "pk");
    let column = Column {
        table: text(vector, "table"),
        pk: &pk,
        column: text(vector, "column"),
        version: vector["version"].as_u64().unwrap(),
    };
    let data_key = DataKey::from_bytes(array(vector, "data_key"));
    open_column(&data_key, &column, &bytes(vector, "sealed"))
        .ok()
        .map(|value| value.to_vec())
}

#[test]
fn columns_open_only_in_their_own_place() {
    for vector in list(VAULT, "columns") {
        assert_eq!(
            open_vector(&vector),
            Some(bytes(&vector, "value")),
            "{}",
            vector["name"]
        );
    }
    for vector in list(VAULT, "invalid_columns") {
        assert_eq!(open_vector(&vector), None, "{}", vector["name"]);
    }
}

#[test]
fn key_files_parse_or_give_the_expected_error() {
    for text in list(VAULT, "key_files") {
        let text = text.as_str().unwrap();
        assert_eq!(KeyFile::parse(text).ok().unwrap().encode().as_str(), text);
        assert!(text.len() <= KEY_FILE_BYTES_MAX);
    }
    for vector in list(VAULT, "invalid_key_files") {
        let reason = match KeyFile::parse(text(&vector, "text")).err().unwrap() {
            KeyFileError::NotAKeyFile => "not_a_key_file",
            KeyFileError::Damaged => "damaged",
            KeyFileError::UnknownVersion { .. } => "unknown_version",
        };
        assert_eq!(reason, text(&vector, "reason"), "{}", vector["name"]);
    }
}

#[test]
fn data_key_unwraps_only_with_its_key_file() {
    let place = Column {
        table: "t",
        pk: b"1",
        column: "c",
        version: 0,
    };
    for vector in list(VAULT, "wrapped") {
        let data_key = DataKey::from_bytes(array(&vector, "data_key"));
        let sealed = seal_column(
            &data_key,
            &place,
            b"value",
            &mut ChaCha20Rng::from_seed([1; 32]),
        );
        let record = bytes(&vector, "record");
        let unwrapped = KeyFile::parse(text(&vector, "key_file"))
            .ok()
            .unwrap()
            .unwrap(&record)
            .ok()
            .unwrap();
        assert_eq!(
            open_column(&unwrapped, &place, &sealed).unwrap().as_slice(),
            b"value"
        );
        assert!(record.len() <= WRAPPED_KEY_BYTES_MAX);
    }
    for vector in list(VAULT, "invalid_wrapped") {
        let key_file = KeyFile::parse(text(&vector, "key_file")).ok().unwrap();
        let reason = describe(key_file.unwrap(&bytes(&vector, "record")).err().unwrap());
        assert_eq!(reason, text(&vector, "reason"), "{}", vector["name"]);
    }
}

fn describe(error: UnwrapError) -> &'static str {
    match error {
        UnwrapError::Malformed => "malformed",
        UnwrapError::UnknownVersion { .. } => "unknown_version",
        UnwrapError::OtherKind { .. } => "other_wrap",
        UnwrapError::WrongKeyFile => "wrong_key_file",
        UnwrapError::WrongCredential => "wrong_credential",
        UnwrapError::WrongPassphrase => "wrong_passphrase",
        UnwrapError::ParametersOutOfRange => "parameters",
        UnwrapError::OutOfMemory { .. } => "memory",
    }
}

#[test]
fn data_key_unwraps_only_with_its_passphrase() {
    let unwrap = |vector: &Value| {
        let passphrase = Passphrase::new(text(vector, "passphrase").to_owned().into());
        let unwrapped = passphrase.unwrap(&bytes(vector, "record"));
        unwrapped.map_err(describe)
    };
    for vector in list(VAULT_PROTECTION, "passphrases") {
        let data_key = DataKey::from_bytes(array(&vector, "data_key"));
        assert!(is_same(&unwrap(&vector).ok().unwrap(), &data_key));
    }
    for vector in list(VAULT_PROTECTION, "invalid_passphrases") {
        let reason = unwrap(&vector).err().unwrap();
        assert_eq!(reason, text(&vector, "reason"), "{}", vector["name"]);
    }
}

#[test]
fn data_key_unwraps_only_with_its_credential() {
    let unwrap = |vector: &Value| {
        let credential = KeyFile::parse(text(vector, "credential")).ok().unwrap();
        let unwrapped = credential.unwrap_as_credential(&bytes(vector, "record"));
        unwrapped.map_err(describe)
    };
    for vector in list(VAULT_PROTECTION, "credentials") {
        let data_key = DataKey::from_bytes(array(&vector, "data_key"));
        assert!(is_same(&unwrap(&vector).ok().unwrap(), &data_key));
    }
    for vector in list(VAULT_PROTECTION, "invalid_credentials") {
        let reason = unwrap(&vector).err().unwrap();
        assert_eq!(reason, text(&vector, "reason"), "{}", vector["name"]);
    }
}

/// Whether one key opens what the other sealed.
fn is_same(one: &DataKey, other: &DataKey) -> bool {
    let place = Column {
        table: "t",
        pk: b"1",
        column: "c",
        version: 0,
    };
    let sealed = seal_column(one, &place, b"value", &mut ChaCha20Rng::from_seed([1; 32]));
    open_column(other, &place, &sealed).is_ok()
}

#[test]
fn flipped_bits_in_vault_records_do_not_open() {
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    let (key_file, data_key) = (KeyFile::generate(&mut rng), DataKey::generate(&mut rng));
    let place = Column {
        table: "t",
        pk: b"1",
        column: "c",
        version: 3,
    };
    let mut sealed = seal_column(&data_key, &place, b"value", &mut rng);
    let mut record = key_file.wrap(&data_key, &mut rng);
    for bit in 0..sealed.len() * 8 {
        sealed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            open_column(&data_key, &place, &sealed).is_err(),
            "bit {bit}"
        );
        sealed[bit / 8] ^= 1 << (bit % 8);
    }
    for bit in 0..record.len() * 8 {
        record[bit / 8] ^= 1 << (bit % 8);
        assert!(key_file.unwrap(&record).is_err(), "bit {bit}");
        record[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(key_file.unwrap(&record).is_ok());
}

proptest! {
    #[test]
    fn parsers_accept_any_text_without_panic(text in ".{0,400}", body in "[A-Za-z0-9_-]{0,300}") {
        for text in [
            text,
            format!("sealpost:sp1.{body}"),
            format!("sealpost-key1.{body}"),
            format!("https://a/i#sp1.{body}"),
        ] {
            let _ = Invite::parse(&text);
            let _ = KeyFile::parse(&text);
            let _ = VerificationCode::parse(&text);
        }
    }

    #[test]
    fn unwrap_refuses_random_records(record in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key_file = KeyFile::generate(&mut ChaCha20Rng::from_seed([3; 32]));
        prop_assert!(key_file.unwrap(&record).is_err());
    }
}
