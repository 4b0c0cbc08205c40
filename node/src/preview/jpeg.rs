//! JPEG decoding, scaled down by the decoder.

use super::thumbnail::{Downscaler, Thumbnail};
use jpeg_decoder::{CodingProcess, Decoder, ImageInfo, PixelFormat};
use sealpost_proto::limits::{
    PREVIEW_MEMORY_BYTES, PREVIEW_SIDE_MAX, PREVIEW_SOURCE_PIXELS_MAX,
    PREVIEW_SOURCE_PROGRESSIVE_PIXELS_MAX,
};
use std::io::{BufReader, Read};

/// EXIF tag of the orientation (CIPA DC-008, tag 274).
const ORIENTATION: u16 = 0x0112;

/// Decodes a thumbnail. Returns `None` if the image is invalid, too large or lossless, which is
/// rare.
pub(super) fn decode_thumbnail(image: impl Read) -> Option<Thumbnail> {
    let mut decoder = Decoder::new(BufReader::new(image));
    decoder.set_max_decoding_buffer_size(PREVIEW_MEMORY_BYTES);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let pixels = u64::from(info.width) * u64::from(info.height);
    let pixels_max = match info.coding_process {
        CodingProcess::DctSequential => PREVIEW_SOURCE_PIXELS_MAX,
        // The decoder holds all coefficients in memory until the last scan.
        CodingProcess::DctProgressive => PREVIEW_SOURCE_PROGRESSIVE_PIXELS_MAX,
        CodingProcess::Lossless => 0,
    };
    if pixels > pixels_max {
        return None;
    }
    let side = u16::try_from(PREVIEW_SIDE_MAX).unwrap_or(u16::MAX);
    decoder.scale(side, side).ok()?;
    let scaled = decoder.decode().ok()?;
    let thumbnail = downscale(&scaled, decoder.info()?)?;
    let orientation = decoder.exif_data().and_then(read_orientation);
    Some(thumbnail.rotated(orientation.unwrap_or(1)))
}

fn downscale(scaled: &[u8], info: ImageInfo) -> Option<Thumbnail> {
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let mut downscaler = Downscaler::new(width, height)?;
    let bytes = info.pixel_format.pixel_bytes();
    let lines = scaled.chunks_exact(usize::from(info.width) * bytes);
    for (y, line) in (0..height).zip(lines) {
        let pixels = line
            .chunks_exact(bytes)
            .map(|samples| to_rgb(info.pixel_format, samples));
        downscaler.add_pixels(y, 0, 1, pixels);
    }
    Some(downscaler.finish())
}

fn to_rgb(format: PixelFormat, samples: &[u8]) -> [u8; 3] {
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

/// Reads the orientation from the first directory of EXIF data, whose format is TIFF (TIFF 6.0,
/// section 2).
fn read_orientation(exif: &[u8]) -> Option<u16> {
    let is_little_endian = exif.starts_with(b"II");
    let number = |at: usize, width: usize| {
        let bytes = exif.get(at..at.checked_add(width)?)?;
        let append = |number: usize, byte: &u8| (number << 8) | usize::from(*byte);
        Some(if is_little_endian {
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
    let (_, orientation) = tags
        .into_iter()
        .find(|(tag, _)| *tag == usize::from(ORIENTATION))?;
    u16::try_from(orientation)
        .ok()
        .filter(|orientation| (1..=8).contains(orientation))
}
