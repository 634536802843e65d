//! What is done every ten seconds (reference 04 §9.3): all steps at once, each on its own, so that none waits for
//! another.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pve_cfs::Cfs;
use pve_daemon::BoxError;
use pve_metrics::{Record, Rrd};
use pve_schema::Context;

use crate::errands::{Errand, Errands};
use crate::outbox::Outbox;
use crate::report::Report;
use crate::{counters, guests, node, storages, upkeep};

/// How long a cycle waits for its errands. The next one is due after ten seconds, and a daemon that is told to end has
/// as long.
const LIMIT: Duration = Duration::from_secs(5);

/// The cycle, and what is remembered from one to the next.
pub(crate) struct Cycle {
    context: Context,
    meter: Arc<Mutex<node::Meter>>,
    errands: Errands,
    report: Report,
    outbox: Outbox,
}

impl Cycle {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            meter: Arc::default(),
            errands: Errands::new(),
            report: Report::default(),
            outbox: Outbox::new(context),
        }
    }

    /// Does it once.
    pub(crate) fn run(&mut self) {
        let outcomes = self.errands.run(self.steps(), LIMIT);
        self.outbox.end_cycle(self.context.now());
        counters::outcomes(&outcomes);
        self.report.log(&outcomes);
    }

    /// The steps, named as upstream's log names them.
    fn steps(&self) -> Vec<Errand> {
        let meter = Arc::clone(&self.meter);
        let step = |name: &str, work: fn(&Context) -> Result<(), BoxError>| {
            let context = self.context.clone();
            Errand::new(name, move || work(&context).map(|()| Vec::new()))
        };
        let context = self.context.clone();
        let guest_context = self.context.clone();
        let storage_context = self.context.clone();
        let outbox = || self.outbox.clone();
        let (node_outbox, guest_outbox, storage_outbox) = (outbox(), outbox(), outbox());
        vec![
            step("task list update", upkeep::refresh_tasks),
            Errand::new("node status update", move || {
                node::update(&context, &meter, &node_outbox).map(|()| Vec::new())
            }),
            Errand::new("qemu status update", move || {
                guests::update(&guest_context, &guest_outbox).map(|()| Vec::new())
            }),
            Errand::new("storage status update", move || {
                storages::errands(&storage_context, &storage_outbox)
            }),
            step("authkey rotation", upkeep::rotate_key),
            step("status store cleanup", upkeep::forget_old),
        ]
    }
}

/// Tells the other daemons, and keeps the figures.
pub(crate) fn publish(context: &Context, record: &Record) -> Result<(), BoxError> {
    let status = Cfs::new(context).status();
    status.set(&record.key(), record.value().as_bytes())?;
    Ok(Rrd::new(context).update(record)?)
}
