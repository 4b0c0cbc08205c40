//! Check of the certificate and its key, for a relay that terminates TLS itself.

use crate::{config::Config, listener::ConfiguredCertificate};
use sealpost_proto::{Origin, Timestamp, limits::CERTIFICATE_EXPIRY_WARNING};
use sealpost_service::{
    checks::CheckReport,
    http::{CertificateFiles, Validity},
    units::format_duration,
};
use url::Url;

pub(super) fn check(report: &mut CheckReport, config: &Config, now: Timestamp) {
    let certificate = match ConfiguredCertificate::find(config) {
        Ok(ConfiguredCertificate::None) => return,
        Ok(ConfiguredCertificate::NotOrdered) => {
            return report.warn(
                "tls",
                "no certificate yet",
                "start the relay; it orders one from the certificate authority",
            );
        }
        Ok(ConfiguredCertificate::Found(certificate)) => certificate,
        Err(error) => return report.fail("tls", error, "correct the settings of TLS"),
    };
    if let Some(origin) = &config.public_url {
        check_name(report, &certificate, origin);
    }
    let is_manual = config.acme.directory.is_empty();
    check_validity(report, certificate.validity(), now, is_manual);
}

fn check_name(report: &mut CheckReport, certificate: &CertificateFiles, origin: &Origin) {
    if !origin.is_https() {
        let text = format!("TLS is enabled, but public_url is {origin}");
        return report.fail("tls", text, "change public_url to https://");
    }
    let url = Url::parse(origin.as_str()).ok();
    let Some(host) = url.as_ref().and_then(Url::host_str) else {
        return;
    };
    // Only URLs enclose IPv6 addresses in brackets.
    match certificate.check_name(host.trim_matches(['[', ']'])) {
        Ok(()) => report.ok(
            "tls",
            format!("the certificate is valid for {host} and matches the key"),
        ),
        Err(error) => report.fail(
            "tls",
            format!("the certificate is not valid for {host} ({error})"),
            "obtain one that is",
        ),
    }
}

fn check_validity(
    report: &mut CheckReport,
    Validity {
        not_before,
        not_after,
    }: Validity,
    now: Timestamp,
    is_manual: bool,
) {
    let next = if is_manual {
        "replace it with a new one"
    } else {
        "see the relay's log for the reason why it was not renewed"
    };
    if now < not_before {
        let wait = format_duration(not_before.since(now));
        return report.fail(
            "tls",
            format!("the certificate becomes valid in {wait}"),
            "check the clock",
        );
    }
    if now >= not_after {
        let ago = format_duration(now.since(not_after));
        return report.fail("tls", format!("the certificate expired {ago} ago"), next);
    }
    let left = not_after.since(now);
    let text = format!("the certificate expires in {}", format_duration(left));
    if left < CERTIFICATE_EXPIRY_WARNING {
        report.warn("tls", text, next);
    } else {
        report.ok("tls", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use sealpost_service::checks::CheckStatus;
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn write_certificate(directory: &Path, names: &[&str]) -> (String, String) {
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
        let (chain, private) = (directory.join("chain.pem"), directory.join("key.pem"));
        fs::write(&chain, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&private, key.serialize_pem()).unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
        (
            chain.to_str().unwrap().to_owned(),
            private.to_str().unwrap().to_owned(),
        )
    }

    fn found(config: &Config, now: Timestamp) -> Vec<(CheckStatus, String)> {
        let mut report = CheckReport::default();
        check(&mut report, config, now);
        let results = report.results().iter();
        results
            .map(|result| {
                let next = result.next.as_deref().unwrap_or_default();
                (result.status, format!("{}: {next}", result.text))
            })
            .collect()
    }

    /// A week before the certificate becomes valid, in its first days, twelve days before it
    /// expires, and afterwards.
    const BEFORE: Timestamp = Timestamp::from_millis(1_893_000_000_000);
    const GOOD: Timestamp = Timestamp::from_millis(1_894_000_000_000);
    const SOON: Timestamp = Timestamp::from_millis(1_897_500_000_000);
    const OVER: Timestamp = Timestamp::from_millis(1_899_000_000_000);

    #[test]
    fn certificate_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        assert_eq!(found(&config, GOOD), [], "a proxy terminates TLS");
        (config.tls.certificate, config.tls.key) = write_certificate(
            directory.path(),
            &["relay.example", "*.inner.example", "::1"],
        );
        for (url, status) in [
            ("https://relay.example", CheckStatus::Ok),
            ("https://a.inner.example:8443", CheckStatus::Ok),
            ("https://[::1]", CheckStatus::Ok),
            ("https://other.example", CheckStatus::Failed),
            ("https://192.0.2.1", CheckStatus::Failed),
            ("http://relay.example", CheckStatus::Failed),
        ] {
            config.public_url = Some(Origin::parse(url).unwrap());
            let found = found(&config, GOOD);
            assert_eq!(
                (found[0].0, found[1].0),
                (status, CheckStatus::Ok),
                "{url}: {found:?}"
            );
        }
        config.public_url = None;
        for (now, status, text) in [
            (BEFORE, CheckStatus::Failed, "becomes valid in"),
            (GOOD, CheckStatus::Ok, "expires in"),
            (SOON, CheckStatus::Warning, "replace it"),
            (OVER, CheckStatus::Failed, "ago: replace it"),
        ] {
            let found = found(&config, now);
            assert!(
                found.len() == 1 && found[0].0 == status && found[0].1.contains(text),
                "{found:?}"
            );
        }
    }

    #[test]
    fn unusable_files_are_reported() {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut config = Config::default();
        let ((certificate, key), (_, others)) = (
            write_certificate(directory.path(), &["a.example"]),
            write_certificate(other.path(), &["a.example"]),
        );
        config.tls.certificate = certificate;
        for (key, text) in [
            ("", "belong together"),
            ("/nowhere", "/nowhere cannot be read"),
            (&others, "does not belong"),
        ] {
            config.tls.key = key.to_owned();
            let found = found(&config, GOOD);
            assert!(
                found.len() == 1 && found[0].0 == CheckStatus::Failed && found[0].1.contains(text),
                "{found:?}"
            );
        }
        config.tls.key = key;
        config.acme.directory = "https://authority.example".to_owned();
        assert!(found(&config, GOOD)[0].1.contains("exclude each other"));
    }

    #[test]
    fn acme_certificate_is_checked_without_ordering() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config {
            data: directory.path().to_owned(),
            ..Config::default()
        };
        config.public_url = Some(Origin::parse("https://relay.example").unwrap());
        config.acme.directory = "https://authority.example/directory".to_owned();
        assert!(found(&config, GOOD)[0].1.contains("terms of service"));
        config.acme.terms = "agreed".to_owned();
        assert_eq!(found(&config, GOOD)[0].0, CheckStatus::Warning);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        fs::create_dir(directory.path().join("acme")).unwrap();
        write_certificate(&directory.path().join("acme"), &["relay.example"]);
        let statuses = |now| {
            found(&config, now)
                .iter()
                .map(|(status, _)| *status)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (statuses(GOOD), statuses(OVER)),
            (
                vec![CheckStatus::Ok; 2],
                vec![CheckStatus::Ok, CheckStatus::Failed]
            )
        );
    }
}
