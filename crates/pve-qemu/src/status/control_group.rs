//! What the kernel counts of a VM's control group: the host's memory that it takes, and how long it waits.
//!
//! With version 2 of control groups that is `qemu.slice/VMID.scope` (reference 04 §14.1, §14.2), in a lab
//! `qemu.slice/INSTANCE-VMID.scope`. Version 1 knows memory only: `memory.usage_in_bytes` and `memory.stat`, and no
//! pressure unless the tree of version 2 is mounted beside it. A VM without a group of its own has none of this.

use std::path::{Path, PathBuf};

use pve_schema::Site;
use pve_schema::ids::VmId;

use crate::small;

/// Where the kernel's control groups are on every machine.
const KERNEL: &str = "/sys/fs/cgroup";
/// Longest file: `memory.stat` has some 2 KiB.
const LONGEST: usize = 16 << 10;
/// The resources of which there is pressure, in the order of [`PRESSURES`].
const RESOURCES: [&str; 3] = ["cpu", "io", "memory"];

/// The fields of a row, some and full of each resource.
pub(crate) const PRESSURES: [&str; 6] = [
    "pressurecpusome",
    "pressurecpufull",
    "pressureiosome",
    "pressureiofull",
    "pressurememorysome",
    "pressurememoryfull",
];

/// The control groups of a site's VMs.
#[derive(Debug)]
pub(crate) struct ControlGroups {
    memory: PathBuf,
    /// Files in the memory group: what is used, and what of that in `memory.stat` is cache.
    names: (&'static str, &'static str),
    /// Where pressure is told, if anywhere.
    pressure: Option<PathBuf>,
    prefix: String,
    buffer: Vec<u8>,
}

/// What a group says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Group {
    /// Memory in use without the cache of files, in bytes.
    pub memory: u64,
    /// Per cent of the last ten seconds, as [`PRESSURES`] names them; 0 for what is not told.
    pub pressure: [f64; 6],
}

impl ControlGroups {
    /// Those that a site's root brings with it, else the kernel's. Without an instance's name in the groups' names, a root
    /// that is not the machine's would find groups of the machine's own VMs there.
    pub(crate) fn of(site: &Site) -> Self {
        let own = site.path(KERNEL);
        let base = if own.is_dir() || site.instance.is_none() {
            own
        } else {
            PathBuf::from(KERNEL)
        };
        let instance = site.instance.as_ref();
        Self::below(
            &base,
            instance.map_or_else(String::new, |mark| format!("{}-", mark.as_str())),
        )
    }

    fn below(base: &Path, prefix: String) -> Self {
        let slice = |tree: PathBuf| tree.join("qemu.slice");
        let is_second = |tree: &Path| tree.join("cgroup.controllers").exists();
        let (memory, names, pressure) = if is_second(base) {
            (base.to_owned(), ("memory.current", "file"), Some(base.to_owned()))
        } else {
            let beside = base.join("unified");
            let pressure = is_second(&beside).then_some(beside);
            (base.join("memory"), ("memory.usage_in_bytes", "total_cache"), pressure)
        };
        Self {
            memory: slice(memory),
            names,
            pressure: pressure.map(slice),
            prefix,
            buffer: vec![0; LONGEST],
        }
    }

    /// Reads a VM's group; `None` if it has none.
    pub(crate) fn read(&mut self, vmid: VmId) -> Option<Group> {
        let scope = format!("{}{vmid}.scope", self.prefix);
        let memory = self.memory.join(&scope);
        let (used, cache) = self.names;
        let used: u64 = small::read(&memory.join(used), &mut self.buffer)?
            .trim_ascii_end()
            .parse()
            .ok()?;
        let statistics = small::read(&memory.join("memory.stat"), &mut self.buffer).unwrap_or_default();
        let cache = value_of(statistics, cache).unwrap_or(0);
        Some(Group {
            memory: used.saturating_sub(cache),
            pressure: self.pressure(&scope),
        })
    }

