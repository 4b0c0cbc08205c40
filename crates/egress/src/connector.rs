//! Connector that resolves a name, checks every address and connects to one that was checked.

use crate::{Guard, resolver::SystemResolver};
use http::Uri;
use hyper_util::rt::TokioIo;
use sealpost_proto::limits::ADDRESSES_TRIED_MAX;
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    task,
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// Error from the connector, which the HTTP client returns as the source of its own error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the address {address} is not allowed")]
    Forbidden { address: IpAddr },
    #[error("the name does not resolve")]
    Dns,
    #[error("the connection failed: {0}")]
    Connect(io::ErrorKind),
}

/// Resolver of names, which returns no address if a name does not resolve. Tests replace the one of
/// the system.
pub(crate) type Resolve =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send>> + Send + Sync>;

pub(crate) fn system_resolver() -> Resolve {
    let files = (Path::new("/etc/resolv.conf"), Path::new("/etc/hosts"));
    let resolver = Arc::new(SystemResolver::new(files.0, files.1));
    Arc::new(move |host| {
        let resolver = Arc::clone(&resolver);
        Box::pin(async move { resolver.resolve(&host).await })
    })
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
        let addresses = self.resolve_permitted(uri).await?;
        let mut last = ConnectError::Dns;
        for address in addresses.into_iter().take(ADDRESSES_TRIED_MAX) {
            match timeout(self.connect_timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it the connection is only slower.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = ConnectError::Connect(error.kind()),
                Err(_) => last = ConnectError::Connect(io::ErrorKind::TimedOut),
            }
        }
        Err(last)
    }

    /// Refuses the name if a single address is not allowed: a name with both public and private
    /// addresses is either a mistake or an attack.
    async fn resolve_permitted(&self, uri: &Uri) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = self.resolve_host(uri).await?;
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

    async fn resolve_host(&self, uri: &Uri) -> Result<Vec<SocketAddr>, ConnectError> {
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
        let addresses = (self.resolve)(host.to_owned()).await.into_iter();
        Ok(addresses
            .map(|address| SocketAddr::new(address, port))
            .collect())
    }
}
