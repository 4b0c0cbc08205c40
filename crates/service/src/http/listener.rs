//! The accept loop. It is our own because the one of axum installs no timer, without which hyper's header timeout is
//! silently off.

mod endpoint;

pub use endpoint::{Endpoint, EndpointError, SocketAccess, UnixEndpoint};

use axum::{Router, extract::ConnectInfo};
use endpoint::Stream;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use sealpost_proto::limits::{
    DRAIN_TIMEOUT, FIRST_BYTE_TIMEOUT, HEADER_BYTES_MAX, HEADER_READ_TIMEOUT, HTTP1_BUFFER_BYTES, HTTP2_PING_INTERVAL,
    HTTP2_PING_TIMEOUT, HTTP2_STREAMS_MAX, LISTENER_CONNECTIONS_MAX,
};
use std::{io, net::SocketAddr, pin::Pin, sync::Arc, task, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Semaphore,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tower::Service as _;

use crate::Shutdown;

/// Length of what an HTTP/2 client sends first. A client that sends less could be either version, and hyper would wait
/// for the rest without a timeout.
const PREFACE_BYTES: usize = 24;
/// Out of file descriptors: a pause lets some connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What one listener allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Open connections; what comes beyond is closed at once.
    pub connections: usize,
    /// Time from the connection to its first bytes.
    pub first_byte: Duration,
    /// Time for the headers of a request, and how long a kept connection may rest.
    pub header_read: Duration,
    /// Time that open requests have to end after the shutdown.
    pub drain: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: LISTENER_CONNECTIONS_MAX,
            first_byte: FIRST_BYTE_TIMEOUT,
            header_read: HEADER_READ_TIMEOUT,
            drain: DRAIN_TIMEOUT,
        }
    }
}

/// Serves HTTP/1.1, and HTTP/2 to clients that begin with it, until the shutdown; then lets open requests end and returns.
/// Handlers find the client's address as `ConnectInfo<SocketAddr>`, unless it came through a socket in the file system.
pub async fn serve(endpoint: impl Into<Endpoint>, router: Router, limits: ListenerLimits, shutdown: Shutdown) {
    let endpoint = endpoint.into();
    let builder = Arc::new(builder(limits));
    let places = Arc::new(Semaphore::new(limits.connections));
    let open = GracefulShutdown::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = accept(&endpoint) => accepted,
            () = shutdown.triggered() => break,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!("a connection was closed: too many are open");
            continue;
        };
        let (builder, router, watcher) = (Arc::clone(&builder), router.clone(), open.watcher());
        tokio::spawn(async move {
            let io = TokioIo::new(Prompt::new(stream, limits.first_byte));
            let answer = service_fn(move |request| answer(router.clone(), peer, request));
            let connection = builder.serve_connection(io, answer).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::trace!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(endpoint);
    if timeout(limits.drain, open.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
}

async fn answer(
    mut router: Router,
    peer: Option<SocketAddr>,
    mut request: Request<Incoming>,
) -> Result<axum::response::Response, std::convert::Infallible> {
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    router.call(request).await
}

fn builder(limits: ListenerLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    builder
}

async fn accept(endpoint: &Endpoint) -> (Box<dyn Stream>, Option<SocketAddr>) {
    loop {
        match endpoint.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted just now");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    // A connection that was reset before it was accepted does not take options: `InvalidInput` on some systems.
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput)
}

/// A stream whose first bytes must arrive in time.
struct Prompt {
    stream: Box<dyn Stream>,
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Prompt {
    fn new(stream: Box<dyn Stream>, first_byte: Duration) -> Self {
        Self { stream, missing: PREFACE_BYTES, deadline: Box::pin(sleep_until(Instant::now() + first_byte)) }
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.missing == 0 {
            return polled;
        }
        self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
        if polled.is_pending() && self.deadline.as_mut().poll(context).is_ready() {
            return task::Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &[u8],
    ) -> task::Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> task::Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
