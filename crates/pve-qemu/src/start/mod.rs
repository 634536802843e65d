//! Bringing a VM up (reference 06b §6.1).
//!
//! ```text
//!  checks ─▶ pending changes ─▶ hook ─▶ volumes ─▶ command line ─▶ taps ─▶ QEMU ─▶ monitor: balloon, links ─▶ hook
//!                                │         │            │            │       │
//!                                └─────────┴─── failure ┴────────────┴───────┴──▶ taps and markers go again
//! ```
//!
//! All of it happens under the config lock. What the config asks for and this build cannot do yet is refused before
//! anything has happened.

pub(crate) mod backings;
pub(crate) mod host;
mod launch;
pub(crate) mod probe;
mod timeout;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use pve_guest::GuestConfig;
use pve_node::console::ports;
use pve_schema::Context;
use pve_schema::ids::VmId;
use pve_storage::Storages;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::accel;
use crate::cleanup::{self, Scope};
use crate::command::{self, CommandLine, HostFacts, Request, StartMode, ThrowAwayVars};
use crate::config::{MachineType, VmConfig};
use crate::error::VmError;
use crate::files;
use crate::hold;
use crate::hook::{self, Phase};
use crate::journal::Journal;
use crate::network::{self, tap_name};
use crate::process::{self, Process};
use crate::qmp::{self, Qmp, QmpError};
use crate::runtime::{self, Runtime};
use crate::scope::{self, Limits};
use crate::update;
use crate::volumes;

/// How often the balloon asks the guest for its figures, in seconds.
const BALLOON_POLLING: u64 = 2;

/// How a VM is to be started.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Options {
    /// The `lock` key is ignored.
    pub skip_lock: bool,
    /// How long QEMU may take, in seconds; 0 for as long as it takes.
    pub timeout: Option<u64>,
    /// A machine type instead of the config's.
    pub machine: Option<String>,
    /// A `-cpu` argument instead of the config's.
    pub force_cpu: Option<String>,
    /// The guest does not run yet when the start is done, for a backup: `cont` lets it go. A template may be started so.
    #[serde(default)]
    pub paused: bool,
}

/// A start without a limit still must not hang for ever.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Starts a VM.
///
/// # Errors
/// [`VmError::AlreadyRunning`], the lock, and whatever keeps the guest from coming up; nothing is left behind then.
pub fn start(context: &Context, vmid: VmId, options: &Options, journal: &mut dyn Journal) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    // A backup that was killed must not keep the guest from starting.
    hold::settle(context, vmid, journal)?;
    let mut config = files::load(context, vmid)?;
    if check(context, vmid, &config, options)? == Found::HeldByBackup {
        qmp::execute(&context.site, vmid, "cont", Value::Null)?;
        return Ok(());
    }
    runtime::create_directory(&context.site).map_err(|source| VmError::Runtime {
        what: "unable to make the directory of runtime files",
        source,
    })?;
    let runtime = Runtime::new(&context.site, vmid);
    runtime.take_restart_request();
    clean_up_before(context, vmid, &mut config, journal)?;
    hook::run_if_set(context, vmid, &config, Phase::PreStart, journal)?;
    let prepared = prepare(context, vmid, &config, options, journal)?;
    let process = bring_up(context, vmid, &config, &prepared, journal)?;
    adjust(context, vmid, VmConfig::new(&config.main), journal);
    journal.log(&format!("VM {vmid} started with PID {}", process.pid));
    log::info!(
        "VM {vmid} started with PID {} using QEMU {}",
        process.pid,
        prepared.version
    );
    hook::run_if_set(context, vmid, &config, Phase::PostStart, journal)
}

/// What a VM that is to be started is found as.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Off.
    Off,
    /// On, because a backup runs: it only has to go on.
    HeldByBackup,
}

