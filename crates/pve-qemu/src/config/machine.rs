//! The `machine` key (reference 06a §3.4, §7.3).

use std::fmt;

use super::error::ConfigError;
use super::props::Props;
use super::version::Version;

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chipset {
    /// Intel 440FX: `pc`.
    I440fx,
    /// Intel Q35.
    Q35,
    /// The ARM machine without a model.
    Virt,
}

/// A machine type: chipset, version and Proxmox's revision of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineType {
    /// The chipset.
    pub chipset: Chipset,
    /// The version; none for the newest.
    pub version: Option<Version>,
    /// The revision behind `+pve`.
    pub revision: Option<u32>,
}

impl MachineType {
    /// Reads `pc`, `q35`, `pc-i440fx-10.0+pve1` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix(".pxe").unwrap_or(text);
        let (text, revision) = match text.split_once("+pve") {
            Some((text, number)) => (text, Some(number.parse().ok()?)),
            None => (text, None),
        };
        let families = [
            ("pc-i440fx-", Chipset::I440fx),
            ("pc-q35-", Chipset::Q35),
            ("virt-", Chipset::Virt),
        ];
        let versioned = families
            .into_iter()
            .find_map(|(prefix, chipset)| text.strip_prefix(prefix).map(|version| (chipset, version)));
        let (chipset, version) = match (text, versioned) {
            ("pc", _) => (Chipset::I440fx, None),
            ("q35", _) => (Chipset::Q35, None),
            ("virt", _) => (Chipset::Virt, None),
            (_, Some((chipset, version))) => (chipset, Some(Version::parse(version)?)),
            (other, None) => (Chipset::I440fx, Some(Version::parse(other.strip_prefix("pc-")?)?)),
        };
        Some(Self {
            chipset,
            version,
            revision,
        })
    }
}

impl fmt::Display for MachineType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.chipset, self.version) {
            (Chipset::I440fx, None) => f.write_str("pc")?,
            (Chipset::I440fx, Some(version)) => write!(f, "pc-i440fx-{version}")?,
            (Chipset::Q35, None) => f.write_str("q35")?,
            (Chipset::Q35, Some(version)) => write!(f, "pc-q35-{version}")?,
            (Chipset::Virt, None) => f.write_str("virt")?,
            (Chipset::Virt, Some(version)) => write!(f, "virt-{version}")?,
        }
        match self.revision {
            Some(revision) => write!(f, "+pve{revision}"),
            None => Ok(()),
        }
    }
}

/// The vIOMMU that a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viommu {
    /// Intel's, with Q35 only.
    Intel,
    /// The paravirtual one.
    Virtio,
}

/// The `machine` key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// The machine type.
    pub kind: Option<MachineType>,
    /// The vIOMMU.
    pub viommu: Option<Viommu>,
    /// The vIOMMU's address width in bits.
    pub address_bits: Option<u64>,
    /// Whether the guest may suspend to memory.
    pub enable_s3: Option<bool>,
    /// Whether the guest may suspend to disk.
    pub enable_s4: Option<bool>,
}

impl Machine {
    /// Reads the `machine` key.
    ///
    /// # Errors
    /// [`ConfigError::Format`], and where the vIOMMU does not fit.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let props = Props::parse("machine", text)?;
        let kind = match props.get("type") {
            Some(name) => Some(MachineType::parse(name).ok_or_else(|| ConfigError::Format {
                key: "machine".to_owned(),
                message: "format error\ntype: value does not match the regex pattern\n".to_owned(),
            })?),
            None => None,
        };
        let viommu = match props.get("viommu") {
            Some("intel") => Some(Viommu::Intel),
            Some(_) => Some(Viommu::Virtio),
            None => None,
        };
        let machine = Self {
            kind,
            viommu,
            address_bits: props.integer("aw-bits"),
            enable_s3: props.flag("enable-s3"),
            enable_s4: props.flag("enable-s4"),
        };
        machine.check().map(|()| machine)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let q35 = self.kind.is_some_and(|kind| kind.chipset == Chipset::Q35);
        match (self.viommu, self.address_bits) {
            (Some(Viommu::Intel), _) if !q35 => Err(ConfigError::IntelIommuNeedsQ35),
            (Some(Viommu::Intel), Some(bits)) if bits != 39 && bits != 48 => Err(ConfigError::IntelIommuBits),
            (None, Some(_)) => Err(ConfigError::AddressBitsWithoutIommu),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_types_print_as_they_were_read() {
        for text in ["pc", "q35", "pc-i440fx-10.0+pve1", "pc-q35-8.1", "virt-9.2+pve0"] {
            assert_eq!(MachineType::parse(text).unwrap().to_string(), text);
        }
        for bad in ["microvm", "pc-q35", "pc-i440fx-x", "q35+pvex", ""] {
            assert!(MachineType::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_viommu_must_fit_the_chipset() {
        assert!(Machine::parse("q35,viommu=virtio,aw-bits=48").is_ok());
        let cases = [
            ("pc,viommu=intel", ConfigError::IntelIommuNeedsQ35),
            ("q35,viommu=intel,aw-bits=40", ConfigError::IntelIommuBits),
            ("q35,aw-bits=48", ConfigError::AddressBitsWithoutIommu),
        ];
        for (text, error) in cases {
            assert_eq!(Machine::parse(text), Err(error), "{text}");
        }
        assert!(Machine::parse("microvm").is_err());
    }
}
