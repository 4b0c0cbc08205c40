//! TLS, and certificates that change while it is spoken.

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

/// A certificate of its own for `relay.example`, in files.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.write(&Pair::new());
        files
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn write(&self, pair: &Pair) {
        fs::write(self.certificate(), &pair.certificate).unwrap();
        fs::write(self.key(), &pair.key).unwrap();
        fs::set_permissions(self.key(), fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn open(&self) -> Result<Arc<CertificateFiles>, CertificateError> {
        CertificateFiles::open(&self.certificate(), &self.key())
    }
}

struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn trusting(&self, protocol: &[u8]) -> TlsConnector {
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

async fn shake(server: &Server, pair: &Pair, protocol: &[u8]) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("relay.example").unwrap();
    timeout(DEADLINE, pair.trusting(protocol).connect(name, stream))
        .await
        .unwrap()
}

async fn start_tls(limits: ListenerLimits, files: &Arc<CertificateFiles>) -> Server {
    let tls = Tls::new(Arc::clone(files) as Arc<_>).unwrap();
    start_with(Listener::new(limits).with_tls(Some(tls)), hello()).await
}

#[tokio::test]
async fn it_speaks_both_versions_of_http_inside_tls() {
    let (files, pair) = (Files::new(), Pair::new());
    files.write(&pair);
    let server = start_tls(limits(), &files.open().unwrap()).await;
    let mut stream = shake(&server, &pair, b"http/1.1").await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = read_all(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("127.0.0.1:"),
        "{answer}"
    );
    let mut stream = shake(&server, &pair, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut frame = [0; 9];
    timeout(DEADLINE, stream.read_exact(&mut frame))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(frame[3], 4, "the server's settings");
}

#[tokio::test]
async fn a_new_certificate_is_served_and_a_broken_one_is_not() {
    let (files, first, second) = (Files::new(), Pair::new(), Pair::new());
    files.write(&first);
    let certificates = files.open().unwrap();
    let server = start_tls(limits(), &certificates).await;
    shake(&server, &first, b"h2").await.unwrap();
    files.write(&Pair {
        certificate: second.certificate.clone(),
        key: first.key.clone(),
    });
    assert!(matches!(
        certificates.reload(),
        Err(CertificateError::Mismatch { .. })
    ));
    shake(&server, &first, b"h2").await.unwrap();
    files.write(&second);
    certificates.reload().unwrap();
    shake(&server, &second, b"h2").await.unwrap();
    shake(&server, &first, b"h2")
        .await
        .expect_err("the old one is gone");
}

#[test]
fn what_cannot_be_used_is_refused_in_words() {
    let (files, pair) = (Files::new(), Pair::new());
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
        files.write(&Pair {
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
async fn a_handshake_that_does_not_come_is_given_up() {
    let files = Files::new();
    let limits = ListenerLimits {
        first_byte: SHORT,
        ..limits()
    };
    let server = start_tls(limits, &files.open().unwrap()).await;
    for begun in [
        "",
        "\u{16}\u{3}\u{1}\u{2}",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut heard = Vec::new();
            let _ = timeout(DEADLINE, stream.read_to_end(&mut heard))
                .await
                .expect("the server hangs up");
            heard
        };
        assert!(!answer.starts_with(b"HTTP"), "{begun:?}");
    }
    assert_eq!(server.counts.handshakes_failed(), 3);
}
