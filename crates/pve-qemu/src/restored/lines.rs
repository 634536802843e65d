//! From the archived config to the new one, line by line (reference 05 §15 step 7, 06b vector 13).
//!
//! An archive may have been made by anybody who can upload one, so its text is not trusted: it has no other control
//! characters than line feeds and tabs, ends at the first section, and what the reader of configs would keep as a line
//! of unknown meaning is dropped.

use std::collections::{BTreeMap, BTreeSet};

use pve_guest::{GuestConfig, Section};
use pve_schema::Failure;
use pve_schema::ids::{VmId, VolumeId};

use super::Identity;
use crate::config::{Drive, DriveKey, Net, VmRules};
use crate::error::VmError;
use crate::journal::Journal;
use crate::update::UpdateError;

/// What stands in comments and keys that tell of the backup, not of the VM.
const DROPPED: [&str; 4] = ["#qmdump#", "#vzdump#", "lock:", "parent:"];

/// Keys that tell of a state that is not in the archive. No backup has them; a volume named there would be taken for the
/// VM's own.
const STATE: [&str; 6] = [
    "runningcpu",
    "runningmachine",
    "running-nets-host-mtu",
    "snapstate",
    "snaptime",
    "vmstate",
];

/// Why an archived config is not used.
#[derive(Debug, thiserror::Error)]
pub enum ArchivedError {
    /// A character that could hide a line from a reader.
    #[error("configuration in archive contains a control character in line {0}")]
    Control(usize),
    /// A drive with data in the archive whose line makes no sense.
    #[error("unable to parse drive '{0}' of the configuration in archive")]
    Drive(DriveKey),
}

impl Failure for ArchivedError {}

/// A config as an archive has it.
#[derive(Debug, Clone)]
pub struct Archived {
    text: String,
}

/// What changes on the way.
#[derive(Debug, Clone)]
pub struct Rewrite<'a> {
    /// The drives that were restored, with their new volumes.
    pub volumes: &'a BTreeMap<DriveKey, VolumeId>,
    /// The VM is to live beside the one that was backed up: other addresses, another id.
    pub unique: bool,
    /// Where new addresses come from.
    pub identity: &'a Identity,
}

impl Archived {
    /// Reads an archive's configuration.
    ///
    /// # Errors
    /// [`ArchivedError::Control`]
    pub fn read(data: &[u8]) -> Result<Self, ArchivedError> {
        let text = String::from_utf8_lossy(data);
        for (number, line) in text.split('\n').enumerate() {
            if line.chars().any(|c| c.is_control() && c != '\t') {
                return Err(ArchivedError::Control(number + 1));
            }
        }
        // Snapshots and pending changes are not in backups.
        let is_section = |line: &&str| line.trim_start().starts_with('[');
        let main: Vec<&str> = text.split('\n').take_while(|line| !is_section(line)).collect();
        Ok(Self { text: main.join("\n") })
    }

    /// The main section's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The drives of the config, as far as their lines can be read.
    pub fn drives(&self) -> Vec<Drive> {
        self.text
            .lines()
            .filter_map(drive_line)
            .filter_map(|(key, text)| Drive::parse(key, text).ok())
            .collect()
    }

    /// The volumes of drives that are not among `restored` and stay as they are.
    pub fn referenced(&self, restored: &BTreeSet<DriveKey>) -> BTreeSet<VolumeId> {
        let drives = self.drives().into_iter();
        drives
            .filter(|drive| !restored.contains(&drive.key) && drive.options.flag("backup") != Some(false))
            .filter_map(|drive| drive.volume())
            .collect()
    }

    /// The new config. What cannot be used of it is told and dropped.
    ///
    /// # Errors
    /// A restored drive whose line makes no sense, or there are no random numbers.
    pub fn rewrite(
        &self,
        vmid: VmId,
        rewrite: &Rewrite<'_>,
        journal: &mut dyn Journal,
    ) -> Result<GuestConfig, VmError> {
        let mut lines = Vec::new();
        for line in self.text.lines() {
            lines.extend(rewrite_line(rewrite, line)?);
        }
        let parsed = GuestConfig::parse(&VmRules, vmid, lines.join("\n").as_bytes());
        for warning in &parsed.warnings {
            journal.warn(&warning.to_string());
        }
        let mut config = GuestConfig::new(pve_guest::GuestKind::Qemu);
        config.main = without_state(&parsed.config.main);
        Ok(config)
    }
}

fn without_state(section: &Section) -> Section {
    let mut section = section.without_foreign_lines();
    for key in STATE {
        section.remove(key);
    }
    section
}

