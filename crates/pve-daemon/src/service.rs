//! What a daemon says about itself ([`Program`], [`Service`]), and what it gets in return ([`Start`],
//! [`WorkerContext`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use pve_schema::{Context, Site, errno_text};

use crate::check::Finding;
use crate::counters::own::WORKERS;
use crate::counters::{Family, slots};
use crate::notify::Notifier;
use crate::process;

/// Any error; the master and the command line only show it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A verb that is not in the usage text. It gets what follows it on the command line.
pub type HiddenVerb = (&'static str, fn(&[OsString]) -> ExitCode);

/// As whom a daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAs {
    /// As root.
    Root,
    /// As `www-data`, from before it opens anything.
    WebUser,
}

/// What a daemon is.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name: in titles, in the log, as unit.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Its pid file: an absolute path below `/run`; the lock file is beside it.
    pub pid_file: &'static str,
    /// As whom it runs.
    pub run_as: RunAs,
    /// Runs as root before anything else at a fresh start: directories.
    pub prepare: fn(&Site) -> Result<(), BoxError>,
    /// Looks whether there is what it works with, as the daemon's user, at a fresh start and until it serves.
    pub needs: fn(&Context) -> Needs,
    /// Reads settings and opens sockets, already as the daemon's user, at every start and reload.
    pub init: fn(&Start) -> Result<Service, BoxError>,
    /// Finds what is wrong with its settings, as the daemon's user; changes nothing.
    pub check: fn(&Context) -> Vec<Finding>,
    /// What it counts beside what every daemon does, crate by crate.
    pub counters: &'static [&'static [&'static Family]],
    /// Verbs that are not in the usage text.
    pub hidden: &'static [HiddenVerb],
}

/// Whether there is what a daemon works with. A start waits for it for a while, says so, and goes on without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// What is not there yet, and what makes it; to be read behind `waiting for `.
    pub missing: Option<String>,
    /// What does not keep the daemon from its work, but somebody ought to know.
    pub note: Option<String>,
}

impl Needs {
    /// For a daemon that needs nothing.
    pub fn nothing(_context: &Context) -> Self {
        Self::default()
    }
}

/// `/run/pveproxy`, private to the web side: whichever proxy starts first makes it, and only the maker gives it away
/// (reference 01 §1.1).
///
/// # Errors
/// When it cannot be made or given away.
pub fn prepare_web_run_directory(site: &Site) -> Result<(), BoxError> {
    let directory = site.path("/run/pveproxy");
    let failed = |error: io::Error| format!("unable to create '{}' - {}", directory.display(), errno_text(&error));
    match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&directory) {
        Ok(()) => {
            let user = site.web_user;
            Ok(std::os::unix::fs::chown(&directory, Some(user.uid), Some(user.gid)).map_err(failed)?)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error).into()),
    }
}

/// What a worker runs. An error is logged, and the worker ends five seconds later so that another tries again: a broken
/// certificate that is repaired must start working without an administrator's hand (reference 01 §1.4).
pub type WorkerEntry = Box<dyn Fn(WorkerContext) -> Result<(), BoxError>>;

/// What a daemon serves: the outcome of [`Program::init`].
pub struct Service {
    /// How many workers, at least one.
    pub workers: usize,
    /// The sockets they accept from.
    pub listeners: Vec<Listener>,
    /// What each of them runs, in a process of its own.
    pub worker: WorkerEntry,
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Service");
        fields
            .field("workers", &self.workers)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix(UnixListener),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// A listening socket and the name under which a reload hands it over: the port, or what [`Start::listen_unix`] was
/// given. It does not block.
#[derive(Debug)]
pub struct Listener {
    /// The name.
    pub name: String,
    /// The socket.
    pub socket: Socket,
}

impl Listener {
    /// A copy for another process or another turn.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => Socket::Tcp(socket.try_clone()?),
            Socket::Unix(socket) => Socket::Unix(socket.try_clone()?),
        };
        Ok(Self {
            name: self.name.clone(),
            socket,
        })
    }
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("unable to create socket - {}", errno_text(.0))]
pub struct ListenError(#[from] io::Error);

/// A start or a reload, as [`Program::init`] sees it.
#[derive(Debug)]
pub struct Start {
    /// Where this instance lives, and the clock.
    pub context: Context,
    /// `--debug` was given.
    pub debug: bool,
    /// Sockets that the image before a reload left behind, by name.
    pub(crate) inherited: RefCell<BTreeMap<String, OwnedFd>>,
}

impl Start {
    /// A listening TCP socket on a port: the one from before a reload, else a new one. `host` is an address or a name;
    /// `None` is every address of both families, or of IPv4 where IPv6 is switched off (reference 01 §2.5).
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen_tcp(&self, host: Option<&str>, port: u16) -> Result<Listener, ListenError> {
        let name = port.to_string();
        let inherited = self.inherited.borrow_mut().remove(&name);
        let socket = match (inherited, host) {
            (Some(fd), _) => TcpListener::from(fd),
            (None, Some(host)) => once_bound(&format!("port {port} of {host}"), || bind_tcp(host, port))?,
            (None, None) => once_bound(&format!("port {port}"), || {
                bind_tcp("::", port).or_else(|error| bind_tcp("0.0.0.0", port).map_err(|other| worse(error, other)))
            })?,
        };
        socket.set_nonblocking(true)?;
        process::set_close_on_exec(&socket, true)?;
        Ok(Listener {
            name,
            socket: Socket::Tcp(socket),
        })
    }

    /// A listening TCP socket at an address that may change with a reload, under a name of its own.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen_at(&self, name: &str, address: SocketAddr) -> Result<Listener, ListenError> {
        let inherited = self.inherited.borrow_mut().remove(name).map(TcpListener::from);
        let same = inherited.filter(|socket| socket.local_addr().is_ok_and(|bound| bound == address));
        let socket = match same {
            Some(socket) => socket,
            None => bind_address(address)?,
        };
        socket.set_nonblocking(true)?;
        process::set_close_on_exec(&socket, true)?;
        Ok(Listener {
            name: name.to_owned(),
            socket: Socket::Tcp(socket),
        })
    }

    /// A listening Unix socket: the one from before a reload, else a new one at `path` with this mode. `name` is of
    /// capital letters, digits and underscores.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub fn listen_unix(&self, name: &str, path: &Path, mode: u32) -> Result<Listener, ListenError> {
        let inherited = self.inherited.borrow_mut().remove(name);
        let socket = match inherited {
            Some(fd) => UnixListener::from(fd),
            None => {
                if let Err(error) = std::fs::remove_file(path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    return Err(error.into());
                }
                let socket = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
                socket
            }
        };
        socket.set_nonblocking(true)?;
        process::set_close_on_exec(&socket, true)?;
        Ok(Listener {
            name: name.to_owned(),
            socket: Socket::Unix(socket),
        })
    }
}

