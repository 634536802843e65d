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
//! | `pixels`, `encode` | pixels as the client wants them: Raw, Hextile, ZRLE |
//!
//! Not here: the emulated terminal, its looks, and what keys and the mouse mean to it ([`super::screen`], decision 0015);
//! TLS, and so viewers that connect without a websocket.

mod encode;
mod messages;
mod pixels;
mod security;
mod viewer;

use std::ops::RangeInclusive;

use pve_schema::Context;
use pve_task::Worker;

use self::viewer::Viewer;
use super::Size;
use super::screen::{Display, Screen};
use super::session::{self, Backend, TerminalError, Watch};

pub use self::messages::NoRfb;

/// The widths and heights in pixels that a screen may have (reference 09 §19.2).
const SIDES: (RangeInclusive<u16>, RangeInclusive<u16>) = (16..=4096, 16..=2160);

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

/// Does the whole work of a task that serves a display, which does not fail.
pub fn run_task<B: Backend>(worker: &mut Worker, display: &Display, open: impl FnOnce() -> Result<B, TerminalError>) {
    log::info!("starting vnc proxy {}", worker.upid);
    let context = worker.context.clone();
    session::tell(serve(&context, display, worker, open), worker);
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
