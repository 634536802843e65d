//! The steps of a restore.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use jiff::tz::TimeZone;
use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_guest::GuestConfig;
use pve_qemu::config::DriveKey;
use pve_qemu::journal::Journal;
use pve_qemu::restored::{self, Archived, Identity, Rewrite};
use pve_qemu::{files, runtime};
use pve_schema::Context;
use pve_schema::ids::{AuthId, StorageId, VmId};
use pve_schema::shell::quote;
use pve_storage::Storages;
use pve_storage::bandwidth::Operation;

use super::error::RestoreError;
use super::order::Order;
use super::plan::{self, Planned};
use super::source::{Source, command_line, scratch};
use super::talk::Talk;
use super::target::Volumes;
use super::throttle::Throttle;
use crate::vma::{Reader, VM_CONFIG, VM_FIREWALL, VmaError, extract, report};

/// Restores a VM that was claimed ([`restored::claim`]).
///
/// # Errors
/// [`RestoreError`]; the VM is there then without its lock, and with its new disks only if their data is complete.
pub fn restore(
    context: &Context,
    vmid: VmId,
    order: &Order,
    caller: &AuthId,
    journal: &mut dyn Journal,
) -> Result<(), RestoreError> {
    let talk = Talk::new(journal);
    let run = Run {
        context,
        vmid,
        order,
        caller,
        talk: &talk,
    };
    match run.run() {
        Ok(()) => Ok(()),
        Err(failure) => {
            let what = if failure.complete {
                "error after data was restored, VM disks should be OK but config may require adaptions."
            } else {
                "error before or during data restore, some or all disks were not completely restored."
            };
            talk.log(&format!("{what} VM {vmid} state is NOT cleaned up."));
            Err(failure.error)
        }
    }
}

/// Why it failed, and whether the disks are complete.
struct Failure {
    complete: bool,
    error: RestoreError,
}

struct Run<'a> {
    context: &'a Context,
    vmid: VmId,
    order: &'a Order,
    caller: &'a AuthId,
    talk: &'a Talk<'a>,
}

/// What was learnt of the archive from its header.
struct Contents {
    archived: Archived,
    firewall: Option<Vec<u8>>,
    planned: Vec<Planned>,
}

impl Contents {
    fn drives(&self) -> BTreeSet<DriveKey> {
        self.planned.iter().map(|volume| volume.key).collect()
    }
}

