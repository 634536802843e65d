//! The block graph of a drive (reference 06a §7.8).
//!
//! ```text
//! throttle (drive-scsi0) ─▶ format (f<hash>: raw, qcow2, …) ─▶ protocol (e<hash>: file, host_device, …)
//! ```
//!
//! What the guest's device and QMP commands name is the throttle node; limits are changed on its group.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::error::CommandError;
use super::facts::{Backing, BlockDriver};
use crate::config::{Drive, Props};

/// Bytes in the unit of bandwidth limits.
const MIB: f64 = 1_048_576.0;

/// The limits of a throttle group: its name, the option, and the factor.
const LIMITS: [(&str, &str, f64); 12] = [
    ("bps-total", "mbps", MIB),
    ("bps-read", "mbps_rd", MIB),
    ("bps-write", "mbps_wr", MIB),
    ("bps-total-max", "mbps_max", MIB),
    ("bps-read-max", "mbps_rd_max", MIB),
    ("bps-write-max", "mbps_wr_max", MIB),
    ("iops-total", "iops", 1.0),
    ("iops-read", "iops_rd", 1.0),
    ("iops-write", "iops_wr", 1.0),
    ("iops-total-max", "iops_max", 1.0),
    ("iops-read-max", "iops_rd_max", 1.0),
    ("iops-write-max", "iops_wr_max", 1.0),
];

/// The lengths of bursts: the limit's name and the option.
const LENGTHS: [(&str, &str); 6] = [
    ("bps-total-max-length", "bps_max_length"),
    ("bps-read-max-length", "bps_rd_max_length"),
    ("bps-write-max-length", "bps_wr_max_length"),
    ("iops-total-max-length", "iops_max_length"),
    ("iops-read-max-length", "iops_rd_max_length"),
    ("iops-write-max-length", "iops_wr_max_length"),
];

/// How a cache mode reads: past the host's cache, without flushing, and what the guest's device is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheMode {
    /// Past the host's page cache.
    pub direct: bool,
    /// Without waiting for the disk.
    pub no_flush: bool,
    /// Whether the guest sees a write cache.
    pub write_cache: bool,
}

/// The cache mode of a drive; `direct` is what the storage does by itself.
pub fn cache_mode(drive: &Drive, direct: bool) -> CacheMode {
    let (direct, no_flush, write_cache) = match drive.options.get("cache") {
        Some("none") => (true, false, true),
        Some("writeback") => (false, false, true),
        Some("unsafe") => (false, true, true),
        Some("writethrough") => (false, false, false),
        Some("directsync") => (true, false, false),
        _ => (direct && !drive.is_cdrom(), false, true),
    };
    CacheMode {
        direct,
        no_flush,
        write_cache,
    }
}

/// The name of the node that a drive's device uses.
pub fn top_node(drive: &Drive) -> String {
    format!("drive-{}", drive.key)
}

/// The name of the throttle group of a drive.
pub fn throttle_group(drive: &Drive) -> String {
    format!("throttle-drive-{}", drive.key)
}

/// The name of a node below the top one: `f` for the format, `e` for the protocol.
pub fn inner_node(level: char, drive: &Drive) -> String {
    let text = format!("drive={},volid={}", drive.key, drive.file);
    let hash: String = Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .take(15)
        .collect();
    format!("{level}{hash}")
}

/// The limits of a drive's throttle group: only those that are set.
pub(super) fn limits(options: &Props) -> Map<String, Value> {
    #[expect(clippy::cast_possible_truncation)]
    let numbers = LIMITS.iter().filter_map(|(name, option, factor)| {
        let number = options.number(option).filter(|number| *number > 0.0)?;
        Some(((*name).to_owned(), json!((number * factor) as i64)))
    });
    let lengths = LENGTHS
        .iter()
        .filter_map(|(name, option)| Some(((*name).to_owned(), json!(options.integer(option)?))));
    numbers.chain(lengths).collect()
}

