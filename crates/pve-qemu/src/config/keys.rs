//! The keys of a VM's config as a table: how a change takes effect, which privilege it needs (reference 06a §3).

use pve_schema::property_string::{self, Properties};
use pve_schema::schema::{Format, Kind, Schema};

/// How a change of a key reaches a running guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// At once: the guest does not know of it.
    Fast,
    /// While the guest runs, if the hotplug feature is on.
    Hotplug(Feature),
    /// While the guest runs, through its control group.
    Cgroup,
    /// By rules of its own (reference 06a §5).
    Special,
    /// At the next cold start.
    Stop,
}

/// What can be changed while the guest runs: the words of the `hotplug` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Network cards.
    Network,
    /// Disks.
    Disk,
    /// Virtual CPUs.
    Cpu,
    /// Memory.
    Memory,
    /// USB devices.
    Usb,
    /// The cloud-init drive.
    Cloudinit,
}

/// What a change of a key needs, besides the method's own check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A privilege on the VM.
    Privilege(&'static str),
    /// `root@pam`.
    Root,
    /// One of the two cloud-init privileges.
    CloudinitOrNetwork,
    /// By the value: a medium or a disk.
    DiskOrCdrom,
    /// By the value: a socket, or a device of the node.
    Serial,
    /// By the value: a mapping, or a device of the node.
    Usb,
    /// By the value: a mapping, or a device of the node.
    HostPci,
    /// The key cannot be set by a user.
    Internal,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key; without its number for a family.
    pub name: &'static str,
    /// The highest number of a family.
    pub last: Option<u8>,
    /// How a change reaches a running guest.
    pub live: Live,
    /// What a change needs.
    pub need: Need,
}

const CPU: Need = Need::Privilege("VM.Config.CPU");
const DISK: Need = Need::Privilege("VM.Config.Disk");
const HWTYPE: Need = Need::Privilege("VM.Config.HWType");
const MEMORY: Need = Need::Privilege("VM.Config.Memory");
const NETWORK: Need = Need::Privilege("VM.Config.Network");
const OPTIONS: Need = Need::Privilege("VM.Config.Options");
const POWER: Need = Need::Privilege("VM.PowerMgmt");

const fn one(name: &'static str, live: Live, need: Need) -> KeyInfo {
    KeyInfo {
        name,
        last: None,
        live,
        need,
    }
}

const fn family(name: &'static str, last: u8, live: Live, need: Need) -> KeyInfo {
    KeyInfo {
        name,
        last: Some(last),
        live,
        need,
    }
}

