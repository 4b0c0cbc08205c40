//! PNG decoding, row by row.

use super::thumbnail::{Downscaler, Pixel, Thumbnail};
use png::{ColorType, Decoder, Limits, Transformations};
use sealpost_proto::limits::PREVIEW_MEMORY_BYTES;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// The seven passes of Adam7 (PNG, section 8.2): first column, first row, column step, row step.
const PASSES: [[u32; 4]; 7] = [
    [0, 0, 8, 8],
    [4, 0, 8, 8],
    [0, 4, 4, 8],
    [2, 0, 4, 4],
    [0, 2, 2, 4],
    [1, 0, 2, 2],
    [0, 1, 1, 2],
];

/// Decodes a thumbnail. Returns `None` if the image is invalid or too large.
pub(super) fn decode_thumbnail(image: impl Read) -> Option<Thumbnail> {
    let image = ForwardOnly(BufReader::new(image));
    let mut decoder = Decoder::new_with_limits(
        image,
        Limits {
            bytes: PREVIEW_MEMORY_BYTES,
        },
    );
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let (width, height) = decoder.read_header_info().ok()?.size();
    let mut downscaler = Downscaler::new(width, height)?;
    let mut reader = decoder.read_info().ok()?;
    let (color, _) = reader.output_color_type();
    let passes: &[_] = if reader.info().interlaced {
        &PASSES
    } else {
        &[[0, 0, 1, 1]]
    };
    for &[first_column, first_row, column_step, row_step] in
        passes.iter().filter(|[first, ..]| *first < width)
    {
        for y in (first_row..height).step_by(row_step as usize) {
            let row = reader.next_row().ok()??;
            let pixels = row
                .data()
                .chunks_exact(color.samples())
                .map(|samples| to_rgb(color, samples));
            downscaler.add_pixels(y, first_column, column_step, pixels);
        }
    }
    Some(downscaler.finish())
}

/// Converts a pixel to RGB, on a white background.
fn to_rgb(color: ColorType, samples: &[u8]) -> Pixel {
    let over_white = |part: u8, alpha: u8| {
        let (part, alpha) = (u16::from(part), u16::from(alpha));
        u8::try_from((part * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX)
    };
    match (color, samples) {
        (ColorType::GrayscaleAlpha, &[gray, alpha]) => [over_white(gray, alpha); 3],
        (ColorType::Rgba, &[red, green, blue, alpha]) => {
            [red, green, blue].map(|part| over_white(part, alpha))
        }
        (_, &[red, green, blue]) => [red, green, blue],
        (_, samples) => [samples.first().copied().unwrap_or_default(); 3],
    }
}

/// Reader that cannot seek. The decoder requires `Seek`, but does not use it.
struct ForwardOnly<R>(BufReader<R>);

impl<R: Read> Read for ForwardOnly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> BufRead for ForwardOnly<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

impl<R> Seek for ForwardOnly<R> {
    fn seek(&mut self, _to: SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
