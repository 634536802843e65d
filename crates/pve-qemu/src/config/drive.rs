//! Drives: disks, CD-ROMs, the UEFI variables and the TPM state (reference 06a §3.1).

use std::fmt;

use pve_schema::ids::VolumeId;

use super::drive_key::{Bus, DriveKey};
use super::error::ConfigError;
use super::props::Props;
use super::{format_size, parse_size};

/// Options that old configs may have and nothing uses.
const IGNORED: [&str; 4] = ["cyls", "heads", "secs", "trans"];

/// Options that limit a bandwidth or a rate, by the pair that excludes the sum.
const SUMS: [(&str, [&str; 2]); 2] = [("mbps", ["mbps_rd", "mbps_wr"]), ("iops", ["iops_rd", "iops_wr"])];

/// A burst, and the limit that it needs. A burst of operations stands alone (reference 06a §3.1).
const BURSTS: [(&str, &str); 3] = [
    ("mbps_max", "mbps"),
    ("mbps_rd_max", "mbps_rd"),
    ("mbps_wr_max", "mbps_wr"),
];

/// A burst's length, and the burst that it needs.
const BURST_LENGTHS: [(&str, &str); 6] = [
    ("bps_max_length", "mbps_max"),
    ("bps_rd_max_length", "mbps_rd_max"),
    ("bps_wr_max_length", "mbps_wr_max"),
    ("iops_max_length", "iops_max"),
    ("iops_rd_max_length", "iops_rd_max"),
    ("iops_wr_max_length", "iops_wr_max"),
];

/// A drive: its volume and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// The key.
    pub key: DriveKey,
    /// A volume id, an absolute path, `none` or `cdrom`; in a request also what to allocate.
    pub file: String,
    /// The other options.
    pub options: Props,
}

/// What a drive is filled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An empty CD-ROM drive.
    Empty,
    /// The node's own CD-ROM drive.
    HostCdrom,
    /// A path on the node.
    Path(String),
    /// A volume of a storage.
    Volume(VolumeId),
    /// None of these: in a request, what to allocate.
    Other(String),
}

impl Drive {
    /// Reads a drive as it stands in a config or a request.
    ///
    /// # Errors
    /// [`ConfigError::Drive`], for the reasons of reference 06a §3.1.
    pub fn parse(key: DriveKey, text: &str) -> Result<Self, ConfigError> {
        let rejected = || ConfigError::Drive { key: key.to_string() };
        let text = without_ignored(text);
        let mut options = Props::parse(&key.to_string(), &text).map_err(|_| rejected())?;
        let file = options.take("file").ok_or_else(rejected)?;
        convert_legacy_limits(&mut options);
        let mut drive = Self { key, file, options };
        drive.check().ok_or_else(rejected)?;
        drive.normalise_size().ok_or_else(rejected)?;
        Ok(drive)
    }

    /// Whether the options go together.
    fn check(&self) -> Option<()> {
        let has = |name: &str| self.options.has(name);
        let sums = SUMS
            .iter()
            .any(|(sum, parts)| has(sum) && parts.iter().any(|part| has(part)));
        let bursts = BURSTS
            .iter()
            .chain(&BURST_LENGTHS)
            .any(|(burst, base)| has(burst) && !has(base));
        let cdrom = self.is_cdrom() && (has("snapshot") || has("format") || self.key.bus == Bus::Virtio);
        (!sums && !bursts && !cdrom).then_some(())
    }

    fn normalise_size(&mut self) -> Option<()> {
        if let Some(size) = self.options.get("size") {
            let bytes = parse_size(size)?;
            self.options.set("size", format_size(bytes));
        }
        Some(())
    }

    /// What the drive is filled with.
    pub fn source(&self) -> Source {
        match self.file.as_str() {
            "none" => Source::Empty,
            "cdrom" => Source::HostCdrom,
            path if path.starts_with('/') => Source::Path(path.to_owned()),
            other => match other.parse() {
                Ok(volume) => Source::Volume(volume),
                Err(_) => Source::Other(other.to_owned()),
            },
        }
    }

    /// The volume, if it is one of a storage.
    pub fn volume(&self) -> Option<VolumeId> {
        match self.source() {
            Source::Volume(volume) => Some(volume),
            _ => None,
        }
    }

    /// Whether the guest sees a CD-ROM drive (a cloud-init drive is one, too).
    pub fn is_cdrom(&self) -> bool {
        self.options.get("media") == Some("cdrom")
    }

    /// Whether this is a CD-ROM drive for media that a user chooses.
    pub fn is_plain_cdrom(&self) -> bool {
        self.is_cdrom() && !self.is_cloudinit()
    }

