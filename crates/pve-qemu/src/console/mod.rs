//! Consoles: VNC and SPICE through ports of the site's loopback address (reference 06b §13).
//!
//! [`ports`] finds the port, [`vnc`] serves it for one client, [`relay`] carries the bytes; SPICE is served by QEMU, which
//! [`spice`] asks to let a viewer in. Tickets, and what a client is
//! told, are the API's affair.

pub mod ports;
mod relay;
pub mod spice;
pub mod vnc;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether somebody listens on a port. The kernel's table is read instead of trying the port: a console accepts just one
/// connection, and this must not be it.
pub fn is_listening(address: IpAddr, port: u16) -> bool {
    let (table, any) = match address {
        IpAddr::V4(_) => ("/proc/net/tcp", IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => ("/proc/net/tcp6", IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    let text = fs::read_to_string(table).unwrap_or_default();
    let wanted = [
        format!("{}:{port:04X}", hex(address)),
        format!("{}:{port:04X}", hex(any)),
    ];
    text.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        // The third field is the state; 0A is LISTEN.
        fields.nth(1) == Some("0A") && wanted.iter().any(|address| address == local)
    })
}

/// An address as the kernel prints it: 32-bit words in the host's byte order.
fn hex(address: IpAddr) -> String {
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
        assert!(!is_listening(address, port));
    }

    #[test]
    fn addresses_are_spelt_as_the_kernel_does() {
        assert_eq!(hex(IpAddr::from([127, 0, 0, 1])), "0100007F");
        assert_eq!(hex(IpAddr::V6(Ipv6Addr::LOCALHOST)), "00000000000000000000000001000000");
    }
}
