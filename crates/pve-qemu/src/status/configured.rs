//! What the config alone says of a VM.
//!
//! Configs change seldom and are looked at often, so what they say is kept in memory and made anew when the file is
//! another one.

use std::sync::Arc;

use pve_cfs::{Cfs, CfsError};
use pve_guest::{GuestConfig, GuestKind};
use pve_schema::Context;
use pve_schema::ids::VmId;
use serde_json::Value;

use super::Row;
use crate::config::{Boot, DriveKey, VmConfig, VmRules};

/// What a config says.
#[derive(Debug)]
pub(crate) struct Configured {
    /// The fields that depend on nothing else.
    pub row: Row,
    /// Its memory, in bytes.
    pub memory: u64,
    /// `vcpus`, if it is set.
    vcpus: Option<u64>,
    /// CPUs that it could have.
    max_cpus: u64,
}

/// What the config of one of this node's VMs says; `None` for no config.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn of(context: &Context, vmid: VmId) -> Result<Option<Arc<Configured>>, CfsError> {
    let make = |raw: Option<&[u8]>| {
        raw.map(|raw| {
            let parsed = GuestConfig::parse(&VmRules, vmid, raw);
            for warning in &parsed.warnings {
                log::warn!("{warning}");
            }
            Arc::new(Configured::new(vmid, VmConfig::new(&parsed.config.main)))
        })
    };
    let node = &context.site.node;
    let kept = Cfs::new(context).cached_guest(GuestKind::Qemu, node, vmid, "VM row", make);
    Ok(kept?.as_ref().clone())
}

impl Configured {
    fn new(vmid: VmId, vm: VmConfig<'_>) -> Self {
        let memory = vm.memory().saturating_mul(1 << 20);
        let mut row = Row::new();
        let mut set = |name: &str, value: Value| {
            row.insert(name.to_owned(), value);
        };
        set("vmid", vmid.get().into());
        set(
            "name",
            vm.name().map_or_else(|| format!("VM {vmid}"), str::to_owned).into(),
        );
        set("maxmem", memory.into());
        set("disk", 0.into());
        set("maxdisk", boot_disk_size(vm).into());
        if vm.flag("template", false) {
            set("template", 1.into());
        }
        if vm.family("serial", 3).next().is_some() {
            set("serial", 1.into());
        }
        for key in ["lock", "tags"] {
            if let Some(text) = vm.get(key) {
                set(key, text.into());
            }
        }
        if let Some(balloon) = vm.balloon().filter(|balloon| *balloon > 0) {
            set("balloon_min", balloon.saturating_mul(1 << 20).into());
            set("shares", vm.section().integer("shares").unwrap_or(1000).into());
        }
        let vcpus = vm.section().integer("vcpus");
        Self {
            row,
            memory,
            vcpus: vcpus.filter(|vcpus| *vcpus > 0),
            max_cpus: vm.max_cpus(),
        }
    }

    /// Virtual CPUs, as far as the host has that many.
    pub(crate) fn visible_cpus(&self, host_cpus: f64) -> f64 {
        match self.vcpus {
            Some(vcpus) => vcpus as f64,
            None => (self.max_cpus as f64).min(host_cpus),
        }
    }
}

/// The size of the first disk that the VM would boot from.
fn boot_disk_size(vm: VmConfig<'_>) -> u64 {
    let keys: Vec<DriveKey> = match vm.boot() {
        Boot::Order(devices) => devices.iter().filter_map(|device| device.parse().ok()).collect(),
        Boot::Legacy(_) => match vm.get("bootdisk") {
            Some(disk) => disk.parse().into_iter().collect(),
            None => DriveKey::all().filter(|key| key.is_bootable()).collect(),
        },
    };
    let disk = keys
        .into_iter()
        .filter_map(|key| vm.drive(key))
        .find(|drive| !drive.is_cdrom());
    disk.and_then(|disk| disk.size()).unwrap_or(0)
}
