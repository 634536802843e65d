//! Serves a VM's VNC display to one client (reference 06b §13, "vncproxy").

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pve_node::console::{accept_one, relay};
use pve_schema::ids::VmId;
use pve_schema::{Failure, Site};
use serde_json::json;

use crate::qmp::Qmp;
use crate::runtime::Runtime;

/// How long a session may be without any traffic.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// How long the password lasts: the client that was just accepted needs it now, and nobody else may.
const PASSWORD_LIFETIME: &str = "+30";

/// Why a display cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum VncError {
    /// The port is taken.
    #[error("unable to listen on port {port} - {source}")]
    Listen {
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody came.
    #[error("connection timed out")]
    NobodyCame,
    /// The VM does not give its display: it is off, for one.
    #[error("Failed to run vncproxy.")]
    NoDisplay,
    /// The relay failed.
    #[error("VNC connection failed - {0}")]
    Io(#[from] io::Error),
}

impl Failure for VncError {}

/// Waits for a client on a port of the site's loopback address, sets the display's password, and relays until either
/// side ends.
///
/// # Errors
/// [`VncError`].
pub fn serve(site: &Site, vmid: VmId, port: u16, password: &str) -> Result<(), VncError> {
    let listener = TcpListener::bind((site.address, port)).map_err(|source| VncError::Listen { port, source })?;
    let mut client = accept_one(listener).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => VncError::NobodyCame,
        _ => VncError::Io(error),
    })?;
    set_password(site, vmid, password)?;
    let mut display = UnixStream::connect(Runtime::new(site, vmid).vnc()).map_err(|error| {
        log::warn!("unable to connect to the display of VM {vmid} - {error}");
        VncError::NoDisplay
    })?;
    client.set_nonblocking(true)?;
    client.set_nodelay(true)?;
    display.set_nonblocking(true)?;
    match relay::run(&mut client, &mut display, IDLE) {
        // A browser tab that is closed resets its connection as often as not.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(()),
        ended => Ok(ended?),
    }
}

fn set_password(site: &Site, vmid: VmId, password: &str) -> Result<(), VncError> {
    let mut qmp = Qmp::new(site, vmid);
    qmp.execute("set_password", json!({ "protocol": "vnc", "password": password }))
        .and_then(|_| {
            qmp.execute(
                "expire_password",
                json!({ "protocol": "vnc", "time": PASSWORD_LIFETIME }),
            )
        })
        .map(drop)
        .map_err(|error| {
            log::warn!("{error}");
            VncError::NoDisplay
        })
}
