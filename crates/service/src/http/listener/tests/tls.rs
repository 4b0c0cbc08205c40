//! TLS and certificates that change at runtime.

use super::*;
use crate::{Clock as _, SystemClock};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};
use tempfile::TempDir;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Files of a self-signed certificate for `relay.example`.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        files.write(&CertificatePair::new());
        files
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    fn write(&self, pair: &CertificatePair) {
        fs::write(self.certificate(), &pair.certificate).unwrap();
        fs::write(self.key(), &pair.key).unwrap();
        fs::set_permissions(self.key(), fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn open(&self) -> Result<Arc<CertificateFiles>, CertificateError> {
        CertificateFiles::open(&self.certificate(), &self.key())
    }
}

struct CertificatePair {
    certificate: String,
    key: String,
}

impl CertificatePair {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn connector(&self, protocol: &[u8]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap())
            .unwrap();
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

async fn connect_tls(
    server: &Server,
    pair: &CertificatePair,
    protocol: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("relay.example").unwrap();
    timeout(LONG_TIMEOUT, pair.connector(protocol).connect(name, stream))
        .await
        .unwrap()
}

async fn start_tls(limits: ListenerLimits, files: &Arc<CertificateFiles>) -> Server {
    let tls = Tls::new(Arc::clone(files) as Arc<_>).unwrap();
    start_with(Listener::new(limits).with_tls(Some(tls)), hello()).await
}

#[tokio::test]
async fn tls_supports_both_http_versions() {
    let (files, pair) = (Files::new(), CertificatePair::new());
    files.write(&pair);
    let server = start_tls(limits(), &files.open().unwrap()).await;
    let mut stream = connect_tls(&server, &pair, b"http/1.1").await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let response = read_all(&mut stream).await;
    assert!(
        response.starts_with("HTTP/1.1 200") && response.contains("127.0.0.1:"),
        "{response}"
    );
    let mut stream = connect_tls(&server, &pair, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut frame = [0; 9];
    timeout(LONG_TIMEOUT, stream.read_exact(&mut frame))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(frame[3], 4, "the server's settings");
}

#[tokio::test]
async fn only_valid_new_certificates_are_used() {
    let (files, first, second) = (Files::new(), CertificatePair::new(), CertificatePair::new());
    files.write(&first);
    let certificates = files.open().unwrap();
    let server = start_tls(limits(), &certificates).await;
    connect_tls(&server, &first, b"h2").await.unwrap();
    files.write(&CertificatePair {
        certificate: second.certificate.clone(),
        key: first.key.clone(),
    });
    assert!(matches!(
        certificates.reload(),
        Err(CertificateError::Mismatch { .. })
    ));
    connect_tls(&server, &first, b"h2").await.unwrap();
    files.write(&second);
    certificates.reload().unwrap();
    connect_tls(&server, &second, b"h2").await.unwrap();
    connect_tls(&server, &first, b"h2")
        .await
        .expect_err("the old certificate is no longer in use");
}

#[test]
fn unusable_files_are_refused_with_reason() {
    let (files, pair) = (Files::new(), CertificatePair::new());
    files.write(&pair);
    assert!(files.open().unwrap().validity().not_after > SystemClock.now());
    fs::set_permissions(files.key(), fs::Permissions::from_mode(0o644)).unwrap();
    let error = files.open().unwrap_err();
    assert!(
        matches!(error, CertificateError::KeyTooOpen { .. }) && error.to_string().contains("chmod"),
        "{error}"
    );
    for (certificate, key) in [
        ("", pair.key.as_str()),
        (&pair.key, &pair.key),
        (&pair.certificate, ""),
        (&pair.certificate, &pair.certificate),
    ] {
        files.write(&CertificatePair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        });
        assert!(matches!(
            files.open(),
            Err(CertificateError::Malformed { .. })
        ));
    }
    files.write(&pair);
    fs::remove_file(files.key()).unwrap();
    assert!(matches!(
        files.open(),
        Err(CertificateError::Unreadable { .. })
    ));
}

#[tokio::test]
async fn missing_handshakes_time_out() {
    let files = Files::new();
    let limits = ListenerLimits {
        first_byte_timeout: SHORT_TIMEOUT,
        ..limits()
    };
    let server = start_tls(limits, &files.open().unwrap()).await;
    for start in [
        "",
        "\u{16}\u{3}\u{1}\u{2}",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let response = {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            let mut received = Vec::new();
            let _ = timeout(LONG_TIMEOUT, stream.read_to_end(&mut received))
                .await
                .expect("the server closes the connection");
            received
        };
        assert!(!response.starts_with(b"HTTP"), "{start:?}");
    }
    assert_eq!(server.counts.handshakes_failed(), 3);
}
