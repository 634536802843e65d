//! What CPUs there are: `/proc/cpuinfo`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The machine's, read once: CPUs that are plugged in later count from the next start of the process on.
static OF_MACHINE: LazyLock<CpuInfo> = LazyLock::new(CpuInfo::read);

/// What `/proc/cpuinfo` says. Texts are empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuInfo {
    /// CPUs as programs see them.
    pub cpus: u64,
    /// Sockets, at least one.
    pub sockets: u64,
    /// Cores over all sockets, at least one.
    pub cores: u64,
    /// The first one's model.
    pub model: String,
    /// The first one's clock rate.
    pub mhz: String,
    /// The first one's features, joined by blanks.
    pub flags: String,
    /// Who made it.
    pub vendor: String,
    /// The first one's family.
    pub family: String,
}

impl CpuInfo {
    /// The machine's. On a machine with many CPUs the kernel takes long to print it, so a process asks once (reference
    /// 04 §14.1).
    pub fn of_machine() -> &'static Self {
        &OF_MACHINE
    }

    /// Reads `/proc/cpuinfo`.
    pub fn read() -> Self {
        Self::parse(&super::text("/proc/cpuinfo"))
    }

    /// The text of `/proc/cpuinfo`.
    pub fn parse(text: &str) -> Self {
        let mut info = Self::default();
        let mut cores: BTreeMap<&str, u64> = BTreeMap::new();
        let mut socket = "";
        let (mut implementer, mut part) = (None, None);
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match key.trim() {
                "processor" => info.cpus += 1,
                "physical id" => {
                    socket = value;
                    cores.entry(socket).or_insert(0);
                }
                "cpu cores" => {
                    cores.insert(socket, value.parse().unwrap_or(0));
                }
                "model name" => set_once(&mut info.model, value),
                "cpu MHz" => set_once(&mut info.mhz, value),
                "flags" | "Features" => set_once(&mut info.flags, value),
                "vendor_id" => set_once(&mut info.vendor, value),
                "cpu family" => set_once(&mut info.family, value),
                "CPU implementer" => implementer = implementer.or_else(|| hexadecimal(value)),
                "CPU part" => part = part.or_else(|| hexadecimal(value)),
                _ => {}
            }
        }
        info.sockets = u64::try_from(cores.len()).unwrap_or(0).max(1);
        info.cores = cores
            .values()
            .fold(0, |sum: u64, cores| sum.saturating_add(*cores))
            .max(1);
        if let Some(implementer) = implementer.filter(|_| info.vendor.is_empty()) {
            (info.vendor, info.model) = arm(implementer, part.unwrap_or(0));
        }
        info
    }

    /// Whether it runs guests in hardware. The feature counts among others, not as the first or the last (reference 04
    /// §14.1).
    pub fn has_virtualisation(&self) -> bool {
        [" vmx ", " svm "].iter().any(|flag| self.flags.contains(flag))
    }
}

fn set_once(field: &mut String, value: &str) {
    if field.is_empty() {
        value.clone_into(field);
    }
}

fn hexadecimal(value: &str) -> Option<u32> {
    u32::from_str_radix(value.strip_prefix("0x")?, 16).ok()
}

/// Names for numbers that ARM CPUs give instead of names (ARM's and Ampere's registers of implementers and parts).
fn arm(implementer: u32, part: u32) -> (String, String) {
    let vendor = match implementer {
        0x41 => "ARM".to_owned(),
        0xc0 => "Ampere".to_owned(),
        0x61 => "Apple".to_owned(),
        other => format!("implementer 0x{other:02x}"),
    };
    let model = match (implementer, part) {
        (0x41, 0xd03) => "Cortex-A53",
        (0x41, 0xd08) => "Cortex-A72",
        (0x41, 0xd0b) => "Cortex-A76",
        (0x41, 0xd0c) => "Neoverse-N1",
        (0x41, 0xd40) => "Neoverse-V1",
        (0x41, 0xd49) => "Neoverse-N2",
        (0x41, 0xd4f) => "Neoverse-V2",
        (0xc0, 0xac3) => "Ampere-1",
        _ => return (vendor.clone(), format!("{vendor} part 0x{part:03x}")),
    };
    (vendor, model.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, vector 12.
    #[test]
    fn sockets_and_cores_are_counted() {
        let cpu = |n: u32| {
            format!(
                "processor\t: {n}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: M {n}\ncpu MHz\t\t: 2000.123\n\
                 physical id\t: {}\ncpu cores\t: 2\nflags\t\t: fpu vmx sse\n\n",
                n % 2
            )
        };
        let info = CpuInfo::parse(&(0..8).map(cpu).collect::<String>());
        assert_eq!((info.cpus, info.sockets, info.cores), (8, 2, 4));
        assert!(info.has_virtualisation());
        let texts = [info.model, info.vendor, info.family, info.mhz];
        assert_eq!(texts, ["M 0", "GenuineIntel", "6", "2000.123"]);
    }

    #[test]
    fn a_machine_that_says_little_has_one_socket() {
        let info = CpuInfo::parse("processor : 0\nflags : fpu vmxx\n");
        assert_eq!((info.cpus, info.sockets, info.cores), (1, 1, 1));
        assert!(!info.has_virtualisation());
        let of_flags = |flags: &str| CpuInfo::parse(&format!("flags\t\t: {flags}\n")).has_virtualisation();
        assert!(of_flags("fpu svm sse") && !of_flags("vmx fpu") && !of_flags("fpu svm"));
        assert!(CpuInfo::of_machine().cpus > 0);
    }

    #[test]
    fn arm_cpus_have_names() {
        let text =
            |part: &str| format!("processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: {part}\n");
        let info = CpuInfo::parse(&text("0xd0c"));
        assert_eq!(
            (info.vendor.as_str(), info.model.as_str(), info.flags.as_str()),
            ("ARM", "Neoverse-N1", "fp asimd")
        );
        assert_eq!(CpuInfo::parse(&text("0x1")).model, "ARM part 0x001");
    }
}
