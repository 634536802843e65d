//! The control group of a VM: systemd's scope `qemu.slice/VMID.scope` (reference 06a §6).
//!
//! ```text
//! start: a stale scope goes ─▶ sh waits ─▶ scope around it ─▶ sh becomes QEMU, which forks inside
//! run:   cpuunits, cpulimit ─▶ properties of the scope
//! end:   the last process ends ─▶ the scope is gone
//! ```
//!
//! In a lab, and where systemd does not run, there is none: the guest runs without limits, and its user is told.
//! What is read of the group is in [`crate::status`].

use std::path::Path;
use std::time::{Duration, Instant};

use pve_schema::Site;
use pve_schema::ids::VmId;
use pve_systemd::{Manager, Property, Scope, SystemdError, Verb};

use crate::config::VmConfig;
use crate::journal::Journal;

/// What all scopes of VMs are in.
const SLICE: &str = "qemu.slice";
/// What must be there when a VM's scope stops, and so stops after it when the node shuts down.
const AFTER: [&str; 1] = ["dbus.service"];
/// What shuts guests down, and so stops before their scopes do.
const BEFORE: [&str; 2] = ["pve-ha-lrm.service", "pve-guests.service"];
/// How long a scope may take to go or to come.
const LIMIT: Duration = Duration::from_secs(20);
/// How often one that is to go is looked at.
const POLL: Duration = Duration::from_millis(50);
/// CPU time of one CPU in a second, in µs.
const SECOND: f64 = 1_000_000.0;
/// Where it shows which version the control groups are of.
const SECOND_VERSION: &str = "/sys/fs/cgroup/cgroup.controllers";

/// The scope of a VM that is to be started, or that runs.
#[derive(Debug)]
pub(crate) struct VmScope {
    manager: Manager,
    vmid: VmId,
}

