//! Backup archives: what their file names say (reference 08 §6 and vector V6, 05 §11).

use jiff::civil;
use jiff::tz::TimeZone;

use crate::volume::is_backup_file;

/// What a backup archive's file name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveInfo {
    /// `qemu`, `lxc`, `openvz` or `unknown`.
    pub guest_type: &'static str,
    /// `tar` or `vma`.
    pub format: &'static str,
    /// `gz`, `lzo`, `zst` or `bz2`.
    pub compression: Option<&'static str>,
    /// The guest.
    pub vmid: Option<u32>,
    /// When it was made, if the name follows the pattern that `vzdump` writes: local time as in the name.
    pub time: Option<ArchiveTime>,
    /// The log's file name, of archives that follow the pattern.
    pub log_file: Option<String>,
    /// The notes' file name.
    pub notes_file: String,
}

/// The local time in a backup archive's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveTime {
    /// Year.
    pub year: i16,
    /// Month, 1 to 12.
    pub month: i8,
    /// Day, 1 to 31.
    pub day: i8,
    /// Hour, 0 to 23.
    pub hour: i8,
    /// Minute, 0 to 59.
    pub minute: i8,
    /// Second, 0 to 59.
    pub second: i8,
}

impl ArchiveTime {
    /// The moment in Unix seconds, in the system's time zone; `None` for a time that no calendar has.
    pub fn unix_seconds(self) -> Option<i64> {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        let local = civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        Some(local.to_zoned(TimeZone::system()).ok()?.timestamp().as_second())
    }
}

/// A file that is no backup archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ERROR: couldn't determine archive info from '{0}'")]
pub struct NoArchive(pub String);

impl ArchiveInfo {
    /// Whether the name follows the pattern that `vzdump` writes; others are never pruned.
    pub fn is_standard(&self) -> bool {
        self.time.is_some()
    }

    /// Reads an archive's file name, without directories. Any name that a storage lists as a backup has an answer.
    ///
    /// # Errors
    /// It is no backup archive's.
    pub fn of_listed(name: &str) -> Result<Self, NoArchive> {
        let invalid = || NoArchive(name.to_owned());
        if !is_backup_file(name) {
            return Err(invalid());
        }
        let (stem, format, compression) = split_extensions(name).ok_or_else(invalid)?;
        let (guest_type, vmid, time) = match parse_stem(stem) {
            Some((guest_type, vmid, time)) => (guest_type, Some(vmid), time),
            None => ("unknown", None, None),
        };
        Ok(Self {
            guest_type,
            format,
            compression,
            vmid,
            time,
            log_file: time.map(|_| format!("{stem}.log")),
            notes_file: format!("{name}.notes"),
        })
    }

    /// Reads an archive's file name as a restore must understand it: `vzdump-TYPE-…`.
    ///
    /// # Errors
    /// The name does not say what is inside.
    pub fn of(name: &str) -> Result<Self, NoArchive> {
        let info = Self::of_listed(name)?;
        if info.guest_type == "unknown" {
            return Err(NoArchive(name.to_owned()));
        }
        Ok(info)
    }

    /// The command that decompresses an archive of this name, without the file.
    pub fn decompressor(&self) -> Option<&'static [&'static str]> {
        match self.compression? {
            "gz" => Some(&["zcat"]),
            "lzo" => Some(&["lzop", "-d", "-c"]),
            "zst" => Some(&["zstd", "-q", "-d", "-c"]),
            _ => Some(&["bzcat", "-q"]),
        }
    }
}

/// Name without extensions, archive format, compression.
fn split_extensions(name: &str) -> Option<(&str, &'static str, Option<&'static str>)> {
    if let Some(stem) = name.strip_suffix(".tgz") {
        return Some((stem, "tar", Some("gz")));
    }
    let compressions = ["gz", "lzo", "zst", "bz2"];
    let strip = |compression: &'static str| {
        let plain = name.strip_suffix(compression)?.strip_suffix('.')?;
        Some((plain, Some(compression)))
    };
    let (plain, compression) = compressions.into_iter().find_map(strip).unwrap_or((name, None));
    ["tar", "vma"].into_iter().find_map(|format| {
        let stem = plain.strip_suffix(format)?.strip_suffix('.')?;
        Some((stem, format, compression))
    })
}

