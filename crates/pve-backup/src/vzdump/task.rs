//! The run as a task: what is set up before the first guest (reference 05 §7.1).

use pve_access::AccessControl;
use pve_schema::ids::{StorageId, VmId};
use pve_schema::{Context, errno_text};
use pve_storage::Storages;
use pve_storage::config::Retention;
use pve_task::{Task, TaskError, Worker};
use serde::{Deserialize, Serialize};

use super::VzdumpError;
use super::conf::Conf;
use super::given::Given;
use super::hook::Hook;
use super::lock::GlobalLock;
use super::log::{self, RunLog};
use super::options::{Merged, Options, Target, is_fleecing};
use super::place::Place;
use super::run::{Guests, Run};
use crate::compress::Compression;

/// `vzdump`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Vzdump {
    /// The options of the call.
    pub given: Given,
    /// The guests, by number: those of this node, and numbers that no guest has.
    pub attempted: Vec<VmId>,
    /// Selected guests of other nodes.
    pub elsewhere: Vec<VmId>,
}

impl Task for Vzdump {
    const KIND: &'static str = "backup-vzdump";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        worker.set_interrupted_text("interrupted by signal");
        Ok(self.carry_out(worker)?)
    }
}

impl Vzdump {
    fn carry_out(&self, worker: &mut Worker) -> Result<(), VzdumpError> {
        let context = worker.context.clone();
        log::make_directory(&context).map_err(|error| VzdumpError::LogDirectory(errno_text(&error)))?;
        let mut log = RunLog::new(worker);
        let mut hook = Hook::default();
        let options = self.settle_options(&context, &mut hook, &mut log)?;
        let place = Place::open(&context, &options.target, options.tmpdir.as_deref())?;
        hook.dump_directory = Some(place.directory.clone());
        let lock = self.lock(&context, &options, &mut log)?;
        if let Err(error) = pve_sys::ioprio::set(options.ionice) {
            log.info(&format!("unable to set the I/O priority - {}", errno_text(&error)));
        }
        let access = AccessControl::load(&context)?;
        let unlimited_protection = place.storage.as_ref().is_some_and(|storage| {
            let path = format!("/storage/{storage}");
            access.has(&log.worker.caller, &path, &["Datastore.Allocate"])
        });
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let compression = Compression::of_options(&options.compress, options.pigz, options.zstd, cores);
        let mut run = Run {
            context: &context,
            options: &options,
            place: &place,
            hook: &hook,
            compression: compression.unwrap_or(Compression::None),
            unlimited_protection,
            log,
        };
        let guests = Guests {
            attempted: self.attempted.clone(),
            elsewhere: self.elsewhere.clone(),
            all: self.given.text("all") == Some("1") || self.given.has("exclude"),
        };
        let words: Vec<String> = self.attempted.iter().map(VmId::to_string).collect();
        let words = if self.given.has("vmid") { words } else { Vec::new() };
        run.carry_out(&guests, &self.given.command_line(&words))?;
        lock.succeeded();
        Ok(())
    }

    /// Merges the options, lets the script prepare the node, and merges them again: the script may have changed what
    /// they depend on.
    fn settle_options(&self, context: &Context, hook: &mut Hook, log: &mut RunLog<'_>) -> Result<Options, VzdumpError> {
        let conf = Conf::load(context);
        for warning in &conf.warnings {
            log.warning(warning);
        }
        let merge = || Options::merge(&self.given, &conf.options, |storage| retention_of(context, storage));
        let options = merge()?;
        hook.script.clone_from(&options.script);
        match &options.target {
            Target::Storage(storage) => hook.storage = Some(storage.to_string()),
            Target::Directory(directory) => hook.dump_directory = Some(directory.clone()),
        }
        let merged = Merged {
            given: &self.given,
            conf: &conf.options,
        };
        if merged.set("fleecing").is_some_and(is_fleecing) {
            log.info("NOTE: 'fleecing' is not applied");
        }
        hook.run("job-init", None, log)?;
        merge()
    }

    fn lock(&self, context: &Context, options: &Options, log: &mut RunLog<'_>) -> Result<GlobalLock, VzdumpError> {
        let upid = log.worker.upid.clone();
        let log = std::cell::RefCell::new(log);
        GlobalLock::acquire(
            context,
            options.lockwait,
            &upid,
            &mut |line| log.borrow_mut().info(line),
            &|| log.borrow().worker.is_interrupted(),
        )
    }
}

/// The retention that a storage is configured with; a storage that is not there fails later, in its own words.
fn retention_of(context: &Context, storage: &StorageId) -> Option<Retention> {
    let storages = Storages::open(context).ok()?;
    storages.config(storage).ok()?.retention()
}
