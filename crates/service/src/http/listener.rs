//! The accept loop. It is our own because the one of axum installs no timer, without which hyper's header timeout is
//! silently off, and because a client that is slow must not cost the others anything.
//!
//! Nobody waits without a deadline: for the first bytes, a header, a rest between requests, and an answer that is not taken.
//! Nobody holds more than a share: of all places, and of those for one address. When all places are taken, those who rest
//! longest make room. Start reading at [`Listener::serve`], then `connection`.

mod acme;
mod certificate;
mod connection;
mod counts;
mod endpoint;
mod places;
mod presence;
mod stream;
mod tls;

pub use acme::{AcmeCertificates, AcmeError, AcmeOrder};
pub use certificate::{CertificateError, CertificateFiles, Validity};
pub use counts::ListenerCounts;
pub use endpoint::{Endpoint, EndpointError, SocketAccess, UnixEndpoint};
pub use tls::Tls;

use crate::Shutdown;
use axum::Router;
use connection::Http;
use endpoint::Stream;
use places::{NoPlace, Places};
use presence::Presence;
use sealpost_proto::limits::{
    CONNECTION_AGE_MAX, CONNECTION_REST_MAX, DRAIN_TIMEOUT, FIRST_BYTE_TIMEOUT, HANDSHAKES_MAX,
    HEADER_READ_TIMEOUT, LISTENER_CONNECTIONS_MAX, LISTENER_CONNECTIONS_PER_ADDRESS_MAX,
    WRITE_STALL_MAX,
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

/// Out of file descriptors: a pause lets some connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What one listener allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Open connections. When there are more, those that rest longest are closed; when all are busy, the new one.
    pub connections: usize,
    /// Open connections from one IPv4 address or one IPv6 network of 64 bits; this machine's own are not counted.
    pub connections_per_address: usize,
    /// Time from the connection to its first bytes, and for a TLS handshake.
    pub first_byte: Duration,
    /// Time for the headers of a request, and how long a kept HTTP/1.1 connection may rest.
    pub header_read: Duration,
    /// How long any connection may be without a request, or without taking more of the answer to one.
    pub rest: Duration,
    /// Age after which a connection takes no new request and ends when those under way have.
    pub age: Duration,
    /// How long a client may take nothing of what is sent to it. Taking some buys time.
    pub write_stall: Duration,
    /// Time that open requests have to end after the shutdown.
    pub drain: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: LISTENER_CONNECTIONS_MAX,
            connections_per_address: LISTENER_CONNECTIONS_PER_ADDRESS_MAX,
            first_byte: FIRST_BYTE_TIMEOUT,
            header_read: HEADER_READ_TIMEOUT,
            rest: CONNECTION_REST_MAX,
            age: CONNECTION_AGE_MAX,
            write_stall: WRITE_STALL_MAX,
            drain: DRAIN_TIMEOUT,
        }
    }
}

/// Serves HTTP/1.1, and HTTP/2 to clients that begin with it, at one endpoint.
#[derive(Debug, Default)]
pub struct Listener {
    limits: ListenerLimits,
    tls: Option<Tls>,
    counts: Arc<ListenerCounts>,
}

/// [`Listener::serve`] without TLS.
pub async fn serve(
    endpoint: impl Into<Endpoint>,
    router: Router,
    limits: ListenerLimits,
    shutdown: Shutdown,
) {
    Listener::new(limits)
        .serve(endpoint, router, shutdown)
        .await;
}

impl Listener {
    /// One that allows this.
    #[must_use]
    pub fn new(limits: ListenerLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The same one, speaking TLS when there is some.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// What it has seen, now and later.
    #[must_use]
    pub fn counts(&self) -> Arc<ListenerCounts> {
        Arc::clone(&self.counts)
    }

    /// Serves until the shutdown; then lets open requests end and returns. Handlers find the client's address as
    /// `ConnectInfo<SocketAddr>`, unless it came through a socket in the file system.
    pub async fn serve(self, endpoint: impl Into<Endpoint>, router: Router, shutdown: Shutdown) {
        let Self {
            limits,
            tls,
            counts,
        } = self;
        let endpoint = endpoint.into();
        let places = Places::new(
            limits.connections,
            limits.connections_per_address,
            Arc::clone(&counts),
        );
        let hall = Arc::new(Hall {
            handshakes: Places::new(
                HANDSHAKES_MAX,
                limits.connections_per_address,
                Arc::clone(&counts),
            ),
            http: Http::new(router, limits, shutdown.clone()),
            first_byte: limits.first_byte,
            tls,
            counts,
        });
        let open = TaskTracker::new();
        while let Some((stream, peer)) = accept(&endpoint, &shutdown).await {
            let presence = Presence::new();
            match places.take(peer, &presence) {
                Err(no_place) => hall.turn_away(no_place),
                Ok(place) => {
                    let (hall, counted) = (Arc::clone(&hall), hall.counts.begin());
                    open.spawn(async move {
                        hall.welcome(stream, peer, &presence).await;
                        drop((place, counted));
                    });
                }
            }
        }
        drop(endpoint);
        open.close();
        if timeout(limits.drain, open.wait()).await.is_err() {
            tracing::warn!("some requests did not end in time and were cut off");
        }
    }
}

/// What all connections of a listener share.
struct Hall {
    tls: Option<Tls>,
    handshakes: Arc<Places>,
    first_byte: Duration,
    http: Http,
    counts: Arc<ListenerCounts>,
}

impl Hall {
    async fn welcome(
        &self,
        stream: Box<dyn Stream>,
        peer: Option<SocketAddr>,
        presence: &Arc<Presence>,
    ) {
        let stream = match &self.tls {
            None => Some(stream),
            Some(tls) => self.shake_hands(tls, stream, peer, presence).await,
        };
        if let Some(stream) = stream {
            self.http.serve(stream, peer, presence).await;
        }
    }

    async fn shake_hands(
        &self,
        tls: &Tls,
        stream: Box<dyn Stream>,
        peer: Option<SocketAddr>,
        presence: &Arc<Presence>,
    ) -> Option<Box<dyn Stream>> {
        let place = self
            .handshakes
            .take(peer, presence)
            .map_err(|no_place| self.turn_away(no_place))
            .ok()?;
        let shaken = tokio::select! {
            shaken = timeout(self.first_byte, tls.handshake(stream)) => shaken,
            () = presence.asked_to_leave() => return None,
        };
        drop(place);
        if let Ok(Ok(stream)) = shaken {
            return stream;
        }
        self.counts.handshakes_failed.fetch_add(1, Relaxed);
        None
    }

    fn turn_away(&self, no_place: NoPlace) {
        let (counter, reason) = match no_place {
            NoPlace::Full => (&self.counts.refused_full, "all places are taken"),
            NoPlace::Network => (&self.counts.refused_address, "its address has its share"),
        };
        counter.fetch_add(1, Relaxed);
        tracing::debug!(reason, "a connection was closed at once");
    }
}

/// The next connection; `None` after the shutdown.
async fn accept(
    endpoint: &Endpoint,
    shutdown: &Shutdown,
) -> Option<(Box<dyn Stream>, Option<SocketAddr>)> {
    loop {
        let accepted = tokio::select! {
            accepted = endpoint.accept() => accepted,
            () = shutdown.triggered() => return None,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted just now");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    // A connection that was reset before it was accepted does not take options: `InvalidInput` on some systems.
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    )
}

#[cfg(test)]
mod tests;
