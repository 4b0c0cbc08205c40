//! One connection, from its place to its end.

use super::{
    ListenerLimits,
    endpoint::Stream,
    presence::{Presence, UnderWay},
    stream::Prompt,
};
use crate::Shutdown;
use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use bytes::Bytes;
use hyper::{
    Request,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use sealpost_proto::limits::{
    HEADER_BYTES_MAX, HTTP1_BUFFER_BYTES, HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT,
    HTTP2_STREAMS_MAX,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::sleep;
use tower::Service as _;

/// What all connections of a listener share.
pub(super) struct Http {
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    limits: ListenerLimits,
    shutdown: Shutdown,
}

impl Http {
    pub(super) fn new(router: Router, limits: ListenerLimits, shutdown: Shutdown) -> Self {
        Self {
            builder: builder(limits),
            router,
            limits,
            shutdown,
        }
    }

    /// Serves one connection until it ends, or has to.
    pub(super) async fn serve(
        &self,
        stream: Box<dyn Stream>,
        peer: Option<SocketAddr>,
        presence: &Arc<Presence>,
    ) {
        let io = TokioIo::new(Prompt::new(stream, &self.limits));
        let answer =
            service_fn(|request| answer(self.router.clone(), peer, presence.begin(), request));
        let mut connection = pin!(self.builder.serve_connection(io, answer));
        let mut old = pin!(sleep(self.limits.age));
        let mut is_old = false;
        let grace = loop {
            tokio::select! {
                ended = connection.as_mut() => return note(ended),
                grace = self.end(presence) => break grace,
                () = old.as_mut(), if !is_old => {
                    is_old = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            // The last words are said also when there is no time left.
            biased;
            ended = connection => note(ended),
            () = sleep(grace) => {}
            () = presence.asked_to_leave() => {}
        }
    }

    /// Returns when the connection has to end, with the time it has for that.
    async fn end(&self, presence: &Presence) -> Duration {
        tokio::select! {
            () = self.shutdown.triggered() => self.limits.drain,
            () = presence.asked_to_leave() => Duration::ZERO,
            () = presence.rested(self.limits.rest) => self.limits.header_read,
        }
    }
}

fn note(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
}

async fn answer(
    mut router: Router,
    peer: Option<SocketAddr>,
    mut under_way: UnderWay,
    mut request: Request<Incoming>,
) -> Result<hyper::Response<Sent>, Infallible> {
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    let response: Response = router.call(request).await?;
    under_way.is_ours(false);
    Ok(response.map(|body| Sent { body, under_way }))
}

/// The body of an answer. Nobody asks it for its next bytes while the client does not take the last ones.
struct Sent {
    body: Body,
    under_way: UnderWay,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.under_way.is_ours(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
