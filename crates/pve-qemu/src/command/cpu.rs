//! The virtual CPU (reference 06a §7.4).

use std::collections::BTreeMap;

use pve_schema::property_string::validators::GUEST_FLAGS;

use super::error::CommandError;
use super::facts::{CpuVendor, Request};
use super::machine::RunningMachine;
use crate::accel::Accel;
use crate::config::{Props, VmConfig};

/// Types of 32 bits, which UEFI cannot run on.
const BITS_32: [&str; 8] = [
    "486", "pentium", "pentium2", "pentium3", "coreduo", "athlon", "kvm32", "qemu32",
];

/// Models that are not QEMU's: what QEMU is told, and which flags make it what it is. Each has those before it too.
const LEVELS: [(&str, &[&str]); 4] = [
    ("x86-64-v2", &["popcnt", "pni", "sse4.1", "sse4.2", "ssse3"]),
    ("x86-64-v2-AES", &["aes"]),
    (
        "x86-64-v3",
        &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"],
    ),
    (
        "x86-64-v4",
        &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
    ),
];

/// What the levels are made of.
const LEVEL_BASE: &str = "qemu64";

/// Types of no vendor.
const GENERIC: [&str; 6] = ["kvm32", "kvm64", "qemu32", "qemu64", "max", "host"];

/// The first letters of AMD's models; every other named model of x86 is Intel's.
const AMD: [&str; 4] = ["athlon", "EPYC", "Opteron_", "phenom"];

/// The first letters of ARM's models.
const ARM: [&str; 3] = ["a64fx", "cortex-", "neoverse-"];

/// A flag's sign and value: `+aes`, `kvm=off`, `enforce`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flag {
    sign: &'static str,
    value: Option<String>,
}

#[derive(Debug, Default)]
struct Flags(BTreeMap<String, Flag>);

impl Flags {
    fn on(&mut self, name: &str) {
        self.put("+", name, None);
    }

    fn off(&mut self, name: &str) {
        self.put("-", name, None);
    }

    fn put(&mut self, sign: &'static str, name: &str, value: Option<&str>) {
        let value = value.map(str::to_owned);
        self.0.insert(name.to_owned(), Flag { sign, value });
    }

    fn print(&self) -> String {
        let print = |(name, flag): (&String, &Flag)| match &flag.value {
            Some(value) => format!(",{}{name}={value}", flag.sign),
            None => format!(",{}{name}", flag.sign),
        };
        self.0.iter().map(print).collect()
    }
}

/// The virtual CPU of a request.
#[derive(Debug)]
pub(super) struct Cpu {
    /// The configured type, after what the accelerator makes of it.
    kind: String,
    /// The flags that a level stands for.
    level_flags: Vec<&'static str>,
    props: Props,
}

impl Cpu {
    /// Reads the `cpu` key.
    pub(super) fn of(request: &Request<'_>) -> Result<Self, CommandError> {
        let props = request.vm.props("cpu")?.unwrap_or_default();
        let kvm = request.host.accel == Accel::Kvm;
        let default = if kvm { "kvm64" } else { "qemu64" };
        let configured = props.get("cputype").unwrap_or(default);
        if configured.starts_with("custom-") {
            return Err(CommandError::Unsupported {
                key: "cpu".to_owned(),
                reason: "custom CPU models are not available",
            });
        }
        let (kind, level_flags) = match level_flags(configured) {
            Some(flags) => (configured, flags),
            None => (known_type(configured)?, Vec::new()),
        };
        // The translator knows no host model, and the KVM models are made of KVM's own features.
        let kind = match kind {
            "host" if !kvm => "max",
            "kvm64" if !kvm => "qemu64",
            "kvm32" if !kvm => "qemu32",
            other => other,
        };
        if request.vm.is_ovmf() && BITS_32.contains(&kind) {
            return Err(CommandError::OvmfOn32Bit);
        }
        Ok(Self {
            kind: kind.to_owned(),
            level_flags,
            props,
        })
    }

    /// The model as QEMU knows it.
    pub(super) fn model(&self) -> &str {
        if !self.level_flags.is_empty() {
            return LEVEL_BASE;
        }
        match self.kind.as_str() {
            "Icelake-Client" => "Icelake-Server",
            "Icelake-Client-noTSX" => "Icelake-Server-noTSX",
            other => other,
        }
    }

    /// Whether the guest sees the host's processor.
    pub(super) fn is_host(&self) -> bool {
        matches!(self.kind.as_str(), "host" | "max")
    }

    /// The configured width of physical addresses.
    pub(super) fn physical_bits(&self) -> Option<&str> {
        self.props.get("phys-bits")
    }

    /// The `-cpu` argument.
    pub(super) fn argument(&self, request: &Request<'_>, machine: &mut RunningMachine) -> Result<String, CommandError> {
        let kvm = request.host.accel == Accel::Kvm;
        let mut flags = Flags::default();
        self.own_flags(request, &mut flags);
        if kvm {
            hyperv_flags(request, machine, &self.props, &mut flags);
        }
        self.level_flags.iter().for_each(|flag| flags.on(flag));
        self.vm_flags(request, &mut flags)?;
        if kvm && self.kind != "host" {
            flags.put("", "enforce", None);
        }
        if self.props.flag("hidden").unwrap_or(false) && kvm {
            flags.put("", "kvm", Some("off"));
        }
        if let Some(vendor) = vendor(&self.kind).filter(|_| self.level_flags.is_empty()) {
            flags.put("", "vendor", Some(vendor));
        }
        let level = self
            .props
            .get("level")
            .map(|level| format!(",level={level}"))
            .unwrap_or_default();
        let bits = match self.physical_bits() {
            Some("host") if kvm => ",host-phys-bits=true".to_owned(),
            Some("host") | None => String::new(),
            Some(bits) => format!(",phys-bits={bits}"),
        };
        let guest_bits = match self.props.get("guest-phys-bits") {
            Some(bits) if kvm => format!(",guest-phys-bits={bits}"),
            _ => String::new(),
        };
        Ok(format!("{}{level}{}{bits}{guest_bits}", self.model(), flags.print()))
    }

