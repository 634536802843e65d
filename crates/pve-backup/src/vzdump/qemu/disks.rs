//! Which volumes of a VM go into a backup (reference 05 §4.4, §8).

use pve_qemu::config::{Bus, Drive, DriveKey, VmConfig};

/// A volume of a VM, and whether it goes into a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The drive's key.
    pub key: DriveKey,
    /// A volume id, or a path.
    pub file: String,
    /// Whether it goes into a backup.
    pub included: bool,
    /// Why **client-visible**.
    pub reason: &'static str,
    /// The size that the config tells: `32G`.
    pub size: Option<String>,
}

/// The volumes of a VM in the order of the archive: by key, byte-wise. What is in a CD-ROM drive is none.
pub fn of_vm(vm: VmConfig<'_>) -> Vec<Volume> {
    let drives = vm.drives().into_iter().filter(|drive| !drive.is_cdrom());
    let mut volumes: Vec<Volume> = drives.map(|drive| volume(vm, &drive)).collect();
    volumes.sort_by_key(|volume| volume.key.to_string());
    volumes
}

fn volume(vm: VmConfig<'_>, drive: &Drive) -> Volume {
    let flag = drive.options.flag("backup");
    let (included, reason) = if drive.key.bus == Bus::Efidisk && !vm.is_ovmf() {
        (false, "efidisk but no OVMF BIOS")
    } else {
        // Upstream says `no` whenever the key is there.
        (
            flag.unwrap_or(true),
            if flag.is_some() { "backup=no" } else { "backup=yes" },
        )
    };
    Volume {
        key: drive.key,
        file: drive.file.clone(),
        included,
        reason,
        size: drive.options.get("size").map(str::to_owned),
    }
}

impl Volume {
    /// The name of its device in the archive.
    pub fn device(&self) -> String {
        match self.key.bus {
            Bus::Tpmstate => format!("drive-{}-backup", self.key),
            _ => format!("drive-{}", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use pve_guest::Section;

    use super::*;

    fn section(keys: &[(&str, &str)]) -> Section {
        keys.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn volumes_come_byte_wise_and_say_why() {
        let config = section(&[
            ("scsi0", "l-x:a,size=32G"),
            ("scsi10", "l-x:b"),
            ("scsi2", "l-x:c,backup=0"),
            ("virtio0", "l-x:d,backup=1"),
            ("efidisk0", "l-x:e"),
            ("tpmstate0", "l-x:f"),
            ("ide2", "local:iso/a.iso,media=cdrom"),
            ("ide3", "l-x:vm-100-cloudinit,media=cdrom"),
        ]);
        let volumes = of_vm(VmConfig::new(&config));
        let rows: Vec<(String, bool, &str)> = volumes
            .iter()
            .map(|volume| (volume.key.to_string(), volume.included, volume.reason))
            .collect();
        let row = |key: &str, included, reason| (key.to_owned(), included, reason);
        let expected = [
            row("efidisk0", false, "efidisk but no OVMF BIOS"),
            row("scsi0", true, "backup=yes"),
            row("scsi10", true, "backup=yes"),
            row("scsi2", false, "backup=no"),
            row("tpmstate0", true, "backup=yes"),
            row("virtio0", true, "backup=no"),
        ];
        assert_eq!(rows, expected);
        assert_eq!(volumes[1].device(), "drive-scsi0");
        assert_eq!(volumes[4].device(), "drive-tpmstate0-backup");
        assert_eq!(volumes[1].size.as_deref(), Some("32G"));
        let ovmf = section(&[("bios", "ovmf"), ("efidisk0", "l-x:e")]);
        assert!(of_vm(VmConfig::new(&ovmf))[0].included);
    }
}
