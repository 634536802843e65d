//! What a container uses, as its control group tells (reference 04 §14.3, 07 §8).
//!
//! | figure | second version | first version |
//! |---|---|---|
//! | CPU time | `cpu.stat` | `cpuacct/…/cpuacct.usage` |
//! | memory | `memory.current` without `file` of `memory.stat` | `memory/…/memory.usage_in_bytes` without `total_cache` |
//! | swap | `memory.swap.current` | `memory.memsw.usage_in_bytes` without the memory |
//! | disk | `io.stat` | `blkio/…/blkio.throttle.io_service_bytes_recursive` |
//! | waits | `*.pressure` | |
//!
//! Where both versions are mounted, the second one is below `unified`, and knows what the first one does not: a figure is
//! taken where it is.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// The control groups of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    root: PathBuf,
    /// Whether there is nothing but the second version.
    pure: bool,
}

/// What a container used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in milliseconds.
    pub cpu: u64,
    /// Memory in bytes, without files that are only cached.
    pub memory: u64,
    /// Swap in bytes.
    pub swap: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
}

/// How long the container's tasks wait for one resource, per cent of the last ten seconds, as the kernel prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some of them.
    pub some: Option<String>,
    /// All of them.
    pub full: Option<String>,
}

impl Groups {
    /// What is mounted at a directory.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            pure: root.join("cgroup.controllers").exists(),
        }
    }

    /// Whether there is nothing but the second version.
    pub(crate) fn is_pure(&self) -> bool {
        self.pure
    }

    /// The root of the hierarchy that has a controller.
    pub(crate) fn base(&self, controller: &str) -> PathBuf {
        if self.pure {
            self.root.clone()
        } else {
            self.root.join(controller)
        }
    }

    /// What a group used.
    pub(super) fn usage(&self, group: &Path) -> Usage {
        let first = |controller: &str, file: &str| self.text_of(Some(controller), group, file);
        let second = |file: &str| self.text_of(None, group, file);
        let memory = memory(first("memory", "memory.usage_in_bytes"), first("memory", "memory.stat"));
        let (read, written) = match first("blkio", "blkio.throttle.io_service_bytes_recursive") {
            Some(text) => (sum_of(&text, "Read"), sum_of(&text, "Write")),
            None => disk(&second("io.stat").unwrap_or_default()),
        };
        Usage {
            cpu: match first("cpuacct", "cpuacct.usage") {
                Some(text) => number(&text) / 1_000_000,
                None => cpu(&second("cpu.stat").unwrap_or_default()),
            },
            memory: memory.unwrap_or_else(|| {
                let used = number(&second("memory.current").unwrap_or_default());
                used.saturating_sub(field(&second("memory.stat").unwrap_or_default(), "file"))
            }),
            swap: match first("memory", "memory.memsw.usage_in_bytes") {
                Some(text) => {
                    let memory = first("memory", "memory.usage_in_bytes").unwrap_or_default();
                    number(&text).saturating_sub(number(&memory))
                }
                None => number(&second("memory.swap.current").unwrap_or_default()),
            },
            read,
            written,
        }
    }

    /// How long a group's tasks wait for a resource: `cpu`, `io` or `memory`.
    pub(super) fn pressure(&self, group: &Path, resource: &str) -> Pressure {
        pressure(
            &self
                .text_of(None, group, &format!("{resource}.pressure"))
                .unwrap_or_default(),
        )
    }

    /// A file of a group: in a hierarchy of the first version, or in that of the second.
    fn text_of(&self, controller: Option<&str>, group: &Path, file: &str) -> Option<String> {
        let hierarchy = match controller {
            Some(_) if self.pure => return None,
            Some(controller) => self.root.join(controller),
            None if self.pure => self.root.clone(),
            None => self.root.join("unified"),
        };
        fs::read_to_string(hierarchy.join(group).join(file)).ok()
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// The value behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, number)
}

/// Of the first version; `None` where it does not tell.
fn memory(usage: Option<String>, stat: Option<String>) -> Option<u64> {
    let cached = field(&stat.unwrap_or_default(), "total_cache");
    Some(number(&usage?).saturating_sub(cached))
}

/// Milliseconds of programs and of the kernel, each without its rest.
fn cpu(stat: &str) -> u64 {
    (field(stat, "user_usec") / 1000).saturating_add(field(stat, "system_usec") / 1000)
}

/// `8:0 rbytes=1 wbytes=2 …`, a line per device.
fn disk(text: &str) -> (u64, u64) {
    let sum = |name: &str| {
        let words = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name));
        words.map(number).fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// `8:0 Read 1`, a line per device and direction.
fn sum_of(text: &str, direction: &str) -> u64 {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        (words.next()? == direction).then(|| words.next().map_or(0, number))
    };
    text.lines().filter_map(of_line).fold(0, u64::saturating_add)
}

