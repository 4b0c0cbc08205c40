//! Name to socket: resolve, check every address, connect to one of those that were checked.

use crate::Guard;
use http::Uri;
use hyper_util::rt::TokioIo;
use sealpost_proto::limits::ADDRESSES_TRIED_MAX;
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task,
    time::Duration,
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// Why there is no connection; travels through the HTTP client as the source of its error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the address {address} may not be called")]
    Forbidden { address: IpAddr },
    #[error("the name does not resolve")]
    Dns,
    #[error("the connection fails: {0}")]
    Connect(io::ErrorKind),
}

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// How a name becomes addresses; tests put their own in place of the system's.
pub(crate) type Resolve = Arc<dyn Fn(String, u16) -> Resolving + Send + Sync>;

pub(crate) fn system_resolver() -> Resolve {
    Arc::new(|host, port| Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) }))
}

#[derive(Clone)]
pub(crate) struct GuardedConnector {
    pub(crate) guard: Arc<Guard>,
    pub(crate) resolve: Resolve,
    pub(crate) connect_timeout: Duration,
}

impl tower::Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), ConnectError>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(&uri).await.map(TokioIo::new) })
    }
}

impl GuardedConnector {
    async fn connect(&self, uri: &Uri) -> Result<TcpStream, ConnectError> {
        let addresses = self.checked_addresses(uri).await?;
        let mut last = ConnectError::Dns;
        for address in addresses.into_iter().take(ADDRESSES_TRIED_MAX) {
            match timeout(self.connect_timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Only slower without it.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = ConnectError::Connect(error.kind()),
                Err(_) => last = ConnectError::Connect(io::ErrorKind::TimedOut),
            }
        }
        Err(last)
    }

    /// One address that may not be called spoils the whole name: a name that points both inside and outside is either a
    /// mistake or an attack.
    async fn checked_addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = self.addresses(uri).await?;
        match addresses
            .iter()
            .find(|address| !self.guard.permits(address.ip()))
        {
            Some(address) => Err(ConnectError::Forbidden {
                address: address.ip(),
            }),
            None => Ok(addresses),
        }
    }

    async fn addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, ConnectError> {
        let host = uri.host().ok_or(ConnectError::Dns)?;
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme() == Some(&http::uri::Scheme::HTTPS) {
                443
            } else {
                80
            });
        let literal = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = literal.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        (self.resolve)(host.to_owned(), port)
            .await
            .map_err(|_| ConnectError::Dns)
    }
}
