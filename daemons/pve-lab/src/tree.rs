//! What is below a lab's root before the first daemon starts: what packages, tmpfiles and the installer make on a
//! system. Things that are there stay as they are, but for owner and mode of directories.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use pve_schema::site::Ids;
use pve_schema::{Context, Site};

use crate::error::LabError;

/// Whose a directory is.
#[derive(Debug, Clone, Copy)]
enum Owner {
    /// root:root.
    Root,
    /// root:www-data.
    RootWeb,
    /// www-data:www-data.
    Web,
}

/// Directories with modes and owners (reference 01 §1.1, §1.10; hier(7) for the rest).
const DIRECTORIES: [(&str, u32, Owner); 26] = [
    ("/etc", 0o755, Owner::Root),
    ("/etc/default", 0o755, Owner::Root),
    ("/etc/network", 0o755, Owner::Root),
    ("/run", 0o755, Owner::Root),
    ("/run/lock", 0o1777, Owner::Root),
    ("/run/pve", 0o750, Owner::RootWeb),
    ("/run/pveproxy", 0o700, Owner::Web),
    ("/run/qemu-server", 0o755, Owner::Root),
    ("/tmp", 0o1777, Owner::Root),
    ("/var", 0o755, Owner::Root),
    ("/var/lib", 0o755, Owner::Root),
    ("/var/lib/pve-cluster", 0o755, Owner::Root),
    ("/var/lib/pve-manager", 0o755, Owner::Root),
    ("/var/lib/vz", 0o755, Owner::Root),
    ("/var/lib/vz/dump", 0o755, Owner::Root),
    ("/var/lib/vz/images", 0o755, Owner::Root),
    ("/var/lib/vz/snippets", 0o755, Owner::Root),
    ("/var/lib/vz/template", 0o755, Owner::Root),
    ("/var/lib/vz/template/cache", 0o755, Owner::Root),
    ("/var/lib/vz/template/iso", 0o755, Owner::Root),
    ("/var/log", 0o755, Owner::Root),
    ("/var/log/pve", 0o755, Owner::Root),
    ("/var/log/pve/tasks", 0o755, Owner::Root),
    ("/var/log/pveproxy", 0o700, Owner::Web),
    ("/var/tmp", 0o1777, Owner::Root),
    ("/mnt", 0o755, Owner::Root),
];

/// Links, and where they lead: relative, so that they stay below the root.
const LINKS: [(&str, &str); 2] = [("/var/run", "../run"), ("/var/lock", "../run/lock")];

/// Makes directories, first files, `/etc/pve` and the certificates.
pub(crate) fn prepare(context: &Context) -> Result<(), LabError> {
    let site = &context.site;
    // The modes below are meant as they are.
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    for (path, mode, owner) in DIRECTORIES {
        make_directory(site, path, mode, owner)?;
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

fn make_directory(site: &Site, path: &str, mode: u32, owner: Owner) -> Result<(), LabError> {
    let directory = site.path(path);
    std::fs::create_dir_all(&directory).map_err(LabError::file("create directory", &directory))?;
    let ids = match owner {
        Owner::Root => site.root_user,
        Owner::RootWeb => Ids {
            uid: site.root_user.uid,
            gid: site.web_user.gid,
        },
        Owner::Web => site.web_user,
    };
    chown(&directory, Some(ids.uid), Some(ids.gid)).map_err(LabError::file("give away", &directory))?;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&directory, permissions).map_err(LabError::file("set the mode of", &directory))
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
