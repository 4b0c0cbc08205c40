//! Certificate and key from two files that may change while the listener runs.

use rustls::{
    client::verify_server_name,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use sealpost_proto::{
    Timestamp,
    limits::{CERTIFICATE_CHECK_INTERVAL, CERTIFICATE_EXPIRY_WARNING, SECRET_FILE_BYTES_MAX},
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

/// Permission bits that a key file must not have. A group of web servers often shares a key.
const OTHERS_BITS: u32 = 0o007;
const DAY: Duration = Duration::from_secs(86_400);

/// Certificate chain and key in PEM files. Handshakes use the last valid content.
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<LoadedCertificate>,
}

/// Certificate with its key, ready for handshakes.
pub(super) struct LoadedCertificate {
    pub(super) certified_key: Arc<CertifiedKey>,
    pub(super) validity: Validity,
}

/// Period in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Start of the period.
    pub not_before: Timestamp,
    /// End of the period.
    pub not_after: Timestamp,
}

impl Validity {
    /// Returns the length of the period.
    #[must_use]
    pub const fn lifetime(self) -> Duration {
        self.not_after.since(self.not_before)
    }
}

/// Error when loading a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error from the operating system.
        source: io::Error,
    },
    /// All users can read the key.
    #[error("the key {} can be read by all users: run chmod o= on it", path.display())]
    KeyTooOpen {
        /// Path of the file.
        path: PathBuf,
    },
    /// A file does not contain what is expected.
    #[error("{} contains no {what} in PEM format: {reason}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// Message of the parser.
        reason: String,
    },
    /// The key does not belong to the certificate.
    #[error(
        "the key {} does not belong to the first certificate in {}: {reason}",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// Path of the chain.
        certificate: PathBuf,
        /// Path of the key.
        key: PathBuf,
        /// Message of the TLS library.
        reason: String,
    },
}

impl CertificateFiles {
    /// Reads the certificate chain and its key.
    ///
    /// # Errors
    /// Returns [`CertificateError`] if a file cannot be read or used.
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Self>, CertificateError> {
        let current = RwLock::new(load(certificate, key)?);
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current,
        }))
    }

    /// Reads both files again. Open connections continue with their certificate.
    ///
    /// # Errors
    /// [`CertificateError`]; then the old certificate stays in use.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let loaded = load(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Returns the validity of the current certificate.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .validity
    }

    /// Checks that the current certificate is valid for a host name, as clients do.
    ///
    /// # Errors
    /// An error that lists the names of the certificate.
    pub fn check_name(&self, host: &str) -> Result<(), rustls::Error> {
        let current = Arc::clone(
            &self
                .current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .certified_key,
        );
        let certificate = ParsedCertificate::try_from(current.end_entity_cert()?)?;
        let name = ServerName::try_from(host)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verify_server_name(&certificate, &name)
    }

    /// Reads the files again whenever they change and warns before the certificate expires, until
    /// the shutdown.
    pub async fn watch(self: Arc<Self>, clock: SharedClock, shutdown: Shutdown) {
        let mut last_stamps = self.read_stamps();
        let mut warned_at = None;
        loop {
            self.warn_before_expiry(clock.now(), &mut warned_at);
            tokio::select! {
                () = sleep(CERTIFICATE_CHECK_INTERVAL) => {}
                () = shutdown.triggered() => return,
            }
            // Taken before reading, so that a change in between is noticed the next time.
            let stamps = self.read_stamps();
            if stamps != last_stamps {
                last_stamps = stamps;
                self.reload_and_log();
            }
        }
    }

    /// Reads both files again and logs the outcome.
    pub fn reload_and_log(&self) {
        match self.reload() {
            Ok(()) => {
                tracing::info!(
                    certificate = %self.certificate.display(),
                    "the new certificate is in use"
                );
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    "the new certificate is not valid; the old one stays in use"
                );
            }
        }
    }

    fn warn_before_expiry(&self, now: Timestamp, warned_at: &mut Option<Timestamp>) {
        let left = self.validity().not_after.since(now);
        let is_due = warned_at.is_none_or(|at| now.since(at) >= DAY);
        if left < CERTIFICATE_EXPIRY_WARNING && is_due {
            let days = left.as_secs() / DAY.as_secs();
            tracing::warn!(
                certificate = %self.certificate.display(),
                days,
                "the certificate expires soon or has expired"
            );
            *warned_at = Some(now);
        }
    }

    fn read_stamps(&self) -> [Option<FileStamp>; 2] {
        [
            read_file_stamp(&self.certificate),
            read_file_stamp(&self.key),
        ]
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self
                .current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .certified_key,
        ))
    }
}

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CertificateFiles")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Device, inode, seconds and nanoseconds of the last change, and size of a file. A changed file
/// has another stamp.
type FileStamp = (u64, u64, i64, i64, u64);

fn read_file_stamp(path: &Path) -> Option<FileStamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
    ))
}

pub(super) fn load(certificate: &Path, key: &Path) -> Result<LoadedCertificate, CertificateError> {
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
        .ok_or_else(|| no_certificate("it has no CERTIFICATE section".to_owned()))?;
    let validity = validity(first).map_err(|error| no_certificate(error.to_string()))?;
    let private = read_file(key, true)?;
    let private = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|error| malformed(key, "private key", error.to_string()))?;
    let certified_key = CertifiedKey::from_der(chain, private, &ring::default_provider());
    let certified_key = certified_key.map_err(|error| CertificateError::Mismatch {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(LoadedCertificate {
        certified_key: Arc::new(certified_key),
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

fn read_file(path: &Path, is_secret: bool) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let failed = |source| CertificateError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if is_secret && file.metadata().map_err(failed)?.permissions().mode() & OTHERS_BITS != 0 {
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
