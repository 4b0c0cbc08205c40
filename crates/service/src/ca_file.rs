use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Error for a file that does not contain the certificates of certificate authorities.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// The file cannot be read.
    #[error("the certificate authorities in {} cannot be read: {source}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file contains no certificate, or one that is damaged.
    #[error(
        "{} does not contain certificate authorities in PEM format: {reason}", path.display()
    )]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads the certificates of private certificate authorities from a PEM file. A TLS client trusts
/// them in addition to the public ones.
///
/// # Errors
/// [`CaFileError`] if the file is unreadable, has no certificate or has a damaged one.
pub fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let text = fs::read(path).map_err(|source| CaFileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse_authorities(&text).map_err(|reason| CaFileError::Malformed {
        path: path.to_owned(),
        reason,
    })
}

fn parse_authorities(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let authorities = authorities.map_err(|error| error.to_string())?;
    if authorities.is_empty() {
        return Err("it has no CERTIFICATE section".to_owned());
    }
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        let added = roots.add(authority.clone());
        added.map_err(|error| error.to_string())?;
    }
    Ok(authorities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_certificates_of_the_file_are_read() {
        let generate = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.self_signed(&key).unwrap().pem()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{}\n{}", generate("a"), generate("b"))).unwrap();
        assert_eq!(read_ca_file(file.path()).unwrap().len(), 2);
    }

    #[test]
    fn files_without_authorities_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "not PEM", damaged, &key] {
            fs::write(file.path(), text).unwrap();
            let error = read_ca_file(file.path()).unwrap_err().to_string();
            assert!(
                error.contains(file.path().to_str().unwrap()),
                "{text}: {error}"
            );
        }
        let error = read_ca_file(Path::new("/nowhere/ca.pem")).unwrap_err();
        assert!(matches!(error, CaFileError::Unreadable { .. }));
    }
}
