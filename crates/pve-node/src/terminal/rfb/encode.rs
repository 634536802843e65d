//! Pixels on the wire: Raw, Hextile and ZRLE (RFC 6143 §7.7), which every noVNC knows at least two of.

use flate2::{Compress, Compression, FlushCompress};

use super::pixels::Format;
use crate::terminal::screen::{Colour, Image};

/// How a rectangle's pixels are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Hextile,
    Zrle,
}

impl Encoding {
    /// The one with this number.
    pub(super) fn of(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            5 => Some(Self::Hextile),
            16 => Some(Self::Zrle),
            _ => None,
        }
    }

    pub(super) fn number(self) -> i32 {
        match self {
            Self::Raw => 0,
            Self::Hextile => 5,
            Self::Zrle => 16,
        }
    }
}

/// Writes pixels for one client; ZRLE's stream goes through all of its rectangles.
pub(super) struct Encoder {
    deflate: Compress,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            deflate: Compress::new(Compression::fast(), true),
        }
    }

    /// Appends an image.
    pub(super) fn put(&mut self, encoding: Encoding, image: &Image, format: Format, out: &mut Vec<u8>) {
        match encoding {
            Encoding::Raw => raw(image, format, out),
            Encoding::Hextile => image.tiles(16).for_each(|tile| hextile(&tile, format, out)),
            Encoding::Zrle => {
                let mut plain = Vec::new();
                image.tiles(64).for_each(|tile| zrle(&tile, format, &mut plain));
                self.compress(&plain, out);
            }
        }
    }

    /// Appends a length and that many compressed bytes, which the client can read without any that follow.
    fn compress(&mut self, mut plain: &[u8], out: &mut Vec<u8>) {
        let mut packed = Vec::with_capacity(plain.len() / 4 + 64);
        loop {
            let before = self.deflate.total_in();
            // It fails only for a stream that was ended, which this one never is.
            let _ = self.deflate.compress_vec(plain, &mut packed, FlushCompress::Sync);
            let taken = usize::try_from(self.deflate.total_in() - before).unwrap_or(usize::MAX);
            plain = plain.get(taken..).unwrap_or_default();
            // All is out once it had room to spare.
            if plain.is_empty() && packed.len() < packed.capacity() {
                break;
            }
            packed.reserve(packed.capacity().max(64));
        }
        out.extend(u32::try_from(packed.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(packed);
    }
}

fn raw(image: &Image, format: Format, out: &mut Vec<u8>) {
    image.pixels.iter().for_each(|pixel| format.put(*pixel, out));
}

/// A tile as ZRLE: one colour, a palette with packed indexes, or raw.
fn zrle(tile: &Image, format: Format, out: &mut Vec<u8>) {
    let Some(palette) = tile.palette(16) else {
        out.push(0);
        tile.pixels.iter().for_each(|pixel| format.put_compact(*pixel, out));
        return;
    };
    // At most sixteen.
    out.push(palette.len() as u8);
    palette.iter().for_each(|colour| format.put_compact(*colour, out));
    let bits = match palette.len() {
        0 | 1 => return,
        2 => 1,
        3 | 4 => 2,
        _ => 4,
    };
    tile.pack(&palette, bits, out);
}

/// Bits of a Hextile tile's first byte.
const IS_RAW: u8 = 1;
const HAS_BACKGROUND: u8 = 2;
const HAS_FOREGROUND: u8 = 4;
const HAS_RUNS: u8 = 8;
const IS_COLOURED: u8 = 16;

/// A tile as Hextile: a background and runs on it, or raw if that is shorter.
fn hextile(tile: &Image, format: Format, out: &mut Vec<u8>) {
    let background = commonest(&tile.pixels);
    let runs = runs(tile, background);
    let first = runs.first().map(|run| run.colour);
    let is_coloured = runs.iter().any(|run| Some(run.colour) != first);
    let run_size = 2 + if is_coloured { format.size() } else { 0 };
    if runs.len() > 255 || runs.len() * run_size > tile.pixels.len() * format.size() {
        out.push(IS_RAW);
        return raw(tile, format, out);
    }
    match first {
        None => out.push(HAS_BACKGROUND),
        Some(_) if is_coloured => out.push(HAS_BACKGROUND | HAS_RUNS | IS_COLOURED),
        Some(_) => out.push(HAS_BACKGROUND | HAS_FOREGROUND | HAS_RUNS),
    }
    format.put(background, out);
    let Some(foreground) = first else { return };
    if !is_coloured {
        format.put(foreground, out);
    }
    out.push(runs.len() as u8);
    for run in &runs {
        if is_coloured {
            format.put(run.colour, out);
        }
        // Four bits each: a tile has sixteen pixels a side.
        out.push((run.left << 4 | run.top) as u8);
        out.push(((run.width - 1) << 4) as u8);
    }
}

/// Pixels of one colour side by side, within a tile.
struct Run {
    colour: Colour,
    left: usize,
    top: usize,
    width: usize,
}

/// The runs that are not background.
fn runs(tile: &Image, background: Colour) -> Vec<Run> {
    let mut found: Vec<Run> = Vec::new();
    for (top, line) in tile.pixels.chunks_exact(tile.width).enumerate() {
        let mut left = 0;
        for pixels in line.chunk_by(|one, next| one == next) {
            match pixels.first() {
                Some(colour) if *colour != background => found.push(Run {
                    colour: *colour,
                    left,
                    top,
                    width: pixels.len(),
                }),
                _ => {}
            }
            left += pixels.len();
        }
    }
    found
}

/// The colour that most pixels have, of the first few.
fn commonest(pixels: &[Colour]) -> Colour {
    let mut counts: Vec<(Colour, usize)> = Vec::new();
    for pixel in pixels {
        if let Some((_, count)) = counts.iter_mut().find(|(colour, _)| colour == pixel) {
            *count += 1;
        } else if counts.len() < 8 {
            counts.push((*pixel, 1));
        }
    }
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map_or(0, |(colour, _)| colour)
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    use super::super::pixels::OFFERED;
    use super::*;

    /// A client: it reads an image from what was sent.
    struct Client {
        inflate: Decompress,
    }

    fn number(input: &mut &[u8], bytes: usize) -> Vec<u8> {
        let (first, rest) = input.split_at(bytes);
        *input = rest;
        first.to_vec()
    }

    fn pixel(input: &mut &[u8], bytes: usize) -> Colour {
        let mut value = number(input, bytes);
        value.resize(4, 0);
        Colour::from_le_bytes(value.try_into().unwrap())
    }

    impl Client {
        fn read(&mut self, encoding: Encoding, width: usize, height: usize, mut input: &[u8]) -> Vec<Colour> {
            let mut pixels = vec![0x0bad_0bad; width * height];
            let input = &mut input;
            match encoding {
                Encoding::Raw => pixels.fill_with(|| pixel(input, 4)),
                Encoding::Hextile => Self::tiles(width, height, 16, &mut pixels, |w, h| hextile_tile(input, w, h)),
                Encoding::Zrle => {
                    let length = u32::from_be_bytes(number(input, 4).try_into().unwrap()) as usize;
                    assert_eq!(length, input.len());
                    let mut plain = Vec::with_capacity(width * height * 4 + 10_000);
                    self.inflate
                        .decompress_vec(input, &mut plain, FlushDecompress::Sync)
                        .unwrap();
                    let mut plain = plain.as_slice();
                    Self::tiles(width, height, 64, &mut pixels, |w, h| zrle_tile(&mut plain, w, h));
                    assert!(plain.is_empty());
                    input.take(..).unwrap();
                }
            }
            assert!(input.is_empty(), "{} bytes are left", input.len());
            pixels
        }

        fn tiles(
            width: usize,
            height: usize,
            side: usize,
            pixels: &mut [Colour],
            mut tile: impl FnMut(usize, usize) -> Vec<Colour>,
        ) {
            for top in (0..height).step_by(side) {
                for left in (0..width).step_by(side) {
                    let (w, h) = (side.min(width - left), side.min(height - top));
                    for (at, colour) in tile(w, h).into_iter().enumerate() {
                        pixels[(top + at / w) * width + left + at % w] = colour;
                    }
                }
            }
        }
    }

    trait Take {
        fn take(&mut self, all: std::ops::RangeFull) -> Option<()>;
    }

    impl Take for &[u8] {
        fn take(&mut self, _: std::ops::RangeFull) -> Option<()> {
            *self = &[];
            Some(())
        }
    }

    fn hextile_tile(input: &mut &[u8], width: usize, height: usize) -> Vec<Colour> {
        let kind = number(input, 1)[0];
        if kind & IS_RAW != 0 {
            return (0..width * height).map(|_| pixel(input, 4)).collect();
        }
        assert!(kind & HAS_BACKGROUND != 0);
        let mut pixels = vec![pixel(input, 4); width * height];
        let mut colour = if kind & HAS_FOREGROUND != 0 { pixel(input, 4) } else { 0 };
        let count = if kind & HAS_RUNS != 0 { number(input, 1)[0] } else { 0 };
        for _ in 0..count {
            if kind & IS_COLOURED != 0 {
                colour = pixel(input, 4);
            }
            let place = number(input, 2);
            let (left, top) = (usize::from(place[0] >> 4), usize::from(place[0] & 15));
            let (w, h) = (usize::from(place[1] >> 4) + 1, usize::from(place[1] & 15) + 1);
            for y in top..top + h {
                pixels[y * width + left..][..w].fill(colour);
            }
        }
        pixels
    }

    fn zrle_tile(input: &mut &[u8], width: usize, height: usize) -> Vec<Colour> {
        let count = usize::from(number(input, 1)[0]);
        if count == 0 {
            return (0..width * height).map(|_| pixel(input, 3)).collect();
        }
        let palette: Vec<Colour> = (0..count).map(|_| pixel(input, 3)).collect();
        let bits = [0, 0, 1, 2, 2].get(count).copied().unwrap_or(4);
        let mut pixels = Vec::new();
        for _ in 0..height {
            let line = number(input, (width * bits).div_ceil(8));
            for x in 0..width {
                let index = match bits {
                    0 => 0,
                    _ => line[x * bits / 8] >> (8 - bits - x * bits % 8) & ((1 << bits) - 1),
                };
                pixels.push(palette[usize::from(index)]);
            }
        }
        pixels
    }

    /// Images with few or many colours, of sizes that do not fit tiles.
    fn images() -> impl Strategy<Value = Vec<Image>> {
        let image = (1..100_usize, 1..70_usize, 1..40_u32, any::<u32>()).prop_map(|(width, height, colours, seed)| {
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
                state >> 9
            };
            let mut colour = 0;
            let pixels = (0..width * height).map(|_| {
                // Runs of a few pixels, as letters have.
                if next() % 4 == 0 {
                    colour = (next() % colours).wrapping_mul(0x0001_f3d5) & 0x00ff_ffff;
                }
                colour
            });
            Image {
                width,
                height,
                pixels: pixels.collect(),
            }
        });
        prop::collection::vec(image, 1..4)
    }

    proptest! {
        #[test]
        fn a_client_reads_what_is_drawn(images in images()) {
            for encoding in [Encoding::Raw, Encoding::Hextile, Encoding::Zrle] {
                let mut encoder = Encoder::new();
                let mut client = Client { inflate: Decompress::new(true) };
                for image in &images {
                    let mut out = Vec::new();
                    encoder.put(encoding, image, OFFERED, &mut out);
                    let read = client.read(encoding, image.width, image.height, &out);
                    prop_assert!(read == image.pixels, "{encoding:?} {}x{}", image.width, image.height);
                }
            }
        }
    }

    #[test]
    fn text_takes_little_room() {
        let pixels = (0..640 * 16)
            .map(|at| if at % 7 == 0 { 0x00ff_ffff } else { 0 })
            .collect();
        let image = Image {
            width: 640,
            height: 16,
            pixels,
        };
        let size = |encoding| {
            let mut out = Vec::new();
            Encoder::new().put(encoding, &image, OFFERED, &mut out);
            out.len()
        };
        assert_eq!(size(Encoding::Raw), 40_960);
        assert!(size(Encoding::Zrle) < 1000 && size(Encoding::Hextile) < 10_000);
    }
}
