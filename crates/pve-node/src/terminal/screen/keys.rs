//! Keys: X11's keysyms become what a terminal sends (xterm's sequences).

use alacritty_terminal::term::TermMode;
use xkeysym::{Keysym, key};

/// The modifiers that are down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Modifiers {
    pub(super) shift: bool,
    pub(super) control: bool,
    pub(super) alt: bool,
}

impl Modifiers {
    /// Notes a modifier that went down or up; whether the key is one.
    pub(super) fn note(&mut self, keysym: u32, is_down: bool) -> bool {
        match keysym {
            key::Shift_L | key::Shift_R => self.shift = is_down,
            key::Control_L | key::Control_R => self.control = is_down,
            key::Alt_L | key::Alt_R | key::Meta_L | key::Meta_R => self.alt = is_down,
            _ => return Keysym::new(keysym).is_modifier_key() || keysym == key::ISO_Level3_Shift,
        }
        true
    }

    /// xterm's number for them.
    fn number(self) -> u8 {
        1 + u8::from(self.shift) + 2 * u8::from(self.alt) + 4 * u8::from(self.control)
    }
}

/// What a key sends; nothing for one that means nothing to a terminal.
pub(super) fn typed(keysym: u32, modifiers: Modifiers, mode: TermMode) -> Vec<u8> {
    if let Some(sequence) = editing(keysym, modifiers, mode) {
        return sequence;
    }
    let plain: Vec<u8> = match keysym {
        key::Return | key::KP_Enter => b"\r".to_vec(),
        key::Escape => b"\x1b".to_vec(),
        key::BackSpace if modifiers.control => b"\x08".to_vec(),
        key::BackSpace => b"\x7f".to_vec(),
        key::Tab | key::KP_Tab if modifiers.shift => b"\x1b[Z".to_vec(),
        key::Tab | key::KP_Tab => b"\t".to_vec(),
        key::ISO_Left_Tab => b"\x1b[Z".to_vec(),
        _ => match Keysym::new(keysym).key_char() {
            Some(character) if modifiers.control => control(character, modifiers),
            Some(character) => character.to_string().into_bytes(),
            None => return Vec::new(),
        },
    };
    if modifiers.alt && !is_alt_gr(keysym, modifiers) {
        return [b"\x1b".as_slice(), &plain].concat();
    }
    plain
}

/// Whether Control and Alt together are what makes another character of the key: AltGr, as Windows has it.
fn is_alt_gr(keysym: u32, modifiers: Modifiers) -> bool {
    let letter = Keysym::new(keysym)
        .key_char()
        .is_some_and(|c| c.is_ascii_alphanumeric() || c.is_control());
    modifiers.control && modifiers.alt && !letter
}

/// A character with the control key.
fn control(character: char, modifiers: Modifiers) -> Vec<u8> {
    let code = match character {
        _ if modifiers.alt && !character.is_ascii_alphanumeric() => None,
        ' ' | '2' | '@' => Some(0),
        'a'..='z' | 'A'..='Z' | '[' | '\\' | ']' | '^' | '_' => u8::try_from(character).ok().map(|c| c & 0x1f),
        '3'..='7' => u8::try_from(character).ok().map(|c| c - b'3' + 0x1b),
        '/' | '-' => Some(0x1f),
        '8' | '?' => Some(0x7f),
        _ => None,
    };
    code.map_or_else(|| character.to_string().into_bytes(), |code| vec![code])
}

/// Cursor, editing and function keys.
fn editing(keysym: u32, modifiers: Modifiers, mode: TermMode) -> Option<Vec<u8>> {
    let letter = |letter: char| {
        Some(match modifiers.number() {
            1 if mode.contains(TermMode::APP_CURSOR) => format!("\x1bO{letter}"),
            1 => format!("\x1b[{letter}"),
            number => format!("\x1b[1;{number}{letter}"),
        })
    };
    let first = |letter: char| {
        Some(match modifiers.number() {
            1 => format!("\x1bO{letter}"),
            number => format!("\x1b[1;{number}{letter}"),
        })
    };
    let number = |code: u8| {
        Some(match modifiers.number() {
            1 => format!("\x1b[{code}~"),
            number => format!("\x1b[{code};{number}~"),
        })
    };
    let sequence = match keysym {
        key::Up | key::KP_Up => letter('A'),
        key::Down | key::KP_Down => letter('B'),
        key::Right | key::KP_Right => letter('C'),
        key::Left | key::KP_Left => letter('D'),
        key::Begin | key::KP_Begin => letter('E'),
        key::End | key::KP_End => letter('F'),
        key::Home | key::KP_Home => letter('H'),
        key::Insert | key::KP_Insert => number(2),
        key::Delete | key::KP_Delete => number(3),
        key::Page_Up | key::KP_Page_Up => number(5),
        key::Page_Down | key::KP_Page_Down => number(6),
        key::F1 | key::KP_F1 => first('P'),
        key::F2 | key::KP_F2 => first('Q'),
        key::F3 | key::KP_F3 => first('R'),
        key::F4 | key::KP_F4 => first('S'),
        key::F5 => number(15),
        key::F6..=key::F10 => number(17 + u8::try_from(keysym - key::F6).ok()?),
        key::F11 => number(23),
        key::F12 => number(24),
        _ => None,
    };
    sequence.map(String::into_bytes)
}