impl VmScope {
    /// Asks for systemd; none where it does not run.
    ///
    /// # Errors
    /// It runs and cannot be reached.
    pub(crate) fn of(site: &Site, vmid: VmId) -> Result<Option<Self>, SystemdError> {
        match Manager::connect(site) {
            Ok(manager) => Ok(Some(Self { manager, vmid })),
            Err(SystemdError::NotHere) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn name(&self) -> String {
        format!("{}.scope", self.vmid)
    }

    /// Removes what an earlier run left behind.
    ///
    /// # Errors
    /// systemd refuses, or the scope does not go.
    pub(crate) fn remove_stale(&self) -> Result<(), SystemdError> {
        let name = self.name();
        self.manager.reset_failed(&name)?;
        if self.has_gone()? {
            return Ok(());
        }
        match self.manager.run(Verb::Stop, &name, LIMIT) {
            Err(error) if !error.is_no_such_unit() => return Err(error),
            _ => {}
        }
        let started = Instant::now();
        while !self.has_gone()? {
            if started.elapsed() > LIMIT {
                return Err(SystemdError::Timeout(LIMIT));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn has_gone(&self) -> Result<bool, SystemdError> {
        let state = self.manager.active_state(&self.name())?;
        Ok(state.is_none_or(|state| state == "inactive"))
    }

    /// Puts a process into it.
    ///
    /// # Errors
    /// systemd refuses.
    pub(crate) fn enter(&self, pid: u32, limits: &Limits) -> Result<(), SystemdError> {
        let name = self.name();
        let scope = Scope {
            name: &name,
            description: &format!("Proxmox VE VM {}", self.vmid),
            slice: SLICE,
            pid,
            after: &AFTER,
            before: &BEFORE,
            properties: &limits.at_start(Version::of_the_kernel()),
        };
        self.manager.start_scope(&scope, LIMIT)
    }

    /// Gives it other limits.
    ///
    /// # Errors
    /// systemd refuses.
    pub(crate) fn set(&self, limits: &Limits) -> Result<(), SystemdError> {
        let properties = limits.while_running(Version::of_the_kernel());
        self.manager.set_properties(&self.name(), &properties)
    }
}

/// The version of the kernel's control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

impl Version {
    fn of_the_kernel() -> Self {
        if Path::new(SECOND_VERSION).exists() {
            Self::Second
        } else {
            Self::First
        }
    }
}

/// What a config says of CPU time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    units: Option<u64>,
    cpus: Option<f64>,
}

impl Limits {
    /// A config's; 0 is as good as nothing.
    pub(crate) fn of(vm: VmConfig<'_>) -> Self {
        let units: Option<u64> = vm.get("cpuunits").and_then(|text| text.trim().parse().ok());
        let cpus: Option<f64> = vm.get("cpulimit").and_then(|text| text.trim().parse().ok());
        Self {
            units: units.filter(|units| *units > 0),
            cpus: cpus.filter(|cpus| cpus.is_finite() && *cpus > 0.0),
        }
    }

    fn share(self, version: Version) -> Property {
        match version {
            Version::Second => Property::CpuWeight(self.units.unwrap_or(100).clamp(1, 10_000)),
            Version::First => Property::CpuShares(self.units.unwrap_or(1024).clamp(2, 262_144)),
        }
    }

    fn quota(self) -> Property {
        // Not negative, and far below what fits; a fraction of a microsecond is nobody's.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Property::CpuQuota(self.cpus.map(|cpus| (cpus * SECOND) as u64))
    }

    fn at_start(self, version: Version) -> Vec<Property> {
        let quota = self.cpus.map(|_| self.quota());
        std::iter::once(self.share(version)).chain(quota).collect()
    }

    /// All of them: what is no longer set goes back to its default.
    fn while_running(self, version: Version) -> Vec<Property> {
        vec![self.share(version), self.quota()]
    }
}

/// Tells that limits of a config do not hold.
pub(crate) fn note_unlimited(vm: VmConfig<'_>, journal: &mut dyn Journal) {
    for key in ["cpulimit", "cpuunits"] {
        if vm.get(key).is_some_and(|value| value != "0") {
            journal.log(&format!("NOTE: '{key}' is not applied: systemd does not run here"));
        }
    }
}

#[cfg(test)]
mod tests {
    use pve_guest::GuestConfig;

    use super::*;
    use crate::config::VmRules;

    fn limits(text: &str) -> Limits {
        let config = GuestConfig::parse(&VmRules, 105.try_into().unwrap(), text.as_bytes()).config;
        Limits::of(VmConfig::new(&config.main))
    }

    #[test]
    fn limits_become_properties() {
        use Property::{CpuQuota, CpuShares, CpuWeight};
        for (config, start, first, running) in [
            ("", vec![CpuWeight(100)], CpuShares(1024), CpuQuota(None)),
            ("cpuunits: 500\n", vec![CpuWeight(500)], CpuShares(500), CpuQuota(None)),
            (
                "cpuunits: 20000\ncpulimit: 1.5\n",
                vec![CpuWeight(10_000), CpuQuota(Some(1_500_000))],
                CpuShares(20_000),
                CpuQuota(Some(1_500_000)),
            ),
            (
                "cpuunits: 0\ncpulimit: 0\n",
                vec![CpuWeight(100)],
                CpuShares(1024),
                CpuQuota(None),
            ),
            (
                "cpuunits: 1\ncpulimit: 128\n",
                vec![CpuWeight(1), CpuQuota(Some(128_000_000))],
                CpuShares(2),
                CpuQuota(Some(128_000_000)),
            ),
        ] {
            let limits = limits(config);
            assert_eq!(limits.at_start(Version::Second), start, "{config:?}");
            assert_eq!(limits.at_start(Version::First)[0], first, "{config:?}");
            assert_eq!(limits.while_running(Version::Second), [start[0], running], "{config:?}");
        }
    }

    #[test]
    fn labs_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let site = crate::test_site(directory.path());
        assert!(VmScope::of(&site, 105.try_into().unwrap()).unwrap().is_none());
    }
}
