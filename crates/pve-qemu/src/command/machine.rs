//! The machine type that a guest runs with (reference 06a §7.3).
//!
//! Stock QEMU has no `+pveN` revisions. They decide about features all the same, are kept in configs, and are cut off
//! before QEMU sees them.

use super::error::CommandError;
use super::facts::Request;
use crate::config::{Chipset, MachineType, OsType, Version};

/// The highest revision of each machine version that has any.
const REVISIONS: [((u32, u32), u32); 4] = [((4, 1), 2), ((9, 2), 1), ((10, 0), 1), ((11, 0), 2)];

/// From here on Windows guests keep the version that they were created with.
const WINDOWS_PIN: (u32, u32) = (9, 1);

/// What Windows guests run with that do not say what they were created with.
const WINDOWS_FALLBACK: Version = Version::new(5, 1);

/// The highest revision of a machine version.
pub fn highest_revision(version: Version) -> u32 {
    let key = (version.major, version.minor);
    REVISIONS
        .iter()
        .find(|(known, _)| *known == key)
        .map_or(0, |(_, revision)| *revision)
}

/// The newest machine version of a QEMU, `10.0+pve1`.
pub fn latest_version(qemu: Version) -> String {
    let (version, revision) = (Version::new(qemu.major, qemu.minor), highest_revision(qemu));
    if revision > 0 {
        format!("{version}+pve{revision}")
    } else {
        version.to_string()
    }
}

/// The machine type for a new Windows guest: pinned to the newest version. `None` if it is pinned already.
pub fn pin_for_windows(machine: Option<MachineType>, qemu: Version) -> Option<MachineType> {
    let chipset = machine.map_or(Chipset::I440fx, |machine| machine.chipset);
    if machine.is_some_and(|machine| machine.version.is_some()) || chipset == Chipset::Virt {
        return None;
    }
    let revision = highest_revision(qemu);
    Some(MachineType {
        chipset,
        version: Some(Version::new(qemu.major, qemu.minor)),
        revision: (revision > 0).then_some(revision),
    })
}

/// The machine type that a config asks for, with its revision: unversioned ones get the newest, those of Windows guests
/// the version that the guest was created with.
pub fn resolve(
    configured: Option<MachineType>,
    ostype: OsType,
    created_with: Option<Version>,
    qemu: Version,
) -> MachineType {
    let machine = configured.unwrap_or(MachineType {
        chipset: Chipset::I440fx,
        version: None,
        revision: None,
    });
    match machine.version {
        Some(_) => MachineType {
            revision: Some(machine.revision.unwrap_or(0)),
            ..machine
        },
        None if ostype.is_windows() => {
            let pinned = created_with.filter(|version| version.at_least(WINDOWS_PIN.0, WINDOWS_PIN.1));
            let version = pinned.map_or(WINDOWS_FALLBACK, |version| Version::new(version.major, version.minor));
            MachineType {
                version: Some(version),
                revision: Some(highest_revision(version)),
                ..machine
            }
        }
        None => MachineType {
            revision: Some(machine.revision.unwrap_or_else(|| highest_revision(qemu))),
            ..machine
        },
    }
}

/// A machine type that is known to run here.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunningMachine {
    /// The type, with its revision.
    pub(super) kind: MachineType,
    /// The version, that of QEMU for an unversioned type.
    version: Version,
    revision: u32,
    /// The lowest revision that has all features in use.
    needed: u32,
}

impl RunningMachine {
    /// The machine of a request.
    pub(super) fn of(request: &Request<'_>) -> Result<Self, CommandError> {
        let qemu = request.host.qemu;
        if !qemu.at_least(6, 0) {
            return Err(CommandError::AncientQemu(qemu.to_string()));
        }
        let configured = request.vm.machine()?.kind;
        let vm = request.vm;
        let kind = resolve(
            request.forced_machine.or(configured),
            vm.ostype(),
            vm.creation_version(),
            qemu,
        );
        if kind.chipset == Chipset::Virt {
            return Err(CommandError::Unsupported {
                key: "machine".to_owned(),
                reason: "the machine type 'virt' belongs to another architecture",
            });
        }
        let version = kind.version.unwrap_or(Version::new(qemu.major, qemu.minor));
        let machine = Self {
            kind,
            version,
            revision: kind.revision.unwrap_or(0),
            needed: 0,
        };
        machine.check(request)?;
        Ok(machine)
    }

