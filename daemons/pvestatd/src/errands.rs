//! Errands: work that may hang, each on a thread of its own.
//!
//! ```text
//!            deadline passes                      comes back
//!  AT WORK ──────────────────▶ LATE: left alone ──────────────▶ free for the next cycle
//!     │ comes back               (not sent again meanwhile)
//!     ▼
//!  outcome
//! ```
//!
//! What hangs – a dead network mount, a disk that does not answer – costs one thread and nothing else: the others have
//! their outcome, the cycle ends at its deadline, and the errand is not sent again before it has come back. An errand
//! that looks at many objects which cannot hang it says of each what went wrong ([`Fault`]); one for an object that can
//! is sent by the errand that knows the objects.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use pve_daemon::BoxError;

use crate::counters;

/// How many errands of errands may be out at once. More than any node has storages; a bound on the threads that hang.
/// What a cycle begins with is not counted: there must be a thread for it however many storages hang.
const MAX_OUT: usize = 64;
/// How often a cycle that waits shows that it does not hang itself.
const TURN: Duration = Duration::from_secs(2);

/// What an errand does.
pub(crate) type Work = Box<dyn FnOnce() -> Result<Found, BoxError> + Send>;

/// Something to be done.
pub(crate) struct Errand {
    /// Tells it from others, from cycle to cycle.
    pub(crate) name: String,
    /// What it does.
    pub(crate) work: Work,
}

impl Errand {
    pub(crate) fn new(
        name: impl Into<String>,
        work: impl FnOnce() -> Result<Found, BoxError> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            work: Box::new(work),
        }
    }
}

/// What an errand brings back.
#[derive(Default)]
pub(crate) struct Found {
    /// Others to be sent in the same cycle.
    pub(crate) errands: Vec<Errand>,
    /// What it saw.
    pub(crate) seen: Seen,
}

/// What an errand that looked at many objects saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// With what something is wrong.
    pub(crate) faults: Vec<Fault>,
    /// With what nothing is wrong; `None` for everything else. Of an object that had a fault and is in neither nobody
    /// says that it works again: a machine that did not answer and is gone by now.
    pub(crate) sound: Option<BTreeSet<String>>,
}

/// What is wrong with one object of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What it is about: a guest's number, a metric server's name.
    pub(crate) object: String,
    /// What is wrong.
    pub(crate) error: String,
    /// How bad that is.
    pub(crate) level: log::Level,
}

impl Fault {
    /// An error of an object.
    pub(crate) fn new(object: impl ToString, error: impl ToString) -> Self {
        Self {
            object: object.to_string(),
            error: error.to_string(),
            level: log::Level::Error,
        }
    }

    /// Something that is worth a warning only.
    pub(crate) fn warning(object: impl ToString, error: impl ToString) -> Self {
        Self {
            level: log::Level::Warn,
            ..Self::new(object, error)
        }
    }
}

impl From<()> for Found {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Vec<Errand>> for Found {
    fn from(errands: Vec<Errand>) -> Self {
        Self {
            errands,
            ..Self::default()
        }
    }
}

impl From<Vec<Fault>> for Found {
    fn from(faults: Vec<Fault>) -> Self {
        Self {
            seen: Seen { faults, sound: None },
            ..Self::default()
        }
    }
}

/// How an errand went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Which one.
    pub(crate) name: String,
    /// What it saw, or why it failed as a whole.
    pub(crate) result: Result<Seen, String>,
}

/// What a thread says when it is done.
struct Done {
    name: String,
    took: Duration,
    result: Result<Found, BoxError>,
}

/// Sends errands, and knows which are still out.
pub(crate) struct Errands {
    /// Those that a cycle begins with.
    first_out: BTreeSet<String>,
    /// Those that others sent.
    more_out: BTreeSet<String>,
    sender: Sender<Done>,
    receiver: Receiver<Done>,
}

