//! The mouse: for programs that want it, to mark text for the client's clipboard, to paste, and to look back.

use alacritty_terminal::grid::Scroll;
use alacritty_terminal::term::TermMode;

use super::Screen;

/// Buttons in a pointer message.
const LEFT: u8 = 1;
const MIDDLE: u8 = 2;
const WHEEL_UP: u8 = 8;
const WHEEL_DOWN: u8 = 16;
/// Lines that a notch of the wheel moves.
const NOTCH: i32 = 3;

/// What comes of a mouse's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing besides what the screen shows.
    Nothing,
    /// That is typed.
    Typed(Vec<u8>),
    /// The client's clipboard is typed.
    Paste,
    /// That is for the client's clipboard.
    Copied(String),
}

/// Which buttons were down, and where.
#[derive(Debug, Default)]
pub(super) struct Pointer {
    buttons: u8,
    cell: (usize, usize),
}

impl Pointer {
    /// Takes a message.
    pub(super) fn moved(&mut self, buttons: u8, at: (u16, u16), screen: &mut Screen) -> Outcome {
        let (x, y) = (usize::from(at.0), usize::from(at.1));
        let before = std::mem::replace(&mut self.buttons, buttons);
        let cell = screen.cell(x, y);
        let is_elsewhere = std::mem::replace(&mut self.cell, cell) != cell;
        let mode = screen.mode();
        if mode.intersects(TermMode::MOUSE_MODE) {
            let reports = reports(before, buttons, cell, is_elsewhere, mode);
            return if reports.is_empty() {
                Outcome::Nothing
            } else {
                Outcome::Typed(reports)
            };
        }
        let went_down = buttons & !before;
        if went_down & LEFT != 0 {
            screen.mark_from(x, y);
        } else if buttons & LEFT != 0 {
            screen.mark_to(x, y);
        } else if before & LEFT != 0 {
            return screen.marked().map_or(Outcome::Nothing, Outcome::Copied);
        }
        if went_down & MIDDLE != 0 {
            return Outcome::Paste;
        }
        match went_down & (WHEEL_UP | WHEEL_DOWN) {
            WHEEL_UP => wheel(NOTCH, mode, screen),
            WHEEL_DOWN => wheel(-NOTCH, mode, screen),
            _ => Outcome::Nothing,
        }
    }
}

/// The wheel looks back in history; a program that fills the screen gets cursor keys.
fn wheel(lines: i32, mode: TermMode, screen: &mut Screen) -> Outcome {
    if !mode.contains(TermMode::ALT_SCREEN | TermMode::ALTERNATE_SCROLL) {
        screen.scroll(Scroll::Delta(lines));
        return Outcome::Nothing;
    }
    let key = match (lines > 0, mode.contains(TermMode::APP_CURSOR)) {
        (true, true) => "\x1bOA",
        (true, false) => "\x1b[A",
        (false, true) => "\x1bOB",
        (false, false) => "\x1b[B",
    };
    Outcome::Typed(key.repeat(lines.unsigned_abs() as usize).into_bytes())
}

/// xterm's reports of what changed.
fn reports(before: u8, now: u8, cell: (usize, usize), is_elsewhere: bool, mode: TermMode) -> Vec<u8> {
    // Left, middle, right, and the wheel, which only goes down.
    const CODES: [u8; 5] = [0, 1, 2, 64, 65];
    let mut out = Vec::new();
    for (bit, code) in CODES.into_iter().enumerate() {
        let mask = 1 << bit;
        if (before ^ now) & mask != 0 && (code < 64 || now & mask != 0) {
            report(code, now & mask != 0, cell, mode, &mut out);
        }
    }
    let held = (0..3).find(|bit| now & (1 << bit) != 0);
    let is_wanted = mode.contains(TermMode::MOUSE_MOTION) || (mode.contains(TermMode::MOUSE_DRAG) && held.is_some());
    if is_elsewhere && is_wanted && before == now {
        // Motion is 32 more than the button that is held, or than 3 for none.
        report(32 + held.unwrap_or(3), true, cell, mode, &mut out);
    }
    out
}

fn report(code: u8, is_down: bool, (column, row): (usize, usize), mode: TermMode, out: &mut Vec<u8>) {
    if mode.contains(TermMode::SGR_MOUSE) {
        let end = if is_down { 'M' } else { 'm' };
        out.extend(format!("\x1b[<{code};{};{}{end}", column + 1, row + 1).bytes());
        return;
    }
    // The old form has a byte for each, and one code for any button that goes up.
    let place = |at: usize| u8::try_from(at + 33).unwrap_or(u8::MAX);
    let code = if is_down { code } else { 3 };
    out.extend([0x1b, b'[', b'M', code + 32, place(column), place(row)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Size;

    fn screen(text: &str) -> Screen {
        let mut screen = Screen::new(Size { columns: 20, rows: 5 });
        screen.print(text.as_bytes());
        screen
    }

    fn typed(text: &str) -> Outcome {
        Outcome::Typed(text.as_bytes().to_vec())
    }

    #[test]
    fn text_is_marked_and_copied() {
        let (mut pointer, mut screen) = (Pointer::default(), screen("hello world"));
        assert_eq!(pointer.moved(LEFT, (48, 5), &mut screen), Outcome::Nothing);
        assert_eq!(pointer.moved(LEFT, (87, 5), &mut screen), Outcome::Nothing);
        assert_eq!(
            pointer.moved(0, (87, 5), &mut screen),
            Outcome::Copied("world".to_owned())
        );
        assert_eq!(pointer.moved(0, (90, 50), &mut screen), Outcome::Nothing);
        assert_eq!(pointer.moved(MIDDLE, (90, 50), &mut screen), Outcome::Paste);
    }

    #[test]
    fn programs_get_the_mouse_when_they_ask() {
        let (mut pointer, mut new) = (Pointer::default(), screen("\x1b[?1002h\x1b[?1006h"));
        assert_eq!(pointer.moved(0, (9, 17), &mut new), Outcome::Nothing);
        assert_eq!(pointer.moved(LEFT, (9, 17), &mut new), typed("\x1b[<0;2;2M"));
        assert_eq!(pointer.moved(LEFT, (17, 17), &mut new), typed("\x1b[<32;3;2M"));
        assert_eq!(pointer.moved(0, (17, 17), &mut new), typed("\x1b[<0;3;2m"));
        assert_eq!(pointer.moved(WHEEL_UP, (0, 0), &mut new), typed("\x1b[<64;1;1M"));
        assert_eq!(pointer.moved(0, (0, 0), &mut new), Outcome::Nothing);
        let (mut pointer, mut old) = (Pointer::default(), screen("\x1b[?1000h"));
        assert_eq!(pointer.moved(4, (0xffff, 0), &mut old), typed("\x1b[M\x22\x34\x21"));
        assert_eq!(pointer.moved(0, (0, 0), &mut old), typed("\x1b[M\x23\x21\x21"));
    }

    #[test]
    fn the_wheel_moves_what_a_full_screen_program_shows() {
        let (mut pointer, mut screen) = (Pointer::default(), screen("\x1b[?1049h"));
        assert_eq!(
            pointer.moved(WHEEL_DOWN, (0, 0), &mut screen),
            typed("\x1b[B\x1b[B\x1b[B")
        );
    }
}
