//! The backup of one guest, step by step (reference 05 §7.4).
//!
//! ```text
//!  limits ─▶ names ─▶ hold ─▶ prepare, stop or suspend ─▶ archive ─▶ rename ─▶ notes, protection ─▶ prune ─▶ hook
//!     │        │        │               │                    │                                              │
//!     └────────┴────────┴───────────────┴── failure ─────────┴─────────▶ clean-up, always ◀─────────────────┘
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Instant;

use pve_cfs::{Cfs, GuestKind};
use pve_qemu::hold::Hold;
use pve_schema::errno_text;
use pve_schema::ids::VmId;
use pve_storage::{StorageError, Storages};

use super::VzdumpError;
use super::hook::GuestFacts;
use super::log::{guest_log, stamp};
use super::notes::{self, Facts};
use super::options::Mode;
use super::place::Names;
use super::qemu::{Guard, Vm};
use super::run::Run;
use crate::compress::Compressor;
use crate::copy::{self, CopyError, Limits, Source};
use crate::text;

/// Names end in seconds: a second backup within one gets a later name, but not one that is far from the truth.
const NAME_TRIES: i64 = 60;

/// The highest speed that QEMU takes, bytes per second.
const MAX_SPEED: u64 = i64::MAX.unsigned_abs();

/// Backs a guest up: whether that worked. Everything about it is in the logs.
pub(super) fn back_up(run: &mut Run<'_, '_>, vmid: VmId) -> bool {
    let begin = Instant::now();
    let mut guest = Guest::new(run, vmid);
    let result = guest.attempt(run);
    guest.clean_up(run);
    let result = result.and_then(|()| run.check_interrupt());
    let now = stamp(run.context.now());
    if let Err(error) = &result {
        run.log.error(&format!("Backup of VM {vmid} failed - {error}"));
        run.log.info_for_task(&format!("Failed at {now}"));
        guest.hook_or_warn(run, "backup-abort");
    } else {
        let clock = text::duration_clock(begin.elapsed().as_secs());
        run.log.info(&format!("Finished Backup of VM {vmid} ({clock})"));
        run.log.info_for_task(&format!("Backup finished at {now}"));
    }
    guest.keep_log(run);
    guest.hook_or_warn(run, "log-end");
    result.is_ok()
}

struct Guest {
    vmid: VmId,
    facts: GuestFacts,
    names: Option<Names>,
    /// Where its log is until it is kept.
    log: Option<PathBuf>,
    hold: Option<Hold>,
    vm: Option<Vm>,
    mode: Mode,
}

impl Guest {
    fn new(run: &Run<'_, '_>, vmid: VmId) -> Self {
        let mode = run.options.mode;
        Self {
            vmid,
            facts: GuestFacts {
                mode: mode.as_str(),
                vmid: vmid.to_string(),
                ..GuestFacts::default()
            },
            names: None,
            log: None,
            hold: None,
            vm: None,
            mode,
        }
    }

    fn attempt(&mut self, run: &mut Run<'_, '_>) -> Result<(), VzdumpError> {
        run.check_interrupt()?;
        let vmid = self.vmid;
        let found = Cfs::new(run.context).find_guest(vmid)?;
        let found = found.filter(|guest| guest.node == run.context.site.node);
        match found.ok_or(VzdumpError::NoGuest(vmid))?.kind {
            GuestKind::Qemu => {}
            GuestKind::Lxc => return Err(VzdumpError::NotYet("backing up containers")),
        }
        let kind = GuestKind::Qemu.as_str();
        self.facts.kind = kind;
        check_limits(run, kind, vmid)?;
        let begin = self.choose_names(run, kind);
        self.begin_log(run, kind);
        run.log.info(&format!("Starting Backup of VM {vmid} ({kind})"));
        run.log
            .info_for_task(&format!("Backup started at {}", stamp(run.context.now())));
        self.make_directory()?;

        let mut vm = Vm::look(run.context, vmid)?;
        let status = if vm.was_running { "running" } else { "stopped" };
        run.log.info(&format!("status = {status}"));
        let mut hold = Hold::take(run.context, vmid, &mut run.log)?;
        let temporary = self.names.iter();
        let temporary = temporary.flat_map(|names| [names.temporary.clone(), names.directory.clone()]);
        let socket = copy::socket_path(&run.context.site, vmid);
        let temporary: Vec<PathBuf> = temporary.chain([socket]).collect();
        let owed = hold.owe(|debt| debt.files = temporary);
        let outcome = owed
            .map_err(VzdumpError::from)
            .and_then(|()| self.halt_and_archive(run, &mut vm, &mut hold, begin));
        let put_away = vm.put_away(&mut hold, &mut run.log);
        self.hold = Some(hold);
        self.vm = Some(vm);
        outcome?;
        put_away?;
        run.check_interrupt()?;
        self.finish_archive(run)?;
        self.hook(run, "backup-end")
    }

