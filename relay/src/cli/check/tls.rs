//! The certificate and its key, when the relay speaks TLS itself.

use super::Findings;
use crate::{config::Config, door::Lying};
use sealpost_proto::{Origin, Timestamp, limits::CERTIFICATE_WARNING};
use sealpost_service::{
    http::{CertificateFiles, Validity},
    units::length,
};
use url::Url;

pub(super) fn look(findings: &mut Findings, config: &Config, now: Timestamp) {
    let certificate = match Lying::find(config) {
        Ok(Lying::Nothing) => return,
        Ok(Lying::NotOrdered) => {
            return findings.warn(
                "tls",
                "the authority has given no certificate yet: the relay orders one when it runs",
            );
        }
        Ok(Lying::Certificate(certificate)) => certificate,
        Err(error) => return findings.fail("tls", error),
    };
    if let Some(origin) = &config.public_url {
        name(findings, &certificate, origin);
    }
    let by_hand = config.acme.directory.is_empty();
    validity(findings, certificate.validity(), now, by_hand);
}

fn name(findings: &mut Findings, certificate: &CertificateFiles, origin: &Origin) {
    if !origin.is_https() {
        let text = format!("the relay speaks TLS, but public_url is {origin}: make it https://");
        return findings.fail("tls", text);
    }
    let url = Url::parse(origin.as_str()).ok();
    let Some(host) = url.as_ref().and_then(Url::host_str) else {
        return;
    };
    // An IPv6 address has brackets in a URL only.
    match certificate.names(host.trim_matches(['[', ']'])) {
        Ok(()) => findings.ok(
            "tls",
            format!("the certificate is for {host}, and the key belongs to it"),
        ),
        Err(error) => findings.fail(
            "tls",
            format!("the certificate is not for {host} ({error}): order one that is"),
        ),
    }
}

fn validity(
    findings: &mut Findings,
    Validity {
        not_before,
        not_after,
    }: Validity,
    now: Timestamp,
    by_hand: bool,
) {
    let todo = if by_hand {
        "order a new one and put it in its place"
    } else {
        "the log of the relay says why there is no new one"
    };
    if now < not_before {
        let wait = length(not_before.since(now));
        return findings.fail(
            "tls",
            format!("the certificate is good only in {wait}: is the clock right?"),
        );
    }
    if now >= not_after {
        let ago = length(now.since(not_after));
        return findings.fail("tls", format!("the certificate expired {ago} ago: {todo}"));
    }
    let left = not_after.since(now);
    match left < CERTIFICATE_WARNING {
        true => findings.warn(
            "tls",
            format!("the certificate expires in {}: {todo}", length(left)),
        ),
        false => findings.ok(
            "tls",
            format!("the certificate expires in {}", length(left)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn certify(folder: &Path, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>(),
        )
        .unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 3, 1));
        let (chain, private) = (folder.join("chain.pem"), folder.join("key.pem"));
        fs::write(&chain, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&private, key.serialize_pem()).unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
        (
            chain.to_str().unwrap().to_owned(),
            private.to_str().unwrap().to_owned(),
        )
    }

    fn found(config: &Config, now: Timestamp) -> Vec<(Grade, String)> {
        let mut findings = Findings::default();
        look(&mut findings, config, now);
        findings
            .0
            .into_iter()
            .map(|(grade, _, text)| (grade, text))
            .collect()
    }

    /// Around the life of the certificate: a week before, in its first days, twelve days before its end, after it.
    const BEFORE: Timestamp = Timestamp::from_millis(1_893_000_000_000);
    const GOOD: Timestamp = Timestamp::from_millis(1_894_000_000_000);
    const SOON: Timestamp = Timestamp::from_millis(1_897_500_000_000);
    const OVER: Timestamp = Timestamp::from_millis(1_899_000_000_000);

    #[test]
    fn a_certificate_has_the_right_name_and_the_right_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        assert_eq!(found(&config, GOOD), [], "a proxy speaks TLS");
        (config.tls.certificate, config.tls.key) =
            certify(folder.path(), &["relay.example", "*.inner.example", "::1"]);
        for (url, grade) in [
            ("https://relay.example", Grade::Ok),
            ("https://a.inner.example:8443", Grade::Ok),
            ("https://[::1]", Grade::Ok),
            ("https://other.example", Grade::Fail),
            ("https://192.0.2.1", Grade::Fail),
            ("http://relay.example", Grade::Fail),
        ] {
            config.public_url = Some(Origin::parse(url).unwrap());
            let found = found(&config, GOOD);
            assert_eq!(
                (found[0].0, found[1].0),
                (grade, Grade::Ok),
                "{url}: {found:?}"
            );
        }
        config.public_url = None;
        for (now, grade, words) in [
            (BEFORE, Grade::Fail, "good only in"),
            (GOOD, Grade::Ok, "expires in"),
            (SOON, Grade::Warn, "order a new one"),
            (OVER, Grade::Fail, "ago: order a new one"),
        ] {
            let found = found(&config, now);
            assert!(
                found.len() == 1 && found[0].0 == grade && found[0].1.contains(words),
                "{found:?}"
            );
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut config = Config::default();
        let ((certificate, key), (_, others)) = (
            certify(folder.path(), &["a.example"]),
            certify(other.path(), &["a.example"]),
        );
        config.tls.certificate = certificate;
        for (key, words) in [
            ("", "belong together"),
            ("/nowhere", "/nowhere cannot be read"),
            (&others, "does not belong"),
        ] {
            config.tls.key = key.to_owned();
            let found = found(&config, GOOD);
            assert!(
                found.len() == 1 && found[0].0 == Grade::Fail && found[0].1.contains(words),
                "{found:?}"
            );
        }
        config.tls.key = key;
        config.acme.directory = "https://authority.example".to_owned();
        assert!(
            found(&config, GOOD)[0]
                .1
                .contains("leave one of them empty")
        );
    }

    #[test]
    fn what_an_authority_gave_is_looked_at_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            data: folder.path().to_owned(),
            ..Config::default()
        };
        config.public_url = Some(Origin::parse("https://relay.example").unwrap());
        config.acme.directory = "https://authority.example/directory".to_owned();
        assert!(found(&config, GOOD)[0].1.contains("terms of service"));
        config.acme.terms = "agreed".to_owned();
        assert_eq!(found(&config, GOOD)[0].0, Grade::Warn);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::create_dir(folder.path().join("acme")).unwrap();
        certify(&folder.path().join("acme"), &["relay.example"]);
        let grades = |now| {
            found(&config, now)
                .iter()
                .map(|(grade, _)| *grade)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (grades(GOOD), grades(OVER)),
            (vec![Grade::Ok; 2], vec![Grade::Ok, Grade::Fail])
        );
    }
}
