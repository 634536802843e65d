//! Counters of network interfaces, and which of them are hardware.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Kernel's number for Ethernet (`ARPHRD_ETHER`).
const ETHERNET: &str = "1";
/// How long it is believed that an interface of a name is hardware, or not (reference 04 §9.4).
const BELIEVED: Duration = Duration::from_secs(900);

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What went through it.
    pub traffic: Traffic,
}

/// Bytes since an interface is there, as the host sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Received.
    pub received: u64,
    /// Sent.
    pub sent: u64,
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(traffic: I) -> Self {
        traffic.fold(Self::default(), |sum, one| Self {
            received: sum.received.saturating_add(one.received),
            sent: sum.sent.saturating_add(one.sent),
        })
    }
}

/// All interfaces.
pub fn interfaces() -> Vec<Interface> {
    parse(&super::text("/proc/net/dev"))
}

/// Which interfaces are hardware, remembered: a node with many guests has many interfaces, and few change.
#[derive(Debug)]
pub struct Hardware {
    known: BTreeMap<String, bool>,
    since: Instant,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            since: Instant::now(),
        }
    }
}

impl Hardware {
    /// The interfaces, each with whether it is hardware.
    pub fn mark(&mut self, interfaces: Vec<Interface>) -> Vec<(Interface, bool)> {
        self.mark_by(interfaces, is_physical)
    }

    fn mark_by(&mut self, interfaces: Vec<Interface>, look: impl Fn(&str) -> bool) -> Vec<(Interface, bool)> {
        if self.since.elapsed() >= BELIEVED {
            *self = Self::default();
        }
        let known = std::mem::take(&mut self.known);
        let marked = interfaces.into_iter().map(|interface| {
            let seen = known.get(&interface.name).copied();
            let physical = seen.unwrap_or_else(|| look(&interface.name));
            self.known.insert(interface.name.clone(), physical);
            (interface, physical)
        });
        marked.collect()
    }
}

/// Whether an interface is Ethernet hardware.
///
/// Upstream asks `ip -details link` for Ethernet interfaces without a kind: those that a driver made and no user. The
/// same are those with a device behind them; the ports of a switch chip and modems have a device and a kind, and tell
/// their type.
pub fn is_physical(name: &str) -> bool {
    if name.contains('/') || name.starts_with('.') {
        return false;
    }
    let directory = Path::new("/sys/class/net").join(name);
    let uevent = super::text(directory.join("uevent"));
    directory.join("device").exists()
        && super::text(directory.join("type")).trim() == ETHERNET
        && !uevent
            .lines()
            .any(|line| matches!(line, "DEVTYPE=dsa" | "DEVTYPE=wwan"))
}

/// The text of `/proc/net/dev`. A name may hold colons; the last one before the numbers ends it.
pub(super) fn parse(text: &str) -> Vec<Interface> {
    let parse_line = |line: &str| {
        let (name, numbers) = line.rsplit_once(':')?;
        let numbers: Vec<&str> = numbers.split_ascii_whitespace().collect();
        let number = |at: usize| numbers.get(at)?.parse().ok();
        Some(Interface {
            name: name.trim().to_owned(),
            traffic: Traffic {
                received: number(0)?,
                sent: number(8)?,
            },
        })
    };
    text.lines().filter_map(parse_line).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::process::Command;

    use super::*;

    /// Reference 04 §20, vector 9.
    #[test]
    fn names_may_hold_colons() {
        let text = "Inter-|   Receive                            |  Transmit\n face |bytes    packets|bytes    packets\n    \
            lo: 5879999114  127179    0    0    0     0          0         0 5879999115  127179    0    0    0     0\n\
            vmbr0:1:  5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  bad: 1 2\n";
        let found = parse(text);
        let row = |name: &str, received, sent| Interface {
            name: name.to_owned(),
            traffic: Traffic { received, sent },
        };
        assert_eq!(found, [row("lo", 5_879_999_114, 5_879_999_115), row("vmbr0:1", 5, 7)]);
        let sum: Traffic = found.iter().map(|interface| interface.traffic).sum();
        assert_eq!((sum.received, sum.sent), (5_879_999_119, 5_879_999_122));
    }

    #[test]
    fn the_loopback_interface_is_no_hardware() {
        assert!(interfaces().iter().any(|interface| interface.name == "lo"));
        assert!(!is_physical("lo") && !is_physical("../net/lo") && !is_physical("none"));
    }

    /// What upstream does, where `ip` is.
    #[test]
    fn hardware_is_what_ip_shows_as_ethernet_without_a_kind() {
        let links = Command::new("ip").args(["-details", "-json", "link", "show"]).output();
        let links: Vec<serde_json::Value> = serde_json::from_slice(&links.unwrap().stdout).unwrap();
        assert!(!links.is_empty());
        for link in links {
            let expected = link["link_type"] == "ether" && link.pointer("/linkinfo/info_kind").is_none();
            assert_eq!(is_physical(link["ifname"].as_str().unwrap()), expected, "{link}");
        }
    }

    #[test]
    fn an_interface_is_looked_at_once() {
        let looks = Cell::new(0);
        let look = |name: &str| {
            looks.set(looks.get() + 1);
            name == "eth0"
        };
        let mut hardware = Hardware::default();
        let mut mark = |names: &[&str]| {
            let interfaces = names.iter().map(|name| Interface {
                name: (*name).to_owned(),
                traffic: Traffic::default(),
            });
            let marked = hardware.mark_by(interfaces.collect(), look);
            marked.iter().map(|(_, physical)| *physical).collect::<Vec<_>>()
        };
        assert_eq!(mark(&["lo", "eth0"]), [false, true]);
        assert_eq!(mark(&["eth0", "tap100i0"]), [true, false]);
        assert_eq!(looks.get(), 3);
        // One that was gone is looked at anew.
        assert_eq!(mark(&["lo"]), [false]);
        assert_eq!(looks.get(), 4);
    }
}
