//! A lab's directory: where it may be, who serves it, and which address and mark it has.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use pve_daemon::cli::{self, Options};
use pve_daemon::lab::{self, Lab};
use pve_daemon::loopback;
use pve_schema::Site;
use pve_schema::site::{Ids, Instance};

use crate::cli::StartOptions;
use crate::error::LabError;

/// The ports that a node listens on.
pub(crate) const PORTS: [u16; 3] = [85, 8006, 3128];
/// Longest path of a Unix socket (unix(7): 108 bytes with the NUL).
const SOCKET_LIMIT: usize = 107;
/// The longest path of a socket below a root; a lab with nine-digit VMIDs must work as well.
const LONGEST_SOCKET: &str = "/run/qemu-server/999999999.virtiofs-99.sock.pid";
/// Says who serves the lab, below the root.
const LOCK: &str = "run/pve-lab.lock";

/// A lab that this process serves. Dropping it gives everything back.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) site: Site,
    /// The directory was no lab before.
    pub(crate) is_new: bool,
    _lock: Flock<File>,
    _reservations: Vec<UnixListener>,
}

/// Takes a directory for this process, making a lab of it if it is none.
pub(crate) fn take(options: &StartOptions) -> Result<Served, LabError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    let root = make(&options.which.root)?;
    let lock = lock(&root)?;
    let known = lab::read(&root)?;
    let is_new = known == Lab::default();
    let (instance, instance_reservation) =
        reserve_instance(&root, options.instance.clone().or(known.instance.clone()))?;
    let (address, address_reservation) = reserve_address(options.address, known.address)?;
    let chosen = Lab {
        instance: Some(instance),
        address: Some(address),
        node: options.node.clone().or(known.node.clone()),
    };
    let site = site(&root, &chosen)?;
    check_passable(&root, site.web_user)?;
    // The host's name may change; the lab's directory of guests must not change with it.
    let chosen = Lab {
        node: Some(site.node.clone()),
        ..chosen
    };
    if chosen != known {
        lab::write(&root, &chosen)?;
    }
    Ok(Served {
        site,
        is_new,
        _lock: lock,
        _reservations: vec![instance_reservation, address_reservation],
    })
}

/// The site of a lab that exists, for commands that only look.
pub(crate) fn existing(root: &Path) -> Result<Site, LabError> {
    let missing = || LabError::NoLab(root.to_owned());
    let root = root.canonicalize().map_err(|_| missing())?;
    if !root.join(lab::FILE).is_file() {
        return Err(missing());
    }
    site(&root, &Lab::default())
}

/// The pid of the process that serves a lab, if one does.
pub(crate) fn server(root: &Path) -> Option<u32> {
    let mut file = File::open(root.join(LOCK)).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_free) => None,
        Err(_) => text.trim().parse().ok(),
    }
}

/// The site as the daemons will see it.
fn site(root: &Path, lab: &Lab) -> Result<Site, LabError> {
    Ok(cli::site(&Options {
        root: Some(root.to_owned()),
        instance: lab.instance.clone(),
        address: lab.address,
        node: lab.node.clone(),
        ..Options::default()
    })?)
}

/// Makes the directory, or checks that it is a lab or empty.
fn make(root: &Path) -> Result<PathBuf, LabError> {
    let absolute = std::path::absolute(root).map_err(LabError::file("find", root))?;
    // Before anything is made.
    check_length(&absolute)?;
    std::fs::create_dir_all(&absolute).map_err(LabError::file("create directory", &absolute))?;
    let root = absolute.canonicalize().map_err(LabError::file("find", &absolute))?;
    if root == Path::new("/") {
        return Err(LabError::RootIsSystem);
    }
    check_length(&root)?;
    if !root.join(lab::FILE).exists() && !is_empty(&root).map_err(LabError::file("read", &root))? {
        return Err(LabError::NotALab(root));
    }
    let run = root.join("run");
    std::fs::create_dir_all(&run).map_err(LabError::file("create directory", run))?;
    Ok(root)
}

