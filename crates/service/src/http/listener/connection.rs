//! HTTP on one connection, until it ends.

use super::{
    ListenerLimits,
    activity::{ActiveRequest, Activity},
    endpoint::Stream,
    response::{ResponseBody, StreamExecutor},
    stream::DeadlineStream,
};
use crate::Shutdown;
use axum::{Router, extract::ConnectInfo, response::Response};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use sealpost_proto::limits::{
    HEADER_BYTES_MAX, HTTP1_BUFFER_BYTES, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_PING_INTERVAL,
    HTTP2_PING_TIMEOUT, HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAM_ERRORS_MAX,
    HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX,
};
use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::time::sleep;
use tower::Service as _;

/// HTTP server shared by all connections of a listener.
pub(super) struct HttpServer {
    builder: auto::Builder<StreamExecutor>,
    router: Router,
    limits: ListenerLimits,
    shutdown: Shutdown,
}

impl HttpServer {
    pub(super) fn new(router: Router, limits: ListenerLimits, shutdown: Shutdown) -> Self {
        Self {
            builder: builder(limits),
            router,
            limits,
            shutdown,
        }
    }

    /// Serves one connection until the client ends it, or the listener has to.
    pub(super) async fn serve(
        &self,
        stream: Box<dyn Stream>,
        peer: Option<SocketAddr>,
        activity: &Arc<Activity>,
    ) {
        let io = TokioIo::new(DeadlineStream::new(stream, &self.limits));
        let service = service_fn(|request| {
            respond(self.router.clone(), peer, activity.start_request(), request)
        });
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let mut max_age = pin!(sleep(self.limits.connection_age_max));
        let mut is_expired = false;
        let grace = loop {
            tokio::select! {
                ended = connection.as_mut() => return log_end(ended),
                grace = self.close_required(activity) => break grace,
                () = max_age.as_mut(), if !is_expired => {
                    is_expired = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            // A response that is complete is sent even when no time is left.
            biased;
            ended = connection => log_end(ended),
            () = sleep(grace) => {}
            () = activity.close_requested() => {}
        }
    }

    /// Waits until the connection has to end; returns the time that its open requests have.
    async fn close_required(&self, activity: &Activity) -> Duration {
        tokio::select! {
            () = self.shutdown.triggered() => self.limits.drain_timeout,
            () = activity.close_requested() => Duration::ZERO,
            () = activity.idle_for(self.limits.idle_timeout) => self.limits.header_read_timeout,
        }
    }
}

fn log_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
}

async fn respond(
    mut router: Router,
    peer: Option<SocketAddr>,
    mut active: ActiveRequest,
    mut request: Request<Incoming>,
) -> Result<hyper::Response<ResponseBody>, Infallible> {
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    let response: Response = router.call(request).await?;
    active.set_processing(false);
    Ok(ResponseBody::wrap(response, active))
}

fn builder(limits: ListenerLimits) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(StreamExecutor {
        write_stall_timeout: limits.write_stall_timeout,
    });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
        .max_local_error_reset_streams(HTTP2_STREAM_ERRORS_MAX)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    builder
}
