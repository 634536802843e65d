//! How the client wants its pixels (RFC 6143 §7.4).

use crate::terminal::screen::Colour;

/// A client's format of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// 1, 2 or 4 bytes.
    bytes: u8,
    depth: u8,
    is_big_endian: bool,
    red: Part,
    green: Part,
    blue: Part,
    /// The client looks colours up in a table, which we fill so that its indexes are the parts above.
    pub(super) is_mapped: bool,
}

/// Red, green or blue in a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    max: u16,
    shift: u8,
}

impl Part {
    const fn new(max: u16, shift: u8) -> Self {
        Self { max, shift }
    }

    fn of(self, colour: Colour, at: u32) -> u32 {
        let level = (colour >> at) & 0xff;
        ((level * u32::from(self.max) + 127) / 255) << self.shift
    }

    /// The level of this part in a pixel, as 16 bits.
    fn level(self, pixel: u32) -> u16 {
        let max = u32::from(self.max).max(1);
        let level = (pixel >> self.shift) & u32::from(self.max);
        u16::try_from(level * 0xffff / max).unwrap_or(u16::MAX)
    }
}

/// Four bytes, true colour: what the server offers and nearly every client takes.
pub(super) const OFFERED: Format = Format {
    bytes: 4,
    depth: 24,
    is_big_endian: false,
    red: Part::new(255, 16),
    green: Part::new(255, 8),
    blue: Part::new(255, 0),
    is_mapped: false,
};

/// How many colours a table has for clients with one.
const MAPPED: u32 = 256;

impl Format {
    /// Reads the sixteen bytes of a format; `None` if they make no sense.
    pub(super) fn parse(bytes: &[u8; 16]) -> Option<Self> {
        let [
            bits,
            depth,
            big,
            true_colour,
            r1,
            r0,
            g1,
            g0,
            b1,
            b0,
            red,
            green,
            blue,
            ..,
        ] = *bytes;
        let bytes = match bits {
            8 => 1,
            16 => 2,
            32 => 4,
            _ => return None,
        };
        if true_colour == 0 {
            return (bytes == 1).then_some(Self {
                bytes,
                depth: 8,
                is_big_endian: false,
                red: Part::new(7, 0),
                green: Part::new(7, 3),
                blue: Part::new(3, 6),
                is_mapped: true,
            });
        }
        let part = |high, low, shift: u8| {
            let max = u16::from_be_bytes([high, low]);
            (shift < bits
                && max.leading_zeros() + u32::from(bits) >= 16 + u32::from(shift)
                && max & max.wrapping_add(1) == 0)
                .then_some(Part { max, shift })
        };
        Some(Self {
            bytes,
            depth,
            is_big_endian: big != 0,
            red: part(r1, r0, red)?,
            green: part(g1, g0, green)?,
            blue: part(b1, b0, blue)?,
            is_mapped: false,
        })
    }

    /// The sixteen bytes of this format.
    pub(super) fn bytes(self) -> [u8; 16] {
        let [r1, r0] = self.red.max.to_be_bytes();
        let [g1, g0] = self.green.max.to_be_bytes();
        let [b1, b0] = self.blue.max.to_be_bytes();
        let (big, true_colour) = (u8::from(self.is_big_endian), u8::from(!self.is_mapped));
        let shifts = [self.red.shift, self.green.shift, self.blue.shift];
        let [red, green, blue] = shifts;
        [
            self.bytes * 8,
            self.depth,
            big,
            true_colour,
            r1,
            r0,
            g1,
            g0,
            b1,
            b0,
            red,
            green,
            blue,
            0,
            0,
            0,
        ]
    }

    /// Bytes of a pixel.
    pub(super) fn size(self) -> usize {
        self.bytes.into()
    }

    fn pixel(self, colour: Colour) -> u32 {
        self.red.of(colour, 16) | self.green.of(colour, 8) | self.blue.of(colour, 0)
    }

    /// Appends a pixel.
    pub(super) fn put(self, colour: Colour, out: &mut Vec<u8>) {
        let pixel = self.pixel(colour);
        let (little, big) = (pixel.to_le_bytes(), pixel.to_be_bytes());
        let size = self.size();
        let bytes = if self.is_big_endian {
            big.get(4 - size..)
        } else {
            little.get(..size)
        };
        out.extend_from_slice(bytes.unwrap_or_default());
    }

