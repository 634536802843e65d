//! Facts of this node that a command line depends on (reference 06a §7).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use pve_daemon::settings::{self, Settings};
use pve_schema::Site;

use super::probe::{self, Probe, ProbeError};
use crate::accel::{Accel, KvmFacts, Setting};
use crate::command::{CpuVendor, HostFacts};
use crate::config::{Version, VmConfig};
use crate::network::{Bridge, NetworkError};

/// Where distributions put firmware.
const FIRMWARE: [&str; 2] = ["/usr/share/OVMF", "/usr/share/AAVMF"];

/// Why the node is not known.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// QEMU does not say what it is.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Its version is none.
    #[error("unable to parse QEMU version '{0}'")]
    Version(String),
    /// A bridge is missing.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// The node's `ACCEL` setting; a file that cannot be read leaves the default.
pub(crate) fn accel_setting(site: &Site) -> Setting {
    match Settings::read(site, "pvedaemon").map(|settings| settings.accel) {
        Ok(settings::Accel::Auto) => Setting::Auto,
        Ok(settings::Accel::Kvm) => Setting::Kvm,
        Ok(settings::Accel::Tcg) => Setting::Tcg,
        Err(error) => {
            log::warn!("{error}");
            Setting::default()
        }
    }
}

/// Whether KVM works here, as far as that can be told without risking a guest.
pub(crate) fn kvm_facts() -> KvmFacts {
    KvmFacts {
        device_opens: pve_sys::kvm::answers(),
        hardware: has_virtualisation(&cpu_info()),
    }
}

/// QEMU's binary for a guest of this node's own architecture. The name `kvm` means "take KVM", so a guest that is
/// emulated gets the other name of the same program.
pub(crate) fn program(accel: Accel) -> PathBuf {
    let native = format!("/usr/bin/qemu-system-{}", std::env::consts::ARCH);
    match accel {
        Accel::Kvm if Path::new("/usr/bin/kvm").exists() => PathBuf::from("/usr/bin/kvm"),
        _ => PathBuf::from(native),
    }
}

/// Gathers the facts for a VM's start.
///
/// # Errors
/// [`HostError`].
pub(crate) fn facts(site: &Site, vm: VmConfig<'_>, accel: Accel) -> Result<HostFacts, HostError> {
    let program = program(accel);
    let Probe {
        version,
        machines,
        spice,
        ..
    } = probe::of(site, &program)?;
    let cpu_info = cpu_info();
    Ok(HostFacts {
        qemu: Version::parse(&version).ok_or(HostError::Version(version))?,
        program,
        machines: machines.into_iter().collect(),
        accel,
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u64::try_from(cpus.get()).unwrap_or(1)),
        vendor: vendor(&cpu_info),
        physical_bits: physical_bits(&cpu_info),
        spice,
        io_uring: pve_sys::io_uring::is_allowed(),
        vhost_net: is_usable_device(Path::new("/dev/vhost-net")),
        firmware: firmware(),
        bridges: bridges(vm)?,
        iscsi_initiator: None,
    })
}

/// The bridges that the VM's cards name; each must exist.
fn bridges(vm: VmConfig<'_>) -> Result<BTreeMap<String, u64>, NetworkError> {
    let nets = vm.nets();
    let names = nets.iter().filter_map(|(_, net)| net.bridge());
    names
        .map(|name| Ok((name.to_owned(), u64::from(Bridge::find(name)?.mtu))))
        .collect()
}

fn firmware() -> BTreeSet<PathBuf> {
    let entries = FIRMWARE.iter().filter_map(|directory| fs::read_dir(directory).ok());
    entries.flatten().flatten().map(|entry| entry.path()).collect()
}

fn is_usable_device(path: &Path) -> bool {
    let is_device = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device());
    is_device && fs::OpenOptions::new().read(true).write(true).open(path).is_ok()
}

fn cpu_info() -> String {
    fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

/// A line of the first processor.
fn cpu_field<'a>(cpu_info: &'a str, name: &str) -> Option<&'a str> {
    cpu_info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn has_virtualisation(cpu_info: &str) -> bool {
    let flags = cpu_field(cpu_info, "flags").unwrap_or_default();
    flags
        .split_ascii_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm")
}

fn vendor(cpu_info: &str) -> CpuVendor {
    match cpu_field(cpu_info, "vendor_id") {
        Some("GenuineIntel") => CpuVendor::Intel,
        Some("AuthenticAMD") => CpuVendor::Amd,
        _ => CpuVendor::Other,
    }
}

/// `address sizes : 46 bits physical, 48 bits virtual`
fn physical_bits(cpu_info: &str) -> Option<u64> {
    cpu_field(cpu_info, "address sizes")?
        .split_once(" bits physical")?
        .0
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_read_from_its_fields() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: vmx svm\nflags\t\t: fpu sse\n\
                    address sizes\t: 46 bits physical, 48 bits virtual\n";
        assert_eq!((vendor(text), physical_bits(text)), (CpuVendor::Intel, Some(46)));
        assert!(!has_virtualisation(text));
        assert!(has_virtualisation("flags : fpu svm"));
        assert_eq!((vendor(""), physical_bits("")), (CpuVendor::Other, None));
    }
}
