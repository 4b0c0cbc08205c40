//! Responses that are being sent, and the end of those that their client does not read.
//!
//! hyper does not poll the body of an HTTP/2 response while the client leaves no window for it, and
//! h2 buffers what it was given. So the body is divided into chunks that report when they have been
//! sent. [`run_stream`] runs each HTTP/2 stream beside a timer: a stream that makes no progress is
//! reset, which frees its memory. The permit of the response's memory is held until its last byte
//! is sent.

use super::{
    activity::{ActiveRequest, Activity},
    write_budget::WriteBudget,
};
use crate::fair_pool::Permit;
use axum::{body::Body, response::Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use sealpost_proto::limits::{
    RESPONSE_CHUNK_BYTES, STREAM_BYTES_PER_SECOND_MIN, WRITE_STALL_TIMEOUT,
};
use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep_until};

tokio::task_local! {
    /// Response of the HTTP/2 stream that the current task serves.
    static SENDING: Arc<Sending>;
}

/// Executor of HTTP/2 streams.
#[derive(Clone)]
pub(super) struct StreamExecutor {
    pub(super) write_stall_timeout: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let sending = Arc::new(Sending::new(self.write_stall_timeout));
        tokio::spawn(run_stream(stream, sending));
    }
}

/// Runs a stream until its response is sent. A response that stalls is reset, or its connection is
/// closed if hyper has already handed over the whole response.
async fn run_stream(stream: impl Future<Output = ()>, sending: Arc<Sending>) {
    let ended = {
        let mut stream = pin!(SENDING.scope(Arc::clone(&sending), stream));
        tokio::select! {
            biased;
            () = stream.as_mut() => true,
            () = sending.stalled() => false,
        }
    };
    if ended {
        tokio::select! {
            biased;
            () = sending.sent() => {}
            () = sending.stalled() => sending.close_connection(),
        }
    }
}

/// Response that is being sent.
pub(super) struct Sending(Mutex<State>);

struct State {
    unsent_bytes: usize,
    write_budget: WriteBudget,
    is_evicted: bool,
    /// Task of the stream.
    waker: Option<Waker>,
    /// Whether that task waits until all bytes are sent.
    awaits_sent: bool,
    permit: Option<Permit>,
    activity: Option<Arc<Activity>>,
}

impl Sending {
    fn new(write_stall_timeout: Duration) -> Self {
        Self(Mutex::new(State {
            unsent_bytes: 0,
            write_budget: WriteBudget::new(write_stall_timeout, STREAM_BYTES_PER_SECOND_MIN),
            is_evicted: false,
            waker: None,
            awaits_sent: false,
            permit: None,
            activity: None,
        }))
    }

    /// Starts to send the response of an HTTP/2 stream.
    fn start(self: &Arc<Self>, permit: Option<Permit>, activity: Arc<Activity>) {
        if let Some(permit) = &permit {
            let sending = Arc::downgrade(self);
            permit.on_eviction(move || {
                if let Some(sending) = sending.upgrade() {
                    sending.evict();
                }
            });
        }
        let mut state = self.lock();
        (state.permit, state.activity) = (permit, Some(activity));
    }

    fn track_frame(
        self: &Arc<Self>,
        frame: Option<Result<Frame<Bytes>, axum::Error>>,
    ) -> Option<Result<Frame<Bytes>, axum::Error>> {
        frame.map(|frame| frame.map(|frame| frame.map_data(|data| self.track(data))))
    }

    /// Returns a chunk that reports when it has been sent, which is when it is dropped.
    fn track(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let mut state = self.lock();
        state.unsent_bytes += bytes.len();
        state.write_budget.block();
        drop(state);
        Bytes::from_owner(Chunk {
            bytes,
            sending: Arc::clone(self),
        })
    }

    fn record_sent(&self, bytes: usize) {
        let mut state = self.lock();
        state.unsent_bytes -= bytes;
        state.write_budget.record_write(bytes);
        if state.unsent_bytes > 0 {
            state.write_budget.block();
        }
        if let Some(permit) = &state.permit {
            permit.record_progress(bytes);
        }
        if state.unsent_bytes == 0 && state.awaits_sent {
            state.wake();
        }
    }

    fn evict(&self) {
        let mut state = self.lock();
        state.is_evicted = true;
        state.wake();
    }

