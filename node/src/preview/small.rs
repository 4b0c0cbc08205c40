//! A large picture becomes a small one while its pixels come by, in any order.

use jpeg_encoder::{ColorType, Encoder};
use sealpost_proto::limits::{
    PREVIEW_BYTES_MAX, PREVIEW_SIDE_MAX, PREVIEWED_PIXELS_MAX, PREVIEWED_SIDE_MAX,
};

/// How good the JPEG may be; the first that fits is taken.
const QUALITIES: [u8; 5] = [80, 60, 40, 20, 5];

/// Red, green and blue.
pub(super) type Pixel = [u8; 3];

/// Averages the pixels that fall into one of the small picture.
pub(super) struct Shrinker {
    height: u32,
    to_height: u32,
    /// For each column the one of the small picture.
    columns: Vec<usize>,
    to_width: usize,
    cells: Vec<Cell>,
}

/// A cell takes fewer pixels than would let its sums overflow: `PREVIEWED_SIDE_MAX / PREVIEW_SIDE_MAX`, squared.
#[derive(Clone, Copy, Default)]
struct Cell {
    sums: [u32; 3],
    count: u32,
}

impl Shrinker {
    /// For a picture of this size; none when it is too large.
    pub(super) fn new(width: u32, height: u32) -> Option<Self> {
        let longer = width.max(height);
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > PREVIEWED_PIXELS_MAX || longer > PREVIEWED_SIDE_MAX {
            return None;
        }
        let small = |side: u32| {
            if longer > PREVIEW_SIDE_MAX {
                (side * PREVIEW_SIDE_MAX / longer).max(1)
            } else {
                side
            }
        };
        let (to_width, to_height) = (small(width), small(height));
        let columns = (0..width)
            .map(|x| (x * to_width / width) as usize)
            .collect();
        let cells = vec![Cell::default(); (to_width * to_height) as usize];
        Some(Self {
            height,
            to_height,
            columns,
            to_width: to_width as usize,
            cells,
        })
    }

    /// Adds pixels of the line `y`: that of the column `from`, and of every `step`th after it.
    pub(super) fn add(
        &mut self,
        y: u32,
        from: u32,
        step: u32,
        pixels: impl Iterator<Item = Pixel>,
    ) {
        let row = (y * self.to_height / self.height) as usize * self.to_width;
        let columns = self
            .columns
            .iter()
            .skip(from as usize)
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

    /// The small picture.
    pub(super) fn finish(self) -> Small {
        let average = |cell: &Cell| {
            cell.sums
                .map(|sum| u8::try_from(sum / cell.count.max(1)).unwrap_or(u8::MAX))
        };
        Small {
            width: self.to_width,
            height: self.to_height as usize,
            pixels: self.cells.iter().map(average).collect(),
        }
    }
}

/// A small picture.
pub(super) struct Small {
    width: usize,
    height: usize,
    pixels: Vec<Pixel>,
}

impl Small {
    /// Turned as the orientation of EXIF says (CIPA DC-008, tag 274).
    pub(super) fn turned(self, orientation: u16) -> Self {
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
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels = places
            .map(|(x, y)| source(x, y))
            .filter_map(|(x, y)| self.pixels.get(y * w + x).copied())
            .collect();
        Self {
            width,
            height,
            pixels,
        }
    }

    /// As a JPEG that is small enough, as good as it may be.
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
