//! `pvedaemon`: the privileged side. Serves the whole API to the web side, on loopback and as root.
//!
//! Only wiring is here. Handlers are in `pve-api` and `pve-web-api`, the request path in `pve-http`, processes and
//! signals in `pve-daemon`. The same image runs tasks (`task`), asks PAM ([`pve_access::pam::VERB`]) and
//! directories ([`pve_access::ldap::VERB`]).

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use log::LevelFilter;
use pve_access::limits::{self, Limits};
use pve_access::token::door;
use pve_daemon::check::{Examination, Finding};
use pve_daemon::logging::{self, Target};
use pve_daemon::settings::Settings;
use pve_daemon::{BoxError, Program, RunAs, Service, Start, WorkerContext, cli};
use pve_http::{Server, ServerConfig};
use pve_rest::pipeline::Role;
use pve_rest::{Pipeline, Registry};
use pve_schema::{Context, Site};
use pve_task::Kinds;

/// Where the web side finds this daemon; configurable nowhere (reference 01, overview).
const PORT: u16 = 85;

/// A list with `full` asks all machines of the node at once, and clients have their connections.
const OPEN_FILES: u64 = 4096;

static PROGRAM: Program = Program {
    name: "pvedaemon",
    version: env!("CARGO_PKG_VERSION"),
    about: "Serves the whole API to the web side, on loopback and as root.",
    pid_file: "/run/pvedaemon.pid",
    run_as: RunAs::Root,
    prepare,
    needs: pve_cfs::ready::needs,
    init,
    check,
    counters: &[
        &pve_http::counters::ALL,
        &pve_task::counters::ALL,
        &pve_access::counters::ALL,
    ],
    hidden: &[
        (pve_task::VERB, run_task),
        (pve_access::pam::VERB, ask_pam),
        (pve_access::ldap::VERB, ask_directory),
    ],
};

fn main() -> ExitCode {
    cli::main(&PROGRAM)
}

/// `/run/dtach` is for sockets of container consoles; a failure shows when one is opened.
fn prepare(site: &Site) -> Result<(), BoxError> {
    let _ = std::fs::create_dir(site.path("/run/dtach"));
    Ok(())
}

fn init(start: &Start) -> Result<Service, BoxError> {
    let site = &start.context.site;
    let settings = Settings::read(site, PROGRAM.name)?;
    let limits = Limits {
        failures: settings.login_failures,
    };
    let path = site.path(door::SOCKET);
    let door = start.listen_unix("DOOR", &path, 0o660)?;
    std::os::unix::fs::chown(&path, None, Some(site.web_user.gid))?;
    Ok(Service {
        workers: settings.max_workers,
        listeners: vec![start.listen_tcp(Some(&site.address.to_string()), PORT)?, door],
        worker: Box::new(move |worker| {
            limits::set(limits);
            serve(worker)
        }),
    })
}

/// Its file's settings; only `MAX_WORKERS`, `ACCEL` and `LOGIN_FAILURES` have an effect, but a wrong one of the others
/// stops it too.
fn check(context: &Context) -> Vec<Finding> {
    Examination::new(context, PROGRAM.name).findings
}

fn serve(worker: WorkerContext) -> Result<(), BoxError> {
    pve_daemon::process::allow_open_files(OPEN_FILES);
    let mut registry = Registry::new();
    pve_api::register(&mut registry);
    pve_web_api::register(&mut registry);
    let server = Server {
        pipeline: Arc::new(Pipeline {
            context: worker.context.clone(),
            registry,
            role: Role::Root,
        }),
        config: ServerConfig::daemon(),
    };
    pve_http::worker::run(worker, server)
}

/// What tasks there are.
fn task_kinds() -> Kinds {
    let mut kinds = Kinds::new();
    pve_api::register_tasks(&mut kinds);
    kinds
}

/// A task that one of the workers started: everything it needs comes by pipe.
fn run_task(_arguments: &[OsString]) -> ExitCode {
    logging::init(PROGRAM.name, Target::Syslog, LevelFilter::Info);
    pve_task::child_main(&task_kinds())
}

/// PAM in a process of its own, since its modules may do anything.
fn ask_pam(_arguments: &[OsString]) -> ExitCode {
    pve_access::pam::helper_main()
}

/// Directories in a process of its own, since their answers may be anything.
fn ask_directory(_arguments: &[OsString]) -> ExitCode {
    pve_access::ldap::helper_main()
}
