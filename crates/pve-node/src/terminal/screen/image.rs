//! Pixels of a part of the screen, and the few colours that they have.

/// A colour: 0x00RRGGBB.
pub(in crate::terminal) type Colour = u32;

/// A part of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::terminal) struct Image {
    pub(in crate::terminal) width: usize,
    pub(in crate::terminal) height: usize,
    /// Line by line.
    pub(in crate::terminal) pixels: Vec<Colour>,
}

impl Image {
    /// A part of it, no larger than a square of `side`.
    fn tile(&self, left: usize, top: usize, side: usize) -> Self {
        let (width, height) = (side.min(self.width - left), side.min(self.height - top));
        let lines = self.pixels.chunks_exact(self.width).skip(top).take(height);
        Self {
            width,
            height,
            pixels: lines
                .flat_map(|line| line.iter().skip(left).take(width).copied())
                .collect(),
        }
    }

    /// Its tiles, line by line.
    pub(in crate::terminal) fn tiles(&self, side: usize) -> impl Iterator<Item = Self> {
        let rows = (0..self.height).step_by(side);
        rows.flat_map(move |top| {
            (0..self.width)
                .step_by(side)
                .map(move |left| self.tile(left, top, side))
        })
    }

    /// Its colours, the first first; `None` if there are more than `most`.
    pub(in crate::terminal) fn palette(&self, most: usize) -> Option<Vec<Colour>> {
        let mut palette: Vec<Colour> = Vec::with_capacity(most);
        for pixel in &self.pixels {
            if !palette.contains(pixel) {
                if palette.len() == most {
                    return None;
                }
                palette.push(*pixel);
            }
        }
        Some(palette)
    }

    /// Appends its pixels as indexes into a palette, of 1, 2, 4 or 8 `bits` each, the leftmost in a byte's highest. A line
    /// ends on a byte.
    pub(in crate::terminal) fn pack(&self, palette: &[Colour], bits: usize, out: &mut Vec<u8>) {
        for line in self.pixels.chunks_exact(self.width) {
            for pixels in line.chunks(8 / bits) {
                let packed = pixels.iter().fold(0, |byte: u16, pixel| {
                    let index = palette.iter().position(|colour| colour == pixel).unwrap_or(0);
                    byte << bits | index as u16
                });
                out.push((packed << (bits * (8 / bits - pixels.len()))) as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_packed_line_by_line() {
        let image = Image {
            width: 3,
            height: 2,
            pixels: vec![7, 9, 7, 9, 9, 7],
        };
        let palette = image.palette(2).unwrap();
        assert_eq!((palette.as_slice(), image.palette(1)), (&[7, 9][..], None));
        for (bits, expected) in [
            (1, vec![0b0100_0000, 0b1100_0000]),
            (2, vec![0b0001_0000, 0b0101_0000]),
            (4, vec![0x01, 0x00, 0x11, 0x00]),
            (8, vec![0, 1, 0, 1, 1, 0]),
        ] {
            let mut out = Vec::new();
            image.pack(&palette, bits, &mut out);
            assert_eq!(out, expected, "{bits}");
        }
    }
}
