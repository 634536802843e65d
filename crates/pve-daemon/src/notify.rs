//! Telling systemd how the daemon is: READY, RELOADING, STOPPING, WATCHDOG, and what it waits for (sd_notify(3)).
//!
//! Does nothing unless systemd asked for it through `NOTIFY_SOCKET`.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How much longer systemd waits for a start that waits itself, each time it is asked to.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where notifications go, if anywhere.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says; it stays as it is, so that the image that a reload executes finds it again.
    pub(crate) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(connect);
        let watchdog = if socket.is_some() { watchdog_limit() } else { None };
        Self { socket, watchdog }
    }

    /// Whether systemd wants to know.
    pub(crate) fn is_wanted(&self) -> bool {
        self.socket.is_some()
    }

    /// How long systemd waits for [`Notifier::watchdog`], if it does.
    pub(crate) fn watchdog_limit(&self) -> Option<Duration> {
        self.watchdog
    }

    /// How often [`Notifier::watchdog`] is to be called: a missed call must not be one too many.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 4)
    }

    /// The daemon serves.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Nothing changed but what people see.
    pub(crate) fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// The daemon cannot go on yet.
    pub(crate) fn waiting(&self, what: &str) {
        // The status is one line.
        self.status(&format!("waiting for {}", what.replace('\n', " ")));
    }

    /// The start, or whatever else systemd waits for, takes longer: it is to have patience for [`PATIENCE`] from now on.
    pub(crate) fn extend_timeout(&self) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", PATIENCE.as_micros()));
    }

    /// A reload begins.
    pub(crate) fn reloading(&self) {
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading",
            monotonic_usec()
        ));
    }

    /// The daemon is going away.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=server closing");
    }

    /// The master's loop turns, and so does a worker's.
    pub(crate) fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            // Nobody to tell that nobody listens.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

/// A socket towards a path, or towards an abstract name when that begins with `@`.
fn connect(name: OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok()?,
        [b'/', ..] => SocketAddr::from_pathname(&name).ok()?,
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}

/// CLOCK_MONOTONIC in microseconds: systemd compares it with its own.
fn monotonic_usec() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the right type, which clock_gettime fills.
    #[allow(unsafe_code)]
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) } != 0;
    if failed {
        0
    } else {
        now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
    }
}

/// `WATCHDOG_USEC`, if it is meant for this process.
fn watchdog_limit() -> Option<Duration> {
    if let Ok(pid) = std::env::var("WATCHDOG_PID")
        && pid != std::process::id().to_string()
    {
        return None;
    }
    let usec: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_reach_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let notifier = Notifier {
            socket: connect(path.into_os_string()),
            watchdog: None,
        };
        notifier.ready("3 workers");
        notifier.reloading();
        let mut buffer = [0; 256];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=3 workers");
        let length = receiver.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"RELOADING=1\nMONOTONIC_USEC="));
    }

    #[test]
    fn a_relative_name_is_no_socket() {
        assert!(connect("notify".into()).is_none());
    }
}
