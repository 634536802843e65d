//! Spreading containers that may use fewer CPUs than there are over them (reference 04 §12).
//!
//! | module | holds |
//! |---|---|
//! | [`set`] | sets of CPUs as text |
//! | [`plan`] | who gets which CPUs, as values |
//! | here | reading and writing the control groups |
//!
//! A container `C` has two groups: `lxc/C`, which bounds it, and `lxc/C/ns` below, in which its processes are. To widen
//! the inner one the outer one has to be wide first, so a change goes outer (all CPUs), inner, outer.

pub mod plan;
pub mod set;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pve_schema::Context;
use pve_schema::ids::VmId;

use crate::config::ContainerConfig;
use crate::files;
use crate::names;
use crate::status::groups::{Groups, ROOT};
use plan::{Seen, Write};
pub use set::CpuSet;

/// What is remembered of the work from cycle to cycle.
#[derive(Debug, Default)]
pub struct Balancer {
    /// Set once there turned out to be no controller for it.
    off: bool,
    /// Containers whose groups could not be written, each with why.
    failing: BTreeMap<VmId, String>,
}

/// Why the work cannot be done at all.
#[derive(Debug, thiserror::Error)]
enum NoController {
    #[error("no cpuset controller at '{0}'")]
    Missing(PathBuf),
    #[error("'{path}' - {text}")]
    Unclear { path: PathBuf, text: String },
}

impl Balancer {
    /// Spreads the containers of this node, and tells of those with which that fails.
    pub fn run(&mut self, context: &Context, containers: &[VmId]) -> Vec<(VmId, String)> {
        self.run_at(context, Path::new(ROOT), containers)
    }

    fn run_at(&mut self, context: &Context, root: &Path, containers: &[VmId]) -> Vec<(VmId, String)> {
        if self.off {
            return Vec::new();
        }
        let (base, allowed) = match controller(&Groups::at(root)) {
            Ok(found) => found,
            Err(error) => {
                log::info!("could not get cpuset controller path: {error}");
                self.off = true;
                return Vec::new();
            }
        };
        let parent = base.join(names::control_group(&context.site));
        let seen: Vec<Seen> = by_text(containers)
            .into_iter()
            .filter_map(|vmid| look(context, &parent, vmid))
            .collect();
        self.failing
            .retain(|vmid, _| seen.iter().any(|seen| seen.vmid == *vmid));
        for write in plan::plan(&allowed, &seen) {
            self.write(&parent, &allowed, &write);
        }
        self.failing
            .iter()
            .map(|(vmid, error)| (*vmid, error.clone()))
            .collect()
    }

    fn write(&mut self, parent: &Path, allowed: &CpuSet, write: &Write) {
        if !self.failing.contains_key(&write.vmid) {
            log::info!("modified cpu set for lxc/{}: {}", write.vmid, write.set.short());
        }
        let directory = parent.join(write.vmid.to_string());
        match apply(&directory, allowed, write) {
            Ok(()) => drop(self.failing.remove(&write.vmid)),
            Err(error) => drop(self.failing.insert(write.vmid, error.to_string())),
        }
    }
}

/// The hierarchy that has the controller, and the CPUs that there are.
fn controller(groups: &Groups) -> Result<(PathBuf, CpuSet), NoController> {
    let base = groups.base("cpuset");
    let file = if groups.is_pure() {
        "cpuset.cpus.effective"
    } else {
        "cpuset.effective_cpus"
    };
    let path = base.join(file);
    let text = fs::read_to_string(&path).map_err(|_| NoController::Missing(base.clone()))?;
    let allowed = CpuSet::parse(&text).map_err(|error| NoController::Unclear {
        path,
        text: error.to_string(),
    })?;
    Ok((base, allowed))
}

/// In the order of their numbers' text, as upstream sorts them.
fn by_text(containers: &[VmId]) -> Vec<VmId> {
    let mut sorted = containers.to_vec();
    sorted.sort_by_cached_key(ToString::to_string);
    sorted
}

/// What is to be known of a container; `None` for one that does not run or is not started the usual way.
fn look(context: &Context, parent: &Path, vmid: VmId) -> Option<Seen> {
    let directory = parent.join(vmid.to_string());
    if !directory.join("ns").is_dir() {
        return None;
    }
    let text = fs::read_to_string(directory.join("cpuset.cpus")).ok()?;
    let config = files::load_silently(context, vmid).ok()??;
    let ct = ContainerConfig::new(&config.main);
    Some(Seen {
        vmid,
        current: CpuSet::parse(&text).ok()?,
        cores: ct.cores(),
        pinned: ct.pins_cpus(),
    })
}

