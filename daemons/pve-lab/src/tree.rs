//! What is below a lab's root before the first daemon starts: what packages, tmpfiles and the installer make on a
//! system. Things that are there stay as they are, but for owner and mode of directories.

use std::os::unix::fs::symlink;
use std::path::Path;

use pve_node::directories::{self, Directory, OF_SUITE, Owner};
use pve_schema::{Context, Site};

use crate::error::LabError;

/// What every system has (hier(7)).
const OF_SYSTEM: [Directory; 11] = [
    Directory::ours("/etc", 0o755, Owner::Root),
    Directory::ours("/etc/default", 0o755, Owner::Root),
    Directory::ours("/etc/network", 0o755, Owner::Root),
    Directory::ours("/run", 0o755, Owner::Root),
    Directory::ours("/run/lock", 0o1777, Owner::Root),
    Directory::ours("/tmp", 0o1777, Owner::Root),
    Directory::ours("/var", 0o755, Owner::Root),
    Directory::ours("/var/lib", 0o755, Owner::Root),
    Directory::ours("/var/log", 0o755, Owner::Root),
    Directory::ours("/var/tmp", 0o1777, Owner::Root),
    Directory::ours("/mnt", 0o755, Owner::Root),
];

/// Links, and where they lead: relative, so that they stay below the root.
const LINKS: [(&str, &str); 2] = [("/var/run", "../run"), ("/var/lock", "../run/lock")];

/// Makes directories, first files, `/etc/pve` and the certificates.
pub(crate) fn prepare(context: &Context) -> Result<(), LabError> {
    let site = &context.site;
    // The modes below are meant as they are.
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    for directories in [&OF_SYSTEM[..], &OF_SUITE[..]] {
        directories::make(site, directories)?;
    }
    for (path, target) in LINKS {
        let link = site.path(path);
        if link.symlink_metadata().is_err() {
            symlink(target, &link).map_err(LabError::file("create link", &link))?;
        }
    }
    for (path, text) in first_files(site) {
        write_if_missing(&site.path(path), &text)?;
    }
    nix::sys::stat::umask(umask);
    pve_cfs::Cfs::new(context)
        .ensure_tree()
        .map_err(|error| LabError::Tree(error.to_string()))?;
    pve_node::updatecerts(context)
        .map(drop)
        .map_err(|error| LabError::Certificates(error.to_string()))
}

/// What an installer writes.
fn first_files(site: &Site) -> Vec<(&'static str, String)> {
    let node = &site.node;
    let address = site.address;
    vec![
        ("/etc/hostname", format!("{node}\n")),
        ("/etc/hosts", format!("127.0.0.1 localhost\n{address} {node}\n")),
        (
            "/etc/network/interfaces",
            "auto lo\niface lo inet loopback\n".to_owned(),
        ),
        (
            "/etc/resolv.conf",
            std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        ),
        (
            "/etc/default/pvedaemon",
            include_str!("../../../etc-default/pvedaemon").to_owned(),
        ),
        (
            "/etc/default/pveproxy",
            include_str!("../../../etc-default/pveproxy").to_owned(),
        ),
    ]
}

fn write_if_missing(path: &Path, text: &str) -> Result<(), LabError> {
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => std::io::Write::write_all(&mut file, text.as_bytes()).map_err(LabError::file("write", path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(LabError::file("write", path)(error)),
    }
}
