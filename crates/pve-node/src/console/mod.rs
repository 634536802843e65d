//! What every console of the node needs: a port ([`ports`]), one client on it, and carrying its bytes ([`relay`], and
//! [`stdio`] for command lines).
//!
//! A console listens on the site's loopback address, takes one connection, and stops listening; `pveproxy` brings the
//! client there. Tickets, and what a client is told, are the API's affair.

pub mod ports;
pub mod relay;
pub mod stdio;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Length of a display's password: VNC takes no more.
const PASSWORD_LENGTH: usize = 8;

/// A password for a display: eight characters from `!` to `` ` ``, each as likely (reference 02 §6.3).
///
/// # Errors
/// When the system has no random bytes.
pub fn random_password() -> io::Result<String> {
    let mut bytes = [0; PASSWORD_LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    // 64 characters: six bits of each byte.
    Ok(bytes.iter().map(|byte| char::from(b'!' + (byte & 0x3f))).collect())
}

/// Random bytes of a SPICE password; its text has twice as many characters (reference 02 §6.5).
const SPICE_PASSWORD_BYTES: usize = 20;

/// A password for a SPICE server.
///
/// # Errors
/// When the system has no random bytes.
pub fn spice_password() -> io::Result<String> {
    let mut bytes = [0; SPICE_PASSWORD_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// How long a client may take to come.
const ACCEPT: Duration = Duration::from_secs(10);

/// Waits for the one client of a console.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if nobody comes; what the system says.
pub fn accept_one(listener: TcpListener) -> io::Result<TcpStream> {
    let mut descriptors = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(ACCEPT).unwrap_or(PollTimeout::MAX);
    if poll(&mut descriptors, limit)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    // Dropping the listener on return, nobody else gets in.
    Ok(listener.accept()?.0)
}

/// Whether somebody listens on a port. The kernel's table is read instead of trying the port: a console accepts just one
/// connection, and this must not be it.
pub fn is_listening(address: IpAddr, port: u16) -> bool {
    let (table, any) = match address {
        IpAddr::V4(_) => ("/proc/net/tcp", IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => ("/proc/net/tcp6", IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    let text = fs::read_to_string(table).unwrap_or_default();
    let wanted = [
        format!("{}:{port:04X}", kernel_hex(address)),
        format!("{}:{port:04X}", kernel_hex(any)),
    ];
    text.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        // The third field is the state; 0A is LISTEN.
        fields.nth(1) == Some("0A") && wanted.iter().any(|address| address == local)
    })
}

/// An address as the kernel prints it: 32-bit words in the host's byte order.
fn kernel_hex(address: IpAddr) -> String {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    bytes
        .chunks_exact(4)
        .map(|chunk| {
            let mut word = [0; 4];
            word.copy_from_slice(chunk);
            format!("{:08X}", u32::from_ne_bytes(word))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_seen_without_being_disturbed() {
        let address = IpAddr::from([127, 0, 98, 7]);
        let listener = std::net::TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listening(address, port));
        assert!(!is_listening(IpAddr::from([127, 0, 98, 8]), port));
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
        drop(listener);
        // Whatever another test starts at that moment has it until it is another program.
        pve_testing::wait_for("it is closed", || !is_listening(address, port));
    }

    #[test]
    fn passwords_are_what_the_field_holds() {
        let password = random_password().unwrap();
        assert_eq!(password.len(), 8);
        assert!(password.bytes().all(|byte| (b'!'..=b'`').contains(&byte)));
        assert_ne!(password, random_password().unwrap());
    }

    #[test]
    fn spice_passwords_are_forty_hexadecimal_digits() {
        let password = spice_password().unwrap();
        assert_eq!((password.len(), hex::decode(&password).is_ok()), (40, true));
        assert_eq!(password, password.to_lowercase());
        assert_ne!(password, spice_password().unwrap());
    }

    #[test]
    fn addresses_are_spelt_as_the_kernel_does() {
        assert_eq!(kernel_hex(IpAddr::from([127, 0, 0, 1])), "0100007F");
        assert_eq!(
            kernel_hex(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            "00000000000000000000000001000000"
        );
    }
}
