//! The guest while its disks are copied (reference 05 §8 steps 2 to 5): frozen for the instant, then let go.

use pve_qemu::config::VmConfig;
use pve_qemu::hold::Hold;
use pve_qemu::qmp::Agent;
use serde_json::Value;

use super::super::log::RunLog;
use super::super::options::Mode;
use super::Vm;
use crate::compress::Killer;
use crate::copy::Watch;

/// Follows the copy of a VM's disks.
pub(in super::super) struct Guard<'a, 'b> {
    pub(in super::super) vm: &'a Vm,
    pub(in super::super) hold: &'a mut Hold,
    pub(in super::super) log: &'a mut RunLog<'b>,
    pub(in super::super) mode: Mode,
    /// Ends the compressor: a write that waits for it would hold up an interruption.
    pub(in super::super) killer: Option<Killer>,
    /// Whether the guest was told to freeze, with success or not.
    frozen: bool,
    /// Whether the guest was let go.
    released: bool,
}

impl<'a, 'b> Guard<'a, 'b> {
    pub(in super::super) fn new(
        vm: &'a Vm,
        hold: &'a mut Hold,
        log: &'a mut RunLog<'b>,
        mode: Mode,
        killer: Option<Killer>,
    ) -> Self {
        Self {
            vm,
            hold,
            log,
            mode,
            killer,
            frozen: false,
            released: false,
        }
    }

    fn agent(&self) -> Agent<'_> {
        Agent::new(&self.vm.context.site, self.vm.vmid)
    }

    /// Whether the guest's file systems are to be frozen; says why not where a user might wonder.
    fn is_to_freeze(&mut self) -> bool {
        if self.mode == Mode::Stop || !self.vm.is_to_go_on() {
            return false;
        }
        let Some(configured) = VmConfig::new(&self.vm.config.main).agent() else {
            return false;
        };
        if !configured.freeze_fs {
            self.log
                .info("skipping guest filesystem freeze - disabled in VM options");
            return false;
        }
        if self.agent().check(true).is_err() {
            self.log
                .info("skipping guest filesystem freeze - agent configured but not running?");
            return false;
        }
        let status = self.agent().execute("guest-fsfreeze-status", Value::Null);
        status.is_ok_and(|status| status.as_str() == Some("thawed"))
    }

    /// Lets the guest go on, once.
    pub(in super::super) fn let_go(&mut self) {
        if self.released || !self.vm.is_to_go_on() {
            return;
        }
        self.released = true;
        if let Err(error) = self.vm.go_on(self.hold, self.log) {
            self.log.error(&error.to_string());
        }
    }

    fn note_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
        if let Err(error) = self.hold.owe(|debt| debt.frozen = frozen) {
            self.log.warning(&error.to_string());
        }
    }
}

impl Watch for Guard<'_, '_> {
    fn log(&mut self, line: &str) {
        self.log.info(line);
    }

    fn freeze(&mut self) {
        if !self.is_to_freeze() {
            return;
        }
        self.note_frozen(true);
        self.log.info("issuing guest-agent 'fs-freeze' command");
        if let Err(error) = self.agent().execute("guest-fsfreeze-freeze", Value::Null) {
            self.log.error(&error.to_string());
        }
    }

    fn thaw(&mut self) {
        if !self.frozen {
            return;
        }
        self.log.info("issuing guest-agent 'fs-thaw' command");
        if let Err(error) = self.agent().execute("guest-fsfreeze-thaw", Value::Null) {
            self.log.error(&error.to_string());
        }
        self.note_frozen(false);
    }

    fn started(&mut self, job: &str) {
        self.log.info(&format!("started backup task '{job}'"));
        self.let_go();
    }

    fn progress(&mut self, line: &str) {
        self.log.info(line);
    }

    fn is_interrupted(&self) -> bool {
        let interrupted = self.log.worker.is_interrupted();
        if interrupted && let Some(killer) = &self.killer {
            killer.kill();
        }
        interrupted
    }
}