impl Run<'_> {
    fn run(&self) -> Result<(), Failure> {
        let storages = Storages::open(self.context).map_err(|error| self.give_up(error.into()))?;
        let mut volumes = Volumes::new(&storages);
        let contents = self.data(&storages, &mut volumes).map_err(|error| {
            volumes.free(self.talk);
            self.give_up(error)
        })?;
        let configured = self.config(&contents, &volumes);
        configured.map_err(|error| {
            let failure = Failure { complete: true, error };
            self.release();
            // What has no drive yet is found again as an unused volume.
            self.rescan();
            failure
        })?;
        self.talk.log("rescan volumes...");
        self.rescan();
        if let Some(pool) = &self.order.own.pool
            && let Err(error) = restored::join_pool(self.context, self.vmid, pool)
        {
            self.talk.with(|journal| journal.warn(&error.to_string()));
        }
        Ok(())
    }

    fn give_up(&self, error: RestoreError) -> Failure {
        self.release();
        Failure { complete: false, error }
    }

    fn release(&self) {
        if let Err(error) = restored::release(self.context, self.vmid) {
            self.talk.with(|journal| journal.warn(&error.to_string()));
        }
    }

    fn rescan(&self) {
        let scanned = self
            .talk
            .with(|journal| restored::rescan(self.context, self.vmid, journal));
        if let Err(error) = scanned {
            self.talk.with(|journal| journal.warn(&error.to_string()));
        }
    }

    /// Everything until the disks are complete.
    fn data(&self, storages: &Storages, volumes: &mut Volumes<'_>) -> Result<Contents, RestoreError> {
        let (path, info) = self.order.locate(storages)?;
        let source: BTreeSet<StorageId> = self.order.source().into_iter().collect();
        let limit = self.limit(storages, &source)?;
        if let Some(limit) = limit {
            self.talk.log(&format!("applying read rate limit: {limit}"));
        }
        self.talk.log(&announcement(&path, info.decompressor()));
        let mut source = Source::open(&path, info.decompressor(), limit, self.talk)?;
        let state = source.state();
        let mut reader = match Reader::open(&mut source) {
            Ok(reader) => reader,
            Err(error) => return Err(self.reason(source, error)),
        };
        state.header_is_read();
        for line in report::contents(reader.header(), &TimeZone::system()) {
            self.talk.log(&line);
        }
        let contents = self.contents(storages, &reader)?;
        self.make_room(storages, &contents)?;
        volumes.allocate(self.vmid, &contents.planned, self.talk)?;
        let limits = self.target_limits(storages, &contents.planned)?;
        let sockets = runtime::directory(&self.context.site);
        runtime::create_directory(&self.context.site).map_err(|source| RestoreError::Open {
            path: sockets.clone(),
            source,
        })?;
        let plan = volumes.plan(&contents.planned, &limits, &sockets, self.talk)?;
        let started = Instant::now();
        let extracted = extract(&mut reader, plan, &mut |step| {
            self.talk.log(&report::progress(&step, started.elapsed().as_secs()));
            match self.talk.is_interrupted() {
                true => Err(VmaError::Read("interrupted by signal".to_owned())),
                false => Ok(()),
            }
        });
        let stats = match extracted {
            Ok(stats) => stats,
            Err(error) => return Err(self.reason(source, error)),
        };
        source.finish()?;
        report::summary(&stats).iter().for_each(|line| self.talk.log(line));
        self.talk.check()?;
        Ok(contents)
    }

    /// The reason behind an error of the archive's reader.
    fn reason(&self, source: Source<'_>, error: VmaError) -> RestoreError {
        // The signal that stops the task may have stopped a program before.
        if self.talk.is_interrupted() {
            return RestoreError::Interrupted;
        }
        if let Some(reason) = source.state().reason() {
            return reason;
        }
        let complaint = is_short(&error).then(|| source.complaint()).flatten();
        complaint.unwrap_or_else(|| error.into())
    }

    /// Reads what the header holds, and checks that all of it is allowed. Nothing is changed.
    fn contents(&self, storages: &Storages, reader: &Reader<&mut Source<'_>>) -> Result<Contents, RestoreError> {
        let header = reader.header();
        let data = header.config(VM_CONFIG).ok_or(RestoreError::NoConfig)?;
        let archived = Archived::read(data).map_err(pve_qemu::error::VmError::from)?;
        let storage = self.order.storage.as_ref();
        let planned = plan::volumes(storages, self.vmid, header, archived.text(), &archived, storage)?;
        let access = AccessControl::load(self.context)?;
        plan::check_storages(storages, &planned, &access, self.caller)?;
        let contents = Contents {
            firewall: header.config(VM_FIREWALL).map(<[u8]>::to_vec),
            archived,
            planned,
        };
        self.check_rights(storages, &contents, &access)?;
        Ok(contents)
    }

    /// The config as it will be, but for its new volumes: what of it the caller may have.
    fn check_rights(
        &self,
        storages: &Storages,
        contents: &Contents,
        access: &AccessControl,
    ) -> Result<(), RestoreError> {
        let previous = files::load(self.context, self.vmid).map_err(pve_qemu::error::VmError::from)?;
        let place_holders = contents
            .planned
            .iter()
            .filter_map(|volume| Some((volume.key, format!("{}:0/place-holder", volume.storage).parse().ok()?)));
        let place_holders: BTreeMap<_, _> = place_holders.collect();
        let config = contents.archived.rewrite(
            self.vmid,
            &Rewrite {
                volumes: &place_holders,
                unique: false,
                identity: &Identity::read(self.context)?,
            },
            // Its warnings are told when the config is written.
            &mut Silence,
        )?;
        let own = |key: &str| self.order.own.set.contains_key(key);
        let asks = (self.caller, &**access);
        let drives = contents.drives();
        Ok(restored::check(
            storages,
            asks,
            self.vmid,
            &config,
            &previous.main,
            &drives,
            &own,
        )?)
    }

    fn make_room(&self, storages: &Storages, contents: &Contents) -> Result<(), RestoreError> {
        self.talk.check()?;
        if let Some(rules) = &contents.firewall {
            Cfs::new(self.context).write(&format!("firewall/{}.fw", self.vmid), rules)?;
        }
        let drives = contents.drives();
        let referenced = contents.archived.referenced(&drives);
        self.talk
            .with(|journal| restored::give_way(self.context, self.vmid, storages, &drives, &referenced, journal))?;
        Ok(())
    }

    fn limit(&self, storages: &Storages, involved: &BTreeSet<StorageId>) -> Result<Option<f64>, RestoreError> {
        let access = AccessControl::load(self.context)?;
        let wanted = self.order.bwlimit;
        Ok(storages.bandwidth_limit(&access, self.caller, Operation::Restore, involved, wanted)?)
    }

    fn target_limits(
        &self,
        storages: &Storages,
        planned: &[Planned],
    ) -> Result<BTreeMap<StorageId, Rc<RefCell<Throttle>>>, RestoreError> {
        let mut limits = BTreeMap::new();
        let used: BTreeSet<&StorageId> = planned.iter().map(|volume| &volume.storage).collect();
        for storage in used {
            if let Some(limit) = self.limit(storages, &BTreeSet::from([storage.clone()]))? {
                self.talk
                    .log(&format!("rate limit for storage {storage}: {limit} KiB/s"));
                let throttle = Throttle::new(limit, Instant::now());
                limits.insert(storage.clone(), Rc::new(RefCell::new(throttle)));
            }
        }
        Ok(limits)
    }

    /// The new config, with the caller's own values over it; it releases the VM.
    fn config(&self, contents: &Contents, volumes: &Volumes<'_>) -> Result<(), RestoreError> {
        let rewrite = Rewrite {
            volumes: volumes.by_drive(),
            unique: self.order.unique,
            identity: &Identity::read(self.context)?,
        };
        let mut config: GuestConfig = self
            .talk
            .with(|journal| contents.archived.rewrite(self.vmid, &rewrite, journal))?;
        self.talk
            .with(|journal| restored::merge(self.context, self.vmid, &mut config, &self.order.own.set, journal))?;
        let is_template = config.is_template();
        restored::finish(self.context, self.vmid, config)?;
        if is_template {
            self.talk.log("Convert to template.");
            let text = "base volumes are not supported by this build yet: the template's disks stay ordinary ones";
            self.talk.with(|journal| journal.warn(text));
        }
        Ok(())
    }
}

/// Whether the archive ended early.
fn is_short(error: &VmaError) -> bool {
    use VmaError::{HeaderEof, MissingCluster, ShortExtent, ShortExtentHeader};
    matches!(
        error,
        HeaderEof | MissingCluster { .. } | ShortExtent { .. } | ShortExtentHeader(_)
    )
}

/// What upstream would execute.
fn announcement(path: &Path, decompressor: Option<&[&str]>) -> String {
    let scratch = scratch();
    let scratch = scratch.display();
    match decompressor {
        Some(argv) => {
            let command = command_line(argv, path);
            format!("restore vma archive: {command} | vma extract -v -r {scratch}.fifo - {scratch}")
        }
        None => format!(
            "restore vma archive: vma extract -v -r {scratch}.fifo {} {scratch}",
            quote(&path.to_string_lossy())
        ),
    }
}

/// Hears nothing.
struct Silence;

impl Journal for Silence {
    fn log(&mut self, _line: &str) {}

    fn warn(&mut self, _line: &str) {}
}