/// A clipboard as keystrokes: no control characters but tabs and line ends, so that it types text and does nothing else.
pub(super) fn pasted(text: &str, mode: TermMode) -> Vec<u8> {
    let text = text.replace("\r\n", "\r").replace('\n', "\r");
    let text: String = text
        .chars()
        .filter(|c| matches!(c, '\t' | '\r') || !c.is_control())
        .collect();
    if mode.contains(TermMode::BRACKETED_PASTE) {
        format!("\x1b[200~{text}\x1b[201~").into_bytes()
    } else {
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Modifiers = Modifiers {
        shift: false,
        control: false,
        alt: false,
    };
    const SHIFT: Modifiers = Modifiers { shift: true, ..NONE };
    const CONTROL: Modifiers = Modifiers { control: true, ..NONE };
    const ALT: Modifiers = Modifiers { alt: true, ..NONE };
    const BOTH: Modifiers = Modifiers { alt: true, ..CONTROL };

    #[test]
    fn keys_send_what_xterm_sends() {
        for (keysym, modifiers, expected) in [
            (u32::from(b'a'), NONE, "a"),
            (u32::from(b'A'), SHIFT, "A"),
            (u32::from(b'c'), CONTROL, "\x03"),
            (u32::from(b'['), CONTROL, "\x1b"),
            (u32::from(b' '), CONTROL, "\0"),
            (u32::from(b'x'), ALT, "\x1bx"),
            (u32::from(b'x'), BOTH, "\x1b\x18"),
            (u32::from(b'@'), BOTH, "@"),
            (0xe4, NONE, "ä"),
            (key::EuroSign, NONE, "€"),
            (0x0100_20ac, NONE, "€"),
            (0x0101_f600, NONE, "\u{1f600}"),
            (key::Cyrillic_ya, NONE, "я"),
            (key::Return, NONE, "\r"),
            (key::KP_Enter, NONE, "\r"),
            (key::KP_7, NONE, "7"),
            (key::KP_Add, NONE, "+"),
            (key::BackSpace, NONE, "\x7f"),
            (key::Tab, SHIFT, "\x1b[Z"),
            (key::Escape, NONE, "\x1b"),
            (key::Up, NONE, "\x1b[A"),
            (key::Up, CONTROL, "\x1b[1;5A"),
            (key::Home, NONE, "\x1b[H"),
            (key::Delete, NONE, "\x1b[3~"),
            (key::Delete, SHIFT, "\x1b[3;2~"),
            (key::F1, NONE, "\x1bOP"),
            (key::F5, NONE, "\x1b[15~"),
            (key::F10, NONE, "\x1b[21~"),
            (key::F12, CONTROL, "\x1b[24;5~"),
            (key::Caps_Lock, NONE, ""),
            (key::Super_L, NONE, ""),
            (0xffff_ffff, NONE, ""),
        ] {
            let sent = typed(keysym, modifiers, TermMode::empty());
            assert_eq!(String::from_utf8(sent).unwrap(), expected, "{keysym:#x} {modifiers:?}");
        }
        assert_eq!(typed(key::Up, NONE, TermMode::APP_CURSOR), b"\x1bOA");
    }

    #[test]
    fn modifiers_are_kept_until_they_go_up() {
        let mut modifiers = NONE;
        assert!(modifiers.note(key::Control_R, true) && modifiers.note(key::ISO_Level3_Shift, true));
        assert_eq!(modifiers, CONTROL);
        assert!(!modifiers.note(u32::from(b'a'), true));
        assert!(modifiers.note(key::Control_R, false));
        assert_eq!(modifiers, NONE);
    }

    #[test]
    fn a_paste_types_text_and_nothing_else() {
        let text = "rm\x1b[A\x03\r\nä\tb\u{9b}";
        assert_eq!(pasted(text, TermMode::empty()), "rm[A\rä\tb".as_bytes());
        let bracketed = pasted("x\x1b[201~y", TermMode::BRACKETED_PASTE);
        assert_eq!(bracketed, b"\x1b[200~x[201~y\x1b[201~");
    }
}
