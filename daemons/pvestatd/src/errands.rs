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
//! What hangs – a monitor that was stopped, a dead network mount – costs one thread and nothing else: the others have
//! their outcome, the cycle ends at its deadline, and the errand is not sent again before it has come back.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use pve_daemon::BoxError;

/// How many errands may be out at once. More than any node has storages; a bound on the threads that hang.
const MAX_OUT: usize = 64;

/// What an errand does. It may send others, which belong to the same cycle.
pub(crate) type Work = Box<dyn FnOnce() -> Result<Vec<Errand>, BoxError> + Send>;

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
        work: impl FnOnce() -> Result<Vec<Self>, BoxError> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            work: Box::new(work),
        }
    }
}

/// How an errand went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Which one.
    pub(crate) name: String,
    /// What went wrong.
    pub(crate) result: Result<(), String>,
}

/// What a thread says when it is done.
struct Done {
    name: String,
    result: Result<Vec<Errand>, BoxError>,
}

/// Sends errands, and knows which are still out.
pub(crate) struct Errands {
    out: BTreeSet<String>,
    sender: Sender<Done>,
    receiver: Receiver<Done>,
}

impl Errands {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self {
            out: BTreeSet::new(),
            sender,
            receiver,
        }
    }

    /// Sends errands and waits until all are back, or the deadline. Those that are late are left to themselves.
    pub(crate) fn run(&mut self, errands: Vec<Errand>, limit: Duration) -> Vec<Outcome> {
        // Those that came back after their deadline: too late to be of interest.
        while let Ok(done) = self.receiver.try_recv() {
            self.out.remove(&done.name);
        }
        let deadline = Instant::now() + limit;
        let mut waiting = VecDeque::from(errands);
        let mut expected = BTreeSet::new();
        let mut outcomes = Vec::new();
        loop {
            self.send_waiting(&mut waiting, &mut expected, &mut outcomes);
            if expected.is_empty() && (waiting.is_empty() || self.out.len() >= MAX_OUT) {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(done) = self.receiver.recv_timeout(left) else {
                break;
            };
            self.out.remove(&done.name);
            if !expected.remove(&done.name) {
                continue;
            }
            let result = done.result.map(|more| waiting.extend(more));
            outcomes.push(Outcome {
                name: done.name,
                result: result.map_err(|error| error.to_string()),
            });
        }
        let late = expected
            .into_iter()
            .chain(waiting.into_iter().map(|errand| errand.name));
        outcomes.extend(late.map(no_answer));
        outcomes
    }

    /// Sends as many as may be out at once.
    fn send_waiting(
        &mut self,
        waiting: &mut VecDeque<Errand>,
        expected: &mut BTreeSet<String>,
        outcomes: &mut Vec<Outcome>,
    ) {
        while self.out.len() < MAX_OUT {
            let Some(errand) = waiting.pop_front() else { return };
            let name = errand.name.clone();
            if self.out.contains(&name) {
                outcomes.push(no_answer(name));
                continue;
            }
            match self.send(errand) {
                Ok(()) => {
                    self.out.insert(name.clone());
                    expected.insert(name);
                }
                Err(error) => outcomes.push(Outcome {
                    name,
                    result: Err(error.to_string()),
                }),
            }
        }
    }

    fn send(&self, errand: Errand) -> std::io::Result<()> {
        let sender = self.sender.clone();
        let Errand { name, work } = errand;
        let spawned = thread::Builder::new().name(short(&name)).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("internal error".into()));
            // At the daemon's end nobody listens any more.
            let _ = sender.send(Done { name, result });
        });
        spawned.map(drop)
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
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn fine(name: &str) -> Errand {
        Errand::new(name, || Ok(Vec::new()))
    }

    /// An errand that hangs until its sender is dropped.
    fn hanging(name: &str) -> (mpsc::Sender<()>, Errand) {
        let (release, wait) = mpsc::channel();
        let errand = Errand::new(name, move || {
            let _ = wait.recv();
            Ok(Vec::new())
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
            Ok(vec![fine("child"), Errand::new("bad", || Err("broken".into()))])
        });
        let panicking = Errand::new("panicking", || panic!("on purpose"));
        let all = many.into_iter().chain([parent, panicking]).collect();
        let mut outcomes = errands.run(all, LONG);
        outcomes.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(outcomes.len(), 204);
        assert_eq!(failed(&outcomes), ["bad", "panicking"]);
        assert_eq!(outcomes[0].result, Err("broken".to_owned()));
    }

    #[test]
    fn one_that_hangs_delays_nothing_and_is_not_sent_again() {
        let mut errands = Errands::new();
        let (release, hung) = hanging("hung");
        let outcomes = errands.run(vec![hung, fine("a")], Duration::from_millis(200));
        assert_eq!((outcomes.len(), failed(&outcomes)), (2, vec!["hung"]));
        // Now that it is known to hang, nobody waits for it.
        let start = Instant::now();
        let sent_again = Errand::new("hung", || Err("was sent again".into()));
        let outcomes = errands.run(vec![sent_again, fine("a")], LONG);
        assert!(start.elapsed() < LONG / 2);
        assert_eq!(outcomes[0].result, Err("no answer in time".to_owned()));
        drop(release);
        let deadline = Instant::now() + LONG;
        while !failed(&errands.run(vec![fine("hung")], LONG)).is_empty() {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }

    #[test]
    fn threads_that_hang_are_bounded() {
        let mut errands = Errands::new();
        let (releases, hung): (Vec<_>, Vec<_>) = (0..MAX_OUT + 5).map(|n| hanging(&format!("h{n}"))).unzip();
        let outcomes = errands.run(hung, Duration::from_millis(200));
        assert_eq!(failed(&outcomes).len(), MAX_OUT + 5);
        assert_eq!(errands.out.len(), MAX_OUT);
        let start = Instant::now();
        assert_eq!(
            failed(&errands.run(vec![fine("a")], LONG)),
            ["a"],
            "no thread is left for it"
        );
        assert!(start.elapsed() < LONG / 2);
        drop(releases);
    }
}