impl Errands {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self {
            first_out: BTreeSet::new(),
            more_out: BTreeSet::new(),
            sender,
            receiver,
        }
    }

    /// How many have not come back.
    pub(crate) fn late(&self) -> usize {
        self.first_out.len() + self.more_out.len()
    }

    /// Waits until all are back, however long that takes.
    pub(crate) fn settle(&mut self) {
        while self.late() > 0
            && let Ok(done) = self.receiver.recv()
        {
            self.is_back(&done);
        }
    }

    /// Sends errands and waits until all are back, or the deadline. Those that are late are left to themselves.
    /// `turning` is called at least every other second.
    pub(crate) fn run(&mut self, errands: Vec<Errand>, limit: Duration, turning: impl Fn()) -> Vec<Outcome> {
        // Those that came back after their deadline: too late to be of interest.
        while let Ok(done) = self.receiver.try_recv() {
            self.is_back(&done);
        }
        let deadline = Instant::now() + limit;
        let mut round = Round::default();
        for errand in errands {
            self.send(errand, false, &mut round);
        }
        loop {
            turning();
            while self.more_out.len() < MAX_OUT
                && let Some(errand) = round.waiting.pop_front()
            {
                self.send(errand, true, &mut round);
            }
            if round.expected.is_empty() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let done = match self.receiver.recv_timeout(left.min(TURN)) {
                Ok(done) => done,
                Err(_) if left > TURN => continue,
                Err(_) => break,
            };
            self.is_back(&done);
            round.take(done);
        }
        round.end()
    }

    /// One has come back, in whichever cycle it was sent.
    fn is_back(&mut self, done: &Done) {
        counters::errand(&done.name, done.took);
        self.first_out.remove(&done.name);
        self.more_out.remove(&done.name);
    }

    /// Sends one, unless it is still out.
    fn send(&mut self, errand: Errand, sent_by_other: bool, round: &mut Round) {
        let name = errand.name.clone();
        if self.first_out.contains(&name) || self.more_out.contains(&name) {
            return round.outcomes.push(no_answer(name));
        }
        match self.spawn(errand) {
            Ok(()) => {
                let out = if sent_by_other {
                    &mut self.more_out
                } else {
                    &mut self.first_out
                };
                out.insert(name.clone());
                round.expected.insert(name);
            }
            Err(error) => round.outcomes.push(Outcome {
                name,
                result: Err(error.to_string()),
            }),
        }
    }

    fn spawn(&self, errand: Errand) -> std::io::Result<()> {
        let sender = self.sender.clone();
        let Errand { name, work } = errand;
        let spawned = thread::Builder::new().name(short(&name)).spawn(move || {
            let start = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("internal error".into()));
            let took = start.elapsed();
            // At the daemon's end nobody listens any more.
            let _ = sender.send(Done { name, took, result });
        });
        spawned.map(drop)
    }
}

/// The errands of one cycle.
#[derive(Default)]
struct Round {
    /// To be sent when there is room.
    waiting: VecDeque<Errand>,
    /// Sent, and not back.
    expected: BTreeSet<String>,
    outcomes: Vec<Outcome>,
}

impl Round {
    /// Takes what came back; what was sent in an earlier cycle is too old.
    fn take(&mut self, done: Done) {
        if !self.expected.remove(&done.name) {
            return;
        }
        let result = done.result.map(|found| {
            self.waiting.extend(found.errands);
            found.seen
        });
        self.outcomes.push(Outcome {
            name: done.name,
            result: result.map_err(|error| error.to_string()),
        });
    }

    /// What is not back by now is late.
    fn end(mut self) -> Vec<Outcome> {
        let waiting = self.waiting.into_iter().map(|errand| errand.name);
        self.outcomes
            .extend(self.expected.into_iter().chain(waiting).map(no_answer));
        self.outcomes
    }
}

fn no_answer(name: String) -> Outcome {
    Outcome {
        name,
        result: Err("no answer in time".to_owned()),
    }
}