    /// What Proxmox VE sets for everybody.
    fn own_flags(&self, request: &Request<'_>, flags: &mut Flags) {
        if self.kind == "kvm64" {
            flags.on("lahf_lm");
        }
        if matches!(self.kind.as_str(), "kvm64" | "kvm32") {
            flags.on("sep");
        }
        if request.vm.get("ostype") == Some("solaris") {
            flags.off("x2apic");
        }
        if self.kind.starts_with("Opteron") {
            flags.off("rdtscp");
        }
        if request.host.accel == Accel::Kvm {
            flags.on("kvm_pv_unhalt");
            flags.on("kvm_pv_eoi");
        }
        let new_qemu = request.host.qemu.at_least(11, 0);
        if new_qemu && request.vm.ostype().windows_at_least(11) {
            flags.off("cet-ibt");
            flags.off("cet-ss");
        }
    }

    /// What the VM's config sets.
    fn vm_flags(&self, request: &Request<'_>, flags: &mut Flags) -> Result<(), CommandError> {
        let kvm = request.host.accel == Accel::Kvm;
        for flag in self
            .props
            .get("flags")
            .unwrap_or_default()
            .split(';')
            .filter(|flag| !flag.is_empty())
        {
            let (sign, name) = match (flag.strip_prefix('+'), flag.strip_prefix('-')) {
                (Some(name), _) => ("+", name),
                (_, Some(name)) => ("-", name),
                _ => ("+", flag),
            };
            if !GUEST_FLAGS.contains(&name) {
                return Err(CommandError::CpuFlag(GUEST_FLAGS.join(", ")));
            }
            let name = match (name, request.host.vendor) {
                ("nested-virt", CpuVendor::Amd) => "svm",
                ("nested-virt", _) => "vmx",
                (name, _) => name,
            };
            if kvm || !name.starts_with("hv-") {
                flags.put(sign, name, None);
            }
        }
        Ok(())
    }
}

/// What makes Windows faster on KVM.
fn hyperv_flags(request: &Request<'_>, machine: &mut RunningMachine, props: &Props, flags: &mut Flags) {
    let ostype = request.vm.ostype();
    if !ostype.windows_at_least(6) || (request.vm.is_ovmf() && !ostype.windows_at_least(8)) {
        return;
    }
    if let Some(vendor) = props.get("hv-vendor-id") {
        flags.put("", "hv_vendor_id", Some(vendor));
    }
    flags.put("", "hv_spinlocks", Some("0x1fff"));
    let basic = ["hv_vapic", "hv_time", "hv_reset", "hv_vpindex", "hv_runtime"];
    let newer: &[&str] = if ostype.windows_at_least(7) {
        &["hv_relaxed", "hv_synic", "hv_stimer", "hv_ipi"]
    } else {
        &[]
    };
    basic.iter().chain(newer).for_each(|flag| flags.put("", flag, None));
    if ostype.windows_at_least(11) && request.host.vendor == CpuVendor::Intel && machine.uses(11, 0, 2) {
        flags.put("", "hv_evmcs", None);
    }
}

/// The flags that a level stands for; `None` for a type that is no level.
fn level_flags(kind: &str) -> Option<Vec<&'static str>> {
    let last = LEVELS.iter().position(|(level, _)| *level == kind)?;
    let levels = LEVELS.get(..=last)?;
    Some(levels.iter().flat_map(|(_, flags)| flags.iter().copied()).collect())
}

/// The type, if it is one of the contract's.
fn known_type(kind: &str) -> Result<&str, CommandError> {
    let known = pve_contract::property_format("pve-vm-cpu-conf")
        .and_then(|format| format.key("reported-model"))
        .is_some_and(|key| key.schema.words.contains(&kind));
    let arm = ARM.iter().any(|prefix| kind.starts_with(prefix));
    if known && !arm {
        Ok(kind)
    } else {
        Err(CommandError::UnknownCpu(kind.to_owned()))
    }
}

/// The vendor that a model names.
fn vendor(kind: &str) -> Option<&'static str> {
    if GENERIC.contains(&kind) {
        None
    } else if AMD.iter().any(|prefix| kind.starts_with(prefix)) {
        Some("AuthenticAMD")
    } else {
        Some("GenuineIntel")
    }
}

/// `-smp`, and the CPUs that can be unplugged again (reference 06a §7.1, row 10).
pub(super) fn smp(vm: VmConfig<'_>, cpu: &Cpu, hotplug: bool) -> (String, Vec<String>) {
    let (sockets, cores, cpus, max) = (vm.sockets(), vm.cores(), vm.cpus(), vm.max_cpus());
    let boot = if hotplug { 1 } else { cpus };
    let smp = format!("{boot},sockets={sockets},cores={cores},maxcpus={max}");
    let devices = (boot + 1..=cpus)
        .map(|number| hotplug_device(cpu.model(), number, cores))
        .collect();
    (smp, devices)
}

/// The device of a CPU that is plugged in, number 2 being the first.
pub fn hotplug_device(model: &str, number: u64, cores: u64) -> String {
    let (core, socket) = ((number - 1) % cores, (number - 1) / cores);
    format!("{model}-x86_64-cpu,id=cpu{number},socket-id={socket},core-id={core},thread-id=0")
}
