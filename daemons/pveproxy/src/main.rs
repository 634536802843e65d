//! `pveproxy`: the web side. Serves the web interface and the whole API over TLS, as `www-data`; what needs privilege it
//! forwards to `pvedaemon`, and what concerns another node to that node.
//!
//! Only wiring is here. The request path is in `pve-http`, the unprivileged handlers are in `pve-web-api`, processes and
//! signals in `pve-daemon`.

use std::process::ExitCode;
use std::sync::Arc;

use pve_daemon::check::{self, Examination, Finding, Severity};
use pve_daemon::settings::Settings;
use pve_daemon::{BoxError, Listener, Program, RunAs, Service, Start, WorkerContext, cli};
use pve_http::tls::Subject;
use pve_http::worker::METRICS;
use pve_http::{AccessLog, Files, RealIp, Server, ServerConfig, TlsSettings};
use pve_rest::pipeline::Role;
use pve_rest::{Pipeline, Registry};
use pve_schema::Context;

/// Where clients and other nodes find this daemon; configurable nowhere (reference 01, overview).
const PORT: u16 = 8006;

static PROGRAM: Program = Program {
    name: "pveproxy",
    version: env!("CARGO_PKG_VERSION"),
    about: "Serves the API over TLS.",
    pid_file: "/run/pveproxy/pveproxy.pid",
    run_as: RunAs::WebUser,
    prepare: pve_daemon::service::prepare_web_run_directory,
    needs: pve_cfs::ready::needs_of_web,
    init,
    check: examine,
    counters: &[&pve_http::counters::ALL],
    hidden: &[],
};

fn main() -> ExitCode {
    cli::main(&PROGRAM)
}

fn init(start: &Start) -> Result<Service, BoxError> {
    let site = &start.context.site;
    let settings = Settings::read(site, PROGRAM.name)?;
    let address = settings.listen_address(site);
    // Made here, so that all workers have the same session tickets.
    let tls = tls(&start.context, &settings);
    tls.log_notes();
    let files = Arc::new(Files::scan(site));
    let mut listeners = vec![start.listen_tcp(address.as_deref(), PORT)?];
    listeners.extend(metrics_socket(start, &settings));
    Ok(Service {
        workers: settings.max_workers,
        listeners,
        worker: Box::new(move |worker| serve(worker, &settings, &tls, &files)),
    })
}

/// Where metrics are to be had without login. The API must not be away because this is.
fn metrics_socket(start: &Start, settings: &Settings) -> Option<Listener> {
    let address = settings.metrics_listen?;
    match start.listen_at(METRICS, address) {
        Ok(listener) => Some(listener),
        Err(error) => {
            log::error!("METRICS_LISTEN: {address}: {error}");
            None
        }
    }
}

fn examine(context: &Context) -> Vec<Finding> {
    let mut examination = Examination::new(context, PROGRAM.name);
    examination.proxy();
    examination.metrics();
    let Some(settings) = examination.settings() else {
        return examination.findings;
    };
    if let Err(error) = real_ip(&settings) {
        let key = "PROXY_REAL_IP_HEADER";
        examination.add(Severity::Error, key, &error.to_string(), check::remedy(key));
    }
    for problem in pve_http::tls::check(&tls(context, &settings)) {
        let severity = if problem.is_fatal {
            Severity::Error
        } else {
            Severity::Warning
        };
        match problem.subject {
            Subject::Setting(key) => examination.add(severity, key, &problem.text, check::remedy(key)),
            Subject::File(path) => examination.findings.push(Finding {
                severity,
                ..check::about_file(path, &problem.text, problem.remedy)
            }),
        }
    }
    examination.findings
}

fn serve(worker: WorkerContext, settings: &Settings, tls: &TlsSettings, files: &Arc<Files>) -> Result<(), BoxError> {
    let context = worker.context.clone();
    let log = AccessLog::open_shared(&context.site)?;
    let mut registry = Registry::new();
    pve_web_api::register(&mut registry);
    let hosts = settings.hosts.clone();
    let config = ServerConfig {
        compression: settings.compression,
        files: Some(Arc::clone(files)),
        allow: Some(Arc::new(move |peer| hosts.permits(peer))),
        real_ip: real_ip(settings)?,
        ..ServerConfig::proxy(tls.clone(), Arc::new(log))
    };
    let server = Server {
        pipeline: Arc::new(Pipeline {
            context,
            registry,
            role: Role::Web,
        }),
        config,
    };
    pve_http::worker::run(worker, server)
}

fn tls(context: &Context, settings: &Settings) -> TlsSettings {
    let tls = &settings.tls;
    TlsSettings {
        key_file: tls.key_file.clone(),
        ciphers: tls.ciphers.clone(),
        cipher_suites: tls.cipher_suites.clone(),
        dh_params: tls.dh_params.clone(),
        disable_tls12: tls.disable_tls_1_2,
        disable_tls13: tls.disable_tls_1_3,
        honor_cipher_order: tls.honor_cipher_order,
        http2: settings.http2,
        ..TlsSettings::new(context.clone())
    }
}

fn real_ip(settings: &Settings) -> Result<Option<RealIp>, BoxError> {
    let Some(header) = &settings.real_ip.header else {
        return Ok(None);
    };
    let rule = settings.real_ip.clone();
    Ok(Some(RealIp {
        header: header
            .parse()
            .map_err(|_| format!("PROXY_REAL_IP_HEADER: '{header}' is no header name"))?,
        accept: Arc::new(move |peer, value| rule.accept(peer, value)),
    }))
}
