//! One client of a terminal: its ticket, and then bytes both ways.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use pve_access::AccessControl;
use pve_schema::{Context, Failure};
use pve_sys::pty::Size;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::frames::{Decoder, Message};
use super::sides::{BUFFER, WAKE, interest, read_some, ready, write_some};
use crate::console::accept_one;

/// How long the client may take for its first line.
const LOGIN: Duration = Duration::from_secs(10);
/// Longest first line: a user and a ticket.
const MAX_LOGIN: usize = 4096;

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// The port is taken.
    #[error("unable to listen on port {port} - {source}")]
    Listen {
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody came.
    #[error("failed waiting for client: timed out")]
    NobodyCame,
    /// The first line did not come, or does not let anybody in.
    #[error("authentication request failed")]
    Refused,
    /// What is behind the terminal cannot be had.
    #[error("unable to open the terminal - {0}")]
    Backend(String),
    /// The client does not speak the protocol.
    #[error(transparent)]
    Protocol(#[from] super::frames::NoFrame),
    /// As above, on a screen.
    #[error(transparent)]
    Rfb(#[from] super::rfb::NoRfb),
    /// A SPICE server cannot be had.
    #[error("unable to serve SPICE - {0}")]
    Spice(String),
    /// The connection failed.
    #[error("terminal connection failed - {0}")]
    Io(#[from] io::Error),
}

impl Failure for TerminalError {}

/// Who may come, with what: pinned when the terminal was asked for.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pass {
    /// The user or token, as the client is to say it.
    pub user: String,
    /// The ticket that it got. It travels by pipe, and is neither logged nor shown.
    pub ticket: String,
    /// What the ticket is for: `/nodes/n1`.
    pub path: String,
    /// The privilege there that a terminal needs.
    pub privilege: String,
    /// The port of the site's address.
    pub port: u16,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass")
            .field("user", &self.user)
            .field("path", &self.path)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// What is behind a terminal. Reading and writing must not block.
pub trait Backend: Read + Write + AsFd {
    /// The client's terminal has another size.
    fn resize(&mut self, size: Size);
}

/// What becomes of the session besides its bytes.
pub trait Watch {
    /// Tells something.
    fn log(&mut self, line: &str);
    /// Whether the session is to end.
    fn is_interrupted(&self) -> bool;
}

impl Watch for pve_task::Worker {
    fn log(&mut self, line: &str) {
        Self::log(self, line);
    }

    fn is_interrupted(&self) -> bool {
        Self::is_interrupted(self)
    }
}

/// Waits for the client, lets it in if its pass is good, opens what is behind the terminal, and carries bytes until either
/// side ends.
///
/// # Errors
/// [`TerminalError`]; that the client goes away is none.
pub fn serve<B: Backend>(
    context: &Context,
    pass: &Pass,
    watch: &mut dyn Watch,
    open: impl FnOnce() -> Result<B, TerminalError>,
) -> Result<(), TerminalError> {
    let mut client = await_client(context, pass, watch)?;
    let early = log_in(context, pass, &mut client)?;
    let mut backend = open()?;
    client.write_all(b"OK")?;
    client.set_nodelay(true)?;
    client.set_nonblocking(true)?;
    forgive(relay(&mut client, &mut backend, &early, watch))
}

/// Waits for the one client.
pub(super) fn await_client(context: &Context, pass: &Pass, watch: &mut dyn Watch) -> Result<TcpStream, TerminalError> {
    let client = accept_one(listen(context, pass)?).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => TerminalError::NobodyCame,
        _ => TerminalError::Io(error),
    })?;
    if let Ok(peer) = client.peer_addr() {
        watch.log(&format!("client connection: {peer}"));
    }
    Ok(client)
}

/// Listens where the client is to come.
pub(super) fn listen(context: &Context, pass: &Pass) -> Result<TcpListener, TerminalError> {
    let address = (context.site.address, pass.port);
    TcpListener::bind(address).map_err(|source| TerminalError::Listen {
        port: pass.port,
        source,
    })
}

/// Tells how a display ended. What went wrong is logged and does not make the task fail: a viewer that never came is none
/// of an administrator's troubles (reference 09 §19.2).
pub(super) fn tell(ended: Result<(), TerminalError>, watch: &mut dyn Watch) {
    if let Err(error) = ended {
        log::warn!("{error}");
        watch.log(&error.to_string());
    }
}

/// A browser tab that is closed resets its connection as often as not, which is no failure.
pub(super) fn forgive(ended: Result<(), TerminalError>) -> Result<(), TerminalError> {
    match ended {
        Err(TerminalError::Io(error)) if is_goodbye(&error) => Ok(()),
        ended => ended,
    }
}

fn is_goodbye(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Checks the first line; what came after it already.
fn log_in(context: &Context, pass: &Pass, client: &mut TcpStream) -> Result<Vec<u8>, TerminalError> {
    let (line, rest) = first_line(client)?;
    let line = String::from_utf8(line).map_err(|_| TerminalError::Refused)?;
    let (user, ticket) = line.split_once(':').ok_or(TerminalError::Refused)?;
    // The pinned ticket alone would do; its age and the user's rights may have changed since.
    let is_pinned = user == pass.user && bool::from(ticket.as_bytes().ct_eq(pass.ticket.as_bytes()));
    if !is_pinned {
        return Err(TerminalError::Refused);
    }
    check(context, pass)?;
    Ok(rest)
}

/// Checks that the pass is good still.
pub(super) fn check(context: &Context, pass: &Pass) -> Result<(), TerminalError> {
    let access = AccessControl::load(context).map_err(|_| TerminalError::Refused)?;
    access
        .check_vnc_login(
            &pass.user,
            &pass.ticket,
            &pass.path,
            &pass.privilege,
            Some(pass.port),
            None,
        )
        .map_err(|_| TerminalError::Refused)
}

/// Reads until the first line feed, which is cut off.
fn first_line(client: &mut TcpStream) -> Result<(Vec<u8>, Vec<u8>), TerminalError> {
    let deadline = Instant::now() + LOGIN;
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let rest = bytes.split_off(end + 1);
            bytes.truncate(end);
            return Ok((bytes, rest));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if bytes.len() > MAX_LOGIN || left.is_zero() {
            return Err(TerminalError::Refused);
        }
        client.set_read_timeout(Some(left))?;
        let read = client.read(&mut chunk).map_err(|_| TerminalError::Refused)?;
        if read == 0 {
            return Err(TerminalError::Refused);
        }
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
}

/// Carries bytes; `early` came from the client already.
fn relay<B: Backend>(
    client: &mut TcpStream,
    backend: &mut B,
    early: &[u8],
    watch: &mut dyn Watch,
) -> Result<(), TerminalError> {
    let mut decoder = Decoder::default();
    let (mut typed, mut printed) = (Vec::new(), Vec::new());
    take_in(&mut decoder, early, &mut typed, backend)?;
    let mut has_ended = false;
    while !(has_ended && printed.is_empty()) {
        if watch.is_interrupted() {
            return Ok(());
        }
        let room = |waiting: &Vec<u8>| waiting.len() < BUFFER;
        let of_client = interest(room(&typed), !printed.is_empty());
        let of_backend = interest(room(&printed) && !has_ended, !typed.is_empty() && !has_ended);
        let (from_client, from_backend) = ready((client, of_client), (backend, of_backend), WAKE)?;
        if from_client.contains(PollFlags::POLLIN) {
            match read_some(client)? {
                Some(bytes) if bytes.is_empty() => return Ok(()),
                Some(bytes) => take_in(&mut decoder, &bytes, &mut typed, backend)?,
                None => {}
            }
        } else if from_client.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Ok(());
        }
        if from_backend.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            match read_some(backend) {
                Ok(Some(bytes)) if bytes.is_empty() => has_ended = true,
                Ok(Some(bytes)) => printed.extend(bytes),
                Ok(None) => {}
                // How Linux says that no program has the terminal any more.
                Err(_) => has_ended = true,
            }
        }
        if has_ended {
            typed.clear();
        }
        write_some(client, &mut printed)?;
        if write_some(backend, &mut typed).is_err() {
            has_ended = true;
        }
    }
    Ok(())
}

/// Does what the client's frames say.
fn take_in<B: Backend>(
    decoder: &mut Decoder,
    bytes: &[u8],
    typed: &mut Vec<u8>,
    backend: &mut B,
) -> Result<(), TerminalError> {
    for message in decoder.feed(bytes)? {
        match message {
            Message::Input(keys) => typed.extend(keys),
            Message::Resize(size) => backend.resize(size),
        }
    }
    Ok(())
}
