//! The host's ends of guests' network cards: their names in the kernel.

use std::fmt;

use pve_cfs::GuestKind;
use pve_schema::Site;
use pve_schema::ids::VmId;

/// The host's end of a guest's network card: a tap of a VM, one of a pair of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestInterface {
    /// What the guest is.
    pub kind: GuestKind,
    /// The guest.
    pub vmid: VmId,
    /// The number of its card: 0 for `net0`.
    pub number: u8,
}

impl GuestInterface {
    /// The guest behind an interface's name; `None` for one that belongs to no guest of this site. In a lab its mark
    /// stands in front of the name.
    pub fn parse(site: &Site, name: &str) -> Option<Self> {
        let name = name.strip_prefix(mark(site))?;
        let (kind, rest) = match name.strip_prefix("tap") {
            Some(rest) => (GuestKind::Qemu, rest),
            None => (GuestKind::Lxc, name.strip_prefix("veth")?),
        };
        let (vmid, number) = rest.split_once('i')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(vmid) || !is_number(number) {
            return None;
        }
        Some(Self {
            kind,
            vmid: vmid.parse().ok()?,
            number: number.parse().ok()?,
        })
    }

    /// The interface's name in the kernel.
    pub fn name(&self, site: &Site) -> String {
        format!("{}{self}", mark(site))
    }
}

impl fmt::Display for GuestInterface {
    /// The name without a mark, as the API tells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            GuestKind::Qemu => "tap",
            GuestKind::Lxc => "veth",
        };
        write!(f, "{prefix}{}i{}", self.vmid, self.number)
    }
}

fn mark(site: &Site) -> &str {
    site.instance.as_ref().map_or("", |instance| instance.as_str())
}

#[cfg(test)]
mod tests {
    use pve_schema::site::Instance;

    use super::*;

    #[test]
    fn names_are_read_as_they_are_made() {
        let system = pve_testing::site("/", "n1");
        let lab = Site {
            instance: Some(Instance::try_from("k3x".to_owned()).unwrap()),
            ..system.clone()
        };
        for (kind, name) in [(GuestKind::Qemu, "tap100i0"), (GuestKind::Lxc, "veth999999999i31")] {
            let found = GuestInterface::parse(&system, name).unwrap();
            assert_eq!((found.kind, found.name(&system)), (kind, name.to_owned()));
            assert_eq!(found.name(&lab), format!("k3x{name}"));
            assert_eq!(GuestInterface::parse(&lab, &found.name(&lab)), Some(found));
            assert_eq!(GuestInterface::parse(&lab, name), None, "another site's");
        }
        for name in [
            "tap",
            "tap1i0",
            "tap100",
            "tap100i",
            "tap100i0p",
            "veth+100i0",
            "lo",
            "tap100i256",
        ] {
            assert_eq!(GuestInterface::parse(&system, name), None, "{name}");
        }
    }
}
