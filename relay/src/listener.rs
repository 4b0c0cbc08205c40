//! Configuration of the public listener: connection limits and the source of its certificate.

use crate::config::{self, Acme, Config};
use sealpost_proto::{Origin, Timestamp, limits::OPEN_FILES_RESERVED};
use sealpost_service::{
    DataDir, SharedClock, Shutdown,
    http::{
        AcmeCertificates, AcmeError, AcmeOrder, CertificateError, CertificateFiles, Listener,
        ListenerLimits, Tls,
    },
    raise_open_files_limit,
};
use std::{path::Path, sync::Arc};
use url::{Host, Url};

/// Directory with the ACME account and certificate in the data directory.
const ACME_DIR: &str = "acme";
const AGREED: &str = "agreed";

/// The settings of the public listener are invalid, or its certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// A certificate without a key, or a key without a certificate.
    #[error("tls.certificate and tls.key belong together: set both, or neither for TLS at a proxy")]
    IncompleteTls,
    /// Two sources of certificates are configured.
    #[error("tls and acme exclude each other: remove one of the two sections")]
    TwoSources,
    /// The terms of service were not accepted.
    #[error("read the terms of service of {directory}, then set acme.terms to \"{AGREED}\"")]
    TermsNotAccepted {
        /// Directory URL of the certificate authority.
        directory: String,
    },
    /// The directory URL is not HTTPS.
    #[error("acme.directory is \"{directory}\": use an https:// URL")]
    InsecureDirectory {
        /// Configured directory URL.
        directory: String,
    },
    /// The public URL has no domain name.
    #[error("a certificate authority needs a domain name: set public_url to https:// and the name")]
    NoDomainName,
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The directory of the ACME account cannot be used.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// TLS cannot be configured.
    #[error("TLS cannot be configured: {0}")]
    Tls(String),
}

/// Source of the listener's certificate.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// Files, which are reloaded when they change.
    Files(Arc<CertificateFiles>),
    /// Certificate authority with ACME.
    Acme(Arc<AcmeCertificates>),
}

impl Certificates {
    /// Opens the configured source; absent if a proxy terminates TLS.
    pub(crate) fn open(config: &Config, data_dir: &DataDir) -> Result<Option<Self>, ListenerError> {
        match (open_files(&config.tls)?, &config.acme) {
            (files, Acme { directory, .. }) if directory.is_empty() => Ok(files.map(Self::Files)),
            (None, acme) => {
                let order = create_order(acme, config.public_url.as_ref(), data_dir.path())?;
                Ok(Some(Self::Acme(AcmeCertificates::open(order)?)))
            }
            (Some(_), _) => Err(ListenerError::TwoSources),
        }
    }

    /// Returns when the current certificate expires; absent before an authority has issued the
    /// first.
    pub(crate) fn not_after(&self) -> Option<Timestamp> {
        let validity = match self {
            Self::Files(files) => Some(files.validity()),
            Self::Acme(acme) => acme.validity(),
        };
        validity.map(|validity| validity.not_after)
    }

    /// Reloads or renews the certificate until the shutdown.
    pub(crate) async fn maintain(self, clock: SharedClock, shutdown: Shutdown) {
        match self {
            Self::Files(files) => files.watch(clock, shutdown).await,
            Self::Acme(acme) => acme.run(clock, shutdown).await,
        }
    }

    /// Reloads the certificate from its files. A certificate of an authority is renewed only when
    /// it is due.
    pub(crate) fn reload(&self) {
        match self {
            Self::Files(files) => files.reload_and_log(),
            Self::Acme(_) => {}
        }
    }

    fn tls(&self) -> Result<Tls, ListenerError> {
        let tls = match self {
            Self::Files(files) => Tls::new(Arc::clone(files) as Arc<_>),
            Self::Acme(acme) => Tls::with_acme(acme),
        };
        tls.map_err(|error| ListenerError::Tls(error.to_string()))
    }
}

/// Certificate that a relay with a configuration would use, for checks of the configuration.
#[derive(Debug)]
pub(crate) enum ConfiguredCertificate {
    /// The relay does not terminate TLS.
    None,
    /// No certificate was ordered from the authority yet.
    NotOrdered,
    Found(Arc<CertificateFiles>),
}

impl ConfiguredCertificate {
    /// Finds the certificate without creating files or contacting an authority.
    pub(crate) fn find(config: &Config) -> Result<Self, ListenerError> {
        let files = open_files(&config.tls)?;
        match (files, config.acme.directory.is_empty()) {
            (Some(_), false) => Err(ListenerError::TwoSources),
            (Some(files), true) => Ok(Self::Found(files)),
            (None, true) => Ok(Self::None),
            (None, false) => {
                let order = create_order(&config.acme, config.public_url.as_ref(), &config.data)?;
                let stored = order.load_stored_certificate()?;
                Ok(stored.map_or(Self::NotOrdered, Self::Found))
            }
        }
    }
}

