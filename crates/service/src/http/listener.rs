//! HTTP listener that is robust against slow and idle clients. It replaces `axum::serve`, which
//! installs no timer and thereby silently disables hyper's header timeout.
//!
//! Each wait has a deadline: for the first bytes, for headers, between requests, and for a client
//! that does not read its response. The number of connections is limited in total and per address.
//! When all slots are in use, the connections that have been idle longest are closed. Start reading
//! at [`Listener::serve`], then `connection`.

mod acme;
mod activity;
mod certificate;
mod connection;
mod counts;
mod endpoint;
mod response;
mod slots;
mod stream;
mod tls;
mod write_budget;

pub use acme::{AcmeCertificates, AcmeError, AcmeOrder};
pub use certificate::{CertificateError, CertificateFiles, Validity};
pub use counts::ListenerCounts;
pub use endpoint::{Endpoint, EndpointError, SocketAccess, UnixEndpoint};
pub use tls::Tls;

use crate::Shutdown;
use activity::Activity;
use axum::Router;
use connection::HttpServer;
use endpoint::Stream;
use sealpost_proto::limits::{
    CONNECTION_AGE_MAX, CONNECTION_IDLE_TIMEOUT, DRAIN_TIMEOUT, FIRST_BYTE_TIMEOUT, HANDSHAKES_MAX,
    HEADER_READ_TIMEOUT, LISTENER_CONNECTIONS_MAX, LISTENER_CONNECTIONS_PER_ADDRESS_MAX,
    WRITE_STALL_TIMEOUT,
};
use slots::{ConnectionSlots, NoSlot};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

/// Pause after `accept` fails, for example because no file descriptors are left. Connections can
/// close in the meantime.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Maximum number of open connections. Beyond it the connections that have been idle longest
    /// are closed, or the new one if none is idle.
    pub connections: usize,
    /// Maximum number of open connections from one IPv4 address or one IPv6 /64, except loopback.
    pub connections_per_address: usize,
    /// Time until the first bytes of a connection, and for a TLS handshake.
    pub first_byte_timeout: Duration,
    /// Time for the headers of a request. An HTTP/1.1 connection is also closed when its next
    /// request does not begin within this time.
    pub header_read_timeout: Duration,
    /// Time after which a connection that has no request, or whose client does not read its
    /// response, is closed. Idle HTTP/1.1 connections are closed earlier, by
    /// [`Self::header_read_timeout`].
    pub idle_timeout: Duration,
    /// Age after which a connection accepts no new requests and closes once its open requests are
    /// complete.
    pub connection_age_max: Duration,
    /// Maximum time for which a client can stop reading its response. Bytes that it reads extend
    /// the time.
    pub write_stall_timeout: Duration,
    /// Time for open requests after the shutdown signal.
    pub drain_timeout: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: LISTENER_CONNECTIONS_MAX,
            connections_per_address: LISTENER_CONNECTIONS_PER_ADDRESS_MAX,
            first_byte_timeout: FIRST_BYTE_TIMEOUT,
            header_read_timeout: HEADER_READ_TIMEOUT,
            idle_timeout: CONNECTION_IDLE_TIMEOUT,
            connection_age_max: CONNECTION_AGE_MAX,
            write_stall_timeout: WRITE_STALL_TIMEOUT,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

/// Server of HTTP/1.1 and HTTP/2 at one endpoint.
#[derive(Debug, Default)]
pub struct Listener {
    limits: ListenerLimits,
    tls: Option<Tls>,
    counts: Arc<ListenerCounts>,
}

/// Like [`Listener::serve`], but without TLS.
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
    /// Creates a listener without TLS.
    #[must_use]
    pub fn new(limits: ListenerLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Sets or removes TLS.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Returns the counts, which continue to change.
    #[must_use]
    pub fn counts(&self) -> Arc<ListenerCounts> {
        Arc::clone(&self.counts)
    }

    /// Serves until the shutdown signal, then waits for open requests and returns. Handlers get the
    /// address of the client as `ConnectInfo<SocketAddr>`, except on Unix sockets.
    pub async fn serve(self, endpoint: impl Into<Endpoint>, router: Router, shutdown: Shutdown) {
        let Self {
            limits,
            tls,
            counts,
        } = self;
        let endpoint = endpoint.into();
        let slots = ConnectionSlots::new(
            limits.connections,
            limits.connections_per_address,
            Arc::clone(&counts),
        );
        let handler = Arc::new(ConnectionHandler {
            handshakes: ConnectionSlots::new(
                HANDSHAKES_MAX,
                limits.connections_per_address,
                Arc::clone(&counts),
            ),
            http: HttpServer::new(router, limits, shutdown.clone()),
            handshake_timeout: limits.first_byte_timeout,
            tls,
            counts,
        });
        let open = TaskTracker::new();
        while let Some((stream, peer)) = accept(&endpoint, &shutdown).await {
            let activity = Activity::new();
            match slots.reserve(peer, &activity) {
                Err(no_slot) => handler.record_refusal(no_slot),
                Ok(slot) => {
                    let (handler, counted) = (Arc::clone(&handler), handler.counts.count_open());
                    open.spawn(async move {
                        handler.handle(stream, peer, &activity).await;
                        drop((slot, counted));
                    });
                }
            }
        }
        drop(endpoint);
        open.close();
        if timeout(limits.drain_timeout, open.wait()).await.is_err() {
            tracing::warn!("some requests did not end in time and were aborted");
        }
    }
}

/// Handler of all connections of a listener.
struct ConnectionHandler {
    tls: Option<Tls>,
    handshakes: Arc<ConnectionSlots>,
    handshake_timeout: Duration,
    http: HttpServer,
    counts: Arc<ListenerCounts>,
}

impl ConnectionHandler {
    async fn handle(
        &self,
        stream: Box<dyn Stream>,
        peer: Option<SocketAddr>,
        activity: &Arc<Activity>,
    ) {
        let stream = match &self.tls {
            None => Some(stream),
            Some(tls) => self.handshake(tls, stream, peer, activity).await,
        };
        if let Some(stream) = stream {
            self.http.serve(stream, peer, activity).await;
        }
    }

    async fn handshake(
        &self,
        tls: &Tls,
        stream: Box<dyn Stream>,
        peer: Option<SocketAddr>,
        activity: &Arc<Activity>,
    ) -> Option<Box<dyn Stream>> {
        let slot = self
            .handshakes
            .reserve(peer, activity)
            .map_err(|no_slot| self.record_refusal(no_slot))
            .ok()?;
        let finished = tokio::select! {
            finished = timeout(self.handshake_timeout, tls.handshake(stream)) => finished,
            () = activity.close_requested() => return None,
        };
        drop(slot);
        if let Ok(Ok(stream)) = finished {
            return stream;
        }
        self.counts.handshakes_failed.fetch_add(1, Relaxed);
        None
    }

    fn record_refusal(&self, no_slot: NoSlot) {
        let (counter, reason) = match no_slot {
            NoSlot::Full => (&self.counts.refused_at_limit, "all slots are in use"),
            NoSlot::AddressLimit => (
                &self.counts.refused_at_address_limit,
                "its address has reached its limit",
            ),
        };
        counter.fetch_add(1, Relaxed);
        tracing::debug!(reason, "a connection was refused");
    }
}

/// Accepts the next connection; returns `None` after the shutdown signal.
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
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    // Setting options of a connection that was reset fails with `InvalidInput` on some systems.
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    )
}

#[cfg(test)]
mod tests;