fn check(context: &Context, vmid: VmId, config: &GuestConfig, options: &Options) -> Result<Found, VmError> {
    if config.is_template() && !options.paused {
        return Err(VmError::TemplateStart);
    }
    let running = process::is_running(&context.site, vmid);
    match config.lock() {
        Some("backup") if running => return Ok(Found::HeldByBackup),
        Some("suspended") => return Err(VmError::NotYet("resuming a VM from its saved state")),
        _ if options.skip_lock => {}
        _ => config.check_lock()?,
    }
    if running {
        return Err(VmError::AlreadyRunning(vmid));
    }
    Ok(Found::Off)
}

/// Makes up for a clean-up that nobody did, and puts what waited for the stop into force.
fn clean_up_before(
    context: &Context,
    vmid: VmId,
    config: &mut GuestConfig,
    journal: &mut dyn Journal,
) -> Result<(), VmError> {
    let scope = Scope {
        keep_active: false,
        apply_pending: false,
    };
    cleanup::after_stop(context, vmid, config, scope, journal)?;
    if config.has_pending() {
        update::apply_pending(context, vmid, config, journal)?;
    }
    Ok(())
}

/// All that QEMU needs, found out before anything happens.
struct Prepared {
    program: PathBuf,
    arguments: Vec<String>,
    limit: Duration,
    revision: Option<u32>,
    version: String,
    throw_away_vars: Option<ThrowAwayVars>,
}

fn prepare(
    context: &Context,
    vmid: VmId,
    config: &GuestConfig,
    options: &Options,
    journal: &mut dyn Journal,
) -> Result<Prepared, VmError> {
    let site = &context.site;
    let vm = VmConfig::new(&config.main);
    let decision = accel::decide(host::accel_setting(site), vm.flag("kvm", true), host::kvm_facts())?;
    if let Some(note) = &decision.note {
        journal.log(note);
    }
    let storages = Storages::open(context)?;
    let used = volumes::used(vm);
    journal.log(&format!("activating {} volume(s)", used.len()));
    volumes::activate(&storages, &used)?;
    let host = host::facts(site, vm, decision.accel)?;
    let spice = |request: &Request<'_>| match command::needs_spice(request) {
        true => ports::reserve(context, ports::SPICE).map(Some),
        false => Ok(None),
    };
    let mut line = build(context, vmid, vm, options, (&storages, &host), spice)?;
    if options.paused {
        line.arguments.push("-S".to_owned());
    }
    for note in &line.notes {
        journal.log(&format!("NOTE: {note}"));
    }
    if !pve_systemd::is_here(site) {
        scope::note_unlimited(vm, journal);
    }
    Ok(Prepared {
        program: line.program,
        arguments: line.arguments,
        limit: limit(vm, options),
        revision: line.machine.revision,
        version: host.qemu.to_string(),
        throw_away_vars: line.throw_away_vars,
    })
}

/// QEMU's command line.
fn build<E>(
    context: &Context,
    vmid: VmId,
    vm: VmConfig<'_>,
    options: &Options,
    (storages, host): (&Storages, &HostFacts),
    spice: impl FnOnce(&Request<'_>) -> Result<Option<u16>, E>,
) -> Result<CommandLine, VmError>
where
    VmError: From<E>,
{
    let backings = backings::of(storages, vm)?;
    let mut request = Request {
        site: &context.site,
        vmid,
        vm,
        host,
        backings: &backings,
        mode: &StartMode::Cold,
        forced_machine: options.machine.as_deref().and_then(MachineType::parse),
        forced_cpu: options.force_cpu.as_deref(),
        spice_port: None,
    };
    request.spice_port = spice(&request)?;
    Ok(command::build(request)?)
}

/// The command line that a VM would be started with as its configuration, or that of a snapshot, is now. Nothing is made
/// usable for it, and the port of a SPICE display is the first that there is.
///
/// # Errors
/// There is no such VM or snapshot, and what would keep it from starting.
pub fn command_line(context: &Context, vmid: VmId, snapshot: Option<&str>) -> Result<CommandLine, VmError> {
    let config = files::load(context, vmid)?;
    let section = match snapshot {
        Some(name) => config.snapshot(name)?,
        None => &config.main,
    };
    let vm = VmConfig::new(section);
    let site = &context.site;
    let decision = accel::decide(host::accel_setting(site), vm.flag("kvm", true), host::kvm_facts())?;
    let host = host::facts(site, vm, decision.accel)?;
    let storages = Storages::open(context)?;
    let spice = |request: &Request<'_>| -> Result<Option<u16>, VmError> {
        Ok(command::needs_spice(request).then_some(*ports::SPICE.start()))
    };
    build(context, vmid, vm, &Options::default(), (&storages, &host), spice)
}