    fn check(&self, request: &Request<'_>) -> Result<(), CommandError> {
        let host = request.host;
        let node = request.site.node.to_string();
        let unknown =
            self.kind.version.is_some() && !host.machines.is_empty() && !host.machines.contains(&self.stock_name());
        if !host.qemu.at_least(self.version.major, self.version.minor) || unknown {
            return Err(CommandError::QemuTooOld {
                qemu: host.qemu.to_string(),
                machine: self.kind.to_string(),
                node,
            });
        }
        // Machine types of one release may carry the revision of the release before (4.0+pve1 and the like).
        let known = highest_revision(self.version);
        if self.revision > known && self.kind.version.is_some() {
            return Err(CommandError::RevisionTooNew {
                version: self.version.to_string(),
                known,
                machine: self.kind.to_string(),
                node,
            });
        }
        Ok(())
    }

    /// Whether the guest's machine is at least that version.
    pub(super) fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version.at_least(major, minor)
    }

    /// Whether the guest's machine has what came with a revision, noting that it is used.
    pub(super) fn uses(&mut self, major: u32, minor: u32, revision: u32) -> bool {
        let same = (self.version.major, self.version.minor) == (major, minor);
        if same && self.revision >= revision {
            self.needed = self.needed.max(revision);
            return true;
        }
        !same && self.at_least(major, minor)
    }

    /// Whether the machine is a Q35.
    pub(super) fn is_q35(&self) -> bool {
        self.kind.chipset == Chipset::Q35
    }

    /// The type with the lowest revision that has all features in use: what upstream passes to QEMU, and what is
    /// remembered of a running guest.
    pub(super) fn with_needed_revision(&self) -> MachineType {
        MachineType {
            revision: Some(self.needed),
            ..self.kind
        }
    }

    /// The type as stock QEMU knows it.
    pub(super) fn stock_name(&self) -> String {
        let stock = MachineType {
            revision: None,
            ..self.kind
        };
        stock.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    /// Reference 06a, vector 25.
    #[test]
    fn unversioned_types_get_the_newest_version_but_for_windows() {
        let qemu = version("10.0.2");
        let cases = [
            (None, "l26", None, "pc+pve1"),
            (Some("q35"), "l26", None, "q35+pve1"),
            (Some("pc-i440fx-8.0"), "l26", None, "pc-i440fx-8.0+pve0"),
            (None, "win11", None, "pc-i440fx-5.1+pve0"),
            (Some("q35"), "win11", Some("10.0.2"), "pc-q35-10.0+pve1"),
            (None, "win10", Some("8.1"), "pc-i440fx-5.1+pve0"),
        ];
        for (machine, ostype, created, expected) in cases {
            let machine = machine.and_then(MachineType::parse);
            let resolved = resolve(machine, OsType::parse(ostype), created.map(version), qemu);
            assert_eq!(resolved.to_string(), expected);
        }
        let pinned = |machine: &str, qemu: &str| pin_for_windows(MachineType::parse(machine), version(qemu)).unwrap();
        assert_eq!(pinned("q35", "10.0.2").to_string(), "pc-q35-10.0+pve1");
        assert_eq!(pinned("q35", "8.1").to_string(), "pc-q35-8.1");
        assert_eq!(pin_for_windows(None, qemu).unwrap().to_string(), "pc-i440fx-10.0+pve1");
        assert_eq!(pin_for_windows(MachineType::parse("pc-q35-9.0"), qemu), None);
    }

    /// Reference 06a, vector 26.
    #[test]
    fn the_latest_version_carries_its_revision() {
        let cases = [
            ("10.0.2", "10.0+pve1"),
            ("9.2", "9.2+pve1"),
            ("8.1.5", "8.1"),
            ("11.0", "11.0+pve2"),
        ];
        for (qemu, expected) in cases {
            assert_eq!(latest_version(version(qemu)), expected);
        }
    }
}
