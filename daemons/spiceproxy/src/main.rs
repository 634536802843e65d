//! `spiceproxy`: carries SPICE viewers to their guests, on this node or another, as `www-data`.
//!
//! Only wiring is here. Tickets, relay and the way to other nodes are in `pve_http::tunnel`, processes and signals in
//! `pve-daemon`. Its settings are `pveproxy`'s.

use std::process::ExitCode;
use std::sync::Arc;

use pve_daemon::check::{Examination, Finding};
use pve_daemon::settings::Settings;
use pve_daemon::{BoxError, Program, RunAs, Service, Start, WorkerContext, cli};
use pve_http::{AccessLog, Tunnel, TunnelConfig};
use pve_schema::Context;

/// Where viewers and other nodes find this daemon; configurable nowhere (reference 01, overview).
const PORT: u16 = 3128;
/// One relay moves more than a network carries; `MAX_WORKERS` does not count here (reference 01 §1.3).
const WORKERS: usize = 1;
/// Two sockets and two pipes for each of 500 tunnels, and what the process needs itself.
const OPEN_FILES: u64 = 4096;

static PROGRAM: Program = Program {
    name: "spiceproxy",
    version: env!("CARGO_PKG_VERSION"),
    about: "Carries SPICE viewers to their guests.",
    pid_file: "/run/pveproxy/spiceproxy.pid",
    run_as: RunAs::WebUser,
    prepare: pve_daemon::service::prepare_web_run_directory,
    needs: pve_cfs::ready::needs,
    init,
    check,
    counters: &[&pve_http::counters::ALL],
    hidden: &[],
};

fn main() -> ExitCode {
    cli::main(&PROGRAM)
}

fn init(start: &Start) -> Result<Service, BoxError> {
    let site = &start.context.site;
    let settings = Settings::read(site, "pveproxy")?;
    let address = settings.listen_address(site);
    Ok(Service {
        workers: WORKERS,
        listeners: vec![start.listen_tcp(address.as_deref(), PORT)?],
        worker: Box::new(move |worker| serve(worker, &settings)),
    })
}

fn check(context: &Context) -> Vec<Finding> {
    let mut examination = Examination::new(context, "pveproxy");
    examination.proxy();
    examination.findings
}

fn serve(worker: WorkerContext, settings: &Settings) -> Result<(), BoxError> {
    pve_daemon::process::allow_open_files(OPEN_FILES);
    let context = worker.context.clone();
    let log = AccessLog::open_shared(&context.site)?;
    let hosts = settings.hosts.clone();
    let config = TunnelConfig {
        allow: Some(Arc::new(move |peer| hosts.permits(peer))),
        ..TunnelConfig::new(&context, Arc::new(log))
    };
    pve_http::worker::run_tunnel(worker, Tunnel { context, config })
}
