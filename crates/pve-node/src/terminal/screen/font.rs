//! The glyphs: Spleen 8x16 (BSD-2-Clause, `spleen-LICENSE` beside it), as the PSF file that its author publishes.
//!
//! It has ASCII, Latin-1, most of Latin Extended-A, Cyrillic and all box drawing. Block elements are drawn here; what
//! else is missing shows as a frame.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Pixels of a character cell, across.
pub(in crate::terminal) const WIDTH: usize = 8;
/// Pixels of a character cell, down.
pub(in crate::terminal) const HEIGHT: usize = 16;

/// A glyph: a byte for each line of pixels, the leftmost in its highest bit.
pub(in crate::terminal) type Glyph = [u8; HEIGHT];

/// Magic of the format, and where its glyphs begin.
const MAGIC: [u8; 2] = [0x36, 0x04];
const HEADER: usize = 4;
/// The bit of the third byte that says that there are 512 glyphs and not 256.
const MODE_512: u8 = 1;
/// In the table of characters: what follows is no character of its own; the next glyph's characters follow.
const SEQUENCE: u16 = 0xfffe;
const NEXT: u16 = 0xffff;

static FONT: LazyLock<HashMap<char, Glyph>> = LazyLock::new(|| parse(include_bytes!("spleen-8x16.psf")));

/// What a character that the font does not have looks like.
const MISSING: Glyph = [
    0, 0, 0, 0x7e, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7e, 0, 0, 0,
];

/// The glyph of a character.
pub(in crate::terminal) fn glyph(character: char) -> Glyph {
    if character == ' ' {
        return Glyph::default();
    }
    let known = FONT.get(&character).copied();
    known.or_else(|| block(character)).unwrap_or(MISSING)
}

/// Reads the glyphs of a PSF file of version 1, whose glyphs must have our height.
fn parse(file: &[u8]) -> HashMap<char, Glyph> {
    let mut font = HashMap::new();
    let Some(([m0, m1, mode, height], body)) = file.split_first_chunk::<HEADER>() else {
        return font;
    };
    if [*m0, *m1] != MAGIC || usize::from(*height) != HEIGHT {
        return font;
    }
    let count = if mode & MODE_512 == 0 { 256 } else { 512 };
    let (glyphs, table) = body.split_at_checked(count * HEIGHT).unwrap_or((body, &[]));
    let mut units = table.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => NEXT,
    });
    for glyph in glyphs.as_chunks::<HEIGHT>().0 {
        let characters: Vec<u16> = units.by_ref().take_while(|unit| *unit != NEXT).collect();
        let alone = characters.into_iter().take_while(|unit| *unit != SEQUENCE);
        for character in alone.filter_map(|unit| char::from_u32(unit.into())) {
            font.insert(character, *glyph);
        }
    }
    font
}

/// The block elements (U+2580 to U+259F): eighths of a cell, and quarters.
fn block(character: char) -> Option<Glyph> {
    /// Which quarters U+2596 to U+259F fill: upper left 8, upper right 4, lower left 2, lower right 1.
    const QUARTERS: [u8; 10] = [2, 1, 8, 0b1011, 0b1001, 0b1110, 0b1101, 4, 0b0110, 0b0111];
    let number = u32::from(character).checked_sub(0x2580)?;
    let eighth = HEIGHT / 8;
    let mut glyph = Glyph::default();
    let filled = match number {
        0 => Some((0, HEIGHT / 2, 0xff)),
        1..=8 => Some((HEIGHT - number as usize * eighth, HEIGHT, 0xff)),
        9..=15 => Some((0, HEIGHT, 0xff << (number - 8))),
        16 => Some((0, HEIGHT, 0x0f)),
        20 => Some((0, eighth, 0xff)),
        21 => Some((0, HEIGHT, 0x01)),
        _ => None,
    };
    if let Some((from, to, line)) = filled {
        glyph.get_mut(from..to)?.fill(line as u8);
        return Some(glyph);
    }
    if let 17..=19 = number {
        // A quarter, a half, three quarters of the pixels.
        let pattern: [u8; 2] = [[0x88, 0x22], [0xaa, 0x55], [0x77, 0xdd]][number as usize - 17];
        for (at, line) in glyph.iter_mut().enumerate() {
            *line = pattern[at % 2];
        }
        return Some(glyph);
    }
    let quarters = *QUARTERS.get(number.checked_sub(22)? as usize)?;
    let line = |left: u8, right: u8| {
        let left = if quarters & left == 0 { 0 } else { 0xf0 };
        left | if quarters & right == 0 { 0 } else { 0x0f }
    };
    for (at, row) in glyph.iter_mut().enumerate() {
        *row = if at < HEIGHT / 2 { line(8, 4) } else { line(2, 1) };
    }
    Some(glyph)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A glyph as text, for people.
    fn picture(character: char) -> Vec<String> {
        glyph(character)
            .iter()
            .map(|line| format!("{line:08b}").replace('0', ".").replace('1', "#"))
            .collect()
    }

    #[test]
    fn the_font_covers_what_consoles_show() {
        let ranges = ['!'..='~', '\u{a1}'..='\u{ff}', '\u{2500}'..='\u{259f}', 'А'..='я'];
        for character in ranges.into_iter().flatten() {
            assert_ne!(glyph(character), MISSING, "{character:?}");
        }
        for character in "€–‘’“”•…→←↑↓◆π≤≥".chars() {
            assert_ne!(glyph(character), MISSING, "{character:?}");
        }
        assert_eq!(glyph('漢'), MISSING);
        assert_eq!(glyph(' '), Glyph::default());
        assert!(FONT.len() > 600, "{}", FONT.len());
    }

    #[test]
    fn lines_meet_at_the_cells_borders() {
        assert!(glyph('│').iter().all(|line| *line == glyph('│')[0] && *line != 0));
        assert_eq!(glyph('─').iter().filter(|line| **line == 0xff).count(), 1);
        assert_eq!(glyph('█'), [0xff; HEIGHT]);
    }

    #[test]
    fn blocks_fill_their_part() {
        assert_eq!(glyph('▄')[7..9], [0, 0xff]);
        assert_eq!(glyph('▂')[11..13], [0, 0xff]);
        assert_eq!(glyph('▌')[3], 0xf0);
        assert_eq!(glyph('▎')[3], 0xc0);
        assert_eq!((glyph('▚')[0], glyph('▚')[15]), (0xf0, 0x0f));
        assert_eq!((glyph('▟')[0], glyph('▟')[15]), (0x0f, 0xff));
    }

    #[test]
    fn letters_look_like_themselves() {
        let expected =
            "........ ........ ######## ...##... ...##... ...##... ...##... ...##... ...##... ...##... ...##...";
        assert_eq!(picture('T')[0..11].join(" "), expected);
    }
}
