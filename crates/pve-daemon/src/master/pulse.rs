//! Whether the workers are alive: not just there, but turning.
//!
//! ```text
//! worker ──sign of life every 2 s──▶ its row of counters ◀──looked at── master
//!                                                                        ├─ one is silent for too long, or does not
//!                                                                        │  get ready in that time: it is killed, and
//!                                                                        │  replaced like any that died
//!                                                                        └─ none shows life: systemd's watchdog is
//!                                                                           not fed, and systemd restarts the daemon
//! ```
//!
//! Silence is counted in looks and not in time: on a machine that slept or was stopped as a whole, nobody is hung.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// How long a worker may be silent where systemd has no opinion. Longer than anything that a worker does at a stretch.
const PATIENCE: Duration = Duration::from_secs(60);
/// Looks in that time.
const LOOKS: u32 = 12;

/// What is expected of a worker that gave no sign yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To get ready, in the time that it may be silent.
    Starting,
    /// Nothing: it serves, and may be one that never gives signs.
    Serving,
    /// Nothing: it waits to end since it failed, or is of an older image, whose new master does not know how far it got.
    Ending,
}

/// What is known of the workers' life.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Signs of life at the last look, and looks since that number changed.
    seen: BTreeMap<Pid, (u64, u32)>,
    interval: Duration,
    next_look: Instant,
    /// When any worker last showed life.
    life: Instant,
}

impl Pulse {
    /// `watchdog`: how long systemd waits for a sign of the daemon's own, if it does. The workers have half of that, so
    /// that one that is hung can be replaced before systemd replaces everything.
    pub(crate) fn new(watchdog: Option<Duration>, now: Instant) -> Self {
        let interval = watchdog.map_or(PATIENCE, |limit| limit / 2) / LOOKS;
        Self {
            seen: BTreeMap::new(),
            interval,
            next_look: now + interval,
            life: now,
        }
    }

    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Looks at the workers, if it is time; `beats` says how often each turned. The outcome is those that are hung.
    pub(crate) fn look(&mut self, now: Instant, workers: &[(Pid, Stage)], beats: impl Fn(Pid) -> u64) -> Vec<Pid> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + self.interval;
        self.seen
            .retain(|pid, _| workers.iter().any(|(worker, _)| worker == pid));
        let mut hung = Vec::new();
        for (pid, stage) in workers {
            let count = beats(*pid);
            let (before, silent) = self.seen.entry(*pid).or_insert((0, 0));
            // Where no sign was ever given, readiness has to do.
            let shows_life = count != *before || (count == 0 && *stage == Stage::Serving);
            let is_excused = count == 0 && *stage == Stage::Ending;
            *silent = if shows_life || is_excused { 0 } else { *silent + 1 };
            *before = count;
            if shows_life {
                self.life = now;
            }
            if *silent >= LOOKS {
                hung.push(*pid);
            }
        }
        hung
    }

    /// Whether a worker showed life lately.
    pub(crate) fn is_healthy(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.life) <= self.interval * LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(5);

    /// Looks so often at two workers, of which the first beats as told; how often each was found hung.
    fn watch(first: impl Fn(u64) -> u64, second: u64, looks: u64) -> (Vec<Pid>, bool) {
        let start = Instant::now();
        let mut pulse = Pulse::new(None, start);
        let (one, two) = (Pid::from_raw(11), Pid::from_raw(12));
        let mut hung = Vec::new();
        let mut now = start;
        for look in 1..=looks {
            now += STEP;
            let workers = [(one, Stage::Serving), (two, Stage::Serving)];
            hung.extend(pulse.look(now, &workers, |pid| if pid == one { first(look) } else { second }));
        }
        (hung, pulse.is_healthy(now))
    }

    #[test]
    fn a_worker_that_stands_still_for_a_minute_is_hung() {
        let two = Pid::from_raw(12);
        assert_eq!(watch(|look| look, 7, 12), (vec![], true));
        assert_eq!(watch(|look| look, 7, 13), (vec![two], true), "the other one lives");
    }

    #[test]
    fn without_life_in_any_worker_the_daemon_is_not_healthy() {
        assert_eq!(watch(|_| 3, 3, 12), (vec![], true));
        let (hung, is_healthy) = watch(|_| 3, 3, 14);
        assert!(!is_healthy && hung.len() == 4, "{hung:?}");
    }

    #[test]
    fn who_never_gave_a_sign_is_not_expected_to() {
        assert_eq!(watch(|_| 0, 0, 100), (vec![], true));
    }

    #[test]
    fn a_worker_that_does_not_get_ready_is_no_life_and_hung() {
        let start = Instant::now();
        let watch = |stage| {
            let mut pulse = Pulse::new(None, start);
            let worker = [(Pid::from_raw(11), stage)];
            let first = (1..=12).find(|look| !pulse.look(start + STEP * *look, &worker, |_| 0).is_empty());
            let is_healthy = [12, 13].map(|look| pulse.is_healthy(start + STEP * look));
            (first, is_healthy)
        };
        assert_eq!(watch(Stage::Starting), (Some(12), [true, false]));
        assert_eq!(watch(Stage::Ending), (None, [true, false]), "it ends by itself");
        assert_eq!(watch(Stage::Serving), (None, [true, true]));
    }

    #[test]
    fn a_machine_that_slept_is_not_hung() {
        let start = Instant::now();
        let mut pulse = Pulse::new(None, start);
        let worker = [(Pid::from_raw(11), Stage::Serving)];
        pulse.look(start + STEP, &worker, |_| 1);
        assert!(pulse.look(start + STEP * 1000, &worker, |_| 1).is_empty());
    }
}
