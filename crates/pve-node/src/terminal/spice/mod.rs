//! A terminal as a SPICE display: what remote-viewer speaks. No virtual machine is behind it.
//!
//! ```text
//!                ┌ main ────┐
//!  remote-viewer ┤ inputs ──┤─TLS─▶ server ──bytes──▶ pty of a shell
//!                └ display ─┘◀─ draw ─ screen ◀──bytes──┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`link`] | how each channel begins: its kind, and the password |
//! | [`messages`] | what a client says then |
//! | `input` | numbers out of a client's bytes |
//! | `key` | what the password is sent under |
//! | `channel` | one channel: TLS, and what waits to be sent |
//! | `server` | one session: its channels, the screen, the shell |
//! | `draw` | what the server says |
//! | `keyboard`, `layout` | a PC's key codes, and what the keys bear |
//!
//! Not here: the emulated terminal, and what keys and the mouse mean to it ([`super::screen`]); sound, cursors, agents
//! (and so the user's clipboard, and another size), migration, connections without TLS.
//! Why a server of our own, and what of it is whose: decision 0017.

mod channel;
mod draw;
mod input;
mod key;
mod keyboard;
mod layout;
pub mod link;
pub mod messages;
mod server;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use pve_cfs::Cfs;
use pve_schema::Context;
use pve_task::Worker;

use self::key::SessionKey;
use self::keyboard::Keyboard;
use self::layout::Layout;
use self::server::Server;
use super::screen::Display;
use super::session::{self, Backend, TerminalError, Watch};

pub use self::messages::NoSpice;

/// The channels that a terminal needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The session itself.
    Main = 1,
    /// Pictures.
    Display = 2,
    /// Keys and the mouse.
    Inputs = 3,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 3] = [Self::Main, Self::Display, Self::Inputs];

    /// The one with a number.
    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Waits for the client, lets its channels in if it knows the password and its pass is good still, opens what is behind
/// the terminal, and shows it until either side ends. `layout` names that of the client's keyboard.
///
/// # Errors
/// [`TerminalError`]; that the client goes away is none.
pub fn serve<B: Backend>(
    context: &Context,
    display: &Display,
    layout: Option<&str>,
    watch: &mut dyn Watch,
    open: impl FnOnce() -> Result<B, TerminalError>,
) -> Result<(), TerminalError> {
    let failed = |error: &dyn std::fmt::Display| TerminalError::Spice(error.to_string());
    let tls = tls(context)?;
    let key = SessionKey::generate().map_err(|error| failed(&error))?;
    let keyboard = Keyboard::new(Layout::named(layout));
    let listener = session::listen(context, &display.pass)?;
    let check = || session::check(context, &display.pass);
    let mut server = Server::new(listener, tls, key, display, keyboard)?;
    server.run(watch, &check, open)
}

/// The node's certificate, which the viewer's file names.
fn tls(context: &Context) -> Result<SslAcceptor, TerminalError> {
    let failed = |error: String| TerminalError::Spice(format!("no certificate - {error}"));
    let cfs = Cfs::new(context);
    let read = |name: &str| {
        let path = format!("nodes/{}/{name}", context.site.node);
        let bytes = cfs.read(&path).map_err(|error| failed(error.to_string()))?;
        bytes.ok_or_else(|| failed(format!("/etc/pve/{path} is missing")))
    };
    let (certificate, key) = (read("pve-ssl.pem")?, read("pve-ssl.key")?);
    acceptor(certificate.as_ref(), key.as_ref()).map_err(|error| failed(error.to_string()))
}

fn acceptor(certificate: &[u8], key: &[u8]) -> Result<SslAcceptor, ErrorStack> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    let mut chain = X509::stack_from_pem(certificate)?.into_iter();
    if let Some(own) = chain.next() {
        acceptor.set_certificate(&own)?;
    }
    for authority in chain {
        acceptor.add_extra_chain_cert(authority)?;
    }
    acceptor.set_private_key(PKey::private_key_from_pem(key)?.as_ref())?;
    acceptor.check_private_key()?;
    Ok(acceptor.build())
}

/// Does the whole work of a task that serves a display, as [`super::rfb::run_task`] does.
pub fn run_task<B: Backend>(
    worker: &mut Worker,
    display: &Display,
    layout: Option<&str>,
    open: impl FnOnce() -> Result<B, TerminalError>,
) {
    log::info!("starting spiceterm {} - {}", worker.upid, display.name);
    let context = worker.context.clone();
    session::tell(serve(&context, display, layout, worker, open), worker);
}
