//! A VM's config with made-up facts of a node around it.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pve_guest::GuestConfig;
use pve_qemu::accel::Accel;
use pve_qemu::command::{self, Backing, CommandError, CommandLine, CpuVendor, HostFacts, Request, StartMode};
use pve_qemu::config::{DriveKey, Source, Version, VmConfig, VmRules};
use pve_schema::Site;
use pve_schema::ids::VmId;

/// A config on a node.
pub(crate) struct Guest {
    pub(crate) site: Site,
    pub(crate) vmid: VmId,
    pub(crate) config: GuestConfig,
    pub(crate) host: HostFacts,
    pub(crate) backings: BTreeMap<DriveKey, Backing>,
    pub(crate) mode: StartMode,
    pub(crate) spice_port: Option<u16>,
}

/// The machine's own site.
pub(crate) fn site() -> Site {
    pve_testing::site("/", "n1")
}

/// A node with everything.
pub(crate) fn host(qemu: &str, accel: Accel) -> HostFacts {
    let firmware = [
        "OVMF_CODE_4M.fd",
        "OVMF_CODE_4M.secboot.fd",
        "OVMF_VARS_4M.fd",
        "OVMF_VARS_4M.ms.fd",
    ];
    HostFacts {
        program: PathBuf::from("/usr/bin/kvm"),
        qemu: Version::parse(qemu).unwrap(),
        machines: BTreeSet::new(),
        accel,
        cpus: 16,
        vendor: CpuVendor::Intel,
        physical_bits: Some(46),
        spice: true,
        io_uring: true,
        vhost_net: true,
        firmware: firmware
            .iter()
            .map(|name| Path::new("/usr/share/OVMF").join(name))
            .collect(),
        bridges: BTreeMap::from([("vmbr0".to_owned(), 1500)]),
        iscsi_initiator: None,
    }
}

impl Guest {
    /// A VM 8006 on QEMU 10.0.2 with KVM; each volume is a raw file, or a qcow2 one if its name says so.
    pub(crate) fn new(text: &str) -> Self {
        let vmid: VmId = 8006.try_into().unwrap();
        let parsed = GuestConfig::parse(&VmRules, vmid, text.as_bytes());
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
        let mut backings = BTreeMap::new();
        for drive in VmConfig::new(&parsed.config.main).drives() {
            if drive.source() != Source::Empty {
                let format = if drive.file.ends_with(".qcow2") { "qcow2" } else { "raw" };
                let name = drive.file.replace([':', '/'], "-");
                backings.insert(drive.key, Backing::file(format!("/images/{name}"), format));
            }
        }
        Self {
            site: site(),
            vmid,
            config: parsed.config,
            host: host("10.0.2", Accel::Kvm),
            backings,
            mode: StartMode::Cold,
            spice_port: Some(61000),
        }
    }

    pub(crate) fn on(mut self, qemu: &str, accel: Accel) -> Self {
        self.host = host(qemu, accel);
        self
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            site: &self.site,
            vmid: self.vmid,
            vm: VmConfig::new(&self.config.main),
            host: &self.host,
            backings: &self.backings,
            mode: &self.mode,
            forced_machine: None,
            forced_cpu: None,
            spice_port: self.spice_port,
        }
    }

    pub(crate) fn build(&self) -> Result<CommandLine, CommandError> {
        command::build(self.request())
    }
}

/// The values that follow an option.
pub(crate) fn values<'a>(command: &'a CommandLine, option: &str) -> Vec<&'a str> {
    let pairs = command.arguments.windows(2);
    pairs
        .filter(|pair| pair[0] == option)
        .map(|pair| pair[1].as_str())
        .collect()
}
