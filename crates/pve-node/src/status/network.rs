//! Counters of network interfaces, and which of them are hardware.

use std::path::Path;

/// Kernel's number for Ethernet (`ARPHRD_ETHER`).
const ETHERNET: &str = "1";

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

/// All interfaces.
pub fn interfaces() -> Vec<Interface> {
    parse(&super::text("/proc/net/dev"))
}

/// What went through the machine's hardware: the sum over physical interfaces.
pub fn physical_traffic() -> Traffic {
    let physical = interfaces()
        .into_iter()
        .filter(|interface| is_physical(&interface.name));
    physical.fold(Traffic::default(), |sum, interface| Traffic {
        received: sum.received.saturating_add(interface.traffic.received),
        sent: sum.sent.saturating_add(interface.traffic.sent),
    })
}

/// Whether an interface is Ethernet hardware. Upstream asks `ip link` for interfaces without a kind, which are those
/// that a driver made rather than a user: the same that have a device.
pub fn is_physical(name: &str) -> bool {
    if name.contains('/') || name.starts_with('.') {
        return false;
    }
    let directory = Path::new("/sys/class/net").join(name);
    directory.join("device").exists() && super::text(directory.join("type")).trim() == ETHERNET
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
    }

    #[test]
    fn the_loopback_interface_is_no_hardware() {
        assert!(interfaces().iter().any(|interface| interface.name == "lo"));
        assert!(!is_physical("lo") && !is_physical("../net/lo") && !is_physical("none"));
    }
}
