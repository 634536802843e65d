//! `pvestatd`: looks at the node, its guests and its storages every ten seconds, tells the other daemons what it saw and
//! keeps it in files of figures; also keeps the list of tasks and the ticket key fresh (reference 04 §9).
//!
//! | module | holds |
//! |---|---|
//! | here | the daemon: one worker with no socket |
//! | [`counters`] | what is counted for metrics |
//! | [`cycle`] | what is done every ten seconds |
//! | [`steps`] | what that consists of: the one list |
//! | [`errands`] | work on threads of its own, with a deadline |
//! | [`report`] | saying once what went wrong |
//! | [`node`], [`guests`], [`containers`], [`storages`] | what is looked at |
//! | [`cpu_flags`] | asking QEMU which CPU flags VMs can have |
//! | [`facts`] | what the node tells of itself that seldom changes |
//! | [`outbox`] | what was seen, for those who want to know all of it |
//! | [`ballooning`] | how much memory guests are to have |
//! | [`couriers`] | telling external metric servers |
//! | [`health`] | how it goes with one of them, and what is said about it |
//! | [`upkeep`] | what else has to be done regularly |
//! | [`trial`] | cycles without a pause, to see what they cost |

mod ballooning;
mod containers;
mod counters;
mod couriers;
mod cpu_flags;
mod cycle;
mod errands;
mod facts;
mod guests;
mod health;
mod node;
mod outbox;
mod report;
mod steps;
mod storages;
mod trial;
mod upkeep;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pve_daemon::{BoxError, Program, RunAs, Service, Start, WorkerContext, cli};
use pve_schema::Site;

use cycle::Cycle;

/// From the start of a cycle to the start of the next (reference 04 §9.2).
const INTERVAL: Duration = Duration::from_secs(10);
/// A cycle that takes longer than this is worth a line.
const SLOW: Duration = Duration::from_secs(5);

/// A look at all machines opens some hundred connections at once, and storages and metric servers have theirs.
const OPEN_FILES: u64 = 4096;

static PROGRAM: Program = Program {
    name: "pvestatd",
    version: env!("CARGO_PKG_VERSION"),
    about: "Collects the status of the node, its guests and its storages.",
    pid_file: "/run/pvestatd.pid",
    run_as: RunAs::Root,
    prepare,
    needs: pve_cfs::ready::needs,
    init,
    check: pve_daemon::check::nothing,
    counters: &[&counters::ALL, &pve_task::counters::ALL],
    hidden: &[(trial::VERB, trial::main)],
};

fn main() -> ExitCode {
    cli::main(&PROGRAM)
}

/// Every directory is made when something is first put there.
fn prepare(_site: &Site) -> Result<(), BoxError> {
    Ok(())
}

/// One worker: what it remembers from cycle to cycle is in its memory.
fn init(_start: &Start) -> Result<Service, BoxError> {
    Ok(Service {
        workers: 1,
        listeners: Vec::new(),
        worker: Box::new(serve),
    })
}

/// The loop. Unlike upstream's, the first cycle does not wait: a guest has a name in lists from then on.
fn serve(worker: WorkerContext) -> Result<(), BoxError> {
    pve_daemon::process::allow_open_files(OPEN_FILES);
    worker.beat();
    worker.ready();
    let mut cycle = Cycle::new(&worker.context);
    loop {
        let start = Instant::now();
        cycle.run(|| worker.beat());
        let took = start.elapsed();
        counters::cycle(took, worker.context.now());
        if took > SLOW {
            log::info!("status update time ({:.3} seconds)", took.as_secs_f64());
        }
        if worker.is_told_to_end_before(start + INTERVAL) {
            worker.draining();
            return Ok(());
        }
    }
}