fn pressure(text: &str) -> Pressure {
    let of = |line: &str| {
        let line = text.lines().find_map(|found| found.strip_prefix(line))?;
        line.split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("avg10="))
            .map(str::to_owned)
    };
    Pressure {
        some: of("some "),
        full: of("full "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files as the kernel shows them.
    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Groups) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let groups = Groups::at(root.path());
        (root, groups)
    }

    const PRESSURE: &str =
        "some avg10=1.25 avg60=0.50 avg300=0.10 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0 total=0\n";
    const EXPECTED: Usage = Usage {
        cpu: 1234 + 567,
        memory: 9_000_000 - 8_000_000,
        swap: 4096,
        read: 1100,
        written: 2200,
    };

    fn told() -> Pressure {
        Pressure {
            some: Some("1.25".to_owned()),
            full: Some("0.00".to_owned()),
        }
    }

    #[test]
    fn the_second_version_is_read() {
        let (_root, groups) = tree(&[
            ("cgroup.controllers", "cpuset cpu io memory pids\n"),
            (
                "lxc/100/cpu.stat",
                "usage_usec 1802997\nuser_usec 1234999\nsystem_usec 567998\nnice_usec 5\n",
            ),
            ("lxc/100/memory.current", "9000000\n"),
            (
                "lxc/100/memory.stat",
                "anon 1000000\nfile_mapped 7\nfile 8000000\nkernel 5\n",
            ),
            ("lxc/100/memory.swap.current", "4096\n"),
            (
                "lxc/100/io.stat",
                "8:0 rbytes=1000 wbytes=2000 rios=1 wios=2 dbytes=9 dios=0\n7:0 rbytes=100 wbytes=200 rios=1\n",
            ),
            ("lxc/100/cpu.pressure", PRESSURE),
        ]);
        let group = Path::new("lxc/100");
        assert!(groups.is_pure());
        assert_eq!(groups.usage(group), EXPECTED);
        assert_eq!(groups.pressure(group, "cpu"), told());
        assert_eq!(
            groups.pressure(group, "io"),
            Pressure::default(),
            "the kernel does not tell"
        );
        assert_eq!(groups.usage(Path::new("lxc/101")), Usage::default());
        assert_eq!(groups.base("cpuset"), groups.root);
    }

    #[test]
    fn the_first_version_is_read_with_the_second_beside_it() {
        let (root, groups) = tree(&[
            ("cpuacct/lxc/100/cpuacct.usage", "1801999999\n"),
            // Of the hierarchy without controllers; the first version's counts.
            ("unified/lxc/100/cpu.stat", "user_usec 5\nsystem_usec 5\n"),
            ("memory/lxc/100/memory.usage_in_bytes", "9000000\n"),
            (
                "memory/lxc/100/memory.stat",
                "cache 0\ntotal_cache 8000000\ntotal_cache_x 1\n",
            ),
            ("memory/lxc/100/memory.memsw.usage_in_bytes", "9004096\n"),
            (
                "blkio/lxc/100/blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 1000\n8:0 Write 2000\n8:0 Sync 1\n8:0 Total 3000\n7:0 Read 100\n7:0 Write 200\nTotal 3300\n",
            ),
            ("unified/lxc/100/cpu.pressure", PRESSURE),
        ]);
        let group = Path::new("lxc/100");
        assert!(!groups.is_pure());
        assert_eq!(groups.usage(group), EXPECTED);
        assert_eq!(groups.pressure(group, "cpu"), told());
        assert_eq!(groups.base("cpuset"), root.path().join("cpuset"));
        // A controller that is mounted in its second version only.
        fs::remove_dir_all(root.path().join("cpuacct")).unwrap();
        assert_eq!(groups.usage(group).cpu, 0, "less than a millisecond of each");
        fs::write(
            root.path().join("unified/lxc/100/cpu.stat"),
            "user_usec 2000\nsystem_usec 1000\n",
        )
        .unwrap();
        assert_eq!(groups.usage(group).cpu, 3);
    }

    #[test]
    fn nonsense_is_nothing() {
        let (_root, groups) = tree(&[
            ("memory/lxc/100/memory.usage_in_bytes", "x\n"),
            ("memory/lxc/100/memory.stat", "total_cache 5\n"),
            (
                "blkio/lxc/100/blkio.throttle.io_service_bytes_recursive",
                "8:0\n8:0 Read\n8:0 Read x\nTotal\n",
            ),
        ]);
        assert_eq!(groups.usage(Path::new("lxc/100")), Usage::default());
        assert_eq!(
            disk("8:0 rbytes=18446744073709551615 wbytes=\n7:0 rbytes=1"),
            (u64::MAX, 0)
        );
        assert_eq!(pressure("some\nfull avg60=1\n"), Pressure::default());
    }
}