    /// Whether the volume holds generated cloud-init data: `[:/](vm-<n>-)?cloudinit(.<format>)?` at the end.
    pub fn is_cloudinit(&self) -> bool {
        let Some(place) = self.file.rfind([':', '/']) else {
            return false;
        };
        let name = self.file.get(place + 1..).unwrap_or_default();
        let name = match name.strip_prefix("vm-").and_then(|rest| rest.split_once('-')) {
            Some((number, rest)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => rest,
            _ => name,
        };
        match name.strip_prefix("cloudinit") {
            Some("") => true,
            Some(rest) => rest
                .strip_prefix('.')
                .is_some_and(|format| !format.is_empty() && format.bytes().all(|b| b.is_ascii_alphanumeric())),
            None => false,
        }
    }

    /// The recorded size in bytes. It informs; the storage knows better.
    pub fn size(&self) -> Option<u64> {
        parse_size(self.options.get("size")?)
    }

    /// Records the size.
    pub fn set_size(&mut self, bytes: u64) {
        self.options.set("size", format_size(bytes));
    }

    /// Whether the drive gets an I/O thread of its own, where its controller can have one.
    pub fn wants_io_thread(&self) -> bool {
        self.options.flag("iothread").unwrap_or(false)
    }
}

impl fmt::Display for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.file, self.options.print_rest())
    }
}

/// The text without the options that are ignored.
fn without_ignored(text: &str) -> String {
    let keep = |part: &&str| !part.split_once('=').is_some_and(|(name, _)| IGNORED.contains(&name));
    text.split(',').filter(keep).collect::<Vec<_>>().join(",")
}

/// Turns byte limits of old configs into MiB.
fn convert_legacy_limits(options: &mut Props) {
    for (old, new) in [("bps", "mbps"), ("bps_rd", "mbps_rd"), ("bps_wr", "mbps_wr")] {
        let Some(bytes) = options.take(old) else { continue };
        if let Ok(bytes) = bytes.parse::<f64>() {
            options.set(new, format!("{:.3}", bytes / 1_048_576.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str, text: &str) -> Result<Drive, ConfigError> {
        Drive::parse(key.parse().unwrap(), text)
    }

    #[test]
    fn options_print_in_byte_order_behind_the_volume() {
        let text = "local-lvm:vm-1-disk-0,size=32G,backup=0,ssd=1,iothread=1,discard=on,cache=none";
        let printed = "local-lvm:vm-1-disk-0,backup=0,cache=none,discard=on,iothread=1,size=32G,ssd=1";
        assert_eq!(parse("scsi1", text).unwrap().to_string(), printed);
        assert_eq!(
            parse("scsi1", "file=l-x:d,size=1.5G").unwrap().to_string(),
            "l-x:d,size=1536M"
        );
        assert_eq!(parse("scsi1", "l-x:d,cyls=3,heads=2").unwrap().to_string(), "l-x:d");
        assert_eq!(
            parse("scsi1", "l-x:d,bps_rd=52428800").unwrap().to_string(),
            "l-x:d,mbps_rd=50.000"
        );
    }

    #[test]
    fn options_that_exclude_each_other_are_rejected() {
        let bad = [
            ("virtio0", "local:iso/a.iso,media=cdrom"),
            ("scsi0", "l-x:d,mbps=10,mbps_rd=5"),
            ("scsi0", "l-x:d,iops=10,iops_wr=5"),
            ("scsi0", "l-x:d,mbps_max=10"),
            ("scsi0", "l-x:d,iops_max_length=10"),
            ("ide2", "none,media=cdrom,format=raw"),
            ("scsi0", "l-x:d,size=big"),
            ("scsi0", "l-x:d,foo=1"),
            ("scsi0", "size=1G"),
        ];
        for (key, text) in bad {
            let error = parse(key, text).expect_err(text);
            assert_eq!(error.to_string(), "unable to parse drive options");
        }
    }

    #[test]
    fn cloud_init_drives_are_known_by_their_volume() {
        for good in ["l-x:vm-9-cloudinit", "local:9/vm-9-cloudinit.qcow2", "l-x:cloudinit"] {
            assert!(parse("ide2", good).unwrap().is_cloudinit(), "{good}");
        }
        for bad in [
            "l-x:vm-9-cloudinits",
            "l-x:vm-x-cloudinit",
            "l-x:mycloudinit",
            "l-x:vm-9-cloudinit.",
        ] {
            assert!(!parse("ide2", bad).unwrap().is_cloudinit(), "{bad}");
        }
    }
}
