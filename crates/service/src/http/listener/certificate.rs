//! The certificate and its key, from two files that may change while the listener runs.

use rustls::{
    client::verify_server_name,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use sealpost_proto::{
    Timestamp,
    limits::{CERTIFICATE_LOOK_INTERVAL, CERTIFICATE_WARNING, SECRET_FILE_BYTES_MAX},
    time::millis,
};
use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::sleep;
use x509_cert::{Certificate, der::Decode as _};
use zeroize::Zeroizing;

use crate::{Clock, SharedClock, Shutdown};

/// A key is often readable for a group that web servers share, but nothing excuses everybody.
const EVERYBODY: u32 = 0o007;
const DAY: Duration = Duration::from_secs(86_400);

/// A certificate chain and its key in PEM files. Handshakes take what was last read and is good.
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    good: RwLock<Good>,
}

/// A certificate that can be served.
pub(super) struct Good {
    pub(super) served: Arc<CertifiedKey>,
    pub(super) validity: Validity,
}

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Before this it is refused.
    pub not_before: Timestamp,
    /// After this it has expired.
    pub not_after: Timestamp,
}

impl Validity {
    /// How long it is good altogether.
    #[must_use]
    pub const fn life(self) -> Duration {
        self.not_after.since(self.not_before)
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The key is not secret.
    #[error("the key {} can be read by everybody: run chmod o= on it", path.display())]
    KeyTooOpen {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM form: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// A certificate, or a private key.
        what: &'static str,
        /// In the words of the parser.
        reason: String,
    },
    /// Both are read, and do not go together.
    #[error("the key {} does not belong to the first certificate in {}: {reason}", key.display(), certificate.display())]
    Mismatch {
        /// The file of the chain.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// In the words of the TLS library.
        reason: String,
    },
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// [`CertificateError`], in words for the operator.
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Self>, CertificateError> {
        let good = RwLock::new(read(certificate, key)?);
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            good,
        }))
    }

    /// Reads both files again. Connections that are open keep the certificate that they began with.
    ///
    /// # Errors
    /// [`CertificateError`]; the old certificate is then still served.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let good = read(&self.certificate, &self.key)?;
        *self.good.write().unwrap_or_else(PoisonError::into_inner) = good;
        Ok(())
    }

    /// When the certificate that is served is good.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.good
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .validity
    }

    /// Whether the certificate that is served names a host, as those who connect will ask.
    ///
    /// # Errors
    /// Words that say which names it has.
    pub fn names(&self, host: &str) -> Result<(), rustls::Error> {
        let served = Arc::clone(
            &self
                .good
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .served,
        );
        let certificate = ParsedCertificate::try_from(served.end_entity_cert()?)?;
        let name = ServerName::try_from(host)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verify_server_name(&certificate, &name)
    }

    /// Reads the files again whenever they have changed, and warns before the certificate expires, until the shutdown.
    pub async fn watch(self: Arc<Self>, clock: SharedClock, shutdown: Shutdown) {
        let mut seen = self.stamp();
        let mut warned_at = None;
        loop {
            self.warn_before_expiry(clock.now(), &mut warned_at);
            tokio::select! {
                () = sleep(CERTIFICATE_LOOK_INTERVAL) => {}
                () = shutdown.triggered() => return,
            }
            // Before reading: what changes meanwhile is then seen the next time.
            let stamp = self.stamp();
            if stamp != seen {
                seen = stamp;
                self.reload_and_tell();
            }
        }
    }

    /// Reads both files again and logs what came of it.
    pub fn reload_and_tell(&self) {
        match self.reload() {
            Ok(()) => {
                tracing::info!(certificate = %self.certificate.display(), "the new certificate is served")
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate is refused, the old one stays")
            }
        }
    }

    fn warn_before_expiry(&self, now: Timestamp, warned_at: &mut Option<Timestamp>) {
        let left = self.validity().not_after.since(now);
        let again = warned_at.is_none_or(|at| now.since(at) >= DAY);
        if left < CERTIFICATE_WARNING && again {
            let days = left.as_secs() / DAY.as_secs();
            tracing::warn!(certificate = %self.certificate.display(), days, "the certificate expires soon or has expired");
            *warned_at = Some(now);
        }
    }

    fn stamp(&self) -> [Option<Stamp>; 2] {
        [stamp(&self.certificate), stamp(&self.key)]
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self
                .good
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .served,
        ))
    }
}

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("CertificateFiles");
        shown
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// By what a changed file is told: device, inode, seconds and nanoseconds of its last change, bytes.
type Stamp = (u64, u64, i64, i64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.mtime(),
        file.mtime_nsec(),
        file.len(),
    ))
}

pub(super) fn read(certificate: &Path, key: &Path) -> Result<Good, CertificateError> {
    let malformed = |path: &Path, what, reason: String| CertificateError::Malformed {
        path: path.to_owned(),
        what,
        reason,
    };
    let no_certificate = |reason| malformed(certificate, "certificate", reason);
    let chain = read_file(certificate, false)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.map_err(|error| no_certificate(error.to_string()))?;
    let first = chain
        .first()
        .ok_or_else(|| no_certificate("it has no section CERTIFICATE".to_owned()))?;
    let validity = validity(first).map_err(|error| no_certificate(error.to_string()))?;
    let private = read_file(key, true)?;
    let private = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|error| malformed(key, "private key", error.to_string()))?;
    let served = CertifiedKey::from_der(chain, private, &ring::default_provider());
    let served = served.map_err(|error| CertificateError::Mismatch {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Good {
        served: Arc::new(served),
        validity,
    })
}

fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, x509_cert::der::Error> {
    let certificate = Certificate::from_der(certificate)?;
    let validity = certificate.tbs_certificate().validity();
    let time =
        |time: x509_cert::time::Time| Timestamp::from_millis(millis(time.to_unix_duration()));
    Ok(Validity {
        not_before: time(validity.not_before),
        not_after: time(validity.not_after),
    })
}

fn read_file(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let failed = |source| CertificateError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if secret && file.metadata().map_err(failed)?.permissions().mode() & EVERYBODY != 0 {
        return Err(CertificateError::KeyTooOpen {
            path: path.to_owned(),
        });
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(SECRET_FILE_BYTES_MAX)
        .read_to_end(&mut content)
        .map_err(failed)?;
    Ok(content)
}
