//! The address for what only this machine may reach: port 85, consoles.
//!
//! It is `127.0.0.1`, as clients and administrators know it. A machine without IPv4, where not even the loopback
//! interface has that address, has `::1` instead. Everyone who needs to know finds out alike and at any time, so that a
//! daemon and those who connect to it agree without a file in between.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The machine's own address.
pub fn own() -> IpAddr {
    choose(|address| UdpSocket::bind((address, 0)).map(drop))
}

/// The first of both families that can be had; IPv4 if neither can, for its error is the one to tell.
fn choose(try_it: impl Fn(IpAddr) -> io::Result<()>) -> IpAddr {
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let is_absent = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT));
    match try_it(v4) {
        Err(error) if is_absent(&error) && try_it(v6).is_ok() => v6,
        _ => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_family_is_taken_only_where_there_is_no_ipv4() {
        let refuse = |number| move || Err(io::Error::from_raw_os_error(number));
        let with = |v4: &dyn Fn() -> io::Result<()>, v6: &dyn Fn() -> io::Result<()>| {
            choose(|address| if address.is_ipv4() { v4() } else { v6() }).to_string()
        };
        let fine = || Ok(());
        assert_eq!(with(&fine, &fine), "127.0.0.1");
        assert_eq!(with(&refuse(libc::EADDRNOTAVAIL), &fine), "::1");
        assert_eq!(with(&refuse(libc::EAFNOSUPPORT), &fine), "::1");
        assert_eq!(with(&refuse(libc::EMFILE), &fine), "127.0.0.1", "a passing trouble");
        let absent = refuse(libc::EADDRNOTAVAIL);
        assert_eq!(with(&absent, &absent), "127.0.0.1");
    }
}
