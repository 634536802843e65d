//! A VM's config as QEMU's command line, for stock QEMU 7.2 to 10.x (reference 06a §7).
//!
//! [`build`] is a function of data: what depends on the node or on a volume comes in with the [`Request`]. Nothing here
//! touches the system; who starts the guest makes taps, copies firmware variables and runs the result.
//!
//! Not here: `hostpci`, `virtiofs`, `amd-sev`, `intel-tdx`, `tpmstate0`, custom CPU models and other architectures.
//! A config that uses one of them is refused with the key's name.

mod block;
mod builder;
mod cpu;
mod devices;
mod display;
mod drives;
mod error;
mod facts;
mod firmware;
mod hotplug;
mod machine;
mod memory;
mod net;
mod pci;
mod smbios;
mod usb;
mod words;

use std::path::PathBuf;

pub use block::{CacheMode, all_limits, cache_mode, inner_node, throttle_group, top_node};
pub use cpu::hotplug_device as cpu_device;
pub use error::CommandError;
pub use facts::{Backing, BlockDriver, CpuVendor, HostFacts, Request, StartMode};
pub use firmware::{Firmware, ThrowAwayVars, VARS_SIZE, files as firmware_files};
pub use hotplug::{DriveParts, NetParts, drive as hotplug_drive, net as hotplug_net};
pub use machine::{highest_revision, latest_version, pin_for_windows, resolve as resolve_machine};
pub use memory::{Module, modules as memory_modules};

use pve_schema::shell::quote;

use crate::accel::Accel;
use crate::config::{Feature, MachineType, OsType};
use crate::runtime::{Runtime, event_socket};
use builder::Builder;
use cpu::Cpu;
use display::Display;
use machine::RunningMachine;
use usb::Usb;

/// The program that ties a guest to processors.
const TASKSET: &str = "/usr/bin/taskset";

/// Keys that are refused, and why.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("hostpci", "PCI passthrough is not available"),
    ("virtiofs", "shared directories are not available"),
    ("amd-sev", "memory encryption is not available with this QEMU"),
    ("intel-tdx", "memory encryption is not available with this QEMU"),
    ("tpmstate", "TPM emulation is not available"),
    ("arch", "only x86_64 guests can run here"),
];

/// QEMU's command line, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Lines for the task log.
    pub notes: Vec<String>,
    /// The machine type with its revision: what is remembered of the running guest.
    pub machine: MachineType,
    /// The `-cpu` argument: what is remembered of a saved guest.
    pub cpu: String,
    /// Firmware variables to copy before the start.
    pub throw_away_vars: Option<ThrowAwayVars>,
}

impl CommandLine {
    /// The command line as words for a shell: the answer of `qm showcmd`.
    pub fn for_shell(&self) -> String {
        let program = self.program.to_string_lossy().into_owned();
        let words = std::iter::once(&program).chain(&self.arguments);
        words.map(|word| quote(word)).collect::<Vec<_>>().join(" ")
    }
}

/// Whether a start needs a free port for SPICE.
pub fn needs_spice(request: &Request<'_>) -> bool {
    display::needs_spice(request)
}

/// Makes the command line of a VM, in the order of reference 06a §7.1.
///
/// # Errors
/// What of the config cannot run here.
pub fn build(request: Request<'_>) -> Result<CommandLine, CommandError> {
    refuse_unsupported(&request)?;
    let machine = RunningMachine::of(&request)?;
    let cpu = Cpu::of(&request)?;
    let display = Display::of(request.vm, request.host);
    let mut builder = Builder::new(request, machine);

    add_identity(&mut builder);
    smbios::add(&mut builder)?;
    let throw_away_vars = firmware::add(&mut builder)?;
    add_old_hotplug(&mut builder);
    add_processors(&mut builder, &cpu)?;
    builder.fixed(["-nodefaults", "-boot", "menu=on,strict=on,reboot-timeout=1000"]);
    if !request.vm.flag("reboot", true) {
        builder.fixed(["-no-reboot"]);
    }
    display::add_screen(&mut builder, &display);
    if display::discards_ticks(&request) {
        builder.fixed(["-global", "kvm-pit.lost_tick_policy=discard"]);
    }
    let cpu_argument = match request.forced_cpu {
        Some(forced) => forced.to_owned(),
        None => cpu.argument(&request, &mut builder.machine)?,
    };
    builder.fixed(["-cpu", &cpu_argument]);
    builder.fixed(memory::arguments(&request, &cpu)?);
    if request.vm.flag("freeze", false) {
        builder.fixed(["-S"]);
    }
    if let Some(keyboard) = request.vm.get("keyboard") {
        builder.fixed(["-k", keyboard]);
    }

    add_devices(&mut builder, &display)?;
    add_sleep_states(&mut builder)?;

    let mut last = clock(&request);
    last.extend(["-machine".to_owned(), machine_argument(&mut builder, &display)?]);
    last.extend(words::split(request.vm.get("args").unwrap_or_default())?);
    last.extend(start_mode(&request));

    let machine = builder.machine.with_needed_revision();
    let (arguments, notes) = builder.finish(last);
    Ok(with_affinity(
        &request,
        CommandLine {
            program: request.host.program.clone(),
            arguments,
            notes,
            machine,
            cpu: cpu_argument,
            throw_away_vars,
        },
    ))
}

