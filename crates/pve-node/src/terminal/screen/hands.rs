//! What the user of a screen does with keyboard and mouse.

use alacritty_terminal::grid::Scroll;
use alacritty_terminal::term::TermMode;
use xkeysym::key;

use super::Screen;
use super::keys::{self, Modifiers};
use super::pointer::{Outcome, Pointer};

/// What comes of the mouse.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::terminal) struct Moved {
    /// Bytes for the program.
    pub(in crate::terminal) typed: Vec<u8>,
    /// Text that was marked, for the user's clipboard.
    pub(in crate::terminal) copied: Option<String>,
}

/// Keys that are down, the mouse, and a clipboard.
#[derive(Debug, Default)]
pub(in crate::terminal) struct Hands {
    /// What is typed when the user asks for it: Shift-Insert, the middle button.
    pub(in crate::terminal) clipboard: String,
    modifiers: Modifiers,
    pointer: Pointer,
}

impl Hands {
    /// Takes a key, as X11 numbers it; the bytes for the program.
    pub(in crate::terminal) fn key(&mut self, keysym: u32, is_down: bool, screen: &mut Screen) -> Vec<u8> {
        if self.modifiers.note(keysym, is_down) || !is_down {
            return Vec::new();
        }
        let is_full = screen.mode().contains(TermMode::ALT_SCREEN);
        let is_shifted = self.modifiers.shift;
        match keysym {
            key::Page_Up | key::KP_Page_Up if is_shifted && !is_full => screen.scroll(Scroll::PageUp),
            key::Page_Down | key::KP_Page_Down if is_shifted && !is_full => screen.scroll(Scroll::PageDown),
            key::Insert | key::KP_Insert if is_shifted => return self.paste(screen),
            _ => {
                let bytes = keys::typed(keysym, self.modifiers, screen.mode());
                if !bytes.is_empty() {
                    screen.scroll(Scroll::Bottom);
                }
                return bytes;
            }
        }
        Vec::new()
    }

    /// Takes the mouse: where it is, and the buttons that are down (left 1, middle 2, right 4, wheel 8 and 16).
    pub(in crate::terminal) fn mouse(&mut self, buttons: u8, at: (u16, u16), screen: &mut Screen) -> Moved {
        match self.pointer.moved(buttons, at, screen) {
            Outcome::Nothing => Moved::default(),
            Outcome::Typed(typed) => Moved { typed, copied: None },
            Outcome::Paste => Moved {
                typed: self.paste(screen),
                copied: None,
            },
            Outcome::Copied(text) => Moved {
                typed: Vec::new(),
                copied: Some(text),
            },
        }
    }

    fn paste(&self, screen: &Screen) -> Vec<u8> {
        keys::pasted(&self.clipboard, screen.mode())
    }
}
