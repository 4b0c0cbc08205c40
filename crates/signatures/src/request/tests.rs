use super::*;
use proptest::prelude::*;
use sealpost_proto::AccountId;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BODY: &[u8] = b"{}";
const PARTS: RequestParts<'static> = RequestParts {
    method: "POST",
    authority: "relay.example",
    path: "/v1/envelopes",
    query: None,
};
const SESSION: SessionId = SessionId {
    account: AccountId::from_bytes([5; 16]),
    key_generation: 1,
    expires_at: NOW.plus(Duration::from_secs(60)),
    random: [3; 8],
};

fn account() -> SigningKey {
    SigningKey::from_bytes(&[4; 32])
}

fn session_key() -> SessionKey {
    SessionKey::from_bytes([6; 32])
}

fn nonce() -> Nonce {
    Nonce::from_random([8; 16])
}

fn by_account() -> SignedHeaders {
    sign_ed25519(&account(), &PARTS, &ContentDigest::of(BODY), NOW, &nonce())
}

fn by_session() -> SignedHeaders {
    sign_hmac(
        &SESSION.to_string(),
        &session_key(),
        &PARTS,
        &ContentDigest::of(BODY),
        NOW,
    )
}

fn received(headers: &SignedHeaders) -> Result<ReceivedSignature, SignatureError> {
    ReceivedSignature::parse(
        &headers.signature_input,
        &headers.signature,
        &headers.content_digest,
    )
}

/// The request of RFC 9421, appendix B.2, and its keys of appendix B.1.
mod rfc_9421 {
    use super::*;

    const DATE: (&str, &str) = ("date", "Tue, 20 Apr 2021 02:07:55 GMT");
    const TYPE: (&str, &str) = ("content-type", "application/json");
    const HOST: (&str, &str) = ("@authority", "example.com");