/// A line of the new config; `None` drops it.
///
/// # Errors
/// As [`Archived::rewrite`].
pub fn rewrite_line(rewrite: &Rewrite<'_>, line: &str) -> Result<Option<String>, VmError> {
    if DROPPED.iter().any(|prefix| line.starts_with(prefix)) || is_unused(line) {
        return Ok(None);
    }
    if let Some((key, text)) = drive_line(line) {
        return drive(rewrite, key, text, line).map(Some);
    }
    let rewritten = match line.split_once(':').map(|(key, value)| (key, value.trim())) {
        Some(("vmgenid", value)) if value != "0" => format!("vmgenid: {}", Identity::uuid()?),
        Some(("smbios1", value)) if rewrite.unique => format!("smbios1: {}", other_uuid(value)?),
        Some((key, value)) if rewrite.unique && is_net(key) => format!("{key}: {}", other_mac(rewrite, value)?),
        _ => line.to_owned(),
    };
    Ok(Some(rewritten))
}

fn drive(rewrite: &Rewrite<'_>, key: DriveKey, text: &str, line: &str) -> Result<String, VmError> {
    let volume = rewrite.volumes.get(&key);
    let Ok(mut drive) = Drive::parse(key, text) else {
        return match volume {
            Some(_) => Err(ArchivedError::Drive(key).into()),
            None => Ok(line.to_owned()),
        };
    };
    if drive.options.flag("backup") == Some(false) {
        return Ok(format!("#{line}"));
    }
    let Some(volume) = volume else {
        // The old volume's name may have become free, and have been given to a drive that was restored.
        let is_taken = rewrite.volumes.values().any(|new| drive.volume().as_ref() == Some(new));
        return Ok(if is_taken { format!("#{line}") } else { line.to_owned() });
    };
    drive.options.take("format");
    // An order to make a volume has been carried out long ago, if it ever was one.
    drive.options.take("import-from");
    drive.file = volume.to_string();
    Ok(format!("{key}: {drive}"))
}

/// `scsi0: …` as key and text; unused volumes are no drives.
fn drive_line(line: &str) -> Option<(DriveKey, &str)> {
    let (key, text) = line.split_once(':')?;
    let key = if key == "cdrom" { "ide2" } else { key };
    let key: DriveKey = key.parse().ok()?;
    (key.bus != crate::config::Bus::Unused).then_some((key, text.trim()))
}