fn refuse_unsupported(request: &Request<'_>) -> Result<(), CommandError> {
    let used = |family: &str, key: &str| {
        key.strip_prefix(family)
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    };
    for (key, value) in request.vm.section().iter() {
        let found = UNSUPPORTED.iter().find(|(family, _)| used(family, key));
        if let Some((_, reason)) = found.filter(|_| value != "x86_64") {
            return Err(CommandError::Unsupported {
                key: key.to_owned(),
                reason,
            });
        }
    }
    Ok(())
}

/// The name, the monitors and the pid file.
fn add_identity(builder: &mut Builder<'_>) {
    let request = builder.request;
    let runtime = Runtime::new(request.site, request.vmid);
    let name = request
        .vm
        .name()
        .map_or_else(|| format!("vm{}", request.vmid), str::to_owned);
    let debug = if request.host.qemu.at_least(11, 0) {
        ""
    } else {
        ",debug-threads=on"
    };
    let reconnect = if request.host.qemu.at_least(9, 2) {
        "reconnect-ms=5000"
    } else {
        "reconnect=5"
    };
    builder.fixed(["-name", &format!("{name}{debug}"), "-no-shutdown"]);
    builder.fixed([
        "-chardev",
        &format!("socket,id=qmp,path={},server=on,wait=off", runtime.monitor().display()),
    ]);
    builder.fixed(["-mon", "chardev=qmp,mode=control"]);
    let events = event_socket(request.site);
    builder.fixed([
        "-chardev",
        &format!("socket,id=qmp-event,path={},{reconnect}", events.display()),
    ]);
    builder.fixed(["-mon", "chardev=qmp-event,mode=control"]);
    builder.fixed(["-pidfile", &runtime.pid_file().display().to_string(), "-daemonize"]);
}