    /// Waits until all bytes that were handed over are sent.
    async fn sent(&self) {
        std::future::poll_fn(|context| self.poll_sent(context)).await;
    }

    fn poll_sent(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.unsent_bytes == 0 {
            return Poll::Ready(());
        }
        state.awaits_sent = true;
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until the response is evicted or makes too little progress. Only the task of the
    /// stream hands over bytes, so this notices them when that task is polled.
    async fn stalled(&self) {
        let mut timer = None;
        std::future::poll_fn(|context| self.poll_stalled(context, &mut timer)).await;
    }

    fn poll_stalled(
        &self,
        context: &mut Context<'_>,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<()> {
        let deadline = {
            let mut state = self.lock();
            if state.is_evicted {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            if state.unsent_bytes == 0 {
                return Poll::Pending;
            }
            state.write_budget.block()
        };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() < deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context)
    }

    fn close_connection(&self) {
        if let Some(activity) = &self.lock().activity {
            activity.request_close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Bytes that were handed over to hyper.
struct Chunk {
    bytes: Bytes,
    sending: Arc<Sending>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.sending.record_sent(self.bytes.len());
    }
}

/// Body of a response, in chunks.
pub(super) struct ResponseBody {
    /// Absent after its end.
    body: Option<Body>,
    /// Bytes of `body` that were not handed over yet.
    rest: Bytes,
    active: ActiveRequest,
    transport: Transport,
}

/// How the end of a response is noticed and enforced.
enum Transport {
    /// HTTP/1.1, where the connection has a timeout and ends with the response.
    Connection,
    /// HTTP/1.1, with a permit for the response.
    Permitted(Arc<Sending>),
    Stream {
        sending: Arc<Sending>,
        /// Whether the end is sent after the last byte was sent, so that the stream can be reset
        /// until then.
        is_long: bool,
    },
}

impl ResponseBody {
    /// Prepares a response for sending. Its extensions can contain a [`Permit`], which is held
    /// until the last byte is sent.
    pub(super) fn wrap(response: Response, active: ActiveRequest) -> hyper::Response<Self> {
        let (mut parts, body) = response.into_parts();
        let permit = parts.extensions.remove::<Permit>();
        let activity = Arc::clone(active.activity());
        let transport = match (SENDING.try_with(Arc::clone), permit) {
            (Ok(sending), permit) => {
                sending.start(permit, activity);
                Transport::Stream {
                    sending,
                    is_long: false,
                }
            }
            (Err(_), Some(permit)) => {
                permit.on_eviction(move || activity.request_close());
                let sending = Sending::new(WRITE_STALL_TIMEOUT);
                sending.lock().permit = Some(permit);
                Transport::Permitted(Arc::new(sending))
            }
            (Err(_), None) => Transport::Connection,
        };
        let body = Self {
            body: Some(body),
            rest: Bytes::new(),
            active,
            transport,
        };
        hyper::Response::from_parts(parts, body)
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        self.active.set_processing(polled.is_pending());
        if let Poll::Ready(None) = polled {
            self.body = None;
        }
        polled
    }

    /// Returns the next chunk, if there is one, or else the next frame without data.
    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.rest.is_empty() {
            match ready!(self.poll_body(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return Poll::Ready(other),
            }
        }
        let chunk_bytes = self.rest.len().min(RESPONSE_CHUNK_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(chunk_bytes)))))
    }

    fn has_ended(&self) -> bool {
        let body = self.body.as_ref();
        self.rest.is_empty() && body.is_none_or(HttpBody::is_end_stream)
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Transport::Connection = self.transport {
            return self.poll_body(context);
        }
        let polled = ready!(self.poll_chunk(context));
        let has_ended = self.has_ended();
        match &mut self.transport {
            Transport::Stream { sending, is_long } => {
                if polled.is_none() && *is_long {
                    return sending.poll_sent(context).map(|()| None);
                }
                *is_long |= !has_ended;
                Poll::Ready(sending.track_frame(polled))
            }
            Transport::Permitted(sending) => Poll::Ready(sending.track_frame(polled)),
            Transport::Connection => Poll::Ready(polled),
        }
    }

    fn is_end_stream(&self) -> bool {
        let waits_until_sent = matches!(self.transport, Transport::Stream { is_long: true, .. });
        !waits_until_sent && self.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(HttpBody::size_hint)
            .unwrap_or_default()
    }
}