/// A thread's name: the kernel keeps 15 bytes.
fn short(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(15).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    /// Enough for errands that do nothing, on a busy machine.
    const SHORT: Duration = Duration::from_secs(2);

    fn fine(name: &str) -> Errand {
        Errand::new(name, || Ok(().into()))
    }

    /// An errand that hangs until its sender is dropped.
    fn hanging(name: &str) -> (mpsc::Sender<()>, Errand) {
        let (release, wait) = mpsc::channel();
        let errand = Errand::new(name, move || {
            let _ = wait.recv();
            Ok(().into())
        });
        (release, errand)
    }

    fn failed(outcomes: &[Outcome]) -> Vec<&str> {
        let failed = outcomes.iter().filter(|outcome| outcome.result.is_err());
        failed.map(|outcome| outcome.name.as_str()).collect()
    }

    #[test]
    fn errands_and_those_they_send_come_back() {
        let mut errands = Errands::new();
        let many: Vec<Errand> = (0..200).map(|n| fine(&format!("e{n}"))).collect();
        let parent = Errand::new("parent", || {
            Ok(vec![fine("child"), Errand::new("bad", || Err("broken".into()))].into())
        });
        let panicking = Errand::new("panicking", || panic!("on purpose"));
        let faulty = Errand::new("faulty", || Ok(vec![Fault::new(100, "gone")].into()));
        let all = many.into_iter().chain([parent, panicking, faulty]).collect();
        let mut outcomes = errands.run(all, LONG, || {});
        outcomes.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(outcomes.len(), 205);
        assert_eq!(failed(&outcomes), ["bad", "panicking"]);
        assert_eq!(outcomes[0].result, Err("broken".to_owned()));
        let faulty = outcomes.iter().find(|outcome| outcome.name == "faulty").unwrap();
        assert_eq!(faulty.result.as_ref().unwrap().faults, [Fault::new("100", "gone")]);
        assert_eq!(errands.late(), 0);
    }

    #[test]
    fn one_that_hangs_delays_nothing_and_is_not_sent_again() {
        let mut errands = Errands::new();
        let (release, hung) = hanging("hung");
        let outcomes = errands.run(vec![hung, fine("a")], SHORT, || {});
        assert_eq!((outcomes.len(), failed(&outcomes)), (2, vec!["hung"]));
        assert_eq!(errands.late(), 1);
        // Now that it is known to hang, nobody waits for it.
        let start = Instant::now();
        let sent_again = Errand::new("hung", || Err("was sent again".into()));
        let outcomes = errands.run(vec![sent_again, fine("a")], LONG, || {});
        assert!(start.elapsed() < LONG / 2);
        assert_eq!(outcomes[0].result, Err("no answer in time".to_owned()));
        drop(release);
        errands.settle();
        assert_eq!(errands.late(), 0);
        let sent_again = Errand::new("hung", || Err("was sent again".into()));
        let outcomes = errands.run(vec![sent_again], LONG, || {});
        assert_eq!(outcomes[0].result, Err("was sent again".to_owned()));
    }

    #[test]
    fn threads_that_hang_are_bounded_and_leave_room_for_what_a_cycle_begins_with() {
        let mut errands = Errands::new();
        let (releases, hung): (Vec<_>, Vec<_>) = (0..MAX_OUT + 5).map(|n| hanging(&format!("h{n}"))).unzip();
        let parent = Errand::new("parent", || Ok(hung.into()));
        let outcomes = errands.run(vec![parent], SHORT, || {});
        assert_eq!(failed(&outcomes).len(), MAX_OUT + 5);
        assert_eq!(errands.late(), MAX_OUT);
        let start = Instant::now();
        let parent = Errand::new("parent", || Ok(vec![fine("child")].into()));
        let outcomes = errands.run(vec![fine("a"), parent], LONG, || {});
        assert_eq!(failed(&outcomes), ["child"], "no thread is left for it");
        assert_eq!(outcomes.len(), 3);
        assert!(start.elapsed() < LONG / 2);
        drop(releases);
    }

    #[test]
    fn a_cycle_that_waits_shows_that_it_lives() {
        let mut errands = Errands::new();
        let (_release, hung) = hanging("hung");
        let turns = Cell::new(0);
        errands.run(vec![hung], TURN + Duration::from_millis(300), || {
            turns.set(turns.get() + 1)
        });
        assert!(turns.get() >= 2, "{turns:?}");
    }
}