/// Linux guests that were made before QEMU 6.1 keep the PCI hotplug that they know.
fn add_old_hotplug(builder: &mut Builder<'_>) {
    let vm = builder.request.vm;
    let old = vm.creation_version().is_none_or(|version| !version.at_least(6, 1));
    let unversioned = builder.machine.kind.version.is_none();
    if builder.machine.is_q35() && unversioned && vm.ostype() == OsType::L26 && old {
        builder.fixed(["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]);
    }
}

fn add_processors(builder: &mut Builder<'_>, cpu: &Cpu) -> Result<(), CommandError> {
    let vm = builder.request.vm;
    if vm.max_cpus() > builder.request.host.cpus {
        return Err(CommandError::TooManyCpus(builder.request.host.cpus));
    }
    let hotplug = vm.hotplug().contains(&Feature::Cpu);
    let (smp, devices) = cpu::smp(vm, cpu, hotplug);
    builder.fixed(["-smp", &smp]);
    for device in devices {
        builder.fixed(["-device", &device]);
    }
    Ok(())
}

/// The devices in the order of reference 06a §7.2.
fn add_devices(builder: &mut Builder<'_>, display: &Display) -> Result<(), CommandError> {
    devices::add_generation_id(builder);
    let usb = Usb::of(builder, display)?;
    usb.add_controllers(builder, display);
    usb.add_devices(builder);
    devices::add_serials(builder)?;
    devices::add_parallels(builder);
    display::add_audio(builder, display)?;
    display::add_vga(builder, display);
    devices::add_agent(builder);
    devices::add_rng(builder)?;
    display::add_spice(builder, display)?;
    devices::add_balloon(builder);
    devices::add_watchdog(builder)?;
    if let Some(name) = &builder.request.host.iscsi_initiator {
        builder.dev("-iscsi", format!("initiator-name={name}"));
    }
    drives::add(builder)?;
    net::add(builder)?;
    devices::add_shared_memory(builder)?;
    devices::add_virtio_iommu(builder)
}

/// Guests may not put themselves to sleep unless their config says so. Without ACPI they cannot anyway, and QEMU warns.
fn add_sleep_states(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    if !builder.request.vm.flag("acpi", true) {
        return Ok(());
    }
    let machine = builder.request.vm.machine()?;
    let controller = if builder.machine.is_q35() {
        "ICH9-LPC"
    } else {
        "PIIX4_PM"
    };
    for (state, enabled) in [("s3", machine.enable_s3), ("s4", machine.enable_s4)] {
        if !enabled.unwrap_or(false) && builder.machine.uses(9, 2, 1) {
            builder.fixed(["-global", &format!("{controller}.disable_{state}=1")]);
        }
    }
    Ok(())
}

/// `-rtc`, if there is anything to say.
fn clock(request: &Request<'_>) -> Vec<String> {
    let vm = request.vm;
    let mut options = Vec::new();
    let windows = vm.ostype().windows_at_least(5) && vm.flag("acpi", true);
    if vm.flag("tdf", false) || windows {
        options.push("driftfix=slew".to_owned());
    }
    if let Some(date) = vm.get("startdate").filter(|date| *date != "now") {
        options.push(format!("base={date}"));
    } else if vm.flag("localtime", vm.ostype().is_windows()) {
        options.push("base=localtime".to_owned());
    }
    if options.is_empty() {
        Vec::new()
    } else {
        vec!["-rtc".to_owned(), options.join(",")]
    }
}

fn machine_argument(builder: &mut Builder<'_>, display: &Display) -> Result<String, CommandError> {
    let (vm, host) = (builder.request.vm, builder.request.host);
    let mut flags = std::mem::take(&mut builder.machine_front);
    if !vm.flag("acpi", true) {
        flags.push("acpi=off".to_owned());
    }
    let new_linux = vm.ostype() == OsType::L26 && builder.machine.at_least(10, 1);
    if vm.ostype().windows_at_least(6) || new_linux {
        flags.push("hpet=off".to_owned());
    }
    match host.accel {
        Accel::Tcg => flags.push("accel=tcg".to_owned()),
        Accel::Kvm if host.program.file_name().is_some_and(|name| name == "kvm") => {}
        Accel::Kvm => flags.push("accel=kvm".to_owned()),
    }
    if !vm.is_ovmf() && display.is_headless() {
        flags.push("smm=off".to_owned());
    }
    flags.push(format!("type={}", builder.machine.stock_name()));
    if vm.machine()?.viommu == Some(crate::config::Viommu::Intel) && host.accel == Accel::Kvm {
        flags.push("kernel-irqchip=split".to_owned());
    }
    if !vm.flag("allow-ksm", true) {
        flags.push("mem-merge=off".to_owned());
    }
    Ok(flags.join(","))
}

/// How the guest comes to life.
fn start_mode(request: &Request<'_>) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match request.mode {
        StartMode::Cold => Vec::new(),
        StartMode::Paused => words(&["-S"]),
        StartMode::Incoming(uri) => words(&["-incoming", uri, "-S"]),
        StartMode::Saved(path) => {
            let path = path.display().to_string();
            // QEMU reads saved states from files since 8.2, and from pipes ever since.
            let file = request.host.qemu.at_least(8, 2) && !path.starts_with("/dev/");
            let uri = if file {
                format!("file:{path}")
            } else {
                format!("exec:cat {}", quote(&path))
            };
            words(&["-incoming", &uri])
        }
    }
}

/// Ties the guest to processors of the node.
fn with_affinity(request: &Request<'_>, command: CommandLine) -> CommandLine {
    let Some(set) = request.vm.get("affinity") else {
        return command;
    };
    let program = command.program.display().to_string();
    let front = ["--cpu-list", "--all-tasks", set, &program].map(str::to_owned);
    CommandLine {
        program: TASKSET.into(),
        arguments: front.into_iter().chain(command.arguments).collect(),
        ..command
    }
}