/// `vzdump-TYPE-VMID-REST` → type, guest, and the time if REST is one.
fn parse_stem(stem: &str) -> Option<(&'static str, u32, Option<ArchiveTime>)> {
    let rest = stem.strip_prefix("vzdump-")?;
    let (word, rest) = rest.split_once('-')?;
    let guest_type = ["qemu", "lxc", "openvz"].into_iter().find(|known| *known == word)?;
    let (digits, rest) = rest.split_once('-')?;
    let vmid = digits
        .parse()
        .ok()
        .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    // Guests have three to nine digits; what else is called like a backup was renamed by hand.
    let canonical = (3..=9).contains(&digits.len()) && !digits.starts_with('0');
    let time = if canonical { parse_time(rest) } else { None };
    Some((guest_type, vmid, time))
}

/// `YYYY_MM_DD-HH_MM_SS`
fn parse_time(text: &str) -> Option<ArchiveTime> {
    let shape = |b: u8| if b.is_ascii_digit() { b'0' } else { b };
    if !text.bytes().map(shape).eq(*b"0000_00_00-00_00_00") {
        return None;
    }
    let mut numbers = text.split(['_', '-']).map(|digits| digits.parse::<i16>().ok());
    let year = numbers.next()??;
    let mut small = || numbers.next().flatten().and_then(|number| i8::try_from(number).ok());
    let time = ArchiveTime {
        year,
        month: small()?,
        day: small()?,
        hour: small()?,
        minute: small()?,
        second: small()?,
    };
    Some(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reference 08, vector V6.
    #[test]
    fn names_tell_type_format_and_guest() {
        let info = ArchiveInfo::of("vzdump-qemu-812-2026_02_03-04_05_06.vma.lzo").unwrap();
        assert_eq!(
            (info.guest_type, info.format, info.compression),
            ("qemu", "vma", Some("lzo"))
        );
        assert_eq!(info.decompressor().unwrap(), ["lzop", "-d", "-c"]);
        assert_eq!((info.vmid, info.is_standard()), (Some(812), true));
        assert_eq!(info.log_file.unwrap(), "vzdump-qemu-812-2026_02_03-04_05_06.log");
        assert_eq!(info.notes_file, "vzdump-qemu-812-2026_02_03-04_05_06.vma.lzo.notes");
        let time = info.time.unwrap();
        assert_eq!((time.year, time.month, time.day), (2026, 2, 3));
        assert_eq!((time.hour, time.minute, time.second), (4, 5, 6));

        let info = ArchiveInfo::of("vzdump-openvz-812-2026_02_03-04_05_06.tgz").unwrap();
        assert_eq!((info.format, info.compression), ("tar", Some("gz")));
        for renamed in ["vzdump-lxc-812-mynote.tar.gz", "vzdump-lxc-12-2026_02_03-04_05_06.tar"] {
            assert!(!ArchiveInfo::of(renamed).unwrap().is_standard(), "{renamed}");
        }
        let error = ArchiveInfo::of("foo.tar").unwrap_err();
        assert_eq!(
            error.to_string(),
            "ERROR: couldn't determine archive info from 'foo.tar'"
        );
        assert_eq!(ArchiveInfo::of_listed("foo.tar").unwrap().guest_type, "unknown");
    }

    proptest! {
        #[test]
        fn every_listed_backup_has_an_answer(name in "(vzdump-)?(qemu|lxc|x)?-?[0-9]{0,12}-?\\PC{0,20}\\.(tar|vma|tgz)(\\.gz|\\.zst)?") {
            prop_assert_eq!(ArchiveInfo::of_listed(&name).is_ok(), is_backup_file(&name));
        }
    }
}