/// Of two refusals the one that tells more: that IPv6 is switched off tells nothing if IPv4 was tried after it.
fn worse(first: io::Error, second: io::Error) -> io::Error {
    let is_off = matches!(first.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
    if is_off { second } else { first }
}

/// Binds once that is possible. Nobody else may have the address, for which [`LAST_OWNER`] is time enough: the workers
/// of a daemon that was killed hold it until they have seen that their master is gone, and a service manager starts the
/// next one at once. And the address must be there, and the name resolve, for which the network of a machine that boots
/// has [`NETWORK`]; whoever starts a daemon by hand is told at once.
fn once_bound(what: &str, bind: impl Fn() -> io::Result<TcpListener>) -> io::Result<TcpListener> {
    let notifier = Notifier::from_environment();
    let started = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let error = match bind() {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        let (limit, reason) = match error.raw_os_error() {
            Some(libc::EADDRINUSE) => (LAST_OWNER, "which is in use".to_owned()),
            // The resolver's failures have no number.
            Some(libc::EADDRNOTAVAIL) | None if notifier.is_wanted() => (NETWORK, errno_text(&error)),
            _ => return Err(error),
        };
        if started.elapsed() >= limit {
            return Err(error);
        }
        if told.is_none() {
            log::info!("waiting for {what} - {reason}");
            notifier.waiting(&format!("{what} - {reason}"));
        }
        if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            notifier.extend_timeout();
            told = Some(Instant::now());
        }
        thread::sleep(BIND_AGAIN);
    }
}

/// Binds the first address that a host name resolves to and that can be bound.
fn bind_tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
    for address in (host, port).to_socket_addrs()? {
        match bind_address(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// SO_REUSEADDR so that a restart need not wait for old connections; TCP_NODELAY is inherited by what is accepted.
pub(crate) fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    socket::setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    socket::bind(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &SockaddrStorage::from(address),
    )?;
    socket::listen(&socket, socket::Backlog::MAXCONN)?;
    Ok(TcpListener::from(socket))
}

/// How long a start waits for an address that somebody has.
const LAST_OWNER: Duration = Duration::from_secs(10);

/// How often it tries.
const BIND_AGAIN: Duration = Duration::from_millis(20);

/// How often systemd is asked for patience meanwhile.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// How long a start by systemd waits for an address that the machine does not have yet.
const NETWORK: Duration = Duration::from_secs(60);

/// How often a worker that works by the clock shows that it lives.
const BEAT: Duration = Duration::from_secs(2);

/// What a worker gets.
#[derive(Debug)]
pub struct WorkerContext {
    /// The daemon's name.
    pub name: &'static str,
    /// Where this instance lives, and the clock.
    pub context: Context,
    /// `--debug` was given.
    pub debug: bool,
    /// The sockets to accept from.
    pub listeners: Vec<Listener>,
    pub(crate) drain: OwnedFd,
    pub(crate) status: OwnedFd,
}

impl WorkerContext {
    /// Tells the master that this worker accepts connections. A reload sends the old workers away once all new ones
    /// have said so.
    pub fn ready(&self) {
        WORKERS.set(0, 1);
        // The master may have been replaced by a reload meanwhile; then nobody waits for it.
        if let Ok(status) = self.status.try_clone() {
            let _ = std::fs::File::from(status).write_all(b"R");
        }
    }

    /// A sign of life, to be given every two seconds by the loop that must not stand still. Who gets ready
    /// without having given one is not expected to; who gives none any more is taken for hung, and replaced.
    pub fn beat(&self) {
        slots::beat();
    }

    /// Becomes readable, and stays so, when the worker is to finish what it serves and end. It does not block.
    pub fn drain_fd(&self) -> BorrowedFd<'_> {
        self.drain.as_fd()
    }

    /// Waits until a moment, for a worker that works by the clock: whether the master asked for the end before.
    pub fn is_told_to_end_before(&self, until: Instant) -> bool {
        loop {
            self.beat();
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, so that what is due is due afterwards.
            let turn = (left + Duration::from_millis(1)).min(BEAT);
            let timeout = PollTimeout::try_from(turn).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.drain_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if left > turn => {}
                Ok(0) => return false,
                Err(Errno::EINTR) => {}
                // Without a way to hear the master nothing would ever end this process.
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// Shows in the process list that this worker takes no more connections.
    pub fn draining(&self) {
        WORKERS.set(0, 0);
        WORKERS.set(1, 1);
        process::set_title(&format!("{} worker (shutdown)", self.name));
    }
}