/// All eighteen limits, unset ones at what QEMU starts with: for a change of a running guest's limits.
pub fn all_limits(options: &Props) -> Map<String, Value> {
    let names = LIMITS
        .iter()
        .map(|(name, _, _)| (*name, 0))
        .chain(LENGTHS.iter().map(|(name, _)| (*name, 1)));
    let mut all: Map<String, Value> = names.map(|(name, default)| (name.to_owned(), json!(default))).collect();
    all.extend(limits(options));
    all
}

/// The `-object` of a drive's throttle group.
pub(super) fn throttle_object(drive: &Drive) -> Value {
    json!({
        "id": throttle_group(drive),
        "limits": limits(&drive.options),
        "qom-type": "throttle-group",
    })
}

/// How a drive's nodes are opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    /// For reading only.
    pub read_only: bool,
    /// Whether the host lets QEMU use `io_uring`.
    pub io_uring: bool,
    /// Show the guest only so many bytes of a raw volume.
    pub size: Option<u64>,
    /// Whether the format node is the top one: a passed-through SCSI device is not throttled.
    pub bare: bool,
}

/// The `-blockdev` of a drive.
///
/// # Errors
/// [`CommandError::DriveSnapshot`]
pub(super) fn graph(drive: &Drive, backing: &Backing, opening: Opening) -> Result<Value, CommandError> {
    if drive.options.flag("snapshot").unwrap_or(false) {
        return Err(CommandError::DriveSnapshot);
    }
    let cache = cache_mode(drive, backing.direct);
    let common = common(drive, opening.read_only);
    let cached = json!({ "direct": cache.direct, "no-flush": cache.no_flush });

    let mut protocol = protocol(&backing.driver, aio(drive, backing, cache, opening.io_uring));
    protocol.extend(common.clone());
    protocol.insert("cache".to_owned(), cached.clone());
    protocol.insert("node-name".to_owned(), json!(inner_node('e', drive)));

    let mut format = common.clone();
    format.insert("cache".to_owned(), cached);
    format.insert("driver".to_owned(), json!(backing.format));
    format.insert("file".to_owned(), Value::Object(protocol));
    if let Some(size) = opening.size.filter(|_| backing.format == "raw") {
        format.insert("size".to_owned(), json!(size));
    }
    let name = if opening.bare {
        top_node(drive)
    } else {
        inner_node('f', drive)
    };
    format.insert("node-name".to_owned(), json!(name));
    if opening.bare {
        return Ok(sorted(Value::Object(format)));
    }

    let mut top = common;
    top.insert("driver".to_owned(), json!("throttle"));
    top.insert("file".to_owned(), Value::Object(format));
    top.insert("node-name".to_owned(), json!(top_node(drive)));
    top.insert("throttle-group".to_owned(), json!(throttle_group(drive)));
    Ok(sorted(Value::Object(top)))
}

/// What every level of the graph carries.
fn common(drive: &Drive, read_only: bool) -> Map<String, Value> {
    let mut options = Map::from_iter([("read-only".to_owned(), json!(read_only))]);
    if !drive.is_cdrom() {
        let discard = drive.options.get("discard") == Some("on");
        let zeroes = match (drive.options.flag("detect_zeroes"), discard) {
            (Some(false), _) => "off",
            (_, true) => "unmap",
            (_, false) => "on",
        };
        options.insert("discard".to_owned(), json!(if discard { "unmap" } else { "ignore" }));
        options.insert("detect-zeroes".to_owned(), json!(zeroes));
    }
    options
}

fn protocol(driver: &BlockDriver, aio: &str) -> Map<String, Value> {
    let file = |driver: &str, path: &std::path::Path| {
        Map::from_iter([
            ("aio".to_owned(), json!(aio)),
            ("driver".to_owned(), json!(driver)),
            ("filename".to_owned(), json!(path.to_string_lossy())),
        ])
    };
    match driver {
        BlockDriver::File(path) => file("file", path),
        BlockDriver::HostDevice(path) => file("host_device", path),
        BlockDriver::HostCdrom(path) => file("host_cdrom", path),
        BlockDriver::Other(options) => options.clone(),
    }
}

