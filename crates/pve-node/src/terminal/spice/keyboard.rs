//! A PC's keyboard: codes of its first set become X11's keys.

use xkeysym::key;

use super::layout::Layout;

/// Begins the codes of keys that old keyboards did not have.
const EXTENDED: u8 = 0xe0;
/// A key that goes up has its code with this bit.
const UP: u8 = 0x80;
/// Lock keys, as the protocol numbers them.
const SCROLL_LOCK: u16 = 1;
const NUM_LOCK: u16 = 2;
const CAPS_LOCK: u16 = 4;

/// What the keypad's keys from 0x47 are, without and with the number lock.
const KEYPAD: [(u32, u32); 13] = [
    (key::KP_Home, key::KP_7),
    (key::KP_Up, key::KP_8),
    (key::KP_Page_Up, key::KP_9),
    (key::KP_Subtract, key::KP_Subtract),
    (key::KP_Left, key::KP_4),
    (key::KP_Begin, key::KP_5),
    (key::KP_Right, key::KP_6),
    (key::KP_Add, key::KP_Add),
    (key::KP_End, key::KP_1),
    (key::KP_Down, key::KP_2),
    (key::KP_Page_Down, key::KP_3),
    (key::KP_Insert, key::KP_0),
    (key::KP_Delete, key::KP_Decimal),
];

/// A keyboard, and what it has down.
#[derive(Debug)]
pub(super) struct Keyboard {
    layout: Layout,
    shifts: [bool; 2],
    alt_gr: bool,
    locks: u16,
    /// The lock key that is down: one that is held repeats, and locks once.
    held: Option<u16>,
}

