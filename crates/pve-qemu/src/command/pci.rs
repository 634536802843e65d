//! Which device sits where on the PCI buses (reference 06a §7.6).

use std::collections::BTreeSet;

use crate::config::Chipset;

/// A place on a PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    bus: u8,
    slot: u8,
}

/// The places that do not come in rows.
const SINGLE: [(&str, u8, u8); 15] = [
    ("balloon0", 0, 3),
    ("watchdog", 0, 4),
    ("scsihw0", 0, 5),
    ("scsihw1", 0, 6),
    ("ahci0", 0, 7),
    ("qga0", 0, 8),
    ("spice", 0, 9),
    ("xhci", 1, 27),
    ("rng0", 1, 29),
    ("ivshmem", 2, 11),
    ("audio0", 2, 12),
    ("scsihw2", 4, 1),
    ("scsihw3", 4, 2),
    ("scsihw4", 4, 3),
    ("vga", 0, 2),
];

/// The places that come in rows: name, first and last number, bus, slot of the first.
const ROWS: [(&str, u8, u8, u8, u8); 6] = [
    ("virtio", 0, 5, 0, 10),
    ("virtio", 6, 15, 2, 1),
    ("net", 0, 5, 0, 18),
    ("net", 6, 31, 1, 1),
    ("vga", 1, 3, 0, 24),
    ("virtioscsi", 0, 30, 3, 1),
];

/// The place of a device.
fn slot(id: &str) -> Option<Slot> {
    if let Some((_, bus, slot)) = SINGLE.iter().find(|(name, _, _)| *name == id) {
        return Some(Slot { bus: *bus, slot: *slot });
    }
    let name = id.trim_end_matches(|c: char| c.is_ascii_digit());
    let number: u8 = id.strip_prefix(name)?.parse().ok()?;
    let (_, first, _, bus, start) = ROWS
        .iter()
        .find(|(row, first, last, _, _)| *row == name && (*first..=*last).contains(&number))?;
    Some(Slot {
        bus: *bus,
        slot: start + (number - first),
    })
}

/// The buses of one machine, and which of them are in use.
#[derive(Debug)]
pub(super) struct Pci {
    chipset: Chipset,
    bridges: BTreeSet<u8>,
}

impl Pci {
    /// The buses of a machine. Bridges 1 and 2 are always there.
    pub(super) fn new(chipset: Chipset) -> Self {
        Self {
            chipset,
            bridges: BTreeSet::from([1, 2]),
        }
    }

    /// `,bus=pci.0,addr=0x3`: the place of a device.
    pub(super) fn address(&mut self, id: &str) -> String {
        if self.chipset == Chipset::Q35 {
            match id {
                "vga" => return ",bus=pcie.0,addr=0x1".to_owned(),
                "ivshmem" => return ",bus=pcie.0,addr=0x14".to_owned(),
                _ => {}
            }
        }
        match slot(id) {
            Some(Slot { bus, slot }) => {
                self.bridges.insert(bus);
                format!(",bus=pci.{bus},addr=0x{slot:x}")
            }
            // Every id is one of the tables; QEMU finds a place for one that is not.
            None => String::new(),
        }
    }

    /// The bridges in use, as `-device` values in the order of their numbers.
    pub(super) fn bridges(&self) -> Vec<String> {
        match self.chipset {
            Chipset::Q35 => self.q35_bridges(),
            Chipset::I440fx | Chipset::Virt => self.i440fx_bridges(),
        }
    }

    fn i440fx_bridges(&self) -> Vec<String> {
        let place = |bridge: u8| match bridge {
            1 => "bus=pci.0,addr=0x1e",
            2 => "bus=pci.0,addr=0x1f",
            3 => "bus=pci.0,addr=0x5",
            _ => "bus=pci.1,addr=0x1c",
        };
        let used = self.bridges.iter().filter(|bridge| **bridge > 0);
        used.map(|bridge| format!("pci-bridge,id=pci.{bridge},chassis_nr={bridge},{}", place(*bridge)))
            .collect()
    }

    /// The four bridges behind the DMI bridge are part of [`q35_devices`].
    fn q35_bridges(&self) -> Vec<String> {
        let fourth = self.bridges.contains(&4);
        fourth
            .then(|| "pci-bridge,id=pci.4,chassis_nr=5,bus=pci.1,addr=0x1c".to_owned())
            .into_iter()
            .collect()
    }
}

/// The devices that a Q35 machine always has: USB controllers, root ports, and the conventional buses on which
/// everything else sits.
pub(super) fn q35_devices() -> Vec<String> {
    let mut devices = Vec::new();
    for (ehci, first, slot) in [("ehci", 1, "0x1d"), ("ehci-2", 4, "0x1a")] {
        let model = if first == 1 { 1 } else { 2 };
        devices.push(format!(
            "ich9-usb-ehci{model},id={ehci},multifunction=on,bus=pcie.0,addr={slot}.0x7"
        ));
        for function in 0..3 {
            let (number, port) = (first + function, function * 2);
            devices.push(format!(
                "ich9-usb-uhci{number},id=uhci-{number},multifunction=on,bus=pcie.0,addr={slot}.0x{function},\
                 masterbus={ehci}.0,firstport={port}"
            ));
        }
    }
    for port in 1..=4 {
        devices.push(format!(
            "pcie-root-port,id=ich9-pcie-port-{port},x-speed=16,x-width=32,multifunction=on,bus=pcie.0,\
             addr=0x1c.0x{},port={port},chassis={port}",
            port - 1
        ));
    }
    devices.push("i82801b11-bridge,id=pcidmi,bus=pcie.0,addr=0x1e.0x0".to_owned());
    for bus in 0..4 {
        let number = bus + 1;
        devices.push(format!(
            "pci-bridge,id=pci.{bus},bus=pcidmi,addr=0x{number}.0x0,chassis_nr={number}"
        ));
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_sit_where_the_plan_says() {
        let mut pci = Pci::new(Chipset::I440fx);
        let cases = [
            ("scsihw1", ",bus=pci.0,addr=0x6"),
            ("virtio0", ",bus=pci.0,addr=0xa"),
            ("virtio15", ",bus=pci.2,addr=0xa"),
            ("net0", ",bus=pci.0,addr=0x12"),
            ("net31", ",bus=pci.1,addr=0x1a"),
            ("virtioscsi0", ",bus=pci.3,addr=0x1"),
            ("vga", ",bus=pci.0,addr=0x2"),
            ("vga3", ",bus=pci.0,addr=0x1a"),
            ("xhci", ",bus=pci.1,addr=0x1b"),
            ("audio0", ",bus=pci.2,addr=0xc"),
        ];
        for (id, address) in cases {
            assert_eq!(pci.address(id), address, "{id}");
        }
        assert_eq!(pci.bridges().len(), 3);
        assert_eq!(Pci::new(Chipset::Q35).address("vga"), ",bus=pcie.0,addr=0x1");
    }

    #[test]
    fn no_two_devices_share_a_place() {
        let rows = ROWS
            .iter()
            .flat_map(|(name, first, last, _, _)| (*first..=*last).map(move |n| format!("{name}{n}")));
        let ids: Vec<String> = rows.chain(SINGLE.iter().map(|(id, _, _)| (*id).to_owned())).collect();
        let mut seen = BTreeSet::new();
        for id in ids {
            let place = slot(&id).unwrap();
            assert!(seen.insert((place.bus, place.slot)), "{id}");
        }
    }
}
