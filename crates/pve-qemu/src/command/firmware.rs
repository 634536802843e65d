//! UEFI firmware (reference 06a §7.10).

use std::path::{Path, PathBuf};

use serde_json::json;

use super::block::{self, Opening, sorted};
use super::builder::Builder;
use super::error::CommandError;
use super::facts::Backing;
use crate::config::{Bus, Drive, DriveKey};
use crate::runtime::directory;

/// Where Debian's `ovmf` puts its files.
const OVMF: &str = "/usr/share/OVMF";

/// What the firmware's variables take: 528 KiB.
pub const VARS_SIZE: u64 = 540_672;

/// The firmware files of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// The code, read only.
    pub code: PathBuf,
    /// What the variables start from.
    pub vars: PathBuf,
}

/// The firmware files for a guest with these options on its `efidisk0`. Debian has no 2 MiB builds any more, so those
/// are treated as the 4 MiB ones.
pub fn files(efidisk: Option<&Drive>, q35: bool) -> Firmware {
    let enrolled = efidisk
        .and_then(|drive| drive.options.flag("pre-enrolled-keys"))
        .unwrap_or(false);
    let code = if q35 {
        "OVMF_CODE_4M.secboot.fd"
    } else {
        "OVMF_CODE_4M.fd"
    };
    let vars = if enrolled {
        "OVMF_VARS_4M.ms.fd"
    } else {
        "OVMF_VARS_4M.fd"
    };
    let path = |name: &str| Path::new(OVMF).join(name);
    Firmware {
        code: path(code),
        vars: path(vars),
    }
}

/// Variables that last as long as the guest runs: to be copied before QEMU starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThrowAwayVars {
    /// The template.
    pub template: PathBuf,
    /// The copy that QEMU opens.
    pub copy: PathBuf,
}

/// Adds the firmware.
pub(super) fn add(builder: &mut Builder<'_>) -> Result<Option<ThrowAwayVars>, CommandError> {
    let request = builder.request;
    if !request.vm.is_ovmf() {
        return Ok(None);
    }
    let key = DriveKey {
        bus: Bus::Efidisk,
        index: 0,
    };
    let configured = request.vm.drive(key);
    let firmware = files(configured.as_ref(), builder.machine.is_q35());
    for file in [&firmware.code, &firmware.vars] {
        if !request.host.firmware.contains(file) {
            return Err(CommandError::NoFirmware(file.display().to_string()));
        }
    }
    let (drive, backing, throw_away) = match configured {
        Some(drive) => {
            let backing = request
                .backings
                .get(&key)
                .ok_or_else(|| CommandError::NoBacking(key.to_string()))?;
            (drive, backing.clone(), None)
        }
        None => {
            builder.note("no efidisk configured! Using temporary efivars disk.");
            let copy = directory(request.site)
                .join("efidisk")
                .join(format!("{}-ovmf.fd", request.vmid));
            let drive = Drive::parse(key, &copy.display().to_string())?;
            let vars = ThrowAwayVars {
                template: firmware.vars,
                copy: copy.clone(),
            };
            (drive, Backing::file(copy, "raw"), Some(vars))
        }
    };
    add_nodes(builder, &firmware.code, drive, &backing)?;
    builder
        .machine_front
        .push("pflash0=pflash0,pflash1=drive-efidisk0".to_owned());
    Ok(throw_away)
}

fn add_nodes(builder: &mut Builder<'_>, code: &Path, mut drive: Drive, backing: &Backing) -> Result<(), CommandError> {
    drive.options.set("cache", "writeback");
    let opening = Opening {
        read_only: false,
        io_uring: builder.request.host.io_uring,
        size: Some(VARS_SIZE),
        bare: false,
    };
    let vars = block::graph(&drive, backing, opening)?;
    let code = json!({
        "driver": "raw",
        "file": { "driver": "file", "filename": code.to_string_lossy() },
        "node-name": "pflash0",
        "read-only": true,
    });
    builder.fixed(["-object", &sorted(block::throttle_object(&drive)).to_string()]);
    builder.fixed(["-blockdev", &sorted(code).to_string()]);
    builder.fixed(["-blockdev", &vars.to_string()]);
    Ok(())
}