    #[test]
    fn b_2_5_hmac_sha256() {
        let key = STANDARD
            .decode(concat!(
                "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4",
                "XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
            ))
            .unwrap();
        let base = build_signature_base(
            &[DATE, HOST, TYPE],
            r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        );
        let signature = STANDARD.encode(compute_hmac(&key, &[base.as_bytes()]));
        assert_eq!(signature, "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
    }

    #[test]
    fn b_2_6_ed25519() {
        let key = SigningKey::from_bytes(
            &b64::parse_array("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU").unwrap(),
        );
        assert_eq!(
            AccountKey::of(&key).to_string(),
            "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"
        );
        let base = build_signature_base(
            &[
                DATE,
                ("@method", "POST"),
                ("@path", "/foo"),
                HOST,
                TYPE,
                ("content-length", "18"),
            ],
            concat!(
                r#"("date" "@method" "@path" "@authority" "content-type" "content-length")"#,
                r#";created=1618884473;keyid="test-key-ed25519""#
            ),
        );
        let signature = key.sign(base.as_bytes()).to_bytes();
        assert_eq!(
            STANDARD.encode(signature),
            concat!(
                "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQ",
                "CK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
            )
        );
        assert!(AccountKey::of(&key).verify(base.as_bytes(), &signature));
    }
}

#[test]
fn signature_base_matches_the_documentation() {
    let parameters = format_parameters(NOW, "k", "hmac-sha256", None);
    let base = build_request_base(&PARTS, &ContentDigest::of(b"").header(), &parameters);
    let expected = [
        r#""@method": POST"#,
        r#""@authority": relay.example"#,
        r#""@path": /v1/envelopes"#,
        r#""@query": ?"#,
        r#""content-digest": sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"#,
        concat!(
            concat!(
                r#""@signature-params": ("@method" "@authority" "@path" "@query" "#,
                r#""content-digest");created=1700000000"#
            ),
            r#";expires=1700000300;keyid="k";alg="hmac-sha256";tag="sealpost""#
        ),
    ]
    .join("\n");
    assert_eq!(base, expected);
}

#[test]
fn valid_signatures_verify() {
    let account_signature = received(&by_account()).unwrap();
    assert_eq!(
        account_signature.verify_ed25519(&PARTS, NOW),
        Ok(AccountKey::of(&account()))
    );
    assert_eq!(account_signature.params().nonce, Some(nonce()));
    assert_eq!(account_signature.check_body(BODY), Ok(()));
    assert_eq!(
        account_signature.check_body(b"[]"),
        Err(SignatureError::DigestMismatch)
    );
    let session_signature = received(&by_session()).unwrap();
    assert_eq!(
        session_signature.verify_hmac(&PARTS, &session_key(), NOW),
        Ok(SESSION)
    );
    assert_eq!(session_signature.params().nonce, None);
}

#[test]
fn key_kinds_are_not_interchangeable() {
    let key = session_key();
    assert_eq!(
        received(&by_account())
            .unwrap()
            .verify_hmac(&PARTS, &key, NOW),
        Err(SignatureError::WrongKey)
    );
    assert_eq!(
        received(&by_session()).unwrap().verify_ed25519(&PARTS, NOW),
        Err(SignatureError::WrongKey)
    );
}

#[test]
fn every_component_is_covered() {
    for parts in [
        RequestParts {
            method: "PUT",
            ..PARTS
        },
        RequestParts {
            authority: "other.example",
            ..PARTS
        },
        RequestParts {
            path: "/v1/envelope",
            ..PARTS
        },
        RequestParts {
            query: Some("a=1"),
            ..PARTS
        },
    ] {
        let invalid = Err(SignatureError::Invalid);
        assert_eq!(
            received(&by_account()).unwrap().verify_ed25519(&parts, NOW),
            invalid,
            "{parts:?}"
        );
        let by_session = received(&by_session()).unwrap();
        assert_eq!(
            by_session
                .verify_hmac(&parts, &session_key(), NOW)
                .map(|_| ()),
            Err(SignatureError::Invalid)
        );
    }
    let mut other_body = by_account();
    other_body.content_digest = ContentDigest::of(b"[]").header();
    assert_eq!(
        received(&other_body).unwrap().verify_ed25519(&PARTS, NOW),
        Err(SignatureError::Invalid)
    );
}

#[test]
fn absent_query_equals_empty_query() {
    let empty = RequestParts {
        query: Some(""),
        ..PARTS
    };
    assert!(
        received(&by_account())
            .unwrap()
            .verify_ed25519(&empty, NOW)
            .is_ok()
    );
}

#[test]
fn signature_is_valid_for_five_minutes() {
    let signature = received(&by_account()).unwrap();
    for (seconds, good) in [(0, true), (299, true), (300, false)] {
        let verified = signature.verify_ed25519(&PARTS, NOW.plus(Duration::from_secs(seconds)));
        assert_eq!(verified.is_ok(), good, "{seconds}");
    }
    for (seconds, good) in [(300, true), (301, false)] {
        let verified = signature.verify_ed25519(&PARTS, NOW.minus(Duration::from_secs(seconds)));
        assert_eq!(verified.is_ok(), good, "-{seconds}");
    }
    let skewed = signature.verify_ed25519(&PARTS, NOW.plus(Duration::from_secs(400)));
    assert_eq!(skewed.unwrap_err().code(), ErrorCode::ClockSkew);
}

#[test]
fn other_signature_inputs_are_rejected() {
    let good = by_account();
    let keyid = AccountKey::of(&account()).to_string();
    let (nonce, long) = (nonce(), "n".repeat(65));
    let edits: &[(&str, &str)] = &[
        ("sig=", "sig1="),
        ("sig=", "sig= "),
        ("sig=", "sig=();created=1, sig="),
        ("\"@method\" ", ""),
        ("\"@method\" \"@authority\"", "\"@authority\" \"@method\""),
        ("\"content-digest\")", "\"content-digest\" \"date\")"),
        ("\"@path\"", "\"@path\";req"),
        (";created=1700000000", ""),
        (";created=1700000000", ";created=-1"),
        (";created=1700000000", ";created=01700000000"),
        (";created=1700000000", ";created=1700000000.0"),
        (";created=1700000000", ";created=\"1700000000\""),
        (
            ";created=1700000000",
            ";created=1700000000;created=1700000000",
        ),
        (";created=1700000000", "; created=1700000000"),
        (";created=1700000000", ";created=99999999999999999999"),
        (";expires=1700000300", ""),
        (";expires=1700000300", ";expires=1700000301"),
        (";expires=1700000300", ";expires=1700000000"),
        (";expires=1700000300", ";expires=1600000000"),
        (";alg=\"ed25519\"", ""),
        (";alg=\"ed25519\"", ";alg=\"rsa-v1_5-sha256\""),
        (";alg=\"ed25519\"", ";alg=\"hmac-sha256\""),
        (";alg=\"ed25519\"", ";alg=ed25519"),
        (";tag=\"sealpost\"", ""),
        (";tag=\"sealpost\"", ";tag=\"other\""),
        (";tag=\"sealpost\"", ";tag=\"sealpost\";x=1"),
        (";tag=\"sealpost\"", ";tag=\"sealpost\" "),
        (";tag=\"sealpost\"", ";tag=\"sealpost\";"),
        (keyid.as_str(), ""),
        (keyid.as_str(), "AAAA"),
        (keyid.as_str(), "\\\""),
        (";nonce=\"", ";nonce=\" "),
        (";nonce=\"", ";nonce=\";"),
        (nonce.as_str(), ""),
        (nonce.as_str(), long.as_str()),
    ];
    for (from, to) in edits {
        let mut bad = good.clone();
        bad.signature_input = good.signature_input.replacen(from, to, 1);
        assert_ne!(
            bad.signature_input, good.signature_input,
            "{from} is not there"
        );
        let error = received(&bad).unwrap_err();
        assert!(
            matches!(error, SignatureError::Malformed { .. }),
            "{from} -> {to}: {error:?}"
        );
    }
}

#[test]
fn other_forms_of_headers_are_rejected() {
    let good = by_account();
    for bad in [
        "",
        "sig=",
        "sig=:",
        "sig=::x",
        "sig1=:AAAA:",
        "sig=:AAA:",
        "sig=:AAAA:, sig=:AAAA:",
        "sig=\"AAAA\"",
    ] {
        let signed = SignedHeaders {
            signature: bad.to_owned(),
            ..good.clone()
        };
        assert!(received(&signed).is_err(), "{bad}");
    }
    for bad in [
        "",
        "sha-256=::",
        "sha-256=:AAAA:",
        "sha-512=:AAAA:",
        "SHA-256=:AAAA:",
    ] {
        let signed = SignedHeaders {
            content_digest: bad.to_owned(),
            ..good.clone()
        };
        assert!(received(&signed).is_err(), "{bad}");
    }
}

#[test]
fn parameter_order_is_signed() {
    let parameters = format_parameters(
        NOW,
        &AccountKey::of(&account()).to_string(),
        "ed25519",
        None,
    );
    let turned = format!(
        ";tag=\"sealpost\"{}",
        parameters.replace(";tag=\"sealpost\"", "")
    );
    let signed = sign(&PARTS, &ContentDigest::of(BODY), &turned, |base| {
        account().sign(base).to_bytes()
    });
    assert!(
        received(&signed)
            .unwrap()
            .verify_ed25519(&PARTS, NOW)
            .is_ok()
    );
    let swapped = SignedHeaders {
        signature_input: format!("sig={COVERED}{parameters}"),
        ..signed
    };
    assert_eq!(
        received(&swapped).unwrap().verify_ed25519(&PARTS, NOW),
        Err(SignatureError::Invalid)
    );
}

#[test]
fn repeated_headers_are_rejected() {
    let signed = by_account();
    let mut headers = HeaderMap::new();
    assert_eq!(
        ReceivedSignature::from_headers(&headers),
        Err(SignatureError::Missing)
    );
    for (name, value) in signed.pairs() {
        headers.insert(name, value.parse().unwrap());
    }
    assert_eq!(ReceivedSignature::from_headers(&headers), received(&signed));
    for (name, value) in signed.pairs() {
        let mut twice = headers.clone();
        twice.append(name, value.parse().unwrap());
        assert!(
            ReceivedSignature::from_headers(&twice).is_err(),
            "{name} twice"
        );
        let mut without = headers.clone();
        without.remove(name);
        assert!(
            ReceivedSignature::from_headers(&without).is_err(),
            "without {name}"
        );
    }
}

proptest! {
    #[test]
    fn any_flipped_bit_of_a_signature_is_refused(byte in 0..64_usize, bit in 0..8_u8) {
        let mut signature = received(&by_account()).unwrap();
        signature.bytes[byte] ^= 1 << bit;
        prop_assert_eq!(signature.verify_ed25519(&PARTS, NOW), Err(SignatureError::Invalid));
        let mut signature = received(&by_session()).unwrap();
        signature.bytes[byte % 32] ^= 1 << bit;
        prop_assert_eq!(
            signature.verify_hmac(&PARTS, &session_key(), NOW),
            Err(SignatureError::Invalid)
        );
    }

    #[test]
    fn parsing_takes_any_text(input in ".{0,200}", signature in ".{0,100}", digest in ".{0,100}") {
        let _ = ReceivedSignature::parse(&input, &signature, &digest);
    }
}
