//! The colours of a terminal: xterm's sixteen, its cube and its greys.

use alacritty_terminal::term::color::Colors;
use alacritty_terminal::vte::ansi::{Color, NamedColor, Rgb};

use super::image::Colour;

/// Text without a colour, and what is behind it.
pub(super) const FOREGROUND: Colour = 0x00e5_e5e5;
pub(super) const BACKGROUND: Colour = 0;
/// Bold text without a colour.
const BRIGHT: Colour = 0x00ff_ffff;

/// Black, red, green, yellow, blue, magenta, cyan, white, and the same brighter.
const NAMED: [Colour; 16] = [
    0x0000_0000,
    0x00cd_0000,
    0x0000_cd00,
    0x00cd_cd00,
    0x0000_00ee,
    0x00cd_00cd,
    0x0000_cdcd,
    0x00e5_e5e5,
    0x007f_7f7f,
    0x00ff_0000,
    0x0000_ff00,
    0x00ff_ff00,
    0x005c_5cff,
    0x00ff_00ff,
    0x0000_ffff,
    0x00ff_ffff,
];

/// The colour of text; bold text has the brighter one of the eight.
pub(super) fn foreground(colour: Color, changed: &Colors, is_bold: bool) -> Colour {
    let colour = match colour {
        Color::Named(named) if is_bold => Color::Named(named.to_bright()),
        Color::Indexed(index @ 0..8) if is_bold => Color::Indexed(index + 8),
        other => other,
    };
    resolve(colour, changed)
}

/// The colour behind text.
pub(super) fn background(colour: Color, changed: &Colors) -> Colour {
    resolve(colour, changed)
}

/// Two thirds of a colour.
pub(super) fn dimmed(colour: Colour) -> Colour {
    let part = |at: u32| ((colour >> at & 0xff) * 2 / 3) << at;
    part(16) | part(8) | part(0)
}

/// One of the emulator's numbered colours, as it is before a program changes it.
pub(super) fn by_index(index: usize) -> Rgb {
    let [_, r, g, b] = standard(index).to_be_bytes();
    Rgb { r, g, b }
}

fn resolve(colour: Color, changed: &Colors) -> Colour {
    let index = match colour {
        Color::Spec(rgb) => return from_rgb(rgb),
        Color::Indexed(index) => usize::from(index),
        Color::Named(named) => named as usize,
    };
    changed[index].map_or_else(|| standard(index), from_rgb)
}

fn from_rgb(Rgb { r, g, b }: Rgb) -> Colour {
    u32::from_be_bytes([0, r, g, b])
}

/// xterm's 256 colours, then the emulator's own names.
fn standard(index: usize) -> Colour {
    const DIM_BLACK: usize = NamedColor::DimBlack as usize;
    const DIM_WHITE: usize = NamedColor::DimWhite as usize;
    match index {
        0..16 => NAMED.get(index).copied().unwrap_or(FOREGROUND),
        16..232 => {
            let level = |part: usize| if part == 0 { 0 } else { part as u32 * 40 + 55 };
            let cube = index - 16;
            level(cube / 36) << 16 | level(cube / 6 % 6) << 8 | level(cube % 6)
        }
        232..256 => (index as u32 - 232) * 0x000a_0a0a + 0x0008_0808,
        DIM_BLACK..=DIM_WHITE => NAMED.get(index - DIM_BLACK).copied().map_or(FOREGROUND, dimmed),
        other if other == NamedColor::Background as usize => BACKGROUND,
        other if other == NamedColor::BrightForeground as usize => BRIGHT,
        other if other == NamedColor::DimForeground as usize => dimmed(FOREGROUND),
        _ => FOREGROUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_xterms_colours() {
        for (index, expected) in [
            (1, 0x00cd_0000),
            (16, 0),
            (21, 0x0000_00ff),
            (196, 0x00ff_0000),
            (231, 0x00ff_ffff),
            (232, 0x0008_0808),
            (255, 0x00ee_eeee),
            (256, FOREGROUND),
            (257, BACKGROUND),
        ] {
            assert_eq!(standard(index), expected, "{index}");
        }
    }

    #[test]
    fn bold_is_brighter() {
        let plain = Colors::default();
        let red = Color::Named(NamedColor::Red);
        assert_eq!(foreground(red, &plain, true), 0x00ff_0000);
        assert_eq!(foreground(red, &plain, false), 0x00cd_0000);
        let white = Color::Named(NamedColor::Foreground);
        assert_eq!(foreground(white, &plain, true), BRIGHT);
        assert_eq!(
            foreground(Color::Spec(Rgb { r: 1, g: 2, b: 3 }), &plain, true),
            0x0001_0203
        );
    }
}
