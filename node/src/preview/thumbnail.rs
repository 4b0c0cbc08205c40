//! Downscaling of an image from a stream of its pixels, in any order.

use jpeg_encoder::{ColorType, Encoder};
use sealpost_proto::limits::{
    PREVIEW_BYTES_MAX, PREVIEW_SIDE_MAX, PREVIEW_SOURCE_PIXELS_MAX, PREVIEW_SOURCE_SIDE_MAX,
};

/// JPEG qualities to try; the first result that is small enough wins.
const QUALITIES: [u8; 5] = [80, 60, 40, 20, 5];

/// Red, green and blue.
pub(super) type Pixel = [u8; 3];

/// Averages all source pixels that fall into the same pixel of the thumbnail.
pub(super) struct Downscaler {
    source_height: u32,
    target_height: u32,
    /// Column in the thumbnail for each column of the source.
    target_columns: Vec<usize>,
    target_width: usize,
    cells: Vec<Cell>,
}

/// Sums of the source pixels of one thumbnail pixel. They cannot overflow, because a cell covers up
/// to `(PREVIEW_SOURCE_SIDE_MAX / PREVIEW_SIDE_MAX)²` pixels.
#[derive(Clone, Copy, Default)]
struct Cell {
    sums: [u32; 3],
    count: u32,
}

impl Downscaler {
    /// Creates a downscaler for a source size. Returns `None` if the source is too large.
    pub(super) fn new(width: u32, height: u32) -> Option<Self> {
        let longer = width.max(height);
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > PREVIEW_SOURCE_PIXELS_MAX || longer > PREVIEW_SOURCE_SIDE_MAX {
            return None;
        }
        let scale = |side: u32| {
            if longer > PREVIEW_SIDE_MAX {
                (side * PREVIEW_SIDE_MAX / longer).max(1)
            } else {
                side
            }
        };
        let (target_width, target_height) = (scale(width), scale(height));
        let target_columns = (0..width)
            .map(|x| (x * target_width / width) as usize)
            .collect();
        let cells = vec![Cell::default(); (target_width * target_height) as usize];
        Some(Self {
            source_height: height,
            target_height,
            target_columns,
            target_width: target_width as usize,
            cells,
        })
    }

    /// Adds pixels of row `y`: the one in `first_column`, and every `step`th after it.
    pub(super) fn add_pixels(
        &mut self,
        y: u32,
        first_column: u32,
        step: u32,
        pixels: impl Iterator<Item = Pixel>,
    ) {
        let row = (y * self.target_height / self.source_height) as usize * self.target_width;
        let columns = self
            .target_columns
            .iter()
            .skip(first_column as usize)
            .step_by(step as usize);
        for (column, pixel) in columns.zip(pixels) {
            if let Some(cell) = self.cells.get_mut(row + column) {
                cell.count += 1;
                for (sum, part) in cell.sums.iter_mut().zip(pixel) {
                    *sum += u32::from(part);
                }
            }
        }
    }

    pub(super) fn finish(self) -> Thumbnail {
        let average = |cell: &Cell| {
            cell.sums
                .map(|sum| u8::try_from(sum / cell.count.max(1)).unwrap_or(u8::MAX))
        };
        Thumbnail {
            width: self.target_width,
            height: self.target_height as usize,
            pixels: self.cells.iter().map(average).collect(),
        }
    }
}

/// Downscaled image.
pub(super) struct Thumbnail {
    width: usize,
    height: usize,
    pixels: Vec<Pixel>,
}

impl Thumbnail {
    /// Rotates and mirrors the image according to its EXIF orientation (CIPA DC-008, tag 274).
    pub(super) fn rotated(self, orientation: u16) -> Self {
        let (w, h) = (self.width, self.height);
        let (width, height) = if orientation >= 5 { (h, w) } else { (w, h) };
        let source = |x: usize, y: usize| match orientation {
            2 => (w - 1 - x, y),
            3 => (w - 1 - x, h - 1 - y),
            4 => (x, h - 1 - y),
            5 => (y, x),
            6 => (y, h - 1 - x),
            7 => (w - 1 - y, h - 1 - x),
            8 => (w - 1 - y, x),
            _ => (x, y),
        };
        let positions = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels = positions
            .map(|(x, y)| source(x, y))
            .filter_map(|(x, y)| self.pixels.get(y * w + x).copied())
            .collect();
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Encodes a JPEG in the best quality that is small enough.
    pub(super) fn encode(self) -> Option<Vec<u8>> {
        let (width, height) = (
            u16::try_from(self.width).ok()?,
            u16::try_from(self.height).ok()?,
        );
        QUALITIES.into_iter().find_map(|quality| {
            let mut jpeg = Vec::new();
            let encoder = Encoder::new(&mut jpeg, quality);
            encoder
                .encode(self.pixels.as_flattened(), width, height, ColorType::Rgb)
                .ok()?;
            (jpeg.len() <= PREVIEW_BYTES_MAX).then_some(jpeg)
        })
    }
}
