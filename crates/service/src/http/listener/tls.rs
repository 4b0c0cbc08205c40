//! TLS 1.2 and 1.3 in front of HTTP, with HTTP/2 for clients that support it.

use super::{
    acme::{ACME_PROTOCOL, AcmeCertificates},
    endpoint::Stream,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    server::ResolvesServerCert,
    version::{TLS12, TLS13},
};
use std::{fmt, io, sync::Arc};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

/// Supported application protocols (ALPN), preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS configuration of a listener.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}

impl Tls {
    /// Creates a configuration that takes the current certificate of `certificates` in each
    /// handshake.
    ///
    /// # Errors
    /// Returns an error if the cryptography provider supports neither version.
    pub fn new(certificates: Arc<dyn ResolvesServerCert>) -> Result<Self, rustls::Error> {
        Self::with_protocols(&PROTOCOLS, certificates)
    }

    /// Creates a configuration with a certificate from a certificate authority. It also responds to
    /// the challenges of the authority.
    ///
    /// # Errors
    /// Returns an error if the cryptography provider supports neither version.
    pub fn with_acme(certificates: &Arc<AcmeCertificates>) -> Result<Self, rustls::Error> {
        let [h2, http1] = PROTOCOLS;
        Self::with_protocols(
            &[h2, http1, ACME_PROTOCOL],
            Arc::clone(certificates) as Arc<_>,
        )
    }

    fn with_protocols(
        protocols: &[&[u8]],
        certificates: Arc<dyn ResolvesServerCert>,
    ) -> Result<Self, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config = builder
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Returns the decrypted stream; `None` after a handshake for an ACME challenge.
    pub(super) async fn handshake(
        &self,
        stream: Box<dyn Stream>,
    ) -> io::Result<Option<Box<dyn Stream>>> {
        let mut stream = self.0.accept(stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(ACME_PROTOCOL) {
            stream.shutdown().await?;
            return Ok(None);
        }
        Ok(Some(Box::new(stream)))
    }
}