    /// The steps of a mode, then the archive.
    fn halt_and_archive(
        &mut self,
        run: &mut Run<'_, '_>,
        vm: &mut Vm,
        hold: &mut Hold,
        begin: i64,
    ) -> Result<(), VzdumpError> {
        self.mode = if vm.was_running { run.options.mode } else { Mode::Stop };
        self.facts.hostname = Some(vm.name());
        if self.mode == Mode::Snapshot {
            vm.prepare(&mut run.log)?;
        }
        self.facts.mode = self.mode.as_str();
        run.log.info(&format!("backup mode: {}", self.mode.as_str()));
        if run.options.bwlimit > 0 {
            run.log.info(&format!("bandwidth limit: {} KiB/s", run.options.bwlimit));
        }
        run.log.info(&format!("ionice priority: {}", run.options.ionice));
        if self.mode != Mode::Snapshot {
            vm.prepare(&mut run.log)?;
        }
        self.hook(run, "backup-start")?;
        match self.mode {
            Mode::Snapshot => {
                // Nothing stops; scripts count on the turns all the same.
                for phase in ["pre-stop", "pre-restart", "post-restart"] {
                    self.hook(run, phase)?;
                }
            }
            Mode::Stop if vm.was_running => {
                run.log.info("stopping virtual guest");
                self.hook(run, "pre-stop")?;
                let minutes = run.options.stopwait;
                vm.stop(hold, minutes, &mut run.log)?;
            }
            Mode::Suspend => {
                run.log.info("suspending guest");
                self.hook(run, "pre-stop")?;
                vm.suspend(hold)?;
            }
            Mode::Stop => {}
        }
        let source = vm.source(begin, &mut run.log)?;
        self.archive(run, vm, hold, &source)
    }

