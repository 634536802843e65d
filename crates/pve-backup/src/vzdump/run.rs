//! The run of a job over its guests (reference 05 §7.1, §7.3).

use pve_access::AccessControl;
use pve_schema::Context;
use pve_schema::ids::VmId;

use super::VzdumpError;
use super::guest;
use super::hook::Hook;
use super::log::RunLog;
use super::options::Options;
use super::place::Place;
use crate::compress::Compression;

/// A job on its way.
pub(super) struct Run<'a, 'b> {
    pub(super) context: &'a Context,
    pub(super) options: &'a Options,
    pub(super) place: &'a Place,
    pub(super) hook: &'a Hook,
    pub(super) compression: Compression,
    /// Whether the caller is free of the limit of protected backups that holds when none is configured.
    pub(super) unlimited_protection: bool,
    pub(super) log: RunLog<'b>,
}

/// The guests of a job.
#[derive(Debug, Clone)]
pub(super) struct Guests {
    /// By number.
    pub(super) attempted: Vec<VmId>,
    /// Selected guests of other nodes.
    pub(super) elsewhere: Vec<VmId>,
    /// Whether all guests are wanted: then those without permission are passed over.
    pub(super) all: bool,
}

impl Run<'_, '_> {
    /// Backs all guests up, one after the other.
    ///
    /// # Errors
    /// [`VzdumpError::JobErrors`] if one failed, [`VzdumpError::Interrupted`], missing rights, a script that failed.
    pub(super) fn carry_out(&mut self, guests: &Guests, command_line: &str) -> Result<(), VzdumpError> {
        self.log
            .info_for_task(&format!("starting new backup job: {command_line}"));
        if !guests.elsewhere.is_empty() {
            let numbers: Vec<String> = guests.elsewhere.iter().map(VmId::to_string).collect();
            self.log
                .info_for_task(&format!("skip external VMs: {}", numbers.join(", ")));
        }
        let result = self.permitted(guests).and_then(|vmids| self.each(&vmids));
        match &result {
            Ok(0) => self.log.info_for_task("Backup job finished successfully"),
            Ok(_) => self.log.info_for_task("Backup job finished with errors"),
            Err(error) => {
                if let Err(error) = self.hook.run("job-abort", None, &mut self.log) {
                    self.log.warning(&error.to_string());
                }
                self.log.error(&format!("Backup job failed - {error}"));
            }
        }
        match result? {
            0 => Ok(()),
            _ => Err(VzdumpError::JobErrors),
        }
    }

    /// The guests that the caller may back up. Numbers that no guest has fail later, for all to see.
    fn permitted(&self, guests: &Guests) -> Result<Vec<VmId>, VzdumpError> {
        let access = AccessControl::load(self.context)?;
        let caller = &self.log.worker.caller;
        let known = pve_cfs::Cfs::new(self.context).guests()?;
        let mut permitted = Vec::new();
        for vmid in &guests.attempted {
            let path = format!("/vms/{vmid}");
            let is_known = known.iter().any(|guest| guest.vmid == *vmid);
            if !is_known || access.has(caller, &path, &["VM.Backup"]) {
                permitted.push(*vmid);
            } else if !guests.all {
                access.require_all(caller, &path, &["VM.Backup"])?;
            }
        }
        Ok(permitted)
    }

    /// How many guests failed.
    fn each(&mut self, vmids: &[VmId]) -> Result<usize, VzdumpError> {
        self.hook.run("job-start", None, &mut self.log)?;
        let mut failed = 0;
        for vmid in vmids {
            if !guest::back_up(self, *vmid) {
                failed += 1;
            }
            self.check_interrupt()?;
        }
        self.hook.run("job-end", None, &mut self.log)?;
        Ok(failed)
    }

    /// Ends the work here if somebody wants the task to stop.
    ///
    /// # Errors
    /// [`VzdumpError::Interrupted`]
    pub(super) fn check_interrupt(&self) -> Result<(), VzdumpError> {
        if self.log.worker.is_interrupted() {
            Err(VzdumpError::Interrupted)
        } else {
            Ok(())
        }
    }
}
