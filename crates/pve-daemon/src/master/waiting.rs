//! Waiting at a start for what the daemon works with, and saying so: in the log once, in the status of the unit, and by
//! asking systemd for patience.
//!
//! ```text
//!  start ── all there ─────────────────────────────────────────────▶ init, workers, READY
//!    └───── missing ── log, STATUS=waiting for …, at most 30 s ──────▶ init, workers, READY, STATUS=waiting for …
//!                                                                                         until it is there
//! ```
//!
//! The wait ends with a start all the same because other units are ordered behind this one: a certificate that is not there
//! must not keep guests from being started, and once it is there it is used without anybody's help.

use std::time::{Duration, Instant};

use pve_schema::Context;

use crate::notify::Notifier;
use crate::service::{Needs, Program};

/// How long a start waits at most. Long enough for a cluster file system to be mounted.
const LIMIT: Duration = Duration::from_secs(30);
/// How often is looked before the daemon opens anything.
const LOOK: Duration = Duration::from_millis(250);
/// How often is looked once the daemon runs without it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Waits for what the daemon needs before it opens anything. Whoever starts it by hand is told and does not wait.
pub(crate) fn until_there(program: &Program, context: &Context) {
    let notifier = Notifier::from_environment();
    let limit = if notifier.is_wanted() { LIMIT } else { Duration::ZERO };
    wait(&notifier, limit, || (program.needs)(context));
}

/// Whether all is there.
fn wait(notifier: &Notifier, limit: Duration, mut look: impl FnMut() -> Needs) -> bool {
    let until = Instant::now() + limit;
    let mut told = None;
    loop {
        let needs = look();
        let Some(missing) = needs.missing else {
            if told.is_some() {
                log::info!("it is there now, going on");
            }
            if let Some(note) = needs.note {
                log::warn!("{note}");
            }
            return true;
        };
        if Instant::now() >= until {
            log::error!("going on without {missing}");
            return false;
        }
        if told.as_ref() != Some(&missing) {
            log::warn!("waiting for {missing}");
            notifier.waiting(&missing);
            told = Some(missing);
        }
        notifier.extend_timeout();
        std::thread::sleep(LOOK);
    }
}

/// What a daemon that started without what it needs says about that.
#[derive(Debug)]
pub(crate) struct Outlook {
    needs: Needs,
    next: Option<Instant>,
}

impl Outlook {
    /// A start, or a reload, now.
    pub(crate) fn new(program: &Program, context: &Context, now: Instant) -> Self {
        let needs = (program.needs)(context);
        Self {
            next: needs.missing.is_some().then(|| now + LOOK_AGAIN),
            needs,
        }
    }

    /// Looks again, if it is time and something was missing.
    pub(crate) fn look(&mut self, program: &Program, context: &Context, now: Instant) {
        if self.next.is_some_and(|next| now >= next) {
            self.needs = (program.needs)(context);
            self.next = self.needs.missing.is_some().then(|| now + LOOK_AGAIN);
        }
    }

    /// When that is.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.next
    }

    /// The status line of a daemon that has so many workers.
    pub(crate) fn status(&self, workers: &str) -> String {
        match (&self.needs.missing, &self.needs.note) {
            (Some(missing), _) => format!("waiting for {missing}"),
            (None, Some(note)) => format!("{workers} - {note}"),
            (None, None) => workers.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_waits_and_then_goes_on_without() {
        let notifier = Notifier::from_environment();
        let missing = || Needs {
            missing: Some("a key".to_owned()),
            note: None,
        };
        let mut looks = 0;
        let there = wait(&notifier, Duration::from_secs(60), || {
            looks += 1;
            if looks < 3 { missing() } else { Needs::default() }
        });
        assert!(there && looks == 3);
        assert!(!wait(&notifier, Duration::from_millis(300), missing));
        assert!(!wait(&notifier, Duration::ZERO, missing), "by hand");
    }

    #[test]
    fn the_status_tells_what_is_missing_first() {
        let mut outlook = Outlook {
            needs: Needs::default(),
            next: None,
        };
        assert_eq!(outlook.status("3 worker(s)"), "3 worker(s)");
        outlook.needs.note = Some("guests are left".to_owned());
        assert_eq!(outlook.status("3 worker(s)"), "3 worker(s) - guests are left");
        outlook.needs.missing = Some("a key".to_owned());
        assert_eq!(outlook.status("3 worker(s)"), "waiting for a key");
    }
}