    fn pressure(&mut self, scope: &str) -> [f64; 6] {
        let mut all = [0.0; 6];
        let Some(group) = self.pressure.as_ref().map(|slice| slice.join(scope)) else {
            return all;
        };
        for (pair, resource) in all.chunks_exact_mut(2).zip(RESOURCES) {
            let file = group.join(format!("{resource}.pressure"));
            let text = small::read(&file, &mut self.buffer).unwrap_or_default();
            for (value, kind) in pair.iter_mut().zip(["some", "full"]) {
                *value = average(text, kind).unwrap_or(0.0);
            }
        }
        all
    }
}

/// A line `KEY NUMBER`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

/// `avg10` of the line of a kind.
fn average(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let mut words = line.split_ascii_whitespace();
    words.find_map(|word| word.strip_prefix("avg10=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PRESSURE: &str = "some avg10=1.25 avg60=0.50 avg300=0.10 total=12345\nfull avg10=0.75 avg60=0.00 avg300=0.00 \
        total=5\n";

    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
    }

    fn read(base: &Path, prefix: &str) -> Option<Group> {
        ControlGroups::below(base, prefix.to_owned()).read(105.try_into().unwrap())
    }

    #[test]
    fn the_second_version_tells_memory_and_pressure() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        write(base, &[("cgroup.controllers", "cpu io memory\n")]);
        assert_eq!(read(base, ""), None);
        let group = base.join("qemu.slice/105.scope");
        write(&group, &[("memory.current", "1000000\n")]);
        let bare = Group {
            memory: 1_000_000,
            pressure: [0.0; 6],
        };
        assert_eq!(read(base, ""), Some(bare), "what is missing is 0");
        let rest = [
            ("memory.stat", "anon 7\nfile_mapped 1\nfile 400000\nkernel 9\n"),
            ("cpu.pressure", PRESSURE),
            ("io.pressure", "some avg10=3.00 avg60=0.00 avg300=0.00 total=0\n"),
            ("memory.pressure", "full avg10=99.99 avg60=0.00 avg300=0.00 total=0\n"),
        ];
        write(&group, &rest);
        let full = Group {
            memory: 600_000,
            pressure: [1.25, 0.75, 3.0, 0.0, 0.0, 99.99],
        };
        assert_eq!(read(base, ""), Some(full));
        assert_eq!(read(base, "la1-"), None, "a lab's machines have groups of their own");
        fs::rename(&group, base.join("qemu.slice/la1-105.scope")).unwrap();
        assert_eq!(read(base, "la1-"), Some(full));
    }

    #[test]
    fn a_root_without_groups_has_not_the_machines() {
        let directory = tempfile::tempdir().unwrap();
        let mut site = crate::test_site(directory.path());
        site.instance = None;
        let groups = ControlGroups::of(&site);
        assert!(groups.memory.starts_with(directory.path()), "{groups:?}");
        site.instance = Some("la1".to_owned().try_into().unwrap());
        assert!(ControlGroups::of(&site).memory.starts_with(KERNEL));
    }

    #[test]
    fn the_first_version_tells_memory() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        let files = [
            ("memory.usage_in_bytes", "900\n"),
            ("memory.stat", "cache 1\ntotal_cache 300\n"),
        ];
        write(&base.join("memory/qemu.slice/105.scope"), &files);
        let expected = Group {
            memory: 600,
            pressure: [0.0; 6],
        };
        assert_eq!(read(base, ""), Some(expected));
        // The tree of the second version beside it has no controllers, yet tells pressure.
        write(&base.join("unified"), &[("cgroup.controllers", "")]);
        write(
            &base.join("unified/qemu.slice/105.scope"),
            &[("cpu.pressure", PRESSURE)],
        );
        assert_eq!(read(base, "").unwrap().pressure, [1.25, 0.75, 0.0, 0.0, 0.0, 0.0]);
    }
}
