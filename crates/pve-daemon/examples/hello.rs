//! The smallest daemon there is, for the tests of the process model: it tells who it is.
//!
//! A connection sends one line. `pid` is answered by the worker's pid, `ids` by its user and groups, `hold` keeps the
//! connection open and echoes, which is what a console does. Files in the root make it misbehave: `fail` and `crash`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pve_daemon::settings::Settings;
use pve_daemon::{BoxError, Program, RunAs, Service, Socket, Start, WorkerContext};

static AS_ROOT: Program = Program {
    name: "hello",
    version: env!("CARGO_PKG_VERSION"),
    about: "Tells who it is.",
    pid_file: "/run/hello/hello.pid",
    run_as: RunAs::Root,
    prepare: |site| prepare(site, false),
    needs: pve_daemon::Needs::nothing,
    init,
    check: pve_daemon::check::nothing,
    counters: &[],
    hidden: &[],
};

static AS_WEB_USER: Program = Program {
    run_as: RunAs::WebUser,
    prepare: |site| prepare(site, true),
    ..AS_ROOT
};

fn main() -> ExitCode {
    let web = std::env::var_os("HELLO_AS_WEB_USER").is_some();
    pve_daemon::cli::main(if web { &AS_WEB_USER } else { &AS_ROOT })
}

fn prepare(site: &pve_schema::Site, web: bool) -> Result<(), BoxError> {
    let dir = site.path("/run/hello");
    std::fs::create_dir_all(&dir)?;
    let owner = if web { site.web_user } else { site.root_user };
    std::os::unix::fs::chown(&dir, Some(owner.uid), Some(owner.gid))?;
    Ok(())
}

fn init(start: &Start) -> Result<Service, BoxError> {
    let site = &start.context.site;
    let settings = Settings::read(site, "hello")?;
    let port: u16 = std::fs::read_to_string(site.path("/port"))?.trim().parse()?;
    Ok(Service {
        workers: settings.max_workers,
        listeners: vec![start.listen_tcp(Some(&site.address.to_string()), port)?],
        worker: Box::new(work),
    })
}

fn work(mut worker: WorkerContext) -> Result<(), BoxError> {
    let site = std::sync::Arc::clone(&worker.context.site);
    if site.path("/crash").exists() {
        std::process::exit(3);
    }
    if site.path("/fail").exists() {
        return Err("told to fail".into());
    }
    let listener = worker.listeners.pop().ok_or("no listener")?;
    let Socket::Tcp(socket) = listener.socket else {
        return Err("no TCP socket".into());
    };
    worker.ready();
    let mut connections = Vec::new();
    loop {
        let mut fds = [
            PollFd::new(worker.drain_fd(), PollFlags::POLLIN),
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        if fds[0].any() == Some(true) {
            break;
        }
        // Another worker may have been quicker.
        if let Ok((stream, _)) = socket.accept() {
            connections.push(std::thread::spawn(move || serve(stream)));
        }
    }
    worker.draining();
    drop(socket);
    for connection in connections {
        let _ = connection.join();
    }
    Ok(())
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut output = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    match lines.next().transpose()?.as_deref() {
        Some("pid") => writeln!(output, "{}", std::process::id()),
        Some("ids") => {
            let status = std::fs::read_to_string("/proc/self/status")?;
            let ids = status
                .lines()
                .filter(|line| ["Uid:", "Gid:", "Groups:"].iter().any(|key| line.starts_with(key)));
            writeln!(
                output,
                "{}",
                ids.collect::<Vec<_>>()
                    .join(" ")
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        Some("hold") => {
            writeln!(output, "{}", std::process::id())?;
            for line in lines {
                writeln!(output, "{}", line?)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