    /// Writes the archive under its temporary name, and gives it its own when it is whole.
    fn archive(
        &mut self,
        run: &mut Run<'_, '_>,
        vm: &mut Vm,
        hold: &mut Hold,
        source: &Source,
    ) -> Result<(), VzdumpError> {
        let Some(names) = &self.names else { return Ok(()) };
        run.log
            .info(&format!("creating vzdump archive '{}'", names.target.display()));
        if !source.disks.is_empty() {
            hold.keep();
            vm.bring_up(hold, &mut run.log)?;
        }
        run.check_interrupt()?;
        let io = VzdumpError::file("write", &names.temporary);
        let file = create(&names.temporary).map_err(&io)?;
        let output = file.try_clone().map_err(&io)?;
        let mut compressor = Compressor::start(run.compression, output)?;
        let limits = Limits {
            bytes_per_second: Some(run.options.bwlimit.saturating_mul(1024).min(MAX_SPEED)).filter(|limit| *limit > 0),
            max_workers: run.options.max_workers,
        };
        let killer = compressor.killer();
        let mut guard = Guard::new(vm, hold, &mut run.log, self.mode, killer);
        let copied = copy::copy(run.context, source, &limits, &mut compressor, &mut guard);
        // A copy that failed early has not come to that point.
        if copied.is_err() && !source.disks.is_empty() {
            guard.let_go();
        }
        hold.keep_no_longer();
        match copied {
            Ok(_) => compressor.finish()?,
            // Why a pipe broke is what the program at its end tells.
            Err(error @ CopyError::Vma(_)) => {
                run.check_interrupt()?;
                compressor.finish()?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        vm.put_away(hold, &mut run.log)?;
        run.check_interrupt()?;
        names.publish(&file).map_err(io)?;
        let size = fs::metadata(&names.target).map_or(0, |metadata| metadata.len());
        run.log
            .info(&format!("archive file size: {}", text::archive_size(size)));
        Ok(())
    }

    /// Notes, protection, retention: what follows a whole archive.
    fn finish_archive(&mut self, run: &mut Run<'_, '_>) -> Result<(), VzdumpError> {
        let Some(names) = &self.names else { return Ok(()) };
        if let Some(volume) = run.place.volume(&names.target) {
            let storages = Storages::open(run.context)?;
            if let Some(template) = &run.options.notes_template {
                run.log.info("adding notes to backup");
                let members = Cfs::new(run.context).members()?;
                let facts = Facts {
                    cluster: members.cluster.as_ref().map(|cluster| cluster.name.as_str()),
                    guest_name: self.facts.hostname.as_deref().unwrap_or_default(),
                    node: run.context.site.node.as_str(),
                    vmid: self.vmid.get(),
                };
                let notes = notes::check(template)
                    .map_err(|error| error.to_string())
                    .map(|()| notes::fill(template, &facts))
                    .and_then(|text| storages.set_notes(&volume, &text).map_err(|error| error.to_string()));
                if let Err(error) = notes {
                    run.log.warning(&format!("unable to add notes - {error}"));
                }
            }
            if run.options.protected {
                run.log.info("marking backup as protected");
                storages
                    .set_protected(&volume, true, run.unlimited_protection)
                    .map_err(|error| VzdumpError::Protect(error.to_string()))?;
            }
        }
        if run.options.remove {
            let retention = run.options.retention;
            run.log
                .info(&format!("prune older backups with retention: {retention}"));
            let removed = run
                .place
                .prune(run.context, &retention, self.facts.kind, self.vmid, &mut run.log)?;
            let why = if removed > 0 {
                " not covered by keep-retention policy"
            } else {
                ""
            };
            run.log.info(&format!("pruned {removed} backup(s){why}"));
        }
        Ok(())
    }

    /// Gives the guest back as it was, whatever happened.
    fn clean_up(&mut self, run: &mut Run<'_, '_>) {
        if let (Some(vm), Some(mut hold)) = (self.vm.take(), self.hold.take()) {
            if let Some(halted) = vm.halted {
                self.hook_or_warn(run, "pre-restart");
                let line = match self.mode {
                    Mode::Stop => "restarting vm",
                    _ => "resume vm",
                };
                run.log.info(line);
                if let Err(error) = vm.revive(&mut hold, self.mode, &mut run.log) {
                    run.log.error(&error.to_string());
                }
                self.hook_or_warn(run, "post-restart");
                let seconds = match halted.elapsed().as_secs() {
                    0 => "<1".to_owned(),
                    seconds => seconds.to_string(),
                };
                run.log.info(&format!("guest is online again after {seconds} seconds"));
            }
            if let Err(error) = hold.release() {
                run.log.warning(&error.to_string());
            }
        }
        if let Some(names) = &self.names {
            names.remove_temporary();
        }
    }

    /// Finds names that nobody has; when the backup begins, in Unix seconds.
    fn choose_names(&mut self, run: &mut Run<'_, '_>, kind: &'static str) -> i64 {
        run.place.sweep(kind, self.vmid);
        let now = run.context.now();
        // A name is younger than those before it, also within the same second: what is youngest is what stays.
        let newest = run.place.newest(kind, self.vmid);
        let is_near = |newest: &i64| (now..now.saturating_add(NAME_TRIES)).contains(newest);
        let now = newest.filter(is_near).map_or(now, |newest| newest.saturating_add(1));
        let extension = format!(".vma{}", run.compression.extension());
        let names = |begin: i64| {
            let tmpdir = run.options.tmpdir.as_deref();
            Names::new(&run.place.directory, tmpdir, kind, self.vmid, begin, &extension)
        };
        let free = (now..now.saturating_add(NAME_TRIES)).find(|begin| !names(*begin).target.exists());
        let begin = free.unwrap_or(now);
        let names = names(begin);
        self.facts.target = Some(names.target.clone());
        self.facts.log_file = Some(names.log.clone());
        self.names = Some(names);
        begin
    }

    fn begin_log(&mut self, run: &mut Run<'_, '_>, kind: &str) {
        let path = guest_log(run.context, kind, self.vmid);
        match run.log.begin_guest(&path) {
            Ok(()) => self.log = Some(path),
            Err(error) => {
                let path = path.display();
                run.log
                    .warning(&format!("unable to create '{path}' - {}", errno_text(&error)));
            }
        }
    }

    /// The directory for temporary files, empty.
    fn make_directory(&self) -> Result<(), VzdumpError> {
        let Some(names) = &self.names else { return Ok(()) };
        names.remove_temporary();
        fs::create_dir_all(&names.directory).map_err(VzdumpError::file("create", &names.directory))
    }

    /// Copies the guest's log beside the archive.
    fn keep_log(&mut self, run: &mut Run<'_, '_>) {
        run.log.end_guest();
        let (Some(from), Some(names)) = (self.log.take(), &self.names) else {
            return;
        };
        if let Err(error) = fs::copy(&from, &names.log) {
            let path = names.log.display();
            run.log
                .warning(&format!("unable to write '{path}' - {}", errno_text(&error)));
        }
    }

    fn hook(&self, run: &mut Run<'_, '_>, phase: &str) -> Result<(), VzdumpError> {
        Ok(run.hook.run(phase, Some(&self.facts), &mut run.log)?)
    }

    fn hook_or_warn(&self, run: &mut Run<'_, '_>, phase: &str) {
        if let Err(error) = self.hook(run, phase) {
            run.log.warning(&error.to_string());
        }
    }
}

/// The file of a new archive; nobody else's umask decides who may read it.
fn create(path: &std::path::Path) -> io::Result<File> {
    fail::fail_point!("vzdump-create", |_| Err(io::Error::from(nix::errno::Errno::ENOSPC)));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
}

/// Refuses a backup that the target has no place for (reference 05 §11.4).
fn check_limits(run: &Run<'_, '_>, kind: &str, vmid: VmId) -> Result<(), VzdumpError> {
    let existing = run.place.existing(kind, vmid)?;
    let protected = existing.iter().filter(|archive| archive.is_protected).count();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    if run.options.protected {
        let Some(storage) = &run.place.storage else {
            return Ok(());
        };
        let storages = Storages::open(run.context)?;
        let limit = storages.config(storage)?.protected_backups(run.unlimited_protection);
        return match limit {
            Some(limit) if count(protected) >= limit => Err(StorageError::ProtectedLimit {
                limit,
                storage: storage.clone(),
            }
            .into()),
            _ => Ok(()),
        };
    }
    let limit = run.options.retention.sum();
    if !run.options.remove && limit > 0 && count(existing.len() - protected) >= limit {
        return Err(VzdumpError::BackupLimit(limit));
    }
    Ok(())
}