/// Widens the outer group, changes the inner one, and makes the outer one follow; on failure it is as it was.
fn apply(directory: &Path, allowed: &CpuSet, write: &Write) -> io::Result<()> {
    let outer = directory.join("cpuset.cpus");
    let inner = directory.join("ns/cpuset.cpus");
    let set = |path: &Path, set: &CpuSet| fs::write(path, format!("{}\n", set.list()));
    set(&outer, allowed)?;
    match set(&inner, &write.set) {
        Ok(()) => set(&outer, &write.set),
        Err(error) => {
            set(&outer, &write.before)?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use pve_cfs::Cfs;

    use super::*;

    /// A node with containers, and the files of their control groups.
    struct Node {
        root: tempfile::TempDir,
        context: Context,
    }

    impl Node {
        fn new(pure: bool, allowed: &str, containers: &[(&str, &str, &str)]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let context = pve_testing::context(root.path().join("site"), "n1");
            let cfs = Cfs::new(&context);
            cfs.ensure_tree().unwrap();
            let node = Self { root, context };
            let base = node.base(pure);
            fs::create_dir_all(&base).unwrap();
            if pure {
                fs::write(base.join("cgroup.controllers"), "cpuset\n").unwrap();
                fs::write(base.join("cpuset.cpus.effective"), allowed).unwrap();
            } else {
                fs::write(base.join("cpuset.effective_cpus"), allowed).unwrap();
            }
            for (vmid, config, cpus) in containers {
                cfs.create(&format!("nodes/n1/lxc/{vmid}.conf"), config.as_bytes())
                    .unwrap();
                let directory = base.join("lxc").join(vmid);
                fs::create_dir_all(directory.join("ns")).unwrap();
                fs::write(directory.join("cpuset.cpus"), format!("{cpus}\n")).unwrap();
                fs::write(directory.join("ns/cpuset.cpus"), format!("{cpus}\n")).unwrap();
            }
            node
        }

        fn cgroups(&self) -> PathBuf {
            self.root.path().join("cgroup")
        }

        fn base(&self, pure: bool) -> PathBuf {
            if pure {
                self.cgroups()
            } else {
                self.cgroups().join("cpuset")
            }
        }

        fn run(&self, balancer: &mut Balancer) -> Vec<(VmId, String)> {
            let vmids = files::list(&self.context).unwrap();
            balancer.run_at(&self.context, &self.cgroups(), &vmids)
        }

        fn cpus(&self, pure: bool, vmid: &str) -> [String; 2] {
            let directory = self.base(pure).join("lxc").join(vmid);
            ["cpuset.cpus", "ns/cpuset.cpus"].map(|file| fs::read_to_string(directory.join(file)).unwrap())
        }
    }

    #[test]
    fn both_versions_of_control_groups_are_written() {
        for pure in [true, false] {
            let containers = [
                ("100", "cores: 1\n", "0"),
                ("101", "cores: 1\n", "0"),
                ("102", "", "0-3"),
            ];
            let node = Node::new(pure, "0-3\n", &containers);
            let mut balancer = Balancer::default();
            assert_eq!(node.run(&mut balancer), []);
            // The first of two on one CPU goes to another one, which nobody else has alone.
            assert_eq!(node.cpus(pure, "100"), ["1\n", "1\n"], "{pure}");
            assert_eq!(node.cpus(pure, "101"), ["0\n", "0\n"]);
            assert_eq!(node.cpus(pure, "102"), ["0-3\n", "0-3\n"], "untouched");
            assert_eq!(node.run(&mut balancer), []);
            assert_eq!(node.cpus(pure, "100"), ["1\n", "1\n"], "balanced is balanced");
        }
    }

    #[test]
    fn what_cannot_be_written_is_as_it_was_and_told_until_it_can() {
        let node = Node::new(
            true,
            "0-3\n",
            &[("100", "cores: 1\n", "2-3"), ("101", "cores: 2\n", "")],
        );
        let inner = node.base(true).join("lxc/100/ns/cpuset.cpus");
        // A directory cannot be written as a file.
        fs::remove_file(&inner).unwrap();
        fs::create_dir(&inner).unwrap();
        let mut balancer = Balancer::default();
        let faults = node.run(&mut balancer);
        assert_eq!((faults.len(), faults[0].0.get()), (1, 100));
        let outer = fs::read_to_string(node.base(true).join("lxc/100/cpuset.cpus")).unwrap();
        assert_eq!(outer, "2,3\n");
        assert_eq!(node.cpus(true, "101"), ["0,1\n", "0,1\n"], "the other one has its CPUs");
        fs::remove_dir(&inner).unwrap();
        assert_eq!(node.run(&mut balancer), []);
        assert_eq!(node.cpus(true, "100"), ["2\n", "2\n"]);
    }

    #[test]
    fn without_a_controller_nothing_is_done_any_more() {
        let node = Node::new(false, "x\n", &[("100", "cores: 1\n", "0-3")]);
        let mut balancer = Balancer::default();
        assert_eq!(node.run(&mut balancer), []);
        fs::write(node.base(false).join("cpuset.effective_cpus"), "0-3\n").unwrap();
        assert_eq!(node.run(&mut balancer), []);
        assert_eq!(node.cpus(false, "100"), ["0-3\n", "0-3\n"]);
        assert_eq!(node.run(&mut Balancer::default()), []);
        assert_eq!(node.cpus(false, "100"), ["0\n", "0\n"]);
    }
}
