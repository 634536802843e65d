//! Keyboard layouts: which characters the keys of a PC's keyboard bear.
//!
//! The built-in one is the American. Others are read from the key maps that come with QEMU, by the names that
//! `datacenter.cfg` has for them: lines of `KEYSYM NUMBER [shift] [altgr] …`.

use std::collections::HashMap;
use std::sync::LazyLock;

use xkeysym::{Keysym, key};

/// Where QEMU has its key maps.
const MAPS: &str = "/usr/share/qemu/keymaps";
/// Most bytes of a key map; the largest has some thirty thousand.
const MAX_MAP: usize = 1 << 20;

/// The American layout: the number of a row's first key, and what its keys bear without and with Shift.
const AMERICAN: [(u8, &str, &str); 7] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", " "),
    (0x56, "<", ">"),
    (0x73, "/", "?"),
];

/// Keys that wait for the next one elsewhere; here they are the accent alone.
const DEAD: [(&str, u32); 6] = [
    ("dead_grave", key::grave),
    ("dead_acute", key::acute),
    ("dead_circumflex", key::asciicircum),
    ("dead_tilde", key::asciitilde),
    ("dead_diaeresis", key::diaeresis),
    ("dead_cedilla", key::cedilla),
];

/// X11's names of keys that are characters.
static NAMES: LazyLock<HashMap<&'static str, u32>> = LazyLock::new(|| {
    let known = (0x20..=0x20ff_u32)
        .map(Keysym::new)
        .filter(|keysym| keysym.key_char().is_some());
    let names = known.filter_map(|keysym| Some((keysym.name()?.trim_start_matches("XK_"), keysym.raw())));
    names.chain(DEAD).collect()
});

/// What a key bears: plain, with Shift, with AltGr, with both.
type Levels = [Option<u32>; 4];

/// A keyboard's layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    keys: HashMap<u8, Levels>,
}

impl Layout {
    pub(super) fn american() -> Self {
        let mut keys = HashMap::new();
        for (first, plain, shifted) in AMERICAN {
            for (number, (plain, shifted)) in (first..).zip(plain.chars().zip(shifted.chars())) {
                let levels = [Some(plain.into()), Some(shifted.into()), None, None];
                keys.insert(number, levels);
            }
        }
        Self { keys }
    }

    /// The one with a name; the American if there is none, or if it cannot be read.
    pub(super) fn named(name: Option<&str>) -> Self {
        let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let Some(name) = name.filter(is_name) else {
            return Self::american();
        };
        match std::fs::read(format!("{MAPS}/{name}")) {
            Ok(map) if map.len() <= MAX_MAP => Self::parse(&String::from_utf8_lossy(&map)),
            Ok(_) => Self::american(),
            Err(error) => {
                log::warn!("no layout '{name}' for the keyboard - {error}");
                Self::american()
            }
        }
    }

    /// Reads a key map; keys that it does not have bear what they do in America.
    fn parse(map: &str) -> Self {
        let mut layout = Self::american();
        let mut keys: HashMap<u8, Levels> = HashMap::new();
        for (number, level, keysym) in map.lines().filter_map(entry) {
            // Keys of the main block only: the others mean the same everywhere.
            if !layout.keys.contains_key(&number) && !(0x70..0x80).contains(&number) {
                continue;
            }
            if let Some(place) = keys.entry(number).or_default().get_mut(level) {
                place.get_or_insert(keysym);
            }
        }
        layout.keys.extend(keys);
        layout
    }

    /// What a key bears, for the modifiers that are down.
    pub(super) fn keysym(&self, number: u8, shift: bool, alt_gr: bool, caps: bool) -> Option<u32> {
        let levels = self.keys.get(&number)?;
        let level = |shift: bool| {
            let at = usize::from(shift) + 2 * usize::from(alt_gr);
            levels.get(at).copied().flatten()
        };
        let is_letter = |keysym: u32| Keysym::new(keysym).key_char().is_some_and(char::is_alphabetic);
        let shift = shift ^ (caps && level(false).is_some_and(is_letter));
        level(shift).or_else(|| level(!shift).filter(|_| alt_gr))
    }