    /// Appends a pixel in ZRLE's compact form, which leaves out a byte that is always zero (RFC 6143 §7.7.5).
    pub(super) fn put_compact(self, colour: Colour, out: &mut Vec<u8>) {
        let used = self.pixel(0x00ff_ffff);
        if self.bytes != 4 || self.depth > 24 {
            return self.put(colour, out);
        }
        let bytes = match (used & 0xff00_0000 == 0, used & 0xff == 0, self.is_big_endian) {
            (true, _, false) | (false, true, true) => 0..3,
            (true, _, true) | (false, true, false) => 1..4,
            (false, false, _) => return self.put(colour, out),
        };
        let pixel = self.pixel(colour);
        // With the lowest byte unused, the three that are left are the upper ones of the value.
        let all = if self.is_big_endian {
            pixel.to_be_bytes()
        } else {
            pixel.to_le_bytes()
        };
        out.extend_from_slice(all.get(bytes).unwrap_or_default());
    }

    /// The message that fills a mapped client's table (RFC 6143 §7.6.2).
    pub(super) fn colour_map(self) -> Vec<u8> {
        let mut message = vec![1, 0, 0, 0];
        message.extend((MAPPED as u16).to_be_bytes());
        for index in 0..MAPPED {
            for part in [self.red, self.green, self.blue] {
                message.extend(part.level(index).to_be_bytes());
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bits: u8, depth: u8, big: u8, maxima: [u16; 3], shifts: [u8; 3]) -> Option<Format> {
        let mut bytes = vec![bits, depth, big, 1];
        maxima.iter().for_each(|max| bytes.extend(max.to_be_bytes()));
        bytes.extend(shifts);
        bytes.extend([0; 3]);
        Format::parse(bytes.as_slice().try_into().unwrap())
    }

    fn put(format: Format, colour: Colour) -> (Vec<u8>, Vec<u8>) {
        let (mut full, mut compact) = (Vec::new(), Vec::new());
        format.put(colour, &mut full);
        format.put_compact(colour, &mut compact);
        (full, compact)
    }

    #[test]
    fn pixels_are_written_as_the_client_says() {
        let (max, wide) = ([255; 3], [31, 63, 31]);
        for (asked, full, compact) in [
            (format(32, 24, 0, max, [16, 8, 0]), vec![3, 2, 1, 0], vec![3, 2, 1]),
            (format(32, 24, 0, max, [0, 8, 16]), vec![1, 2, 3, 0], vec![1, 2, 3]),
            (format(32, 24, 1, max, [16, 8, 0]), vec![0, 1, 2, 3], vec![1, 2, 3]),
            (format(32, 24, 0, max, [24, 16, 8]), vec![0, 3, 2, 1], vec![3, 2, 1]),
            (format(32, 24, 1, max, [24, 16, 8]), vec![1, 2, 3, 0], vec![1, 2, 3]),
            (format(32, 32, 0, max, [16, 8, 0]), vec![3, 2, 1, 0], vec![3, 2, 1, 0]),
            (format(16, 16, 0, wide, [11, 5, 0]), vec![0, 0], vec![0, 0]),
        ] {
            assert_eq!(put(asked.unwrap(), 0x0001_0203), (full, compact), "{asked:?}");
        }
        let asked = format(16, 16, 0, wide, [11, 5, 0]).unwrap();
        assert_eq!(put(asked, 0x00ff_0000).0, [0x00, 0xf8]);
        assert_eq!(put(asked, 0x0000_ff00).0, [0xe0, 0x07]);
        assert_eq!(Format::parse(&OFFERED.bytes()), Some(OFFERED));
    }

    #[test]
    fn formats_without_sense_are_refused() {
        for (bits, maxima, shifts) in [
            (24, [255; 3], [16, 8, 0]),
            (8, [255; 3], [16, 8, 0]),
            (8, [255, 7, 3], [4, 3, 6]),
            (32, [254; 3], [16, 8, 0]),
            (32, [255; 3], [32, 8, 0]),
            (32, [255; 3], [30, 8, 0]),
        ] {
            assert_eq!(
                format(bits, 24, 0, maxima, shifts),
                None,
                "{bits} {maxima:?} {shifts:?}"
            );
        }
    }

    #[test]
    fn a_client_with_a_table_gets_one() {
        let mapped = Format::parse(&[8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert!(mapped.is_mapped);
        let message = mapped.colour_map();
        assert_eq!(message.len(), 6 + 256 * 6);
        let index = usize::from(put(mapped, 0x00ff_ffff).0[0]);
        assert_eq!(message[6 + index * 6..][..6], [0xff; 6]);
    }
}