fn limit(vm: VmConfig<'_>, options: &Options) -> Duration {
    let load = timeout::Load {
        memory: vm.memory(),
        nets: u64::try_from(vm.net_texts().count()).unwrap_or(u64::MAX),
        passthrough: false,
        resuming: false,
        hugepages: vm.get("hugepages").is_some(),
    };
    match options.timeout {
        None => timeout::of(load),
        Some(0) => LONGEST,
        Some(seconds) => Duration::from_secs(seconds),
    }
}

/// Plugs the cards in and runs QEMU; after a failure nothing of that is left.
fn bring_up(
    context: &Context,
    vmid: VmId,
    config: &GuestConfig,
    prepared: &Prepared,
    journal: &mut dyn Journal,
) -> Result<Process, VmError> {
    let site = &context.site;
    let runtime = Runtime::new(site, vmid);
    // Before QEMU runs: should this process be killed, somebody still knows what to clean up.
    let marked = runtime
        .set_cleanup_due(context.now())
        .and_then(|()| runtime.remember_revision(prepared.revision));
    marked.map_err(|source| VmError::Runtime {
        what: "unable to leave the marker for cleaning up",
        source,
    })?;
    if let Some(vars) = &prepared.throw_away_vars {
        copy_vars(vars).map_err(|source| VmError::Runtime {
            what: "unable to copy the firmware's variables",
            source,
        })?;
    }
    let started = plug_all(context, vmid, VmConfig::new(&config.main), journal).and_then(|()| {
        journal.log("starting QEMU...");
        launch::launch(
            site,
            vmid,
            &prepared.program,
            &prepared.arguments,
            &Limits::of(VmConfig::new(&config.main)),
            prepared.limit,
            journal,
        )
    });
    if started.is_err() {
        cleanup::remove_taps(context, vmid, config);
        runtime.remove_sockets();
        runtime.clear_cleanup_due();
    }
    started
}

/// The variables of a guest without an EFI disk last until it stops.
fn copy_vars(vars: &ThrowAwayVars) -> io::Result<()> {
    if let Some(directory) = vars.copy.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::copy(&vars.template, &vars.copy).map(drop)
}

fn plug_all(context: &Context, vmid: VmId, vm: VmConfig<'_>, journal: &mut dyn Journal) -> Result<(), VmError> {
    for (number, net) in vm.nets() {
        let Some(bridge) = net.bridge() else { continue };
        let tap = tap_name(&context.site, vmid, number);
        for note in network::plug(&tap, &net, bridge)? {
            journal.log(&format!("NOTE: {note}"));
        }
    }
    Ok(())
}

/// What only the monitor can set. The guest runs already: a failure is told, not fatal.
fn adjust(context: &Context, vmid: VmId, vm: VmConfig<'_>, journal: &mut dyn Journal) {
    let mut qmp = Qmp::new(&context.site, vmid);
    let mut set = |command: &str, arguments: Value| -> Result<(), QmpError> {
        qmp.execute(command, arguments)
            .map(drop)
            .inspect_err(|error| journal.warn(&error.to_string()))
    };
    let balloon = vm.balloon();
    if let Some(target) = balloon.filter(|target| *target > 0) {
        let bytes = target.saturating_mul(1 << 20);
        let _ = set("balloon", json!({ "value": bytes }));
    }
    for (number, net) in vm.nets() {
        if net.is_link_down() {
            let _ = set("set_link", json!({ "name": format!("net{number}"), "up": false }));
        }
    }
    if balloon != Some(0) {
        let path = "/machine/peripheral/balloon0";
        let property = "guest-stats-polling-interval";
        let _ = set(
            "qom-set",
            json!({ "path": path, "property": property, "value": BALLOON_POLLING }),
        );
    }
}
