//! Everything that can go wrong in this program, in its user's words.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use pve_schema::errno_text;

/// What can go wrong. Messages are for people at a terminal: what is wrong, then what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabError {
    #[error(
        "a lab needs root: it starts guests, changes users and makes network interfaces.\n\
         Run it with sudo, or in a container or virtual machine of its own."
    )]
    NotRoot,
    #[error("this needs root, who alone may read a lab's keys and passwords; run it with sudo")]
    KeysNeedRoot,
    #[error("unable to {what} '{}' - {}", .path.display(), errno_text(.error))]
    File {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error(
        "'{}' is too long a path for a lab: sockets below it may have {limit} characters, and it has {length}.\n\
         Use a shorter one, for example: --root /srv/lab",
        .root.display()
    )]
    RootTooLong { root: PathBuf, limit: usize, length: usize },
    #[error("'/' is the machine's own instance: install the daemons for that, or use another --root")]
    RootIsSystem,
    #[error(
        "'{}' is neither empty nor a lab.\nUse an empty or new directory, for example: --root {}/lab",
        .0.display(), .0.display()
    )]
    NotALab(PathBuf),
    #[error("there is no lab in '{}'; start it first: pve-lab start --root {}", .0.display(), .0.display())]
    NoLab(PathBuf),
    #[error(
        "www-data, as whom the web side runs, may not pass '{}' (mode {mode:o}).\n\
         Use a root below /srv or /var/lib, or allow it: chmod o+x '{}'",
        .directory.display(), .directory.display()
    )]
    Closed { directory: PathBuf, mode: u32 },
    #[error("the lab in '{}' is running already (pid {pid})", .root.display())]
    Running { root: PathBuf, pid: String },
    #[error("{0} is no loopback address: a lab listens on one of 127.0.0.1 to 127.255.255.254, or on ::1")]
    NotLoopback(IpAddr),
    #[error("port {port} of {address} is in use - {}{}", errno_text(.error), remedy(.free))]
    AddressInUse {
        address: IpAddr,
        port: u16,
        error: io::Error,
        free: Option<IpAddr>,
    },
    #[error("{address} is the address of another running lab{}", remedy(.free))]
    AddressTaken { address: IpAddr, free: Option<IpAddr> },
    #[error(
        "no free loopback address: on each of 127.0.0.1 to 127.0.0.254, or on ::1 without IPv4, one of the ports 85, 3128, 8006 is in use.\n\
         Is a daemon listening on all addresses? See: ss -tlnp"
    )]
    NoAddress,
    #[error("the instance mark '{0}' is used by another running lab; use another one: --instance X")]
    InstanceTaken(String),
    #[error("{0}")]
    Site(#[from] pve_daemon::cli::SiteError),
    #[error("{0}")]
    LabFile(#[from] pve_daemon::lab::LabError),
    #[error(transparent)]
    Directory(#[from] pve_node::directories::DirectoryError),
    #[error("unable to prepare /etc/pve - {0}")]
    Tree(String),
    #[error("unable to make keys and certificates - {0}")]
    Certificates(String),
    #[error("{0}")]
    Access(#[from] pve_access::AccessError),
    #[error("no randomness - {0}")]
    Random(String),
    #[error("'{}' is not there: the daemons must be beside pve-lab", .0.display())]
    NoDaemon(PathBuf),
    #[error("{name} {reason}{}", tail(.lines))]
    NotReady {
        name: &'static str,
        reason: String,
        lines: Vec<String>,
    },
    #[error("the system refused {what} - {}", errno_text(.error))]
    System { what: &'static str, error: io::Error },
    #[error("{0}")]
    Http(#[from] crate::http::HttpError),
    #[error("'{0}' is no user of the realm 'pve'; the passwords of other realms are kept elsewhere")]
    NotPve(String),
    #[error("there is no user '{0}' in this lab")]
    NoUser(String),
    #[error("the lab has not stopped within {0} s; its daemons' last words are on its own terminal")]
    StillRunning(u64),
}

fn remedy(free: &Option<IpAddr>) -> String {
    match free {
        Some(address) => format!(".\n{address} is free: --address {address}"),
        None => String::new(),
    }
}

fn tail(lines: &[String]) -> String {
    if lines.is_empty() {
        return "\nIt has not logged anything.".to_owned();
    }
    let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
    format!("\nIts last words:{lines}")
}

impl LabError {
    /// For `map_err`: a file operation failed.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { what, path, error }
    }
}
