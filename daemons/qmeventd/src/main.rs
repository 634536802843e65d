//! `qmeventd`: holds the event connections of all VMs, ends the process of a guest that powered itself off, cleans up
//! after it and starts it again when somebody asked for a reboot (reference 06b §6.5).
//!
//! Only wiring is here; the logic is `pve_qemu::events` and `pve_qemu::cleanup`. Nothing here needs another daemon: a
//! start runs as a task of this image.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pve_daemon::logging::{self, Target};
use pve_daemon::{BoxError, Program, RunAs, Service, Socket, Start, WorkerContext, cli};
use pve_qemu::events::{Exit, Server};
use pve_qemu::{cleanup, hold, journal::SystemLog, runtime, tasks};
use pve_schema::ids::VmId;
use pve_schema::{Context, Site};

static PROGRAM: Program = Program {
    name: "qmeventd",
    version: env!("CARGO_PKG_VERSION"),
    about: "Cleans up after virtual machines that ended by themselves.",
    pid_file: "/run/qmeventd.pid",
    run_as: RunAs::Root,
    prepare,
    needs: pve_cfs::ready::needs,
    init,
    check: pve_daemon::check::nothing,
    counters: &[&pve_task::counters::ALL],
    hidden: &[(pve_task::VERB, run_task)],
};

/// How long guests that are started next wait for what dead backups left. It takes longer where somebody has a VM's lock;
/// events come first then, and a worker has to get ready.
const SETTLE_FIRST: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    cli::main(&PROGRAM)
}

fn prepare(site: &Site) -> Result<(), BoxError> {
    Ok(runtime::create_directory(site)?)
}

/// One worker: what it knows of the VMs is in its connections.
fn init(start: &Start) -> Result<Service, BoxError> {
    let path = runtime::event_socket(&start.context.site);
    Ok(Service {
        workers: 1,
        listeners: vec![start.listen_unix("EVENTS", &path, 0o600)?],
        worker: Box::new(serve),
    })
}

fn serve(worker: WorkerContext) -> Result<(), BoxError> {
    let socket = worker.listeners.iter().find_map(|listener| match &listener.socket {
        Socket::Unix(socket) => Some(socket.try_clone()),
        Socket::Tcp(_) => None,
    });
    let socket = socket.ok_or("no event socket")??;
    let context = worker.context.clone();
    let after_exit = move |exit: Exit| after_exit(&context, exit);
    let context = worker.context.clone();
    let after_backup = move |vmid| after_backup(&context, vmid);
    let server = Server::new(Arc::clone(&worker.context.site), socket, Arc::new(after_exit))?;
    let mut server = server.on_backup_end(Arc::new(after_backup));
    server.handle_leftovers();
    let context = worker.context.clone();
    let (settling, settled) = mpsc::channel::<()>();
    server.aside("backups", move || {
        settle_backups(&context);
        drop(settling);
    });
    // Nothing is sent: the end of the thread is what is waited for.
    let _ = settled.recv_timeout(SETTLE_FIRST);
    worker.ready();
    Ok(server.run(worker.drain_fd())?)
}

fn after_exit(context: &Context, exit: Exit) {
    let next = match cleanup::after_exit(context, exit, &mut SystemLog) {
        Ok(next) => next,
        Err(error) => {
            log::error!("unable to clean up after VM {}: {error}", exit.vmid);
            return;
        }
    };
    start_if_due(context, exit.vmid, next);
}

fn start_if_due(context: &Context, vmid: VmId, next: cleanup::Next) {
    if next == cleanup::Next::Start {
        match tasks::start_after_reboot(context, vmid) {
            Ok(upid) => log::info!("starting VM {vmid} again: {upid}"),
            Err(error) => log::error!("unable to start VM {vmid} again: {error}"),
        }
    }
}

/// A backup that ended has settled everything itself; one that was killed has not.
fn after_backup(context: &Context, vmid: VmId) {
    match hold::settle_after_end(context, vmid, &mut SystemLog) {
        Ok(next) => start_if_due(context, vmid, next),
        Err(error) => log::error!("unable to settle what a backup of VM {vmid} left: {error}"),
    }
}

/// Settles what backups left that were killed while this daemon did not run.
fn settle_backups(context: &Context) {
    for vmid in hold::held(&context.site) {
        after_backup(context, vmid);
    }
    hold::remove_stale_locks(context, &mut SystemLog);
}

/// Runs a task in this process, which was started for it.
fn run_task(_arguments: &[OsString]) -> ExitCode {
    logging::init(PROGRAM.name, Target::Syslog, log::LevelFilter::Info);
    let mut kinds = pve_task::Kinds::new();
    tasks::register_tasks(&mut kinds);
    pve_task::child_main(&kinds)
}