    /// Whether AltGr makes characters in it.
    pub(super) fn has_alt_gr(&self) -> bool {
        self.keys
            .values()
            .any(|[_, _, third, fourth]| third.is_some() || fourth.is_some())
    }
}

/// A line's key, level and character.
fn entry(line: &str) -> Option<(u8, usize, u32)> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next().filter(|name| !name.starts_with('#'))?;
    let number = u8::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let mut level = 0;
    for word in words {
        match word {
            "shift" => level |= 1,
            "altgr" => level |= 2,
            // With other locks and keys it is something else.
            _ => return None,
        }
    }
    let keysym = match name
        .strip_prefix('U')
        .and_then(|code| u32::from_str_radix(code, 16).ok())
    {
        Some(code) => Keysym::from_char(char::from_u32(code)?).raw(),
        None => *NAMES.get(name)?,
    };
    Some((number, level, keysym))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: &str = "# generated by qemu-keymap\nmap 0x407\n\n1 0x02\nexclam 0x02 shift\nonesuperior 0x02 altgr\n\
        exclamdown 0x02 shift altgr\nz 0x15\nZ 0x15 shift\nq 0x10\nQ 0x10 shift\nat 0x10 altgr\n\
        dead_circumflex 0x29\nEuroSign 0x12 altgr\nU1E9E 0x0c shift altgr\nssharp 0x0c\nReturn 0x1c\n\
        KP_7 0x47 numlock\nbroken\n0 0xzz\nnosuchname 0x03\nodiaeresis 0x27\nOdiaeresis 0x27 shift\n";

    fn typed(layout: &Layout, number: u8, shift: bool, alt_gr: bool, caps: bool) -> Option<char> {
        Keysym::new(layout.keysym(number, shift, alt_gr, caps)?).key_char()
    }

    #[test]
    fn the_american_keyboard_is_built_in() {
        let layout = Layout::named(None);
        let rows = "1234567890-=qwertyuiop[]asdfghjkl;'`\\zxcvbnm,./";
        let numbers = (0x02..=0x0d).chain(0x10..=0x1b).chain(0x1e..=0x29).chain(0x2b..=0x35);
        let read: String = numbers
            .filter_map(|number| typed(&layout, number, false, false, false))
            .collect();
        assert_eq!(read, rows);
        assert_eq!(typed(&layout, 0x28, true, false, false), Some('"'));
        assert_eq!(typed(&layout, 0x1c, false, false, false), None);
        assert!(!layout.has_alt_gr());
    }

    #[test]
    fn key_maps_are_read_as_qemu_writes_them() {
        let layout = Layout::parse(GERMAN);
        assert!(layout.has_alt_gr());
        for (number, shift, alt_gr, caps, expected) in [
            (0x15, false, false, false, Some('z')),
            (0x15, true, false, true, Some('z')),
            (0x15, false, false, true, Some('Z')),
            (0x27, false, false, true, Some('Ö')),
            (0x02, false, false, true, Some('1')),
            (0x02, true, true, false, Some('¡')),
            (0x10, false, true, false, Some('@')),
            (0x12, false, true, false, Some('€')),
            (0x0c, true, true, false, Some('ẞ')),
            (0x29, false, false, false, Some('^')),
            // As in America, since the map has no word on it.
            (0x1e, false, false, false, Some('a')),
            (0x1c, false, false, false, None),
            (0x47, false, false, false, None),
        ] {
            let what = (number, shift, alt_gr, caps);
            assert_eq!(typed(&layout, number, shift, alt_gr, caps), expected, "{what:x?}");
        }
    }

    #[test]
    fn other_names_are_no_files() {
        for name in ["", "../../../etc/passwd", "DE", "no-such-layout"] {
            assert_eq!(Layout::named(Some(name)), Layout::american(), "{name}");
        }
    }
}
