//! A VM's config with its types.

use std::collections::BTreeSet;

use pve_guest::{Section, Startup};

use super::agent::Agent;
use super::boot::Boot;
use super::drive::Drive;
use super::drive_key::DriveKey;
use super::error::ConfigError;
use super::hotplug;
use super::keys::Feature;
use super::machine::{Machine, MachineType};
use super::net::{LAST_NET, Net};
use super::ostype::OsType;
use super::props::Props;
use super::version::Version;
use super::vga::Vga;

/// The memory of a VM whose config names none, in MiB.
const DEFAULT_MEMORY: u64 = 512;

/// A look at one section of a VM's config, main or snapshot, through the types of its keys.
///
/// The section was checked when it was read, so a value that does not fit its type counts as not set, except where an
/// accessor returns a `Result`: there the caller must refuse what it cannot use.
#[derive(Debug, Clone, Copy)]
pub struct VmConfig<'a>(&'a Section);

impl<'a> VmConfig<'a> {
    /// A look at a section.
    pub fn new(section: &'a Section) -> Self {
        Self(section)
    }

    /// The section.
    pub fn section(self) -> &'a Section {
        self.0
    }

    /// A key's text.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.0.get(key)
    }

    /// A boolean key, or what it is when it is not set.
    pub fn flag(self, key: &str, default: bool) -> bool {
        self.0.flag(key).unwrap_or(default)
    }

    /// The name, without a default.
    pub fn name(self) -> Option<&'a str> {
        self.get("name")
    }

    /// Number of sockets.
    pub fn sockets(self) -> u64 {
        self.0
            .integer("sockets")
            .or_else(|| self.0.integer("smp"))
            .filter(|n| *n > 0)
            .unwrap_or(1)
    }

    /// Cores per socket.
    pub fn cores(self) -> u64 {
        self.0.integer("cores").filter(|n| *n > 0).unwrap_or(1)
    }

    /// The most virtual CPUs that the guest can have.
    pub fn max_cpus(self) -> u64 {
        self.sockets().saturating_mul(self.cores())
    }

    /// Virtual CPUs that the guest starts with.
    pub fn cpus(self) -> u64 {
        self.0
            .integer("vcpus")
            .filter(|n| *n > 0)
            .unwrap_or_else(|| self.max_cpus())
    }

    /// Memory in MiB.
    pub fn memory(self) -> u64 {
        let current = |text| Props::parse("memory", text).ok()?.integer("current");
        self.get("memory").and_then(current).unwrap_or(DEFAULT_MEMORY)
    }

    /// The least memory that the balloon leaves the guest, in MiB; `Some(0)` is a VM without a balloon device.
    pub fn balloon(self) -> Option<u64> {
        self.0.integer("balloon")
    }

    /// The guest system.
    pub fn ostype(self) -> OsType {
        OsType::parse(self.get("ostype").unwrap_or("other"))
    }

    /// Whether the firmware is UEFI.
    pub fn is_ovmf(self) -> bool {
        self.get("bios") == Some("ovmf")
    }

    /// The agent, if it is enabled.
    pub fn agent(self) -> Option<Agent> {
        Agent::parse(self.get("agent")?).ok().flatten()
    }

    /// The display.
    pub fn vga(self) -> Vga {
        self.get("vga")
            .and_then(|text| Vga::parse(text).ok())
            .unwrap_or_else(Vga::unset)
    }

    /// What the guest boots from.
    pub fn boot(self) -> Boot {
        self.get("boot")
            .and_then(|text| Boot::parse(text).ok())
            .unwrap_or_else(Boot::default_legacy)
    }

    /// The machine.
    ///
    /// # Errors
    /// When the vIOMMU does not fit.
    pub fn machine(self) -> Result<Machine, ConfigError> {
        self.get("machine")
            .map_or_else(|| Ok(Machine::default()), Machine::parse)
    }

    /// The machine type that the guest was running with when it was suspended or snapshot.
    pub fn running_machine(self) -> Option<MachineType> {
        MachineType::parse(Props::parse("machine", self.get("runningmachine")?).ok()?.get("type")?)
    }

    /// The version of QEMU that the VM was created with.
    pub fn creation_version(self) -> Option<Version> {
        Version::parse(Props::parse("meta", self.get("meta")?).ok()?.get("creation-qemu")?)
    }

    /// The hotplug features.
    pub fn hotplug(self) -> BTreeSet<Feature> {
        self.get("hotplug")
            .and_then(|text| hotplug::parse_features(text).ok())
            .unwrap_or_else(hotplug::default_features)
    }

    /// Where the VM stands in the start-up order.
    pub fn startup(self) -> Startup {
        self.get("startup")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// A drive.
    pub fn drive(self, key: DriveKey) -> Option<Drive> {
        Drive::parse(key, self.get(&key.to_string())?).ok()
    }

    /// The drives in use, in the order of drives.
    pub fn drives(self) -> Vec<Drive> {
        DriveKey::all().filter_map(|key| self.drive(key)).collect()
    }

    /// The volumes that the VM owns and does not use.
    pub fn unused(self) -> Vec<Drive> {
        DriveKey::all_unused().filter_map(|key| self.drive(key)).collect()
    }

    /// The cloud-init drive.
    pub fn cloudinit_drive(self) -> Option<Drive> {
        self.drives().into_iter().find(Drive::is_cloudinit)
    }

    /// The network cards as text, by number.
    pub fn net_texts(self) -> impl Iterator<Item = (u8, &'a str)> {
        (0..=LAST_NET).filter_map(move |number| Some((number, self.get(&format!("net{number}"))?)))
    }

    /// The network cards by number.
    pub fn nets(self) -> Vec<(u8, Net)> {
        self.net_texts()
            .filter_map(|(number, text)| Some((number, Net::parse(text).ok()?)))
            .collect()
    }

    /// The members of a family that are set, by number: `serial0`, `serial1`, …
    pub fn family(self, name: &'a str, last: u8) -> impl Iterator<Item = (u8, &'a str)> {
        (0..=last).filter_map(move |number| Some((number, self.get(&format!("{name}{number}"))?)))
    }

    /// A property string, checked by its key's format.
    ///
    /// # Errors
    /// [`ConfigError::Format`]
    pub fn props(self, key: &str) -> Result<Option<Props>, ConfigError> {
        self.get(key).map(|text| Props::parse(key, text)).transpose()
    }
}