/// Creates the listener. Its connection limit is reduced to the number of open files that the
/// system allows.
pub(crate) fn create_listener(
    settings: &config::Listener,
    certificates: Option<&Certificates>,
) -> Result<Listener, ListenerError> {
    let files = raise_open_files_limit();
    let connections = settings
        .connections
        .min(files.saturating_sub(OPEN_FILES_RESERVED).max(1));
    if connections < settings.connections {
        let requested = settings.connections;
        tracing::warn!(
            requested,
            connections,
            files,
            "too few open files are allowed: raise the limit (LimitNOFILE)"
        );
    }
    let connections_per_address = settings.connections_per_address;
    let limits = ListenerLimits {
        connections,
        connections_per_address,
        ..ListenerLimits::default()
    };
    Ok(Listener::new(limits).with_tls(certificates.map(Certificates::tls).transpose()?))
}

fn open_files(files: &config::Tls) -> Result<Option<Arc<CertificateFiles>>, ListenerError> {
    match (files.certificate.as_str(), files.key.as_str()) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(ListenerError::IncompleteTls),
        (certificate, key) => Ok(Some(CertificateFiles::open(
            Path::new(certificate),
            Path::new(key),
        )?)),
    }
}

fn create_order(
    acme: &Acme,
    public_url: Option<&Origin>,
    data_dir: &Path,
) -> Result<AcmeOrder, ListenerError> {
    let directory = acme.directory.clone();
    if acme.terms != AGREED {
        return Err(ListenerError::TermsNotAccepted { directory });
    }
    if !is_secure_url(&directory) {
        return Err(ListenerError::InsecureDirectory { directory });
    }
    let public = public_url.filter(|origin| origin.is_https());
    let public = public
        .and_then(|origin| Url::parse(origin.as_str()).ok())
        .ok_or(ListenerError::NoDomainName)?;
    let Some(Host::Domain(name)) = public.host() else {
        return Err(ListenerError::NoDomainName);
    };
    let contact = Some(&acme.contact).filter(|contact| !contact.is_empty());
    let contact = contact
        .map(|address| format!("mailto:{address}"))
        .into_iter()
        .collect();
    Ok(AcmeOrder {
        names: vec![name.to_owned()],
        contact,
        directory,
        storage_dir: data_dir.join(ACME_DIR),
    })
}

/// Returns whether a directory URL is HTTPS, or HTTP on this machine.
fn is_secure_url(directory: &str) -> bool {
    let Ok(url) = Url::parse(directory) else {
        return false;
    };
    let is_local = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    url.scheme() == "https" || (is_local && url.scheme() == "http")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(change: impl FnOnce(&mut Config)) -> Result<Option<Certificates>, ListenerError> {
        let parent = crate::data_layout::temporary_data_directory();
        let directory = DataDir::open(parent.path()).unwrap();
        let mut config = Config::default();
        change(&mut config);
        Certificates::open(&config, &directory)
    }

    fn acme(config: &mut Config) {
        config.public_url = Some(Origin::parse("https://relay.example").unwrap());
        config.acme.directory = "https://authority.example/directory".to_owned();
        config.acme.terms = AGREED.to_owned();
    }

    #[test]
    fn default_settings_disable_tls() {
        assert!(opened(|_| ()).unwrap().is_none());
        assert!(matches!(
            opened(|config| config.tls.key = "key.pem".to_owned()),
            Err(ListenerError::IncompleteTls)
        ));
    }

    #[test]
    fn invalid_acme_settings_are_refused() {
        let ordered = opened(acme).unwrap();
        assert!(
            matches!(&ordered, Some(Certificates::Acme(_))),
            "{ordered:?}"
        );
        let refused = |change: fn(&mut Config)| {
            opened(|config| {
                acme(config);
                change(config);
            })
            .unwrap_err()
        };
        assert!(matches!(
            refused(|config| config.acme.terms.clear()),
            ListenerError::TermsNotAccepted { .. }
        ));
        assert!(matches!(
            refused(|config| config.public_url = None),
            ListenerError::NoDomainName
        ));
        let ip = |config: &mut Config| {
            config.public_url = Some(Origin::parse("https://192.0.2.1").unwrap())
        };
        assert!(matches!(refused(ip), ListenerError::NoDomainName));
        let insecure = |config: &mut Config| {
            config.acme.directory = "http://authority.example/directory".to_owned()
        };
        assert!(matches!(
            refused(insecure),
            ListenerError::InsecureDirectory { .. }
        ));
    }
}