/// Every key of a VM's config.
pub const KEYS: &[KeyInfo] = &[
    one("acpi", Live::Stop, HWTYPE),
    one("affinity", Live::Stop, Need::Root),
    one("agent", Live::Special, OPTIONS),
    one("allow-ksm", Live::Stop, MEMORY),
    one("amd-sev", Live::Stop, Need::Root),
    one("arch", Live::Stop, Need::Root),
    one("args", Live::Stop, Need::Root),
    family("audio", 0, Live::Stop, HWTYPE),
    one("autostart", Live::Stop, OPTIONS),
    one("balloon", Live::Special, MEMORY),
    one("bios", Live::Stop, OPTIONS),
    one("boot", Live::Stop, DISK),
    one("bootdisk", Live::Stop, DISK),
    one("cicustom", Live::Fast, Need::CloudinitOrNetwork),
    one("cipassword", Live::Fast, Need::CloudinitOrNetwork),
    one("citype", Live::Fast, Need::CloudinitOrNetwork),
    one("ciupgrade", Live::Fast, Need::CloudinitOrNetwork),
    one("ciuser", Live::Fast, Need::CloudinitOrNetwork),
    one("cores", Live::Stop, CPU),
    one("cpu", Live::Stop, CPU),
    one("cpulimit", Live::Cgroup, CPU),
    one("cpuunits", Live::Cgroup, CPU),
    one("description", Live::Fast, OPTIONS),
    family("efidisk", 0, Live::Stop, DISK),
    one("freeze", Live::Stop, POWER),
    one("hookscript", Live::Fast, Need::Root),
    family("hostpci", 15, Live::Stop, Need::HostPci),
    one("hotplug", Live::Special, HWTYPE),
    one("hugepages", Live::Stop, Need::Root),
    family("ide", 3, Live::Special, Need::DiskOrCdrom),
    one("intel-tdx", Live::Stop, Need::Root),
    family("ipconfig", 31, Live::Fast, Need::CloudinitOrNetwork),
    one("ivshmem", Live::Stop, Need::Root),
    one("keephugepages", Live::Stop, Need::Root),
    one("keyboard", Live::Stop, OPTIONS),
    one("kvm", Live::Stop, HWTYPE),
    one("localtime", Live::Stop, OPTIONS),
    one("lock", Live::Fast, Need::Root),
    one("machine", Live::Stop, HWTYPE),
    one("memory", Live::Hotplug(Feature::Memory), MEMORY),
    one("meta", Live::Stop, Need::Internal),
    one("migrate_downtime", Live::Fast, OPTIONS),
    one("migrate_speed", Live::Fast, OPTIONS),
    one("name", Live::Fast, OPTIONS),
    one("nameserver", Live::Fast, Need::CloudinitOrNetwork),
    family("net", 31, Live::Hotplug(Feature::Network), NETWORK),
    one("numa", Live::Stop, CPU),
    family("numa", 7, Live::Stop, CPU),
    one("onboot", Live::Fast, OPTIONS),
    one("ostype", Live::Stop, OPTIONS),
    family("parallel", 2, Live::Stop, Need::Root),
    one("parent", Live::Stop, Need::Internal),
    one("protection", Live::Fast, OPTIONS),
    one("reboot", Live::Stop, OPTIONS),
    family("rng", 0, Live::Stop, HWTYPE),
    one("running-nets-host-mtu", Live::Stop, Need::Internal),
    one("runningcpu", Live::Stop, Need::Internal),
    one("runningmachine", Live::Stop, Need::Internal),
    family("sata", 5, Live::Special, Need::DiskOrCdrom),
    family("scsi", 30, Live::Hotplug(Feature::Disk), Need::DiskOrCdrom),
    one("scsihw", Live::Stop, HWTYPE),
    one("searchdomain", Live::Fast, Need::CloudinitOrNetwork),
    family("serial", 3, Live::Stop, Need::Serial),
    one("shares", Live::Fast, MEMORY),
    family("smbios", 1, Live::Stop, HWTYPE),
    one("smp", Live::Stop, CPU),
    one("snapstate", Live::Stop, Need::Internal),
    one("snaptime", Live::Stop, Need::Internal),
    one("sockets", Live::Stop, CPU),
    one("spice_enhancements", Live::Stop, Need::Root),
    one("sshkeys", Live::Fast, Need::CloudinitOrNetwork),
    one("startdate", Live::Stop, OPTIONS),
    one("startup", Live::Fast, OPTIONS),
    one("tablet", Live::Hotplug(Feature::Usb), HWTYPE),
    one("tags", Live::Fast, OPTIONS),
    one("tdf", Live::Stop, OPTIONS),
    one("template", Live::Stop, OPTIONS),
    family("tpmstate", 0, Live::Stop, DISK),
    family("unused", 255, Live::Special, DISK),
    family("usb", 13, Live::Hotplug(Feature::Usb), Need::Usb),
    one("vcpus", Live::Hotplug(Feature::Cpu), CPU),
    one("vga", Live::Stop, HWTYPE),
    family("virtio", 15, Live::Hotplug(Feature::Disk), Need::DiskOrCdrom),
    family("virtiofs", 9, Live::Stop, DISK),
    one("vmgenid", Live::Stop, Need::Root),
    one("vmstate", Live::Stop, Need::Internal),
    one("vmstatestorage", Live::Fast, DISK),
    one("watchdog", Live::Stop, HWTYPE),
];

/// What is known of a key, `net0` for one.
pub fn info(key: &str) -> Option<&'static KeyInfo> {
    if let Some(found) = KEYS.iter().find(|info| info.last.is_none() && info.name == key) {
        return Some(found);
    }
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = key.strip_prefix(name)?;
    let index: u8 = number.parse().ok()?;
    let canonical = number == "0" || !number.starts_with('0');
    // `smbios1` is the only key of its family.
    let exists = name != "smbios" || index == 1;
    KEYS.iter()
        .find(|info| info.name == name && info.last.is_some_and(|last| index <= last))
        .filter(|_| canonical && exists)
}

/// Whether a key may stand in a `delete` or `revert` list.
pub fn is_known(key: &str) -> bool {
    info(key).is_some() || key == "cdrom"
}

/// What the contract says about a key's value: as a parameter, or, for a key that no user sets, as an answer.
fn schema(key: &str) -> Option<&'static Schema> {
    let update = pve_contract::method(pve_contract::id::PUT_NODES_NODE_QEMU_VMID_CONFIG);
    let read = pve_contract::method(pve_contract::id::GET_NODES_NODE_QEMU_VMID_CONFIG);
    update
        .parameter(key)
        .map(|parameter| parameter.schema)
        .or_else(|| read.returns.property(key))
}

/// The type of a key's value.
pub(crate) fn kind(key: &str) -> Kind {
    schema(key).map_or(Kind::String, |schema| schema.kind)
}

/// The format of a key's value.
fn format(key: &str) -> Option<Format> {
    schema(key)?.format
}

/// Whether a key's value follows a format.
pub(crate) fn has_format(key: &str) -> bool {
    format(key).is_some()
}

/// Checks a value by its key's format.
pub(crate) fn check_format(key: &str, value: &str) -> Result<(), String> {
    format(key).map_or(Ok(()), |format| format.check(value, ""))
}

/// Reads a property string by its key's format.
pub(crate) fn parse_properties(key: &str, text: &str) -> Result<Properties, String> {
    match format(key) {
        Some(Format::Properties(format)) => property_string::parse(format, text).map_err(|error| error.text("")),
        _ => Err("value without key, but schema does not define a default key\n".to_owned()),
    }
}
