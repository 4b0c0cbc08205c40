//! Request headers: signatures, sessions, webhooks, ranges.

use ed25519_dalek::SigningKey;
use http::{HeaderMap, HeaderName, HeaderValue};
use sealpost_fuzz::fuzz_inputs;
use sealpost_proto::{AccountId, SessionKey, Timestamp, WebhookSecret};
use sealpost_signatures::{
    AccountKey, ContentDigest, Nonce, ReceivedSignature, RequestParts, SessionId, SignedHeaders,
    request, webhook,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const BODY: &[u8] = br#"{"envelopes":[]}"#;
const PARTS: RequestParts<'static> = RequestParts {
    method: "POST",
    authority: "relay.example",
    path: "/v1/envelopes",
    query: None,
};

fn session_id() -> String {
    let id = SessionId {
        account: AccountId::from_bytes([1; 16]),
        key_generation: 1,
        expires_at: NOW,
        random: [2; 8],
    };
    id.to_string()
}

/// Returns the three headers, one per line.
fn signed() -> Vec<Vec<u8>> {
    let digest = ContentDigest::of(BODY);
    let key = SigningKey::from_bytes(&[3; 32]);
    let nonce = Nonce::from_random([4; 16]);
    let by_key = request::sign_ed25519(&key, &PARTS, &digest, NOW, &nonce);
    let by_session = request::sign_hmac(
        &session_id(),
        &SessionKey::from_bytes([5; 32]),
        &PARTS,
        &digest,
        NOW,
    );
    let lines = |headers: SignedHeaders| {
        headers
            .pairs()
            .map(|(_, value)| value.to_owned())
            .join("\n")
            .into_bytes()
    };
    vec![lines(by_key), lines(by_session)]
}

#[test]
fn damaged_request_signatures_are_rejected() {
    let mut verified = 0;
    let session_key = SessionKey::from_bytes([5; 32]);
    fuzz_inputs(&signed(), 20_000, |case| {
        let text = String::from_utf8_lossy(case.bytes);
        let mut lines = text.splitn(3, '\n');
        let [input, signature, digest] = [(); 3].map(|()| lines.next().unwrap_or_default());
        let Ok(received) = ReceivedSignature::parse(input, signature, digest) else {
            return;
        };
        let is_valid = received.check_body(BODY).is_ok()
            && (received.verify_ed25519(&PARTS, NOW).is_ok()
                || received.verify_hmac(&PARTS, &session_key, NOW).is_ok());
        assert!(case.is_seed || !is_valid, "a damaged signature is valid");
        verified += u32::from(is_valid);
    });
    assert_eq!(verified, 2);
}

#[test]
fn ids_and_keys_reencode_to_the_same_text() {
    let account = AccountKey::of(&SigningKey::from_bytes(&[3; 32])).to_string();
    fuzz_inputs(
        &[session_id().into_bytes(), account.into_bytes()],
        10_000,
        |case| {
            let text = String::from_utf8_lossy(case.bytes);
            if let Ok(id) = text.parse::<SessionId>() {
                assert_eq!(id.to_string(), text);
            }
            if let Ok(key) = text.parse::<AccountKey>() {
                assert_eq!(key.to_string(), text);
                assert!(!key.verify(b"message", &[0; 64]));
            }
        },
    );
}

#[test]
fn damaged_webhook_signatures_are_rejected() {
    let secret = WebhookSecret::from_bytes([6; 32]);
    let signed = webhook::sign_webhook(&secret, "msg_1", NOW, BODY);
    let seed = [&signed.id, &signed.timestamp, &signed.signature]
        .map(String::as_str)
        .join("\n")
        .into_bytes();
    let mut verified = 0;
    fuzz_inputs(&[seed], 20_000, |case| {
        let mut headers = HeaderMap::new();
        let names = [
            webhook::ID_HEADER,
            webhook::TIMESTAMP_HEADER,
            webhook::SIGNATURE_HEADER,
        ];
        for (name, value) in names
            .into_iter()
            .zip(case.bytes.splitn(3, |byte| *byte == b'\n'))
        {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let is_valid =
            webhook::verify_webhook(std::slice::from_ref(&secret), &headers, BODY, NOW).is_ok();
        let has_value =
            |name: &str, value: &str| headers.get(name).is_some_and(|header| header == value);
        let has_id = has_value(webhook::ID_HEADER, &signed.id)
            && has_value(webhook::TIMESTAMP_HEADER, &signed.timestamp);
        // An invalid signature may accompany a valid one.
        let is_signed = headers.get(webhook::SIGNATURE_HEADER).is_some_and(|value| {
            value
                .as_bytes()
                .split(|byte| *byte == b' ')
                .any(|one| one == signed.signature.as_bytes())
        });
        assert!(
            !is_valid || (has_id && is_signed),
            "a damaged call is accepted"
        );
        verified += u32::from(is_valid);
    });
    assert!(verified >= 1);
}

#[test]
fn any_range_header_is_parsed_without_panic() {
    let seeds = [
        "bytes=0-99",
        "bytes=100-",
        "bytes=-5",
        "bytes=0-0,5-6",
        "bytes=18446744073709551615-",
    ];
    let seeds: Vec<_> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    fuzz_inputs(&seeds, 20_000, |case| {
        let _ = sealpost_relay_core::blob::parse_range(
            Some(&String::from_utf8_lossy(case.bytes)),
            1_000,
        );
    });
}
