//! A stream whose other side has to be prompt: it sends its first bytes in time, and takes what is written at some rate.

use super::{ListenerLimits, endpoint::Stream};
use sealpost_proto::limits::WRITE_BYTES_PER_SECOND_MIN;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Length of what an HTTP/2 client sends first. A client that sends less could be either version, and hyper would wait
/// for the rest without a timeout.
const PREFACE_BYTES: usize = 24;

/// A stream with deadlines.
pub(super) struct Prompt {
    stream: Box<dyn Stream>,
    missing: usize,
    first_bytes_until: Pin<Box<Sleep>>,
    pace: Pace,
}

/// How patiently we wait for room to write: a store of time that waiting uses up and written bytes fill again.
struct Pace {
    full: Duration,
    store: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Prompt {
    pub(super) fn new(stream: Box<dyn Stream>, limits: &ListenerLimits) -> Self {
        Self {
            stream,
            missing: PREFACE_BYTES,
            first_bytes_until: Box::pin(sleep_until(Instant::now() + limits.first_byte)),
            pace: Pace {
                full: limits.write_stall,
                store: limits.write_stall,
                waiting: None,
            },
        }
    }
}

impl Pace {
    /// What came of an attempt to write, unless the other side has used up our patience.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        written: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => self.wait(context),
            Poll::Ready(Ok(done)) => {
                self.wrote(written(&done));
                Poll::Ready(Ok(done))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let store = self.store;
        let (_, until) = self.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + store)))
        });
        until
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.store = self.store.saturating_sub(since.elapsed());
        }
        if self.store < self.full {
            let earned = Duration::from_secs(bytes as u64) / WRITE_BYTES_PER_SECOND_MIN;
            self.store = (self.store + earned).min(self.full);
        }
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.missing == 0 {
            return polled;
        }
        self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
        if polled.is_pending() && self.first_bytes_until.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.pace.judge(context, polled, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.pace.judge(context, polled, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.pace.judge(context, polled, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.pace.judge(context, polled, |()| 0)
    }
}
