//! Serves a VM's VNC display to one client (reference 06b §13, "vncproxy"), the VM being here or on another node.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

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
/// How the password gets to the node that has the VM: servers of ssh take variables of this kind, and nobody but root
/// sees them.
pub const PASSWORD_VARIABLE: &str = "LC_PVE_TICKET";
/// How long the way to another node may take to end after its client has gone.
const GOODBYE: Duration = Duration::from_secs(3);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(20);

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
    let mut client = await_client(site, port)?;
    let mut display = connect(site, vmid, password)?;
    display.set_nonblocking(true)?;
    relay(&mut client, &mut display)
}

/// The same for a VM of another node: `command` is what reaches [`connect`] there, with the password in its environment.
///
/// # Errors
/// [`VncError`].
pub fn serve_far(site: &Site, command: &[String], port: u16, password: &str) -> Result<(), VncError> {
    let mut client = await_client(site, port)?;
    let (tunnel, mut display) = Tunnel::open(command, password)?;
    let ended = relay(&mut client, &mut display);
    let has_spoken = display.has_spoken;
    // So that the other end hears of it.
    drop(display);
    let is_well = tunnel.close()?;
    // A display speaks first. One that has, and then breaks off because its client has gone, is no failure.
    if is_well || has_spoken {
        ended
    } else {
        Err(VncError::NoDisplay)
    }
}

/// Sets the password of a VM's display, and connects to it.
///
/// # Errors
/// [`VncError::NoDisplay`].
pub fn connect(site: &Site, vmid: VmId, password: &str) -> Result<UnixStream, VncError> {
    set_password(site, vmid, password)?;
    UnixStream::connect(Runtime::new(site, vmid).vnc()).map_err(|error| {
        log::warn!("unable to connect to the display of VM {vmid} - {error}");
        VncError::NoDisplay
    })
}

fn await_client(site: &Site, port: u16) -> Result<TcpStream, VncError> {
    let listener = TcpListener::bind((site.address, port)).map_err(|source| VncError::Listen { port, source })?;
    accept_one(listener).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => VncError::NobodyCame,
        _ => VncError::Io(error),
    })
}

fn relay<D: Read + Write + AsFd>(client: &mut TcpStream, display: &mut D) -> Result<(), VncError> {
    client.set_nonblocking(true)?;
    client.set_nodelay(true)?;
    match relay::run(client, display, IDLE) {
        // A browser tab that is closed resets its connection as often as not.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(()),
        ended => Ok(ended?),
    }
}

/// Another node's display.
struct FarDisplay {
    socket: UnixStream,
    /// Whether anything came from it.
    has_spoken: bool,
}

impl Read for FarDisplay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buffer)?;
        self.has_spoken |= read > 0;
        Ok(read)
    }
}

impl Write for FarDisplay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for FarDisplay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The command that leads to another node; it does not outlive this.
struct Tunnel(Child);

impl Tunnel {
    /// Starts it; the socket is its input and output. What it complains of goes to the log of the task.
    fn open(command: &[String], password: &str) -> Result<(Self, FarDisplay), VncError> {
        let (program, arguments) = command.split_first().ok_or(VncError::NoDisplay)?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let input = OwnedFd::from(theirs.try_clone()?);
        let child = Command::new(program)
            .args(arguments)
            .env(PASSWORD_VARIABLE, password)
            .stdin(input)
            .stdout(OwnedFd::from(theirs))
            .spawn()?;
        let display = FarDisplay {
            socket: ours,
            has_spoken: false,
        };
        Ok((Self(child), display))
    }

    /// Lets it end; whether it was content.
    fn close(mut self) -> io::Result<bool> {
        let deadline = Instant::now() + GOODBYE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(POLL);
        }
        Ok(false)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Says hello to what a script says is the display of another node, and reads as much as is expected.
    fn far(script: &str, expected: usize) -> (Result<(), VncError>, String) {
        let directory = tempfile::tempdir().unwrap();
        let mut site = pve_testing::site(directory.path(), "n1");
        site.address = pve_testing::loopback(2);
        let (_held, free) = pve_testing::held_port(site.address);
        let command = ["sh", "-c", script].map(str::to_owned);
        let server = std::thread::spawn(move || serve_far(&site, &command, free.port(), "secret!!"));
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut client = loop {
            match TcpStream::connect(free) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(POLL);
        };
        let _ = client.write_all(b"hello\n");
        let mut seen = vec![0; expected];
        client.read_exact(&mut seen).unwrap();
        if expected == 0 {
            let _ = client.read_to_end(&mut seen);
        }
        drop(client);
        (server.join().unwrap(), String::from_utf8(seen).unwrap())
    }

    #[test]
    fn another_nodes_display_is_what_its_command_says() {
        let (ended, seen) = far("read line; echo $line $LC_PVE_TICKET; exec cat", 15);
        assert_eq!(seen, "hello secret!!\n");
        ended.unwrap();
        let (ended, _) = far("echo RFB; cat >/dev/null; exit 255", 4);
        ended.unwrap();
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_no_display() {
        let (ended, seen) = far("exit 255", 0);
        assert_eq!(ended.unwrap_err().to_string(), "Failed to run vncproxy.");
        assert_eq!(seen, "");
    }
}
