//! A VM's serial port as a terminal for one client (reference 06b §13, "termproxy").

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use pve_node::terminal::{Backend, Size, TerminalError};
use pve_schema::Site;
use pve_schema::ids::VmId;

use crate::config::VmConfig;
use crate::runtime::Runtime;

/// The highest number of a serial port.
const LAST: u8 = 3;

/// The port that a terminal shows: the one that is asked for, else the one that the display is sent to, else the first
/// that is a socket. `None` if the VM has none like that.
pub fn choose(vm: VmConfig<'_>, asked: Option<u8>) -> Option<u8> {
    let is_socket = |number: u8| vm.get(&format!("serial{number}")) == Some("socket");
    let display = vm.vga().serial();
    asked
        .or(display)
        .filter(|number| is_socket(*number))
        .or_else(|| (0..=LAST).find(|number| asked.is_none() && is_socket(*number)))
}

/// Connects to a serial port.
///
/// # Errors
/// The VM is off, or another terminal has the port.
pub fn connect(site: &Site, vmid: VmId, number: u8) -> io::Result<UnixStream> {
    UnixStream::connect(Runtime::new(site, vmid).serial(number))
}

/// The connection to a serial port. What the client's size is, the guest cannot be told.
#[derive(Debug)]
pub struct SerialPort(UnixStream);

impl SerialPort {
    /// Connects.
    ///
    /// # Errors
    /// The VM is off, or another terminal has the port.
    pub fn open(site: &Site, vmid: VmId, number: u8) -> Result<Self, TerminalError> {
        let failed = |error: io::Error| TerminalError::Backend(format!("serial{number} of VM {vmid}: {error}"));
        let stream = connect(site, vmid, number).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        Ok(Self(stream))
    }
}

impl Read for SerialPort {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for SerialPort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for SerialPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Backend for SerialPort {
    fn resize(&mut self, _size: Size) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    use pve_guest::GuestConfig;

    use crate::config::VmRules;

    #[test]
    fn the_port_is_the_asked_one_the_display_or_the_first_socket() {
        for (config, asked, expected) in [
            ("", None, None),
            ("serial0: /dev/ttyS0\n", None, None),
            ("serial0: /dev/ttyS0\nserial2: socket\n", None, Some(2)),
            ("serial0: socket\nserial1: socket\n", None, Some(0)),
            ("serial0: socket\nserial1: socket\nvga: serial1\n", None, Some(1)),
            ("serial0: socket\nvga: serial1\n", None, Some(0)),
            ("serial0: socket\nserial1: socket\n", Some(1), Some(1)),
            ("serial0: socket\n", Some(1), None),
        ] {
            let parsed = GuestConfig::parse(&VmRules, 105.try_into().unwrap(), config.as_bytes()).config;
            assert_eq!(
                choose(VmConfig::new(&parsed.main), asked),
                expected,
                "{config} {asked:?}"
            );
        }
    }
}
