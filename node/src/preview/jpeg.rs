//! JPEG, scaled down while it is decoded.

use super::small::{Shrinker, Small};
use jpeg_decoder::{CodingProcess, Decoder, ImageInfo, PixelFormat};
use sealpost_proto::limits::{
    PREVIEW_MEMORY_BYTES, PREVIEW_SIDE_MAX, PREVIEWED_PIXELS_MAX, PREVIEWED_PROGRESSIVE_PIXELS_MAX,
};
use std::io::{BufReader, Read};

/// The tag of EXIF that says how to turn the picture.
const ORIENTATION: u16 = 0x0112;

/// A small picture of the image; none when it is broken, too large or of a kind that nobody uses.
pub(super) fn shrink(image: impl Read) -> Option<Small> {
    let mut decoder = Decoder::new(BufReader::new(image));
    decoder.set_max_decoding_buffer_size(PREVIEW_MEMORY_BYTES);
    decoder.read_info().ok()?;
    let whole = decoder.info()?;
    let pixels = u64::from(whole.width) * u64::from(whole.height);
    let pixels_max = match whole.coding_process {
        CodingProcess::DctSequential => PREVIEWED_PIXELS_MAX,
        // All of its coefficients stand in memory until the last scan.
        CodingProcess::DctProgressive => PREVIEWED_PROGRESSIVE_PIXELS_MAX,
        CodingProcess::Lossless => 0,
    };
    if pixels > pixels_max {
        return None;
    }
    let side = u16::try_from(PREVIEW_SIDE_MAX).unwrap_or(u16::MAX);
    decoder.scale(side, side).ok()?;
    let scaled = decoder.decode().ok()?;
    let small = average(&scaled, decoder.info()?)?;
    Some(small.turned(decoder.exif_data().and_then(orientation).unwrap_or(1)))
}

fn average(scaled: &[u8], info: ImageInfo) -> Option<Small> {
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let mut small = Shrinker::new(width, height)?;
    let bytes = info.pixel_format.pixel_bytes();
    let lines = scaled.chunks_exact(usize::from(info.width) * bytes);
    for (y, line) in (0..height).zip(lines) {
        small.add(
            y,
            0,
            1,
            line.chunks_exact(bytes)
                .map(|samples| pixel(info.pixel_format, samples)),
        );
    }
    Some(small.finish())
}

fn pixel(format: PixelFormat, samples: &[u8]) -> [u8; 3] {
    match (format, samples) {
        (PixelFormat::CMYK32, &[cyan, magenta, yellow, black]) => {
            [cyan, magenta, yellow].map(|ink| {
                u8::try_from(u16::from(255 - ink) * u16::from(255 - black) / 255).unwrap_or(u8::MAX)
            })
        }
        (PixelFormat::RGB24, &[red, green, blue]) => [red, green, blue],
        (_, samples) => [samples.first().copied().unwrap_or_default(); 3],
    }
}

/// Reads the orientation out of the first directory of a TIFF (TIFF 6.0, section 2), which is what EXIF is.
fn orientation(exif: &[u8]) -> Option<u16> {
    let is_little = exif.starts_with(b"II");
    let number = |at: usize, width: usize| {
        let bytes = exif.get(at..at.checked_add(width)?)?;
        let append = |number: usize, byte: &u8| (number << 8) | usize::from(*byte);
        Some(if is_little {
            bytes.iter().rev().fold(0, append)
        } else {
            bytes.iter().fold(0, append)
        })
    };
    let directory = number(4, 4)?;
    let entries = number(directory, 2)?;
    let tags = (0..entries).map_while(|entry| {
        let at = directory.checked_add(2 + 12 * entry)?;
        Some((number(at, 2)?, number(at + 8, 2)?))
    });
    let (_, turn) = tags
        .into_iter()
        .find(|(tag, _)| *tag == usize::from(ORIENTATION))?;
    u16::try_from(turn)
        .ok()
        .filter(|turn| (1..=8).contains(turn))
}
