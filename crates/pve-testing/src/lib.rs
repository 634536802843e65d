//! What the tests of all crates share: a site of their own, waiting for what is about to happen, bytes for disks.
//!
//! Only a dev-dependency. What a crate's tests need of that crate (users, storages, guests, handlers) is in its own
//! `tests/`; mocks of the project's own code are nowhere.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed, and says why"
)]

pub mod fleet;
pub mod guest;

#[doc(hidden)]
pub use libtest_mimic;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use pve_schema::site::Ids;
use pve_schema::{Context, Site};

/// How long anything may take that is about to happen: emulated guests are slow, machines are busy, and many tests run
/// at once. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked for meanwhile: seldom enough to leave the processor to what is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// A site below a directory, without an instance mark, at 127.0.0.1. It is owned by root and www-data where the test
/// runs as root, by the test's own user otherwise.
///
/// A test that starts daemons or guests changes `instance` and `address`, so that its kernel names and sockets are its
/// own.
///
/// # Panics
/// When `node` is no node's name.
pub fn site(root: impl Into<PathBuf>, node: &str) -> Site {
    let (root_user, web_user) = owners();
    Site {
        root: root.into(),
        instance: None,
        address: [127, 0, 0, 1].into(),
        node: node.parse().expect("a node's name"),
        root_user,
        web_user,
    }
}

/// A context with a [`site`] and the system's clock.
///
/// # Panics
/// As [`site`].
pub fn context(root: impl Into<PathBuf>, node: &str) -> Context {
    Context::new(site(root, node))
}

/// Who files are given to: only root may give them away.
fn owners() -> (Ids, Ids) {
    let own = Ids {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    };
    if nix::unistd::geteuid().is_root() {
        (Ids { uid: 0, gid: 0 }, Ids { uid: 33, gid: 33 })
    } else {
        (own, own)
    }
}

/// A loopback address for a test that listens on ports of a fixed number: 127.x.y.`number`, where x and y are the
/// process's own, so that test runs beside each other do not meet.
pub fn loopback(number: u8) -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    // Labs and the tests of other programs are at home in 127.0.
    [127, high | 0x80, low, number].into()
}

/// A port that nobody listens at and nobody else gets, as long as the socket lives. A server that listens at it with
/// `SO_REUSEADDR`, as `std`'s listeners do, is not in its way.
///
/// # Panics
/// When there is none.
pub fn held_port(address: impl Into<IpAddr>) -> (OwnedFd, SocketAddr) {
    let address = SocketAddr::new(address.into(), 0);
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let held = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    socket::setsockopt(&held, sockopt::ReuseAddr, &true).expect("an option");
    socket::bind(held.as_raw_fd(), &SockaddrStorage::from(address)).expect("a port");
    let bound: SockaddrStorage = socket::getsockname(held.as_raw_fd()).expect("its address");
    let port = match (bound.as_sockaddr_in(), bound.as_sockaddr_in6()) {
        (Some(bound), _) => bound.port(),
        (_, Some(bound)) => bound.port(),
        _ => unreachable!("it was bound as one of them"),
    };
    (held, SocketAddr::new(address.ip(), port))
}

/// Waits until something holds.
///
/// # Panics
/// When it does not within [`PATIENCE`]; `what` says what did not come.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(LOOK);
    }
}

/// Tests by their functions' names, for a suite that is its own `main` (its binary is started as a task, too).
#[macro_export]
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::libtest_mimic::Trial::test(stringify!($name), || { $name(); Ok(()) })),*]
    };
}

/// So many bytes that no compressor makes smaller and without runs of zeros, the same ones for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    // Xorshift, which stays at zero for ever once it is there.
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len.saturating_add(size_of::<u64>()));
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_condition_is_looked_at_until_it_holds() {
        let mut looks = 0;
        wait_for("the third look", || {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_held_port_is_closed_until_somebody_listens() {
        let (_held, address) = held_port([127, 0, 0, 1]);
        assert!(TcpStream::connect(address).is_err());
        let _server = TcpListener::bind(address).unwrap();
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn noise_has_its_length_and_no_runs_of_zeros() {
        let bytes = noise(2, 4097);
        assert_eq!(bytes.len(), 4097);
        assert!(!bytes.windows(8).any(|window| window == [0; 8]));
        assert_eq!(noise(2, 100), bytes[..100]);
        assert_ne!(noise(4, 100), noise(2, 100));
    }
}