/// Empty but for what an attempt that failed early left.
fn is_empty(root: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(root)? {
        if entry?.file_name() != "run" {
            return Ok(false);
        }
    }
    let run = root.join("run");
    if run.is_dir() {
        for entry in std::fs::read_dir(run)? {
            if entry?.file_name() != "pve-lab.lock" {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn check_length(root: &Path) -> Result<(), LabError> {
    let limit = SOCKET_LIMIT - LONGEST_SOCKET.len();
    let length = root.as_os_str().len();
    if length > limit {
        return Err(LabError::RootTooLong {
            root: root.to_owned(),
            limit,
            length,
        });
    }
    Ok(())
}

/// Checks that the web side's user may pass every directory on the way.
fn check_passable(root: &Path, user: Ids) -> Result<(), LabError> {
    for directory in root.ancestors().skip(1) {
        let metadata = std::fs::metadata(directory).map_err(LabError::file("look at", directory))?;
        let mode = metadata.mode();
        let bit = match (metadata.uid() == user.uid, metadata.gid() == user.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if mode & bit == 0 {
            return Err(LabError::Closed {
                directory: directory.to_owned(),
                mode: mode & 0o7777,
            });
        }
    }
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).map_err(LabError::file("open", root))
}

/// One root is served once.
fn lock(root: &Path) -> Result<Flock<File>, LabError> {
    let path = root.join(LOCK);
    let open = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = open.map_err(LabError::file("open", &path))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| LabError::Running {
        root: root.to_owned(),
        pid: std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned(),
    })?;
    let mut write = || {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write().map_err(LabError::file("write", &path))?;
    Ok(lock)
}

/// The mark, kept from others by an abstract socket of its name: that vanishes with the process and is no file.
fn reserve_instance(root: &Path, wanted: Option<Instance>) -> Result<(Instance, UnixListener), LabError> {
    if let Some(instance) = wanted {
        let reservation = reserve(&format!("pve-lab/instance/{}", instance.as_str()));
        return match reservation {
            Some(reservation) => Ok((instance, reservation)),
            None => Err(LabError::InstanceTaken(instance.as_str().to_owned())),
        };
    }
    // Another lab may have the mark that this path would have; then other texts are tried.
    for attempt in 0..1000_u32 {
        let salted = if attempt == 0 {
            root.to_owned()
        } else {
            root.join(attempt.to_string())
        };
        let Some(instance) = lab::derived_instance(&salted) else {
            continue;
        };
        if let Some(reservation) = reserve(&format!("pve-lab/instance/{}", instance.as_str())) {
            return Ok((instance, reservation));
        }
    }
    Err(LabError::InstanceTaken("*".to_owned()))
}

/// The address: the one asked for, else the one of the last start, else the first that is free.
fn reserve_address(asked: Option<IpAddr>, known: Option<IpAddr>) -> Result<(IpAddr, UnixListener), LabError> {
    let Some(address) = asked.or(known) else {
        return first_free().ok_or(LabError::NoAddress);
    };
    if !address.is_loopback() {
        return Err(LabError::NotLoopback(address));
    }
    let other = || first_free().map(|(free, _)| free);
    let Some(reservation) = reserve(&format!("pve-lab/address/{address}")) else {
        return Err(LabError::AddressTaken { address, free: other() });
    };
    for port in PORTS {
        if let Err(error) = try_port(address, port) {
            return Err(LabError::AddressInUse {
                address,
                port,
                error,
                free: other(),
            });
        }
    }
    Ok((address, reservation))
}

/// Of IPv6, which a machine without IPv4 has alone, there is just one loopback address.
fn first_free() -> Option<(IpAddr, UnixListener)> {
    let addresses: Vec<IpAddr> = match loopback::own() {
        IpAddr::V4(_) => (1..=254).map(|last| Ipv4Addr::new(127, 0, 0, last).into()).collect(),
        only @ IpAddr::V6(_) => vec![only],
    };
    addresses.into_iter().find_map(|address| {
        let reservation = reserve(&format!("pve-lab/address/{address}"))?;
        PORTS
            .iter()
            .all(|port| try_port(address, *port).is_ok())
            .then_some((address, reservation))
    })
}

fn try_port(address: IpAddr, port: u16) -> io::Result<()> {
    TcpListener::bind(SocketAddr::new(address, port)).map(drop)
}

fn reserve(name: &str) -> Option<UnixListener> {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).ok()?;
    UnixListener::bind_addr(&address).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_roots_are_refused_with_the_limit() {
        let error = check_length(&PathBuf::from(format!("/{}", "x".repeat(80))))
            .unwrap_err()
            .to_string();
        assert!(error.contains("is too long a path for a lab"), "{error}");
        assert!(error.contains("--root /srv/lab"), "{error}");
        assert!(check_length(Path::new("/var/lib/pve-lab/default")).is_ok());
    }

    #[test]
    fn a_directory_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(make(dir.path()).is_ok(), "an empty one is fine");
        assert!(make(dir.path()).is_ok(), "after a failed attempt too");
        std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(make(dir.path()), Err(LabError::NotALab(_))));
        assert!(matches!(make(Path::new("/")), Err(LabError::RootIsSystem)));
    }

    #[test]
    fn a_root_is_served_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = make(dir.path()).unwrap();
        assert_eq!(server(&root), None);
        let held = lock(&root).unwrap();
        assert_eq!(server(&root), Some(std::process::id()));
        let error = lock(&root).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("is running already (pid {})", std::process::id())),
            "{error}"
        );
        drop(held);
        assert_eq!(server(&root), None);
        lock(&root).unwrap();
    }

    #[test]
    fn addresses_and_marks_are_reserved() {
        let (first, held) = first_free().unwrap();
        let (second, _also_held) = first_free().unwrap();
        assert_ne!(first, second);
        let taken = reserve_address(Some(first), None);
        assert!(
            matches!(&taken, Err(LabError::AddressTaken { free: Some(_), .. })),
            "{taken:?}"
        );
        drop(held);
        assert!(matches!(
            reserve_address(Some([192, 0, 2, 1].into()), None),
            Err(LabError::NotLoopback(_))
        ));
        let listener = TcpListener::bind((first, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(try_port(first, port).is_err());
        let root = Path::new("/tmp/reserve-test");
        let (one, _one) = reserve_instance(root, None).unwrap();
        let (two, _two) = reserve_instance(root, None).unwrap();
        assert_ne!(one, two);
        assert!(matches!(
            reserve_instance(root, Some(one)),
            Err(LabError::InstanceTaken(_))
        ));
    }

    #[test]
    fn a_closed_directory_on_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let root = dir.path().join("lab");
        std::fs::create_dir(&root).unwrap();
        let stranger = Ids { uid: 4242, gid: 4242 };
        let error = check_passable(&root, stranger).unwrap_err().to_string();
        assert!(error.contains("(mode 700)") && error.contains("chmod o+x"), "{error}");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        check_passable(&root, stranger).unwrap();
    }
}
