//! How busy guests are (reference 04 §14.2, §14.3).
//!
//! A rate needs an earlier reading, and any worker of any daemon may be asked next, so readings lie in one small file: a
//! JSON object, the guest's number → [`Sample`]. They are pvestatd's, who takes one in each of its cycles; others compare
//! with them and leave them alone, as its intervals would become shorter and its rates jump. Nobody locks it: it is replaced as a whole, and the worst that two at
//! once can do is to lose a reading that the next call takes again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pve_daemon::volatile;
use serde::{Deserialize, Serialize};

/// CPU time of the whole host that must pass between two readings, in the unit of the readings; nearer ones would make
/// the rate jump.
const MIN_HOST_TIME: f64 = 1000.0;

/// Seconds after which a reading of pvestatd's, who takes one every ten, is taken for the last one: then others keep theirs.
const KEPT: f64 = 30.0;

/// The host as far as rates are concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostClock {
    /// Seconds since boot.
    pub uptime: f64,
    /// Number of CPUs.
    pub cpus: f64,
    /// How many units of CPU time one CPU has in a second: 1000 for readings in milliseconds.
    pub units: f64,
}

/// A reading of one guest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Tells one life of the guest from the next: when its first process started.
    pub started: u64,
    /// When it was read: seconds since boot.
    pub uptime: f64,
    /// CPU time used until then.
    pub used: u64,
    /// The rate found then.
    pub cpu: f64,
}

impl Sample {
    fn first(started: u64, used: u64, clock: HostClock) -> Self {
        Self {
            started,
            uptime: clock.uptime,
            used,
            cpu: 0.0,
        }
    }

    /// The next reading; the same one while it is too early for a rate.
    fn next(self, used: u64, cpus: f64, clock: HostClock) -> Self {
        let elapsed = clock.uptime - self.uptime;
        if elapsed * clock.cpus * clock.units <= MIN_HOST_TIME || cpus <= 0.0 {
            return self;
        }
        // Readings are far from the numbers that a double cannot tell apart.
        #[allow(clippy::cast_precision_loss)]
        let grown = used.saturating_sub(self.used) as f64;
        Self {
            uptime: clock.uptime,
            used,
            cpu: grown / (elapsed * clock.units) / cpus,
            ..self
        }
    }
}

/// The readings of all guests of one type.
#[derive(Debug)]
pub struct Rates {
    path: PathBuf,
    known: BTreeMap<u32, Sample>,
    seen: BTreeMap<u32, Sample>,
}

impl Rates {
    /// Reads what was found before; a file that cannot be read is as good as none.
    pub fn load(path: PathBuf) -> Self {
        let known = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path,
            known: known.unwrap_or_default(),
            seen: BTreeMap::new(),
        }
    }

    /// The rate of a guest, 0 to 1 of `cpus`: 0 at its first reading.
    pub fn rate(&mut self, guest: u32, started: u64, used: u64, cpus: f64, clock: HostClock) -> f64 {
        let sample = match self.known.get(&guest) {
            Some(sample) if sample.started == started => sample.next(used, cpus, clock),
            _ => Sample::first(started, used, clock),
        };
        self.seen.insert(guest, sample);
        sample.cpu
    }

    /// Keeps the readings for the next call. `complete`: it is pvestatd, and all guests were looked at, so what was not
    /// seen is gone. Others keep only readings of guests that it has none of.
    pub fn store(mut self, complete: bool) {
        let kept = if complete {
            self.seen
        } else {
            let is_kept = |guest: &u32, sample: &Sample| {
                let known = self.known.get(guest).filter(|known| known.started == sample.started);
                known.is_some_and(|known| sample.uptime - known.uptime < KEPT)
            };
            self.seen.retain(|guest, sample| !is_kept(guest, sample));
            let mut all = self.known.clone();
            all.append(&mut self.seen);
            all
        };
        if kept == self.known {
            return;
        }
        let directory = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = directory
            .and_then(|()| serde_json::to_vec(&kept).map_err(std::io::Error::from))
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
            uptime,
            cpus: 4.0,
            units: 1000.0,
        }
    }

    #[test]
    fn rates_are_of_the_guests_own_cpus() {
        let first = Sample::first(1, 500, at(10.0));
        assert_eq!(first.cpu, 0.0);
        // A second of the host's four CPUs has not passed.
        assert_eq!(first.next(900, 1.0, at(10.2)), first);
        let next = first.next(2500, 2.0, at(12.0));
        assert_eq!((next.cpu, next.used), (0.5, 2500));
        assert_eq!(first.next(1000, 0.5, at(12.0)).cpu, 0.5, "a limit below one CPU");
        assert_eq!(next.next(100, 2.0, at(20.0)).cpu, 0.0, "a counter that went back");
        assert_eq!(first.next(1000, 0.0, at(20.0)), first, "no CPUs at all");
    }

    /// Reference 06b, vector 7; its first case needs more host CPUs than its second.
    #[test]
    fn rates_of_processes_are_of_ticks() {
        let at = |uptime, cpus| HostClock {
            uptime,
            cpus,
            units: 100.0,
        };
        let first = Sample::first(1, 1000, at(50.0, 8.0));
        assert_eq!(first.next(1150, 2.0, at(51.0, 16.0)).cpu, 0.75);
        let busy = Sample { cpu: 0.3, ..first };
        assert_eq!(busy.next(1150, 2.0, at(51.0, 8.0)), busy);
        assert_eq!(busy.next(1300, 2.0, at(52.0, 8.0)).cpu, 0.75);
    }

    #[test]
    fn who_asks_in_between_does_not_shorten_the_interval() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samples.json");
        let ask = |used, uptime, complete| {
            let mut rates = Rates::load(path.clone());
            let rate = rates.rate(100, 1, used, 1.0, at(uptime));
            rates.store(complete);
            rate
        };
        ask(0, 10.0, true);
        assert_eq!(ask(9000, 19.0, false), 1.0);
        assert_eq!(ask(9000, 19.5, false), 9.0 / 9.5, "compared with the same reading");
        assert_eq!(ask(9000, 20.0, true), 0.9, "over the whole interval");
        assert_eq!(ask(29_000, 60.0, false), 0.5);
        assert_eq!(ask(30_000, 61.0, false), 1.0, "while nobody keeps readings others do");
    }

    #[test]
    fn any_worker_answers_and_a_new_life_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/samples.json");
        let ask = |guest, started, used, uptime, complete| {
            let mut rates = Rates::load(path.clone());
            let rate = rates.rate(guest, started, used, 1.0, at(uptime));
            rates.store(complete);
            rate
        };
        assert_eq!(ask(100, 1, 0, 10.0, true), 0.0);
        assert_eq!(ask(100, 1, 1000, 12.0, true), 0.5);
        assert_eq!(ask(101, 1, 7, 12.0, false), 0.0);
        assert_eq!(ask(100, 1, 1000, 12.1, true), 0.5, "too early");
        assert_eq!(Rates::load(path.clone()).known.len(), 1, "the other guest is gone");
        assert_eq!(ask(100, 2, 1000, 14.0, true), 0.0, "started again");
        fs::write(&path, "garbage").unwrap();
        assert_eq!(ask(100, 2, 3000, 16.0, true), 0.0);
    }
}
