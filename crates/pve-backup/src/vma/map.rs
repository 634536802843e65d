//! Which drive a device of the archive was: the `#qmdump#map:` lines of the archived config (reference 05 §8, §15).

use pve_schema::Failure;

use super::header::{Device, Header};

/// What the lines begin with.
const PREFIX: &str = "#qmdump#map:";

/// A drive and the device that holds its content:
/// `#qmdump#map:<key>:<device name>:<storage id or empty>:<format or empty>:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveMap {
    /// The config's key: `scsi0`.
    pub drive: String,
    /// The device's name: `drive-scsi0`.
    pub device: String,
    /// The storage it was on.
    pub storage: Option<String>,
    /// The format it had there.
    pub format: Option<String>,
}

/// Config and devices do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriveMapError {
    /// A drive without a device.
    #[error("archive does not contain data for drive '{0}'")]
    NoData(String),
    /// A device without a drive.
    #[error("found no device mapping information for device '{0}'")]
    NoMapping(String),
}

impl Failure for DriveMapError {}

impl DriveMap {
    /// Reads a line of a config; `None` if it is about something else.
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_end().strip_prefix(PREFIX)?.strip_suffix(':')?;
        let fields: Vec<&str> = rest.split(':').collect();
        let [drive, device, storage, format] = fields[..] else {
            return None;
        };
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Self {
            drive: set(drive)?,
            device: set(device)?,
            storage: set(storage),
            format: set(format),
        })
    }

    /// The line, without its end.
    pub fn line(&self) -> String {
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let (storage, format) = (text(&self.storage), text(&self.format));
        format!("{PREFIX}{}:{}:{storage}:{format}:", self.drive, self.device)
    }

    /// All lines of a config, each with its device, in the order of the lines.
    ///
    /// # Errors
    /// A line's device is not in the archive, or a device in the archive has no line.
    pub fn of_config<'a>(config: &str, header: &'a Header) -> Result<Vec<(Self, &'a Device)>, DriveMapError> {
        let mut maps = Vec::new();
        for map in config.lines().filter_map(Self::parse) {
            match header.device(&map.device) {
                Some(device) => maps.push((map, device)),
                None => return Err(DriveMapError::NoData(map.drive)),
            }
        }
        let is_mapped = |device: &Device| maps.iter().any(|(map, _)| map.device == device.name);
        match header.devices().iter().find(|device| !is_mapped(device)) {
            Some(device) => Err(DriveMapError::NoMapping(device.name.clone())),
            None => Ok(maps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_find_their_devices() {
        let mut header = Header::new([0; 16], 0);
        header.add_device("drive-scsi0", 1024).unwrap();
        header.add_device("drive-tpmstate0-backup", 1024).unwrap();
        let config = "name: a\n#qmdump#map:scsi0:drive-scsi0:local-lvm:raw:\nscsi0: x\n\
            #qmdump#map:tpmstate0:drive-tpmstate0-backup:::\n";
        let maps = DriveMap::of_config(config, &header).unwrap();
        let lines: Vec<String> = maps.iter().map(|(map, _)| map.line()).collect();
        assert_eq!(
            lines,
            [
                "#qmdump#map:scsi0:drive-scsi0:local-lvm:raw:",
                "#qmdump#map:tpmstate0:drive-tpmstate0-backup:::"
            ]
        );
        assert_eq!(maps[1].1.id.get(), 2);
        assert_eq!((maps[1].0.storage.clone(), maps[1].0.format.clone()), (None, None));

        let message = |config: &str| DriveMap::of_config(config, &header).unwrap_err().to_string();
        assert_eq!(
            message("#qmdump#map:scsi9:drive-scsi9:local:raw:\n"),
            "archive does not contain data for drive 'scsi9'"
        );
        assert_eq!(
            message("#qmdump#map:scsi0:drive-scsi0:local-lvm:raw:\n"),
            "found no device mapping information for device 'drive-tpmstate0-backup'"
        );
        for other in ["", "#qmdump#map:scsi0:drive-scsi0:", "#qmdump#map::d:::", "# a"] {
            assert_eq!(DriveMap::parse(other), None, "{other}");
        }
    }
}
