//! Carries the live part of a config change out by the monitor (reference 06a §5).
//!
//! What is to be done is decided by [`crate::update::live`]. A step of a kind that is not carried out here yet (disks,
//! new network cards, CPUs, memory, tablet, USB) leaves its key pending until the next cold start, as upstream does with
//! what cannot be done live.

use pve_guest::GuestConfig;
use pve_schema::ids::VmId;
use pve_schema::{Context, ParamErrors};
use pve_storage::Storages;
use serde_json::{Value, json};

use crate::accel;
use crate::command::{self, Request, StartMode};
use crate::config::{Drive, Net, VmConfig};
use crate::error::VmError;
use crate::journal::Journal;
use crate::network::{self, tap_name};
use crate::qmp::{Qmp, QmpError};
use crate::scope::{self, Limits, VmScope};
use crate::start::{backings, host};
use crate::update::commit;
use crate::update::live::{Plan, Step};

/// How often a tray is opened that the guest closes again.
const TRAY_TRIES: u32 = 20;

/// Takes the steps of a plan and commits each key that worked; what failed is told by key. Called under the config lock.
pub(crate) fn carry_out(
    context: &Context,
    vmid: VmId,
    storages: &Storages,
    config: &mut GuestConfig,
    plan: Plan,
    journal: &mut dyn Journal,
) -> ParamErrors {
    let mut errors = ParamErrors::new();
    for (key, step) in plan.steps {
        let live = Live {
            context,
            vmid,
            storages,
            config,
        };
        let done = match live.take(&step, journal) {
            Ok(true) => commit::one(storages, vmid, config, &key, journal).map_err(VmError::from),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            errors.insert(key, error.to_string());
        }
    }
    errors
}

/// Opens a drive's tray for a command that needs it open. The guest may close it in between, as its firmware does when it
/// looks for a medium, and its kernel when it opens the drive: then once more.
fn with_open_tray(qmp: &mut Qmp<'_>, drive: &str, command: &str, arguments: &Value) -> Result<(), QmpError> {
    let mut left = TRAY_TRIES;
    loop {
        qmp.execute("blockdev-open-tray", json!({ "id": drive, "force": true }))?;
        match qmp.execute(command, arguments.clone()) {
            Err(error) if error.is_closed_tray() && left > 1 => left -= 1,
            outcome => return outcome.map(drop),
        }
    }
}

struct Live<'a> {
    context: &'a Context,
    vmid: VmId,
    storages: &'a Storages,
    config: &'a GuestConfig,
}

impl Live<'_> {
    /// Takes one step: whether it was taken.
    fn take(&self, step: &Step, journal: &mut dyn Journal) -> Result<bool, VmError> {
        match step {
            Step::Commit(_) => {}
            Step::Medium { new, .. } => self.change_medium(new)?,
            Step::Limits(drive) => self.set_limits(drive)?,
            Step::Link { number, up, .. } => self.set_link(*number, *up)?,
            Step::Replug { number, new, .. } => self.replug(*number, new, journal)?,
            Step::Balloon(mebibytes) => {
                let bytes = mebibytes.saturating_mul(1 << 20);
                self.execute("balloon", json!({ "value": bytes }))?;
            }
            Step::Cgroup { key, .. } => self.set_limits_of_group(key, journal)?,
            Step::Card { .. }
            | Step::Disk { .. }
            | Step::Cpus(_)
            | Step::Memory(_)
            | Step::Tablet(_)
            | Step::Usb(_) => return Ok(false),
        }
        Ok(true)
    }

    fn monitor(&self) -> Qmp<'_> {
        Qmp::new(&self.context.site, self.vmid)
    }

    fn execute(&self, command: &str, arguments: Value) -> Result<Value, VmError> {
        Ok(self.monitor().execute(command, arguments)?)
    }

    fn set_link(&self, number: u8, up: bool) -> Result<(), VmError> {
        self.execute("set_link", json!({ "name": format!("net{number}"), "up": up }))?;
        Ok(())
    }

    /// Another bridge or VLAN under the same card: QEMU keeps its end of the tap open, so the tap moves.
    fn replug(&self, number: u8, new: &Net, journal: &mut dyn Journal) -> Result<(), VmError> {
        let Some(bridge) = new.bridge() else { return Ok(()) };
        let tap = tap_name(&self.context.site, self.vmid, number);
        self.set_link(number, false)?;
        for note in network::replug(&tap, new, bridge)? {
            journal.log(&format!("NOTE: {note}"));
        }
        self.set_link(number, !new.is_link_down())
    }

    /// The group's CPU limits, as they will be with this key as it is to become.
    fn set_limits_of_group(&self, key: &str, journal: &mut dyn Journal) -> Result<(), VmError> {
        let mut section = self.config.main.clone();
        match self.config.pending.get(key) {
            Some(value) => section.set(key, value),
            None => drop(section.remove(key)),
        }
        let vm = VmConfig::new(&section);
        let fails = |error| VmError::Scope(self.vmid, error);
        match VmScope::of(&self.context.site, self.vmid).map_err(fails)? {
            Some(scope) => scope.set(&Limits::of(vm)).map_err(fails),
            None => {
                scope::note_unlimited(vm, journal);
                Ok(())
            }
        }
    }

    fn set_limits(&self, drive: &Drive) -> Result<(), VmError> {
        let property = json!({
            "path": command::throttle_group(drive),
            "property": "limits",
            "value": command::all_limits(&drive.options),
        });
        self.execute("qom-set", property)?;
        Ok(())
    }

    /// Opens the tray, takes the old medium out, puts the new one in.
    fn change_medium(&self, new: &Drive) -> Result<(), VmError> {
        // All that can fail without the monitor comes first: half a change is worse than none.
        let parts = self.drive_parts(new)?;
        let id = new.key.to_string();
        let node = command::top_node(new);
        let mut qmp = self.monitor();
        with_open_tray(&mut qmp, &id, "blockdev-remove-medium", &json!({ "id": id }))?;
        // An empty drive has neither; what is in use says so when the new one is added.
        let _ = qmp.execute("blockdev-del", json!({ "node-name": node }));
        let _ = qmp.execute("object-del", json!({ "id": command::throttle_group(new) }));
        if let Some(graph) = parts.graph {
            qmp.execute("object-add", parts.throttle)?;
            qmp.execute("blockdev-add", graph)?;
            let medium = json!({ "id": id, "node-name": node });
            with_open_tray(&mut qmp, &id, "blockdev-insert-medium", &medium)?;
        }
        qmp.execute("blockdev-close-tray", json!({ "id": id }))?;
        Ok(())
    }

    fn drive_parts(&self, drive: &Drive) -> Result<command::DriveParts, VmError> {
        let site = &self.context.site;
        let vm = VmConfig::new(&self.config.main);
        let decision = accel::decide(host::accel_setting(site), vm.flag("kvm", true), host::kvm_facts())?;
        let host = host::facts(site, vm, decision.accel)?;
        if let Some(volume) = drive.volume() {
            self.storages.activate_volumes(&[volume])?;
        }
        let backing = backings::backing(self.storages, drive)?;
        let backings = backings::of(self.storages, vm)?;
        let request = Request {
            site,
            vmid: self.vmid,
            vm,
            host: &host,
            backings: &backings,
            mode: &StartMode::Cold,
            forced_machine: None,
            forced_cpu: None,
            spice_port: None,
        };
        Ok(command::hotplug_drive(request, drive, backing.as_ref())?)
    }
}
