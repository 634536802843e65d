//! What the verbs do (reference 01 §1.1, §1.6).

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use log::LevelFilter;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_schema::{Context, Site, errno_text};

use super::parse::Options;
use super::{FAILURE, Verb};
use crate::check;
use crate::logging::{self, Target};
use crate::master::{self, Mode, PidFile};
use crate::privileges;
use crate::process;
use crate::service::{BoxError, Program, RunAs};

/// How long `stop` waits before it kills.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often it looks.
const STOP_POLL: Duration = Duration::from_millis(100);

/// Who asks, which decides whether the daemon is started here or by systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// systemd itself, through the unit.
    BySystemd,
    /// Somebody who wants this process to be, or to reach, the daemon: a lab, `--foreground`, `--debug`.
    Directly,
    /// Somebody at a shell of an installed system.
    FromShell,
}

/// Does what a verb says.
pub(super) fn run(program: &'static Program, verb: Verb, options: &Options) -> ExitCode {
    let site = match super::site(options) {
        Ok(site) => site,
        Err(error) => return fail(&error.to_string()),
    };
    let asked = who_asks(&site, options);
    match verb {
        Verb::Status => {
            let running = PidFile::new(&site, program.pid_file).running().is_some();
            println!("{}", if running { "running" } else { "stopped" });
            ExitCode::SUCCESS
        }
        Verb::Start => match asked {
            Asked::FromShell => systemctl(program, "start"),
            _ => start(program, site, options),
        },
        Verb::Restart => match asked {
            Asked::FromShell => systemctl(program, "reload-or-restart"),
            _ => restart(program, site, options),
        },
        Verb::Stop => match asked {
            Asked::FromShell => systemctl(program, "stop"),
            _ => stop(program, &site),
        },
        Verb::Check => examine(program, site),
        // Answered before.
        Verb::Help => ExitCode::SUCCESS,
    }
}

fn who_asks(site: &Site, options: &Options) -> Asked {
    if !site.is_system() || options.debug || options.foreground || is_reload() {
        Asked::Directly
    } else if nix::unistd::getppid() == Pid::from_raw(1) {
        Asked::BySystemd
    } else {
        Asked::FromShell
    }
}

/// Whether this is the image that a reload executes: whoever started the first one, it goes on.
fn is_reload() -> bool {
    std::env::var_os("RESTART_PVE_DAEMON").is_some()
}

fn start(program: &'static Program, site: Site, options: &Options) -> ExitCode {
    let by_hand = options.foreground || options.debug || !site.is_system();
    start_logging(program, options, by_hand);
    // A unit of Type=notify wants the process it started; one of Type=forking wants its parent to end.
    let notify = std::env::var_os("NOTIFY_SOCKET").is_some();
    let mode = Mode {
        foreground: by_hand,
        daemonise: !by_hand && !notify,
        debug: options.debug,
    };
    match master::run(program, site, mode) {
        Ok(code) => code,
        Err(error) => {
            log::error!("start failed - {error}");
            // Unless the log line was on standard error itself.
            if by_hand && !options.debug {
                ExitCode::from(FAILURE)
            } else {
                fail(&format!("start failed - {error}"))
            }
        }
    }
}

/// Finds what is wrong with the settings, as the user that will read them.
fn examine(program: &Program, site: Site) -> ExitCode {
    if let Err(error) = master::check_user(program.run_as, &site) {
        return fail(&error.to_string());
    }
    if program.run_as == RunAs::WebUser
        && nix::unistd::geteuid().is_root()
        && let Err(error) = privileges::drop_to(site.web_user)
    {
        return fail(&error.to_string());
    }
    let findings = (program.check)(&Context::new(site));
    ExitCode::from(u8::from(!check::report(program.name, &findings)))
}

fn start_logging(program: &'static Program, options: &Options, by_hand: bool) {
    let target = match (options.debug, by_hand) {
        (true, _) => Target::Stdout,
        (false, true) => Target::Stderr,
        (false, false) => Target::Syslog,
    };
    let level = if options.debug {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    logging::init(program.name, target, level);
}

/// Reloads a daemon that runs, starts one that does not.
fn restart(program: &'static Program, site: Site, options: &Options) -> ExitCode {
    let Some(pid) = PidFile::new(&site, program.pid_file).running() else {
        return start(program, site, options);
    };
    start_logging(program, options, !site.is_system());
    match send(pid, Signal::SIGHUP) {
        Ok(()) => {
            log::info!("send HUP to {pid}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

/// Ends a daemon and removes what it may leave behind.
fn stop(program: &'static Program, site: &Site) -> ExitCode {
    start_logging(program, &Options::default(), !site.is_system());
    let pid_file = PidFile::new(site, program.pid_file);
    if let Some(pid) = pid_file.running()
        && let Err(error) = end(pid)
    {
        return fail(&error.to_string());
    }
    match if pid_file.exists() { pid_file.clean_up() } else { Ok(()) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// TERM, and KILL after fifteen seconds.
fn end(pid: u32) -> Result<(), BoxError> {
    let started = process::start_time(pid);
    let gone = || !process::is_alive(pid) || process::start_time(pid) != started;
    send(pid, Signal::SIGTERM)?;
    let deadline = Instant::now() + STOP_LIMIT;
    while !gone() {
        if Instant::now() >= deadline {
            log::error!("server still running - send KILL");
            return send(pid, Signal::SIGKILL);
        }
        std::thread::sleep(STOP_POLL);
    }
    Ok(())
}

/// Sends a signal; a process that is gone needs none.
fn send(pid: u32, signal: Signal) -> Result<(), BoxError> {
    let pid = i32::try_from(pid)?;
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(format!("unable to send {signal} to {pid} - {}", errno_text(&errno.into())).into()),
    }
}

fn without_systemd(program: &Program) -> String {
    format!(
        "without systemd or a unit, use '{} start --foreground', or pve-lab for a whole suite",
        program.name
    )
}

/// Asks systemd.
fn systemctl(program: &Program, verb: &str) -> ExitCode {
    match Command::new("systemctl").args([verb, program.name]).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        // Why, it has said itself.
        Ok(_) => fail(&without_systemd(program)),
        Err(error) => fail(&format!(
            "unable to run 'systemctl {verb} {}' - {}\n{}",
            program.name,
            errno_text(&error),
            without_systemd(program)
        )),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(FAILURE)
}
