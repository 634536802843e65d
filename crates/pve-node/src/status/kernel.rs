//! Which kernel runs, and how the machine was started.

use std::path::Path;

/// The directory that only machines started by UEFI firmware have.
const EFI: &str = "/sys/firmware/efi";
/// Whether the firmware checks signatures: four bytes of attributes, then 0 or 1 (UEFI specification, global variables).
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// The running kernel, as `uname` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// `Linux`.
    pub system: String,
    /// `6.17.2-1-pve`.
    pub release: String,
    /// `#1 SMP …`.
    pub version: String,
    /// `x86_64`.
    pub machine: String,
}

impl Kernel {
    /// Asks the kernel.
    pub fn read() -> Self {
        let field = |name: &str| {
            super::text(Path::new("/proc/sys/kernel").join(name))
                .trim_end()
                .to_owned()
        };
        let machine = field("arch");
        Self {
            system: field("ostype"),
            release: field("osrelease"),
            version: field("version"),
            // Kernels before 6.1 do not tell, but they run this program.
            machine: if machine.is_empty() {
                std::env::consts::ARCH.to_owned()
            } else {
                machine
            },
        }
    }
}

/// How the machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootInfo {
    /// By UEFI firmware.
    pub efi: bool,
    /// Whether that checks signatures; `None` where it does not tell.
    pub secure_boot: Option<bool>,
}

impl BootInfo {
    /// Looks for traces of the firmware.
    pub fn read() -> Self {
        let efi = Path::new(EFI).is_dir();
        let variable = if efi { std::fs::read(SECURE_BOOT).ok() } else { None };
        Self {
            efi,
            secure_boot: variable.map(|bytes| bytes.get(4) == Some(&1)),
        }
    }

    /// The word in the API.
    pub fn mode(&self) -> &'static str {
        if self.efi { "efi" } else { "legacy-bios" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_uname_tells() {
        let uname = std::process::Command::new("uname").arg("-srvm").output().unwrap();
        let kernel = Kernel::read();
        let fields = [kernel.system, kernel.release, kernel.version, kernel.machine].join(" ");
        assert_eq!(String::from_utf8(uname.stdout).unwrap().trim_end(), fields);
    }

    #[test]
    fn only_uefi_has_secure_boot() {
        let boot = BootInfo::read();
        assert!(boot.efi || boot.secure_boot.is_none());
        assert_eq!(boot.mode() == "efi", Path::new(EFI).is_dir());
    }
}
