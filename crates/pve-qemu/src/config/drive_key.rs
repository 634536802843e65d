//! The keys under which a VM has its drives.

use std::fmt;
use std::str::FromStr;

/// What a drive is attached to. The order is the order of drives everywhere (reference 06a §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bus {
    /// `ide0` to `ide3`
    Ide,
    /// `scsi0` to `scsi30`
    Scsi,
    /// `virtio0` to `virtio15`
    Virtio,
    /// `sata0` to `sata5`
    Sata,
    /// `efidisk0`: the variables of the UEFI firmware.
    Efidisk,
    /// `tpmstate0`: the state of the emulated TPM.
    Tpmstate,
    /// `unused0` to `unused255`: volumes that the VM owns and does not use.
    Unused,
}

impl Bus {
    const ALL: [Self; 7] = [
        Self::Ide,
        Self::Scsi,
        Self::Virtio,
        Self::Sata,
        Self::Efidisk,
        Self::Tpmstate,
        Self::Unused,
    ];

    /// The key without its number.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::Scsi => "scsi",
            Self::Virtio => "virtio",
            Self::Sata => "sata",
            Self::Efidisk => "efidisk",
            Self::Tpmstate => "tpmstate",
            Self::Unused => "unused",
        }
    }

    /// The highest number that a key may have.
    pub fn last_index(self) -> u8 {
        match self {
            Self::Ide => 3,
            Self::Scsi => 30,
            Self::Virtio => 15,
            Self::Sata => 5,
            Self::Efidisk | Self::Tpmstate => 0,
            Self::Unused => 255,
        }
    }
}

/// The key of a drive, `scsi0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DriveKey {
    /// What it is attached to.
    pub bus: Bus,
    /// Its number there.
    pub index: u8,
}

/// A key that is no drive's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid drive key")]
pub struct NotADrive;

impl DriveKey {
    /// All keys of drives that a VM uses, in the order of drives; `unusedN` are not among them.
    pub fn all() -> impl Iterator<Item = Self> {
        Bus::ALL
            .into_iter()
            .filter(|bus| *bus != Bus::Unused)
            .flat_map(|bus| (0..=bus.last_index()).map(move |index| Self { bus, index }))
    }

    /// The keys `unused0` to `unused255`.
    pub fn all_unused() -> impl Iterator<Item = Self> {
        (0..=Bus::Unused.last_index()).map(|index| Self {
            bus: Bus::Unused,
            index,
        })
    }

    /// Whether the VM can boot from it.
    pub fn is_bootable(self) -> bool {
        matches!(self.bus, Bus::Ide | Bus::Scsi | Bus::Virtio | Bus::Sata)
    }
}

impl FromStr for DriveKey {
    type Err = NotADrive;

    fn from_str(key: &str) -> Result<Self, Self::Err> {
        let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = key.strip_prefix(name).ok_or(NotADrive)?;
        let canonical = !number.is_empty() && (number == "0" || !number.starts_with('0'));
        let bus = Bus::ALL.into_iter().find(|bus| bus.name() == name).ok_or(NotADrive)?;
        let index: u8 = number.parse().map_err(|_| NotADrive)?;
        if canonical && index <= bus.last_index() {
            Ok(Self { bus, index })
        } else {
            Err(NotADrive)
        }
    }
}

impl fmt::Display for DriveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.bus.name(), self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_existing_slots_are_keys() {
        for good in [
            "ide3",
            "scsi30",
            "virtio15",
            "sata5",
            "efidisk0",
            "tpmstate0",
            "unused255",
        ] {
            assert_eq!(good.parse::<DriveKey>().unwrap().to_string(), good);
        }
        for bad in [
            "ide4",
            "scsi31",
            "virtio16",
            "sata6",
            "efidisk1",
            "unused256",
            "scsi",
            "scsi01",
            "net0",
            "0",
        ] {
            assert!(bad.parse::<DriveKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn drives_come_in_the_order_of_the_buses() {
        let keys: Vec<String> = DriveKey::all().map(|key| key.to_string()).collect();
        let first_of_each = ["ide0", "scsi0", "virtio0", "sata0", "efidisk0", "tpmstate0"];
        let places: Vec<usize> = first_of_each
            .iter()
            .map(|k| keys.iter().position(|key| key == k).unwrap())
            .collect();
        assert!(places.is_sorted());
    }
}
