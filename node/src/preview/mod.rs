//! Previews of images, created by the sender and sealed inside the message.
//!
//! Only outgoing images are decoded, with limits on memory and time, because they may come from
//! anywhere. The decoders process an image piece by piece, and a preview contains nothing but
//! pixels. If no preview can be created, the image is sent without one. A received preview is never
//! decoded; [`content_type`] only checks its first bytes.

mod jpeg;
mod png;
mod thumbnail;

use bytes::Bytes;
use futures_util::Stream;
use sealpost_proto::limits::PREVIEW_TIME_MAX;
use std::{
    io::{self, Read},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Returns whether images of a media type get a preview.
#[must_use]
pub(crate) fn is_supported(content_type: &str) -> bool {
    matches!(content_type, "image/jpeg" | "image/png")
}

/// Creates a preview: a JPEG of up to
/// [`PREVIEW_BYTES_MAX`](sealpost_proto::limits::PREVIEW_BYTES_MAX) bytes.
///
/// Returns `None` if the image is unsupported, invalid or too large, or if decoding takes too long.
/// Blocks, and a decoder may panic.
#[must_use]
pub(crate) fn create(content_type: &str, image: impl Read) -> Option<Vec<u8>> {
    let image = DeadlineReader {
        inner: image,
        started_at: Instant::now(),
        time_limit: PREVIEW_TIME_MAX,
    };
    let thumbnail = match content_type {
        "image/jpeg" => jpeg::decode_thumbnail(image)?,
        "image/png" => png::decode_thumbnail(image)?,
        _ => return None,
    };
    thumbnail.encode()
}

/// Creates a preview of a streamed image. Only one preview is created at a time, which bounds the
/// memory.
pub(crate) async fn create_from_stream<S>(content_type: String, image: S) -> Option<Vec<u8>>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);
    let permit = ONE_AT_A_TIME.acquire().await.ok()?;
    let image = SyncIoBridge::new(StreamReader::new(Box::pin(image)));
    let preview = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        create(&content_type, image)
    });
    // A join error means that a decoder panicked; then there is no preview.
    preview.await.ok().flatten()
}

/// Returns the media type of a preview according to its first bytes.
#[must_use]
pub(crate) fn content_type(preview: &[u8]) -> Option<&'static str> {
    const SIGNATURES: [(&[u8], &str); 2] = [
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
    ];
    SIGNATURES
        .into_iter()
        .find_map(|(signature, content_type)| {
            preview.starts_with(signature).then_some(content_type)
        })
}

/// Reader that fails after a time limit.
struct DeadlineReader<R> {
    inner: R,
    started_at: Instant,
    time_limit: Duration,
}

impl<R: Read> Read for DeadlineReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.started_at.elapsed() > self.time_limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests;
