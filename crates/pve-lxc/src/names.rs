//! What a container is called in the kernel and on disk.
//!
//! | what | of the system | of a lab with the mark `k3x` below `/L` |
//! |---|---|---|
//! | LXC's directory | `/var/lib/lxc` | `/L/var/lib/lxc` |
//! | its monitor's socket, abstract | `/var/lib/lxc/100/command` | `/L/var/lib/lxc/100/command` |
//! | control group | `lxc/100` | `k3xlxc/100` |
//! | host's end of a network card | `veth100i0` | `k3xveth100i0` |
//!
//! So a lab's containers are run with `lxc-start -P /L/var/lib/lxc`, and their config has `lxc.cgroup.relative = 0`,
//! `lxc.cgroup.dir.container = k3xlxc/100`, `lxc.cgroup.dir.container.inner = ns`. A socket's name has room for 107 bytes;
//! LXC makes another one of a path that is longer, so a lab's root has to be short.

use std::path::PathBuf;

use pve_schema::Site;
use pve_schema::ids::VmId;

/// LXC's directory: what its tools call the path.
pub fn lxc_path(site: &Site) -> PathBuf {
    site.path("/var/lib/lxc")
}

/// The name of the abstract socket at which a container's monitor takes commands.
pub fn command_socket(site: &Site, vmid: VmId) -> PathBuf {
    lxc_path(site).join(vmid.to_string()).join("command")
}

/// The control group that holds those of all containers, below a hierarchy's root.
pub fn control_group(site: &Site) -> String {
    let mark = site.instance.as_ref().map_or("", |instance| instance.as_str());
    format!("{mark}lxc")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pve_schema::site::Instance;

    use super::*;

    #[test]
    fn a_labs_names_are_its_own() {
        let system = pve_testing::site("/", "n1");
        let lab = Site {
            instance: Some(Instance::try_from("k3x".to_owned()).unwrap()),
            ..pve_testing::site("/L", "n1")
        };
        let vmid: VmId = "100".parse().unwrap();
        assert_eq!(command_socket(&system, vmid), Path::new("/var/lib/lxc/100/command"));
        assert_eq!(command_socket(&lab, vmid), Path::new("/L/var/lib/lxc/100/command"));
        let groups = [&system, &lab].map(control_group);
        assert_eq!(groups, ["lxc", "k3xlxc"]);
    }
}
