//! Which containers run: those whose monitor takes commands (reference 04 §14.3).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pve_schema::Site;
use pve_schema::ids::VmId;

use crate::names;

/// The running containers of this site, each with the inode of its monitor's socket, which no other monitor had.
pub(super) fn running(site: &Site) -> BTreeMap<VmId, u64> {
    let text = fs::read("/proc/net/unix").unwrap_or_default();
    parse(&String::from_utf8_lossy(&text), &names::lxc_path(site))
}

/// Lines of address, counts, flags, type, state, inode and name; `@` stands for the zero byte of an abstract one.
fn parse(text: &str, lxc_path: &Path) -> BTreeMap<VmId, u64> {
    let Some(prefix) = lxc_path.to_str().map(|path| format!("{path}/")) else {
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for line in text.lines().skip(1) {
        let Some((numbers, name)) = line.split_once(" @") else {
            continue;
        };
        let vmid = name
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix("/command"))
            .and_then(|vmid| vmid.parse::<VmId>().ok());
        let mut fields = numbers.split_ascii_whitespace();
        let flags = fields.nth(3);
        let inode = fields.nth(2).and_then(|inode| inode.parse().ok());
        // A connection has the name of the socket that it was made at, but does not listen. Another network namespace's
        // sockets are not shown, yet another type of socket may have the same name.
        if let (Some(vmid), Some("00010000"), Some(inode)) = (vmid, flags, inode) {
            found.entry(vmid).or_insert(inode);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_runs_if_its_monitor_listens() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            00000000e400ee9b: 00000002 00000000 00010000 0001 01 4325480 @/var/lib/lxc/777/command\n\
            00000000e400ee9b: 00000002 00000000 00010000 0001 01 4325499 @/var/lib/lxc/777/command\n\
            00000000e400ee9c: 00000003 00000000 00000000 0001 03 4325481 @/var/lib/lxc/778/command\n\
            00000000e400ee9d: 00000002 00000000 00010000 0001 01 4325482 @/L/var/lib/lxc/779/command\n\
            00000000e400ee9e: 00000002 00000000 00010000 0001 01 4325483 /var/lib/lxc/780/command\n\
            00000000e400ee9f: 00000002 00000000 00010000 0001 01 4325484 @/var/lib/lxc/781/commands\n\
            00000000e400eea0: 00000002 00000000 00010000 0001 01 4325485\n\
            00000000e400eea1: 00000002 00000000 00010000 0001 01 4325486 @/var/lib/lxc/web/command\n";
        let found = parse(text, Path::new("/var/lib/lxc"));
        assert_eq!(found, BTreeMap::from([("777".parse().unwrap(), 4_325_480)]));
        let of_lab = parse(text, Path::new("/L/var/lib/lxc"));
        assert_eq!(of_lab, BTreeMap::from([("779".parse().unwrap(), 4_325_482)]));
    }
}