impl Keyboard {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            shifts: [false; 2],
            alt_gr: false,
            locks: 0,
            held: None,
        }
    }

    /// Which locks are on.
    pub(super) fn locks(&self) -> u16 {
        self.locks
    }

    /// Takes the locks as the user's own keyboard has them.
    pub(super) fn set_locks(&mut self, locks: u16) {
        self.locks = locks & (SCROLL_LOCK | NUM_LOCK | CAPS_LOCK);
    }

    /// Takes a code; X11's key, and whether it went down.
    pub(super) fn key(&mut self, code: [u8; 4]) -> Option<(u32, bool)> {
        let (byte, is_extended) = match code {
            [EXTENDED, byte, ..] => (byte, true),
            [byte, ..] => (byte, false),
        };
        let (number, is_down) = (byte & !UP, byte & UP == 0);
        self.note(number, is_extended, is_down);
        let keysym = if is_extended {
            self.extended(number)?
        } else {
            self.plain(number)?
        };
        Some((keysym, is_down))
    }

    /// Keeps which of the keys are down that change others.
    fn note(&mut self, number: u8, is_extended: bool, is_down: bool) {
        match (number, is_extended) {
            (0x2a, false) => self.shifts[0] = is_down,
            (0x36, false) => self.shifts[1] = is_down,
            (0x38, true) => self.alt_gr = is_down && self.layout.has_alt_gr(),
            (0x3a, false) => self.lock(CAPS_LOCK, is_down),
            (0x45, false) => self.lock(NUM_LOCK, is_down),
            (0x46, false) => self.lock(SCROLL_LOCK, is_down),
            _ => {}
        }
    }

    fn lock(&mut self, lock: u16, is_down: bool) {
        if is_down && self.held != Some(lock) {
            self.locks ^= lock;
        }
        self.held = is_down.then_some(lock);
    }

    fn plain(&self, number: u8) -> Option<u32> {
        let keysym = match number {
            0x01 => key::Escape,
            0x0e => key::BackSpace,
            0x0f => key::Tab,
            0x1c => key::Return,
            0x1d => key::Control_L,
            0x2a => key::Shift_L,
            0x36 => key::Shift_R,
            0x37 => key::KP_Multiply,
            0x38 => key::Alt_L,
            0x3a => key::Caps_Lock,
            0x3b..=0x44 => key::F1 + u32::from(number - 0x3b),
            0x45 => key::Num_Lock,
            0x46 => key::Scroll_Lock,
            0x47..=0x53 => {
                let (plain, locked) = *KEYPAD.get(usize::from(number - 0x47))?;
                if self.locks & NUM_LOCK == 0 { plain } else { locked }
            }
            0x57 => key::F11,
            0x58 => key::F12,
            _ => {
                let [left, right] = self.shifts;
                let caps = self.locks & CAPS_LOCK != 0;
                return self.layout.keysym(number, left || right, self.alt_gr, caps);
            }
        };
        Some(keysym)
    }

    fn extended(&self, number: u8) -> Option<u32> {
        Some(match number {
            0x1c => key::KP_Enter,
            0x1d => key::Control_R,
            0x35 => key::KP_Divide,
            0x38 if self.layout.has_alt_gr() => key::ISO_Level3_Shift,
            0x38 => key::Alt_R,
            0x47 => key::Home,
            0x48 => key::Up,
            0x49 => key::Page_Up,
            0x4b => key::Left,
            0x4d => key::Right,
            0x4f => key::End,
            0x50 => key::Down,
            0x51 => key::Page_Down,
            0x52 => key::Insert,
            0x53 => key::Delete,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keyboard: &mut Keyboard, codes: &[u8]) -> Vec<u32> {
        let mut extended = false;
        let mut read = Vec::new();
        for byte in codes {
            if *byte == EXTENDED {
                extended = true;
                continue;
            }
            let code = if extended {
                [EXTENDED, *byte, 0, 0]
            } else {
                [*byte, 0, 0, 0]
            };
            extended = false;
            let down = keyboard.key(code).filter(|(_, is_down)| *is_down);
            read.extend(down.map(|(keysym, _)| keysym));
        }
        read
    }

    #[test]
    fn codes_become_keys() {
        let letter = |letter: char| u32::from(letter);
        for (codes, expected) in [
            (&[0x1e, 0x9e][..], vec![letter('a')]),
            (
                &[0x2a, 0x1e, 0x9e, 0xaa, 0x1e],
                vec![key::Shift_L, letter('A'), letter('a')],
            ),
            (&[0x36, 0x03], vec![key::Shift_R, letter('@')]),
            (
                &[0x3a, 0x3a, 0xba, 0x1e, 0x03, 0x3a, 0x1e],
                vec![
                    key::Caps_Lock,
                    key::Caps_Lock,
                    letter('A'),
                    letter('2'),
                    key::Caps_Lock,
                    letter('a'),
                ],
            ),
            (&[0x47, 0x45, 0xc5, 0x47], vec![key::KP_Home, key::Num_Lock, key::KP_7]),
            (&[0xe0, 0x48, 0xe0, 0xc8, 0x48], vec![key::Up, key::KP_Up]),
            (
                &[0x3b, 0x44, 0x58, 0x1c, 0xe0, 0x1c],
                vec![key::F1, key::F10, key::F12, key::Return, key::KP_Enter],
            ),
            (&[0xe0, 0x38, 0x1e], vec![key::Alt_R, letter('a')]),
            // What some keyboards send around others, and codes of no key.
            (&[0xe0, 0x2a, 0xe0, 0x52, 0x00, 0x7f, 0xe0, 0x00], vec![key::Insert]),
        ] {
            let mut keyboard = Keyboard::new(Layout::american());
            assert_eq!(keys(&mut keyboard, codes), expected, "{codes:x?}");
        }
    }

    #[test]
    fn locks_are_the_users_own() {
        let mut keyboard = Keyboard::new(Layout::american());
        keyboard.set_locks(0xffff);
        assert_eq!(keyboard.locks(), 7);
        assert_eq!(keys(&mut keyboard, &[0x1e]), [u32::from('A')]);
        keyboard.set_locks(0);
        assert_eq!(keys(&mut keyboard, &[0x1e]), [u32::from('a')]);
    }

    #[test]
    fn no_code_breaks_anything() {
        let mut keyboard = Keyboard::new(Layout::american());
        for first in 0..=u8::MAX {
            for second in [0, 1, 0x38, 0x80, 0xff] {
                let _ = keyboard.key([first, second, 0xff, 0]);
            }
        }
    }
}
