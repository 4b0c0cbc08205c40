//! The relay's listener as its operator wants it: how many may be connected, and where the certificate comes from.

use crate::config::{Acme, Config, Listener as Wanted, Tls as Files};
use sealpost_proto::{Origin, Timestamp, limits::OPEN_FILES_RESERVED};
use sealpost_service::{
    DataFolder, SharedClock, Shutdown,
    http::{
        AcmeCertificates, AcmeError, AcmeOrder, CertificateError, CertificateFiles, Listener,
        ListenerLimits, Tls,
    },
    raise_open_files,
};
use std::{path::Path, sync::Arc};
use url::{Host, Url};

/// Where account and certificate of an authority are kept in the data folder.
const ACME: &str = "acme";
const AGREED: &str = "agreed";

/// Why nobody would be let in.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// A certificate without a key, or a key without a certificate.
    #[error(
        "tls.certificate and tls.key belong together: set both, or neither to let a proxy speak TLS"
    )]
    Half,
    /// The certificate cannot come from two places.
    #[error(
        "the certificate comes from files (tls) or from an authority (acme): leave one of them empty"
    )]
    Both,
    /// Nobody has read the terms.
    #[error("read the terms of service of {directory}, then set acme.terms to \"{AGREED}\"")]
    Terms {
        /// The authority's.
        directory: String,
    },
    /// The authority cannot be asked safely.
    #[error("acme.directory is \"{directory}\": it has to be an https:// URL")]
    Directory {
        /// As it was given.
        directory: String,
    },
    /// An authority certifies names.
    #[error("an authority certifies a name: set public_url to https:// and the relay's name")]
    NoName,
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The authority's folder.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// TLS itself.
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// From files, which may change.
    Files(Arc<CertificateFiles>),
    /// From an authority.
    Acme(Arc<AcmeCertificates>),
}

impl Certificates {
    /// As the operator wants it; `None` when a proxy speaks TLS.
    pub(crate) fn open(config: &Config, folder: &DataFolder) -> Result<Option<Self>, DoorError> {
        match (from_files(&config.tls)?, &config.acme) {
            (files, Acme { directory, .. }) if directory.is_empty() => Ok(files.map(Self::Files)),
            (None, acme) => {
                let order = order(acme, config.public_url.as_ref(), folder.path())?;
                Ok(Some(Self::Acme(AcmeCertificates::open(order)?)))
            }
            (Some(_), _) => Err(DoorError::Both),
        }
    }

    /// When the one that is served expires; `None` before an authority has given the first.
    pub(crate) fn not_after(&self) -> Option<Timestamp> {
        let validity = match self {
            Self::Files(files) => Some(files.validity()),
            Self::Acme(acme) => acme.validity(),
        };
        validity.map(|validity| validity.not_after)
    }

    /// Keeps it fresh until the shutdown.
    pub(crate) async fn tend(self, clock: SharedClock, shutdown: Shutdown) {
        match self {
            Self::Files(files) => files.watch(clock, shutdown).await,
            Self::Acme(acme) => acme.run(clock, shutdown).await,
        }
    }

    /// Reads files again. An authority's certificate is not asked for before its time.
    pub(crate) fn reload(&self) {
        match self {
            Self::Files(files) => files.reload_and_tell(),
            Self::Acme(_) => {}
        }
    }

    fn tls(&self) -> Result<Tls, DoorError> {
        let tls = match self {
            Self::Files(files) => Tls::new(Arc::clone(files) as Arc<_>),
            Self::Acme(acme) => Tls::with_acme(acme),
        };
        tls.map_err(|error| DoorError::Tls(error.to_string()))
    }
}

/// What a relay would let people in with, for whoever only looks.
#[derive(Debug)]
pub(crate) enum Lying {
    /// A proxy speaks TLS, or nobody.
    Nothing,
    /// An authority was not asked yet.
    NotOrdered,
    /// A certificate and its key.
    Certificate(Arc<CertificateFiles>),
}

