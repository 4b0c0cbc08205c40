//! Stream with deadlines for the client: it has to send its first bytes in time and to read at a
//! minimum rate.

use super::{ListenerLimits, endpoint::Stream, write_budget::WriteBudget};
use sealpost_proto::limits::WRITE_BYTES_PER_SECOND_MIN;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Length of the HTTP/2 client preface. After fewer bytes the version is unknown, and hyper waits
/// for more without a timeout.
const PREFACE_BYTES: usize = 24;

/// Stream with deadlines.
pub(super) struct DeadlineStream {
    stream: Box<dyn Stream>,
    /// Bytes of the first [`PREFACE_BYTES`] that have not arrived.
    preface_missing: usize,
    preface_deadline: Pin<Box<Sleep>>,
    write_budget: WriteBudget,
    /// Present while writes are blocked.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl DeadlineStream {
    pub(super) fn new(stream: Box<dyn Stream>, limits: &ListenerLimits) -> Self {
        Self {
            stream,
            preface_missing: PREFACE_BYTES,
            preface_deadline: Box::pin(sleep_until(Instant::now() + limits.first_byte_timeout)),
            write_budget: WriteBudget::new(limits.write_stall_timeout, WRITE_BYTES_PER_SECOND_MIN),
            write_deadline: None,
        }
    }

    /// Returns the result of a write, or a timeout once the budget is used up.
    fn limit_write<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        written: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => {
                let deadline = self.write_budget.block();
                let timer = self
                    .write_deadline
                    .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                let timeout = timer.as_mut().poll(context);
                timeout.map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(Ok(done)) => {
                self.write_deadline = None;
                self.write_budget.record_write(written(&done));
                Poll::Ready(Ok(done))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncRead for DeadlineStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.preface_missing == 0 {
            return polled;
        }
        self.preface_missing = self
            .preface_missing
            .saturating_sub(buffer.filled().len() - before);
        if polled.is_pending() && self.preface_deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for DeadlineStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.limit_write(context, polled, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.limit_write(context, polled, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.limit_write(context, polled, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.limit_write(context, polled, |()| 0)
    }
}
