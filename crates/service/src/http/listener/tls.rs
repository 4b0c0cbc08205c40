//! TLS in front of HTTP: 1.2 and 1.3, with HTTP/2 for whoever asks for it.

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

/// What may be spoken inside, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How a listener speaks TLS.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}

impl Tls {
    /// TLS with the certificate that `certificates` has at the moment of each handshake.
    ///
    /// # Errors
    /// When the cryptography built in supports no version of TLS.
    pub fn new(certificates: Arc<dyn ResolvesServerCert>) -> Result<Self, rustls::Error> {
        Self::speaking(&PROTOCOLS, certificates)
    }

    /// TLS with the certificate that an authority gives, which can also look for it here.
    ///
    /// # Errors
    /// When the cryptography built in supports no version of TLS.
    pub fn with_acme(certificates: &Arc<AcmeCertificates>) -> Result<Self, rustls::Error> {
        let [h2, http1] = PROTOCOLS;
        Self::speaking(
            &[h2, http1, ACME_PROTOCOL],
            Arc::clone(certificates) as Arc<_>,
        )
    }

    fn speaking(
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

    /// The stream inside; `None` when the other side was an authority that has now seen what it came for.
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
