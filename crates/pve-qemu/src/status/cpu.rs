//! How busy a VM's process is (reference 06b §4, field `cpu`).
//!
//! A rate needs an earlier reading, and any worker may be asked next, so readings lie in one small file beside the
//! other runtime files: a JSON object, process id → [`Sample`]. Workers do not lock it: it is replaced as a whole, and
//! the worst that two at once can do is to lose a reading that the next call takes again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pve_daemon::volatile;
use pve_schema::Site;
use serde::{Deserialize, Serialize};

use crate::runtime;

/// Ticks of the whole host between two readings; nearer ones would make the rate jump.
const MIN_HOST_TICKS: f64 = 1000.0;

/// What the host can do, as far as rates are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostClock {
    /// Clock ticks per second.
    pub hertz: f64,
    /// Number of CPUs.
    pub cpus: f64,
    /// Seconds since boot.
    pub uptime: f64,
}

impl HostClock {
    /// Reads the host's clock; what cannot be read is as on nearly every machine.
    pub(crate) fn read() -> Self {
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
        let uptime = fs::read_to_string("/proc/uptime").ok();
        let uptime = uptime.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
        Self {
            hertz: hertz.map_or(100.0, |hertz| hertz as f64),
            cpus: std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64),
            uptime: uptime.unwrap_or(0.0),
        }
    }
}

/// One reading of a process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// When the process started: another process with the same id has another start.
    pub started: u64,
    /// When it was read: seconds since boot.
    pub uptime: f64,
    /// Ticks used until then.
    pub ticks: u64,
    /// The rate found then.
    pub cpu: f64,
}

impl Sample {
    /// The first reading of a process.
    fn first(started: u64, ticks: u64, clock: HostClock) -> Self {
        Self {
            started,
            uptime: clock.uptime,
            ticks,
            cpu: 0.0,
        }
    }

    /// The next reading; the same one while it is too early for a rate.
    fn next(self, ticks: u64, cpus: f64, clock: HostClock) -> Self {
        let elapsed = clock.uptime - self.uptime;
        if elapsed * clock.cpus * clock.hertz <= MIN_HOST_TICKS {
            return self;
        }
        let used = ticks.saturating_sub(self.ticks) as f64;
        Self {
            uptime: clock.uptime,
            ticks,
            cpu: used / (elapsed * clock.hertz) / cpus.max(1.0),
            ..self
        }
    }
}

/// The readings of all VMs.
#[derive(Debug)]
pub(crate) struct Samples {
    path: PathBuf,
    known: BTreeMap<i32, Sample>,
    seen: BTreeMap<i32, Sample>,
}

impl Samples {
    /// Reads what was found before; a file that cannot be read is as good as none.
    pub(crate) fn load(site: &Site) -> Self {
        let path = runtime::directory(site).join("cpu-samples.json");
        let known = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path,
            known: known.unwrap_or_default(),
            seen: BTreeMap::new(),
        }
    }

    /// The rate of a process: 0 … 1 of `cpus`.
    pub(crate) fn rate(&mut self, pid: i32, started: u64, ticks: u64, cpus: f64, clock: HostClock) -> f64 {
        let sample = match self.known.get(&pid) {
            Some(sample) if sample.started == started => sample.next(ticks, cpus, clock),
            _ => Sample::first(started, ticks, clock),
        };
        self.seen.insert(pid, sample);
        sample.cpu
    }

    /// Keeps the readings for the next call. `complete`: all VMs were looked at, so what was not seen is gone.
    pub(crate) fn store(mut self, complete: bool) {
        let kept = if complete {
            self.seen
        } else {
            let mut all = self.known.clone();
            all.append(&mut self.seen);
            all
        };
        if kept == self.known {
            return;
        }
        let written = serde_json::to_vec(&kept)
            .map_err(std::io::Error::from)
            .and_then(|bytes| volatile::replace(&self.path, &bytes));
        if let Err(error) = written {
            log::debug!("unable to keep CPU readings - {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uptime: f64) -> HostClock {
        HostClock {
            hertz: 100.0,
            cpus: 8.0,
            uptime,
        }
    }

    /// Reference 06b, vector 7; its first case needs more host CPUs than its second.
    #[test]
    fn rates_follow_the_vectors() {
        let first = Sample::first(1, 1000, at(50.0));
        assert_eq!(first.cpu, 0.0);
        let many = HostClock { cpus: 16.0, ..at(51.0) };
        assert_eq!(first.next(1150, 2.0, many).cpu, 0.75);
        let busy = Sample { cpu: 0.3, ..first };
        assert_eq!(busy.next(1150, 2.0, at(51.0)), busy);
        assert_eq!(busy.next(1300, 2.0, at(52.0)).cpu, 0.75);
    }

    #[test]
    fn any_worker_answers_and_a_new_process_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let site = crate::test_site(directory.path());
        runtime::create_directory(&site).unwrap();
        let ask = |started, ticks, uptime| {
            let mut samples = Samples::load(&site);
            let rate = samples.rate(7, started, ticks, 1.0, at(uptime));
            samples.store(true);
            rate
        };
        assert_eq!(ask(1, 0, 10.0), 0.0);
        assert_eq!(ask(1, 100, 12.0), 0.5);
        assert_eq!(ask(1, 100, 12.1), 0.5);
        assert_eq!(ask(2, 100, 14.0), 0.0);
        fs::write(runtime::directory(&site).join("cpu-samples.json"), "garbage").unwrap();
        assert_eq!(ask(2, 300, 16.0), 0.0);
    }
}
