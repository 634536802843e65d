//! A terminal as pictures, whatever the protocol that carries them: the emulated terminal, its looks, and what a keyboard
//! and a mouse mean to it.
//!
//! | module | holds |
//! |---|---|
//! | `emulator` | the emulated terminal (crate `alacritty_terminal`), and what of it changed |
//! | `colours`, `font`, `image` | how it looks: pixels |
//! | `hands`, `keys`, `pointer` | X11's keys and the mouse, as a terminal has them |
//!
//! Which emulator and font, and why: decision 0015.

mod colours;
mod emulator;
pub(in crate::terminal) mod font;
mod hands;
mod image;
mod keys;
mod pointer;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Size;
use super::session::Pass;
use super::sides::{BUFFER, read_some};

pub(in crate::terminal) use self::emulator::Screen;
pub(in crate::terminal) use self::hands::Hands;
pub(in crate::terminal) use self::image::{Colour, Image};

/// Between two pictures: forty a second are more than anybody reads.
const PAUSE: Duration = Duration::from_millis(25);
/// Of a screen for which nobody names a size, in pixels: 80 by 25 characters.
pub const DEFAULT_SIDES: (u16, u16) = (640, 400);

/// What a screen of that many pixels has room for.
pub fn size_of(width: u16, height: u16) -> Size {
    Size {
        columns: (width / font::WIDTH as u16).max(2),
        rows: (height / font::HEIGHT as u16).max(1),
    }
}

/// Who may look at a terminal, and how it is shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct Display {
    /// Who may come.
    pub pass: Pass,
    /// What the client's password is. It travels by pipe, and is neither logged nor shown.
    pub password: String,
    /// The screen's size in pixels.
    pub width: u16,
    /// As above.
    pub height: u16,
    /// What the viewer's window is called.
    pub name: String,
}

impl fmt::Debug for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Display")
            .field("pass", &self.pass)
            .field("width", &self.width)
            .field("height", &self.height)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Display {
    /// What it has room for at first.
    pub fn size(&self) -> Size {
        size_of(self.width, self.height)
    }
}

/// What a program printed, which is nothing if there is nothing now; `None` once there will be no more.
pub(in crate::terminal) fn printed(backend: &mut impl io::Read) -> Option<Vec<u8>> {
    match read_some(backend) {
        Ok(Some(bytes)) if bytes.is_empty() => None,
        Ok(bytes) => Some(bytes.unwrap_or_default()),
        // How Linux says that no program has the terminal any more.
        Err(_) => None,
    }
}

/// Shows what a program printed; what the screen answers is `typed`.
pub(in crate::terminal) fn show(bytes: &[u8], screen: &mut Screen, typed: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    screen.print(bytes);
    let answers = screen.answers();
    if typed.len() < BUFFER {
        typed.extend(answers);
    }
}

/// When pictures were made.
#[derive(Debug, Default)]
pub(in crate::terminal) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// Whether it is too early for another.
    pub(in crate::terminal) fn is_early(&self) -> bool {
        self.last.is_some_and(|last| last.elapsed() < PAUSE)
    }

    /// One was made now.
    pub(in crate::terminal) fn made(&mut self) {
        self.last = Some(Instant::now());
    }

    /// How long until the next may be made; `None` if none was yet.
    pub(in crate::terminal) fn wait(&self) -> Option<Duration> {
        // Rounded up: poll counts in milliseconds.
        let left = |last: Instant| PAUSE.saturating_sub(last.elapsed());
        Some(left(self.last?).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_has_whole_characters() {
        for (width, height, columns, rows) in [
            (640, 400, 80, 25),
            (1003, 777, 125, 48),
            (16, 16, 2, 1),
            (4096, 2160, 512, 135),
        ] {
            assert_eq!(size_of(width, height), Size { columns, rows });
        }
    }
}
