//! The hidden verb `cycles COUNT`: so many cycles one after the other, for benchmarks and tests of what a cycle costs.
//!
//! The site comes as JSON by standard input. For each cycle a line of JSON is printed: `wall` and `cpu` (user and system
//! time of all threads, in microseconds) and `memory` (what is resident, in KiB), `late` (steps
//! that have not come back). Files of figures take one sample a
//! second at most, so the cycles have a clock of their own: ten seconds go by from each to the next, and the last one is
//! about now.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use pve_daemon::BoxError;
use pve_daemon::logging::{self, Target};
use pve_schema::clock::ManualClock;
use pve_schema::{Context, Site};
use serde_json::json;

use crate::INTERVAL;
use crate::cycle::Cycle;

/// The verb.
pub(crate) const VERB: &str = "cycles";

/// Runs it.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    logging::init("pvestatd", Target::Stderr, log::LevelFilter::Info);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> Result<(), BoxError> {
    let count = arguments.first().and_then(|count| count.to_str()?.parse::<u32>().ok());
    let count = count.ok_or("usage: cycles COUNT <SITE")?;
    let mut site = String::new();
    std::io::stdin().read_to_string(&mut site)?;
    let site: Site = serde_json::from_str(&site)?;
    refuse_real(&site)?;
    let interval = i64::try_from(INTERVAL.as_secs())?;
    let context = Context::new(site);
    let begin = context.now() - interval * i64::from(count);
    let clock = Arc::new(ManualClock::at(begin));
    let mut cycle = Cycle::new(&context.with_clock(clock.clone()));
    let mut out = std::io::stdout().lock();
    for number in 0..i64::from(count) {
        clock.set(begin + (number + 1) * interval);
        let (start, used) = (Instant::now(), processor_time()?);
        cycle.run(|| {});
        let wall = start.elapsed().as_micros();
        let cpu = processor_time()?.saturating_sub(used).as_micros();
        writeln!(
            out,
            "{}",
            json!({ "wall": wall, "cpu": cpu, "memory": resident()?, "late": cycle.late() })
        )?;
        // The next one is not to find half of the work undone: making a thousand files takes longer than a cycle.
        cycle.settle();
    }
    Ok(())
}

/// Cycles with a clock of their own would spoil what a real node's daemon keeps: they are for roots that were made for
/// them and where no daemon runs.
fn refuse_real(site: &Site) -> Result<(), BoxError> {
    let root = site.path("/");
    let root = root.canonicalize().unwrap_or(root);
    if root.parent().is_none() {
        return Err("cycles are not for the root of a machine".into());
    }
    match pve_daemon::running(site, crate::PROGRAM.pid_file) {
        Some(pid) => Err(format!("a daemon runs there (pid = {pid})").into()),
        None => Ok(()),
    }
}

/// What this process has used of the processors.
fn processor_time() -> Result<Duration, BoxError> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros =
        |time: TimeVal| Duration::from_micros(time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs());
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

/// What this process has in memory, in KiB.
fn resident() -> Result<u64, BoxError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    Ok(size.ok_or("no resident size")?)
}