/// How the kernel is asked for I/O.
fn aio<'a>(drive: &'a Drive, backing: &Backing, cache: CacheMode, io_uring: bool) -> &'a str {
    match drive.options.get("aio") {
        Some("io_uring") if !io_uring => "threads",
        Some(aio) => aio,
        None if backing.io_uring && io_uring => "io_uring",
        None if !backing.io_uring && cache.direct => "native",
        None => "threads",
    }
}

/// The value with the members of every object in byte order, whatever keeps them in memory.
pub(super) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut members: Vec<(String, Value)> = map.into_iter().collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(members.into_iter().map(|(name, value)| (name, sorted(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(key: &str, text: &str) -> Drive {
        Drive::parse(key.parse().unwrap(), text).unwrap()
    }

    /// Reference 06a, vector 34.
    #[test]
    fn inner_nodes_are_named_by_drive_and_volume() {
        let image = drive("scsi0", "local:8006/vm-8006-disk-0.qcow2");
        assert_eq!(inner_node('e', &image), "ecd04be4259153b8293415fefa2a84c");
        assert_eq!(inner_node('f', &image), "fcd04be4259153b8293415fefa2a84c");
        let thin = drive("scsi0", "local-lvm:vm-101-disk-0");
        assert_eq!(inner_node('e', &thin), "ef5b3ee8b41c20702b32068f9cd4826");
    }

    /// Reference 06a, vector 38.
    #[test]
    fn limits_are_in_bytes_and_operations() {
        let drive = drive("virtio0", "l-x:d,mbps_rd=50,iops_wr=300");
        let expected = r#"{"id":"throttle-drive-virtio0","limits":{"bps-read":52428800,"iops-write":300},"qom-type":"throttle-group"}"#;
        assert_eq!(sorted(throttle_object(&drive)).to_string(), expected);
        assert_eq!(all_limits(&drive.options).len(), 18);
    }

    #[test]
    fn cache_modes_are_those_of_the_table() {
        let cases = [
            ("l-x:d", (true, false, true)),
            ("l-x:d,cache=none", (true, false, true)),
            ("l-x:d,cache=writeback", (false, false, true)),
            ("l-x:d,cache=unsafe", (false, true, true)),
            ("l-x:d,cache=writethrough", (false, false, false)),
            ("l-x:d,cache=directsync", (true, false, false)),
            ("l-x:d,media=cdrom", (false, false, true)),
        ];
        for (text, (direct, no_flush, write_cache)) in cases {
            let mode = cache_mode(&drive("scsi0", text), true);
            assert_eq!(
                mode,
                CacheMode {
                    direct,
                    no_flush,
                    write_cache
                },
                "{text}"
            );
        }
        assert!(!cache_mode(&drive("scsi0", "l-x:d"), false).direct);
    }

    #[test]
    fn a_graph_has_three_levels() {
        let drive = drive("scsi0", "l-x:d,discard=on");
        let opening = Opening {
            read_only: false,
            io_uring: false,
            size: None,
            bare: false,
        };
        let graph = graph(&drive, &Backing::file("/d.raw", "raw"), opening)
            .unwrap()
            .to_string();
        let node = |level| inner_node(level, &drive);
        let expected = format!(
            r#"{{"detect-zeroes":"unmap","discard":"unmap","driver":"throttle","file":{{"cache":{{"direct":true,"no-flush":false}},"detect-zeroes":"unmap","discard":"unmap","driver":"raw","file":{{"aio":"threads","cache":{{"direct":true,"no-flush":false}},"detect-zeroes":"unmap","discard":"unmap","driver":"file","filename":"/d.raw","node-name":"{}","read-only":false}},"node-name":"{}","read-only":false}},"node-name":"drive-scsi0","read-only":false,"throttle-group":"throttle-drive-scsi0"}}"#,
            node('e'),
            node('f'),
        );
        assert_eq!(graph, expected);
    }
}