impl Lying {
    /// As the operator wants it; makes nothing and asks nobody.
    pub(crate) fn find(config: &Config) -> Result<Self, DoorError> {
        let files = from_files(&config.tls)?;
        match (files, config.acme.directory.is_empty()) {
            (Some(_), false) => Err(DoorError::Both),
            (Some(files), true) => Ok(Self::Certificate(files)),
            (None, true) => Ok(Self::Nothing),
            (None, false) => {
                let kept = order(&config.acme, config.public_url.as_ref(), &config.data)?.kept()?;
                Ok(kept.map_or(Self::NotOrdered, Self::Certificate))
            }
        }
    }
}

/// The listener, with as many places as there may be open files.
pub(crate) fn listener(
    wanted: &Wanted,
    certificates: Option<&Certificates>,
) -> Result<Listener, DoorError> {
    let files = raise_open_files();
    let connections = wanted
        .connections
        .min(files.saturating_sub(OPEN_FILES_RESERVED).max(1));
    if connections < wanted.connections {
        let asked = wanted.connections;
        tracing::warn!(
            asked,
            connections,
            files,
            "too few open files are allowed: raise the limit (LimitNOFILE)"
        );
    }
    let connections_per_address = wanted.connections_per_address;
    let limits = ListenerLimits {
        connections,
        connections_per_address,
        ..ListenerLimits::default()
    };
    Ok(Listener::new(limits).with_tls(certificates.map(Certificates::tls).transpose()?))
}

fn from_files(files: &Files) -> Result<Option<Arc<CertificateFiles>>, DoorError> {
    match (files.certificate.as_str(), files.key.as_str()) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(DoorError::Half),
        (certificate, key) => Ok(Some(CertificateFiles::open(
            Path::new(certificate),
            Path::new(key),
        )?)),
    }
}

fn order(acme: &Acme, public_url: Option<&Origin>, folder: &Path) -> Result<AcmeOrder, DoorError> {
    let directory = acme.directory.clone();
    if acme.terms != AGREED {
        return Err(DoorError::Terms { directory });
    }
    if !is_safe(&directory) {
        return Err(DoorError::Directory { directory });
    }
    let public = public_url.filter(|origin| origin.is_https());
    let public = public
        .and_then(|origin| Url::parse(origin.as_str()).ok())
        .ok_or(DoorError::NoName)?;
    let Some(Host::Domain(name)) = public.host() else {
        return Err(DoorError::NoName);
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
        folder: folder.join(ACME),
    })
}

/// An authority on this machine needs no TLS.
fn is_safe(directory: &str) -> bool {
    let Ok(url) = Url::parse(directory) else {
        return false;
    };
    let local = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    url.scheme() == "https" || (local && url.scheme() == "http")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(change: impl FnOnce(&mut Config)) -> Result<Option<Certificates>, DoorError> {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        let mut config = Config::default();
        change(&mut config);
        Certificates::open(&config, &folder)
    }

    fn acme(config: &mut Config) {
        config.public_url = Some(Origin::parse("https://relay.example").unwrap());
        config.acme.directory = "https://authority.example/directory".to_owned();
        config.acme.terms = AGREED.to_owned();
    }

    #[test]
    fn without_settings_a_proxy_speaks_tls() {
        assert!(opened(|_| ()).unwrap().is_none());
        assert!(matches!(
            opened(|config| config.tls.key = "key.pem".to_owned()),
            Err(DoorError::Half)
        ));
    }

    #[test]
    fn an_authority_is_asked_only_when_its_terms_are_agreed_to() {
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
            DoorError::Terms { .. }
        ));
        assert!(matches!(
            refused(|config| config.public_url = None),
            DoorError::NoName
        ));
        let ip = |config: &mut Config| {
            config.public_url = Some(Origin::parse("https://192.0.2.1").unwrap())
        };
        assert!(matches!(refused(ip), DoorError::NoName));
        let open = |config: &mut Config| {
            config.acme.directory = "http://authority.example/directory".to_owned()
        };
        assert!(matches!(refused(open), DoorError::Directory { .. }));
    }
}
