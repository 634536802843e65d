//! What is done every ten seconds (reference 04 §9.3): all steps at once, each on its own, so that none waits for
//! another.

use std::sync::Arc;
use std::time::Duration;

use pve_cfs::{Cfs, CfsError};
use pve_daemon::BoxError;
use pve_metrics::{Record, Rrd, RrdError};
use pve_schema::Context;

use crate::counters;
use crate::errands::Errands;
use crate::report::Report;
use crate::steps::{STEPS, Shared};

/// How long a cycle waits for its errands. The next one is due after ten seconds, and a daemon that is told to end has
/// as long.
const LIMIT: Duration = Duration::from_secs(5);

/// The cycle, and what is remembered from one to the next.
pub(crate) struct Cycle {
    shared: Arc<Shared>,
    errands: Errands,
    report: Report,
}

impl Cycle {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            shared: Arc::new(Shared::new(context)),
            errands: Errands::new(),
            report: Report::default(),
        }
    }

    /// Does it once. `turning` is called every other second: a sign that the cycle itself does not hang.
    pub(crate) fn run(&mut self, turning: impl Fn()) {
        let errands = STEPS.iter().map(|step| step.errand(&self.shared)).collect();
        let outcomes = self.errands.run(errands, LIMIT, turning);
        self.shared.outbox.end_cycle(self.shared.context.now());
        counters::outcomes(&outcomes);
        counters::late(self.late());
        self.report.log(&outcomes);
        // What a cycle saw of a thousand machines is not needed until the next one.
        pve_daemon::process::give_back_memory();
    }

    /// Waits for what has not come back.
    pub(crate) fn settle(&mut self) {
        self.errands.settle();
    }

    /// How many steps, and looks at single storages, have not come back.
    pub(crate) fn late(&self) -> usize {
        self.errands.late()
    }
}

/// Tells the other daemons, and keeps the figures.
pub(crate) fn publish(context: &Context, record: &Record) -> Result<(), BoxError> {
    let status = Cfs::new(context).status();
    status.set(&record.key(), record.value().as_bytes())?;
    Ok(Rrd::new(context).update(record)?)
}

/// The same for many records: the errors of each, in their order.
pub(crate) fn publish_all(context: &Context, records: &[Record]) -> Vec<Vec<String>> {
    let status = Cfs::new(context).status();
    // All of them, before any file is written: disks may be slow, and lists wait for what is told.
    let told: Vec<Result<(), CfsError>> = records
        .iter()
        .map(|record| status.set(&record.key(), record.value().as_bytes()))
        .collect();
    let kept = Rrd::new(context).update_all(records);
    let texts = |(told, kept): (Result<(), CfsError>, Result<(), RrdError>)| {
        let told = told.err().map(|error| error.to_string());
        told.into_iter()
            .chain(kept.err().map(|error| error.to_string()))
            .collect()
    };
    told.into_iter().zip(kept).map(texts).collect()
}
