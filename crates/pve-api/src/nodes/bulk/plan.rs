//! Which guests are started or stopped, and in which order.

use std::collections::BTreeMap;
use std::fmt;

use pve_cfs::{Cfs, CfsError, GuestEntry, GuestKind};
use pve_schema::check::boolean_word;
use pve_schema::ids::VmId;
use pve_schema::startup::Startup;

use crate::cluster::resources::ha::HaStates;

/// A guest as its messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guest {
    /// Its number.
    pub(super) vmid: VmId,
    /// What it is.
    pub(super) kind: GuestKind,
    /// Its place, and how long to wait for it.
    pub(super) startup: Startup,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.label(), self.vmid)
    }
}

/// What a guest must be to be in the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Only these.
    pub(super) vms: Option<&'a [VmId]>,
    /// Only those that start with the node.
    pub(super) onboot: bool,
}

/// The guests of this node that are wanted, those of one place in the order together: the first to start first. Guests
/// that a high-availability manager starts and stops are in it only if they are named.
pub(super) fn plan(cfs: &Cfs, wanted: Wanted<'_>) -> Result<Vec<Vec<Guest>>, CfsError> {
    let own = &cfs.site().node;
    let ha = HaStates::load(cfs)?;
    let mut guests = Vec::new();
    for entry in cfs.guests()?.into_iter().filter(|entry| entry.node == *own) {
        let is_named = wanted.vms.is_some_and(|vms| vms.contains(&entry.vmid));
        let is_left_out = match wanted.vms {
            Some(_) => !is_named,
            None => ha.of_guest(&entry).is_some(),
        };
        if is_left_out {
            continue;
        }
        let options = cfs.guest_options(&entry, &["onboot", "startup", "template"])?;
        if is_wanted(&options, wanted) {
            guests.push(guest(&entry, &options));
        }
    }
    Ok(in_order(guests))
}

fn is_wanted(options: &BTreeMap<String, String>, wanted: Wanted<'_>) -> bool {
    let flag = |name: &str| options.get(name).and_then(|word| boolean_word(word)) == Some(true);
    !flag("template") && (!wanted.onboot || flag("onboot"))
}

fn guest(entry: &GuestEntry, options: &BTreeMap<String, String>) -> Guest {
    let startup = options.get("startup").and_then(|text| text.parse().ok());
    Guest {
        vmid: entry.vmid,
        kind: entry.kind,
        startup: startup.unwrap_or_default(),
    }
}

/// Guests without a place come last.
fn in_order(mut guests: Vec<Guest>) -> Vec<Vec<Guest>> {
    let place = |guest: &Guest| guest.startup.order.unwrap_or(u32::MAX);
    guests.sort_by_key(|guest| (place(guest), guest.vmid));
    guests
        .chunk_by(|a, b| place(a) == place(b))
        .map(<[Guest]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmids(groups: &[Vec<Guest>]) -> Vec<Vec<u32>> {
        let group = |group: &Vec<Guest>| group.iter().map(|guest| guest.vmid.get()).collect();
        groups.iter().map(group).collect()
    }

    fn lab(configs: &[(&str, &str)]) -> (tempfile::TempDir, Cfs) {
        let root = tempfile::tempdir().unwrap();
        let cfs = Cfs::new(&pve_testing::context(root.path(), "n1"));
        cfs.ensure_tree().unwrap();
        cfs.make_dir("nodes/n2").unwrap();
        cfs.make_dir("nodes/n2/qemu-server").unwrap();
        for (path, config) in configs {
            cfs.write(path, config.as_bytes()).unwrap();
        }
        (root, cfs)
    }

    const ALL: Wanted<'_> = Wanted {
        vms: None,
        onboot: false,
    };

    /// Reference 06b, vector 28.
    #[test]
    fn the_lower_the_place_the_earlier_and_no_place_is_last() {
        let (_root, cfs) = lab(&[
            ("qemu-server/101.conf", "startup: order=2\n"),
            ("qemu-server/103.conf", "startup: order=1\n"),
            ("qemu-server/102.conf", ""),
            ("lxc/100.conf", "startup: order=1\n"),
        ]);
        let mut planned = plan(&cfs, ALL).unwrap();
        assert_eq!(vmids(&planned), [vec![100, 103], vec![101], vec![102]]);
        planned.reverse();
        planned.iter_mut().for_each(|group| group.reverse());
        assert_eq!(vmids(&planned).concat(), [102, 101, 103, 100]);
    }

    #[test]
    fn templates_and_guests_of_others_are_left_out() {
        let (_root, cfs) = lab(&[
            ("qemu-server/100.conf", "template: 1\nonboot: 1\n"),
            ("qemu-server/101.conf", "onboot: 1\n"),
            ("qemu-server/102.conf", "onboot: 0\n"),
            ("qemu-server/103.conf", "onboot: 1\nstartup: nonsense\n"),
            ("nodes/n2/qemu-server/104.conf", "onboot: 1\n"),
            ("ha/resources.cfg", "vm: 103\n\nct: 101\n"),
        ]);
        let of = |wanted| vmids(&plan(&cfs, wanted).unwrap()).concat();
        assert_eq!(of(ALL), [101, 102]);
        assert_eq!(of(Wanted { onboot: true, ..ALL }), [101]);
        let named: Vec<VmId> = [100, 102, 103, 104, 999].map(|n: u32| n.try_into().unwrap()).to_vec();
        let vms = Some(named.as_slice());
        assert_eq!(of(Wanted { vms, onboot: false }), [102, 103]);
        assert_eq!(of(Wanted { vms, onboot: true }), [103]);
    }
}