fn is_unused(line: &str) -> bool {
    let rest = line.strip_prefix("unused").and_then(|rest| rest.split_once(':'));
    rest.is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn is_net(key: &str) -> bool {
    let number = key.strip_prefix("net").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// A card that cannot be read stays as it is: the config's reader tells of it.
fn other_mac(rewrite: &Rewrite<'_>, text: &str) -> Result<String, UpdateError> {
    let Ok(mut net) = Net::parse(text) else {
        return Ok(text.to_owned());
    };
    net.mac = Some(rewrite.identity.mac()?);
    Ok(net.to_string())
}

fn other_uuid(text: &str) -> Result<String, UpdateError> {
    let uuid = format!("uuid={}", Identity::uuid()?);
    let others = text
        .split(',')
        .filter(|part| !part.is_empty() && !part.starts_with("uuid="));
    Ok(std::iter::once(uuid.as_str())
        .chain(others)
        .collect::<Vec<_>>()
        .join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> BTreeMap<DriveKey, VolumeId> {
        BTreeMap::from([("scsi0".parse().unwrap(), "st:vm-7-disk-0".parse().unwrap())])
    }

    fn line(line: &str, unique: bool) -> Option<String> {
        let identity = Identity { mac_prefix: None };
        let volumes = volumes();
        let rewrite = Rewrite {
            volumes: &volumes,
            unique,
            identity: &identity,
        };
        rewrite_line(&rewrite, line).unwrap()
    }

    /// Reference 06b, vector 13.
    #[test]
    fn lines_are_dropped_rewritten_or_kept() {
        for dropped in [
            "lock: backup",
            "unused1: a:b",
            "parent: x",
            "#qmdump#map:scsi0:drive-scsi0:local:raw:",
            "#vzdump#x",
        ] {
            assert_eq!(line(dropped, false), None, "{dropped}");
        }
        let cases = [
            (
                "scsi0: local:1/vm-1-disk-0.raw,format=raw,size=2G",
                "scsi0: st:vm-7-disk-0,size=2G",
            ),
            (
                "scsi1: local:1/vm-1-disk-1.raw,backup=0",
                "#scsi1: local:1/vm-1-disk-1.raw,backup=0",
            ),
            ("efidisk0: st:vm-7-disk-1,size=4M", "efidisk0: st:vm-7-disk-1,size=4M"),
            ("efidisk0: st:vm-7-disk-0,size=4M", "#efidisk0: st:vm-7-disk-0,size=4M"),
            ("vmgenid: 0", "vmgenid: 0"),
            ("ide2: none,media=cdrom", "ide2: none,media=cdrom"),
            ("#a note", "#a note"),
            (
                "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0",
                "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0",
            ),
            ("smbios1: uuid=a", "smbios1: uuid=a"),
            ("unusedx: y", "unusedx: y"),
        ];
        for (archived, expected) in cases {
            assert_eq!(line(archived, false).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_copy_gets_an_identity_of_its_own() {
        let uuid = "vmgenid: 11111111-2222-4333-8444-555555555555";
        let other = line(uuid, false).unwrap();
        assert!(other != uuid && other.len() == uuid.len(), "{other}");
        let net = line("net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=5", true).unwrap();
        assert!(
            net.starts_with("net0: virtio=BC:24:11:") && net.ends_with(",bridge=vmbr0,tag=5"),
            "{net}"
        );
        assert!(!net.contains("00:00:01"), "{net}");
        let smbios = line(
            "smbios1: manufacturer=QQ==,uuid=11111111-2222-4333-8444-555555555555,base64=1",
            true,
        )
        .unwrap();
        assert!(
            smbios.starts_with("smbios1: uuid=") && smbios.ends_with(",manufacturer=QQ==,base64=1"),
            "{smbios}"
        );
        assert!(!smbios.contains("11111111"), "{smbios}");
    }

    #[derive(Default)]
    struct Words(Vec<String>);

    impl Journal for Words {
        fn log(&mut self, line: &str) {
            self.0.push(line.to_owned());
        }

        fn warn(&mut self, line: &str) {
            self.0.push(line.to_owned());
        }
    }

    #[test]
    fn nothing_hides_behind_a_line() {
        for (text, number) in [
            ("name: a\rargs: -S\n", 1),
            ("name: a\nx\0y\n", 2),
            ("a: \u{85}args: -S", 1),
        ] {
            let error = Archived::read(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("configuration in archive contains a control character in line {number}")
            );
        }
        let text = "name: a\nfoo: bar\n args: -S\nvmstate: local:101/vm-101-state-x.raw\nArgs: -S\n\
            [PENDING]\nargs: -S\n[snap]\nargs: -S\n";
        let identity = Identity { mac_prefix: None };
        let volumes = volumes();
        let rewrite = Rewrite {
            volumes: &volumes,
            unique: false,
            identity: &identity,
        };
        let mut words = Words::default();
        let archived = Archived::read(text.as_bytes()).unwrap();
        let config = archived.rewrite("100".parse().unwrap(), &rewrite, &mut words).unwrap();
        assert_eq!(config.print(), "name: a\n");
        assert_eq!(words.0.len(), 3, "{:?}", words.0);
    }

    #[test]
    fn a_restored_drive_never_keeps_its_old_volume() {
        let identity = Identity { mac_prefix: None };
        let volumes = volumes();
        let rewrite = Rewrite {
            volumes: &volumes,
            unique: false,
            identity: &identity,
        };
        let error = rewrite_line(&rewrite, "scsi0: local:1/d.raw,foo=1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to parse drive 'scsi0' of the configuration in archive"
        );
    }

    proptest::proptest! {
        /// Whatever is in an archive, the new config is one that reads as it was written, and has no key that a backup
        /// cannot have.
        #[test]
        fn any_archive_makes_a_config(text in "((args|lock|parent|unused1|vmstate|scsi0|net0|name|#|\\[a\\]|cdrom)?:?[ =,%a-z0-9\r\n\t]{0,12}\n){0,12}\\PC{0,20}", unique: bool) {
            let identity = Identity { mac_prefix: None };
            let volumes = volumes();
            let rewrite = Rewrite { volumes: &volumes, unique, identity: &identity };
            let Ok(archived) = Archived::read(text.as_bytes()) else { return Ok(()) };
            let vmid = "100".parse().unwrap();
            let Ok(config) = archived.rewrite(vmid, &rewrite, &mut Words::default()) else { return Ok(()) };
            let printed = config.print();
            let again = GuestConfig::parse(&VmRules, vmid, printed.as_bytes());
            proptest::prop_assert!(again.warnings.is_empty(), "{:?}", again.warnings);
            proptest::prop_assert_eq!(&again.config.main, &config.main);
            proptest::prop_assert!(config.snapshots.is_empty() && !config.has_pending());
            for key in ["lock", "parent", "unused1", "vmstate"] {
                proptest::prop_assert!(!config.main.has(key), "{}", printed);
            }
            let has_args = archived.text().lines().any(|line| line.starts_with("args:"));
            proptest::prop_assert!(has_args || !config.main.has("args"), "{}", printed);
        }
    }
}
