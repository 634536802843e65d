//! A terminal as a VNC display (RFB 3.8, RFC 6143): what noVNC and other viewers speak.
//!
//! ```text
//!  keys, mouse, clipboard ──▶ viewer ──bytes──▶ pty of a shell, or a guest's serial port
//!              pictures  ◀── encode ◀── screen ◀──bytes──┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `security` | versions and VNC authentication; "none" is never offered |
//! | `messages` | what a client says |
//! | `viewer` | one client: the loop, its wishes, pictures for it |
//! | `screen`, `colours`, `font` | the emulated terminal (crate `alacritty_terminal`) and how it looks |
//! | `pixels`, `encode` | pixels as the client wants them: Raw, Hextile, ZRLE |
//! | `keys`, `pointer` | X11's keys and the mouse, as a terminal has them |
//!
//! Not here: TLS, and so viewers that connect without a websocket; which emulator and font, and why: decision 0015.

mod colours;
mod encode;
mod font;
mod keys;
mod messages;
mod pixels;
mod pointer;
mod screen;
mod security;
mod viewer;

use std::fmt;
use std::ops::RangeInclusive;

use pve_schema::Context;
use pve_task::Worker;
use serde::{Deserialize, Serialize};

use self::screen::Screen;
use self::viewer::Viewer;
use super::Size;
use super::session::{self, Backend, Pass, TerminalError, Watch};

pub use self::messages::NoRfb;

/// The widths and heights in pixels that a screen may have (reference 09 §19.2).
const SIDES: (RangeInclusive<u16>, RangeInclusive<u16>) = (16..=4096, 16..=2160);
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

/// Waits for the client, lets it in if it knows the password and its pass is good still, opens what is behind the
/// terminal, and shows it until either side ends.
///
/// # Errors
/// [`TerminalError`]; that the client goes away is none.
pub fn serve<B: Backend>(
    context: &Context,
    display: &Display,
    watch: &mut dyn Watch,
    open: impl FnOnce() -> Result<B, TerminalError>,
) -> Result<(), TerminalError> {
    let mut client = session::await_client(context, &display.pass, watch)?;
    client.set_nodelay(true)?;
    security::let_in(&mut client, &display.password, || {
        session::check(context, &display.pass)
    })?;
    let screen = Screen::new(display.size());
    security::greet(&mut client, screen.pixels(), &display.name)?;
    let mut backend = open()?;
    client.set_nonblocking(true)?;
    session::forgive(Viewer::new(screen).run(&mut client, &mut backend, watch))
}

/// Does the whole work of a task that serves a display. What goes wrong is logged and does not make the task fail: a
/// viewer that never came is none of an administrator's troubles (reference 09 §19.2).
pub fn run_task<B: Backend>(worker: &mut Worker, display: &Display, open: impl FnOnce() -> Result<B, TerminalError>) {
    log::info!("starting vnc proxy {}", worker.upid);
    let context = worker.context.clone();
    if let Err(error) = serve(&context, display, worker, open) {
        log::warn!("{error}");
        worker.log(error.to_string());
    }
}

/// A conversation without sockets, for fuzzers: a client says, and programs print, by turns. What the client would be
/// sent after each turn; it begins with a screen of `first`, and there are no pictures of one that is larger.
///
/// # Errors
/// [`NoRfb`]: the client does not speak the protocol.
pub fn rehearse<'a>(first: Size, turns: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Vec<Vec<u8>>, NoRfb> {
    let cells = |size: Size| usize::from(size.columns) * usize::from(size.rows);
    let mut now = first;
    let (mut viewer, mut decoder) = (Viewer::new(Screen::new(first)), messages::Decoder::default());
    let mut sent = Vec::new();
    for (said, printed) in turns {
        for message in decoder.feed(said)? {
            viewer.hear(message, &mut |size| now = size);
        }
        viewer.show(printed);
        sent.push(if cells(now) <= cells(first) {
            viewer.picture()
        } else {
            Vec::new()
        });
    }
    Ok(sent)
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
