//! Small pictures of images, made on the sender's side and carried sealed inside the message.
//!
//! Only what is about to be sent is decoded here, and under limits: it may come from anywhere. An image is never held as
//! a whole, nothing but pixels gets into a preview, and an image without one is sent all the same. A preview of the other
//! side is never decoded: [`content_type`] looks at its first bytes, and whoever shows it takes it from there.

mod jpeg;
mod png;
mod small;

use bytes::Bytes;
use futures_util::Stream;
use sealpost_proto::limits::PREVIEW_TIME_MAX;
use std::{
    io::{self, Read},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Whether images of this media type get a preview.
#[must_use]
pub fn is_drawn(content_type: &str) -> bool {
    matches!(content_type, "image/jpeg" | "image/png")
}

/// Makes a preview of an image: a JPEG of at most [`PREVIEW_BYTES_MAX`](sealpost_proto::limits::PREVIEW_BYTES_MAX). None
/// of what is no such image, broken, too large, or takes too long. Blocks, and may panic in a decoder.
#[must_use]
pub fn draw(content_type: &str, image: impl Read) -> Option<Vec<u8>> {
    let image = Hurried {
        image,
        began: Instant::now(),
        patience: PREVIEW_TIME_MAX,
    };
    let small = match content_type {
        "image/jpeg" => jpeg::shrink(image)?,
        "image/png" => png::shrink(image)?,
        _ => return None,
    };
    small.encode()
}

/// Makes a preview of an image that comes as a stream; one at a time, so that its memory is bounded.
pub async fn draw_stream<S>(content_type: String, image: S) -> Option<Vec<u8>>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);
    let turn = ONE_AT_A_TIME.acquire().await.ok()?;
    let image = SyncIoBridge::new(StreamReader::new(Box::pin(image)));
    let drawn = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        draw(&content_type, image)
    });
    // A decoder that panics has made no preview.
    drawn.await.ok().flatten()
}

/// The media type of a preview by its first bytes; none of what no preview is.
#[must_use]
pub fn content_type(preview: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 2] = [
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
    ];
    BEGINNINGS
        .into_iter()
        .find_map(|(beginning, content_type)| {
            preview.starts_with(beginning).then_some(content_type)
        })
}

/// A source that ends in an error when it has taken too long.
struct Hurried<R> {
    image: R,
    began: Instant,
    patience: Duration,
}

impl<R: Read> Read for Hurried<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.began.elapsed() > self.patience {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.image.read(buffer)
    }
}

#[cfg(test)]
mod tests;
