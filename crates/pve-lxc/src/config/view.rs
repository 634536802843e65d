//! A container's config with its types.

use pve_guest::Section;
use pve_schema::ids::VmId;
use pve_schema::size;

/// Memory of a container whose config names none, MiB.
const DEFAULT_MEMORY: u64 = 512;
/// What the root disk is taken for while nobody knows its size, bytes.
const DEFAULT_DISK: u64 = 4 << 30;
const MIB: u64 = 1 << 20;

/// A look at one section of a container's config through the types of its keys. A value that does not fit its type
/// counts as not set.
#[derive(Debug, Clone, Copy)]
pub struct ContainerConfig<'a>(&'a Section);

impl<'a> ContainerConfig<'a> {
    /// A look at a section.
    pub fn new(section: &'a Section) -> Self {
        Self(section)
    }

    /// A key's text.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.0.get(key).filter(|text| !text.is_empty())
    }

    /// What lists call it: its host name, or its number.
    pub fn name(self, vmid: VmId) -> String {
        let name: String = self.get("hostname").unwrap_or_default().split_whitespace().collect();
        if name.is_empty() { format!("CT{vmid}") } else { name }
    }

    /// Number of CPUs that it may use; `None` for all.
    pub fn cores(self) -> Option<u64> {
        self.0.integer("cores").filter(|cores| *cores > 0)
    }

    /// How many CPUs it counts for: those that it may use, or what it is limited to; `None` for all.
    pub fn cpus(self) -> Option<f64> {
        let limit = self
            .0
            .number("cpulimit")
            .filter(|limit| *limit > 0.0 && limit.is_finite());
        // A small number.
        #[allow(clippy::cast_precision_loss)]
        self.cores().map(|cores| cores as f64).or(limit)
    }

    /// Memory in bytes.
    pub fn memory(self) -> u64 {
        let configured = self.0.integer("memory").filter(|memory| *memory > 0);
        configured.unwrap_or(DEFAULT_MEMORY).saturating_mul(MIB)
    }

    /// Swap in bytes: none unless the config names it.
    pub fn swap(self) -> u64 {
        self.0.integer("swap").unwrap_or(0).saturating_mul(MIB)
    }

    /// The size of the root disk in bytes, as the config has it.
    pub fn disk(self) -> u64 {
        let rootfs = self.get("rootfs").unwrap_or_default();
        let size = rootfs.split(',').find_map(|part| part.strip_prefix("size="));
        size.and_then(size::parse)
            .filter(|size| *size > 0)
            .unwrap_or(DEFAULT_DISK)
    }

    /// Whether its CPUs are said by a line for LXC, which nothing else changes.
    pub fn pins_cpus(self) -> bool {
        let pins = ["lxc.cgroup.cpuset.cpus", "lxc.cgroup2.cpuset.cpus"];
        self.0.raw.iter().any(|(key, _)| pins.contains(&key.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use pve_guest::GuestConfig;

    use super::*;
    use crate::config::ContainerRules;

    #[test]
    fn what_is_not_said_has_a_default() {
        let vmid: VmId = "812".parse().unwrap();
        let look = |text: &str| {
            let config = GuestConfig::parse(&ContainerRules, vmid, text.as_bytes()).config;
            let ct = ContainerConfig::new(&config.main);
            (
                ct.name(vmid),
                ct.cpus(),
                ct.memory() >> 20,
                ct.swap() >> 20,
                ct.disk() >> 20,
            )
        };
        assert_eq!(look(""), ("CT812".to_owned(), None, 512, 0, 4096));
        let full = "hostname: we b\ncores: 2\ncpulimit: 0.5\nmemory: 64\nswap: 8\nrootfs: l:812/x.raw,size=1G\n";
        assert_eq!(look(full), ("web".to_owned(), Some(2.0), 64, 8, 1024));
        assert_eq!(look("cpulimit: 0.5\n").1, Some(0.5));
        assert_eq!(look("cpulimit: 0\nmemory: abc\nrootfs: l:x,size=x\n"), look(""));
    }
}
