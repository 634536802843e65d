//! Asking many that may hang – a monitor that was stopped, a container's file system on a dead server – so that one that
//! does costs one thread and, once, the time limit.
//!
//! ```text
//!             time limit passes                    comes back
//!  ASKED ──────────────────────▶ STUCK: not asked ───────────▶ asked again
//!    │ answers
//!    ▼
//!  answer
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that ask at the same time. An answer takes microseconds, so this is how many may hang in one go before others
/// have to wait for the next one.
const THREADS: usize = 16;
/// Threads that may hang. When there are so many, nobody is asked any more.
const MAX_STUCK: usize = 64;

/// Who asks. One per process.
pub(super) struct Crew {
    stuck: Mutex<BTreeSet<PathBuf>>,
}

/// One to be asked, by a name that no other has.
#[derive(Clone)]
struct Job {
    name: PathBuf,
    done: Arc<AtomicBool>,
}

/// What an asker says.
enum Said<T> {
    Answer(PathBuf, T),
    Done(PathBuf),
}

/// What came of it.
pub(super) struct Answers<T> {
    /// Answers in their order; one that hangs may have given some before.
    pub answers: BTreeMap<PathBuf, Vec<T>>,
    /// Those who hang.
    pub hanging: BTreeSet<PathBuf>,
}

impl Crew {
    pub(super) const fn new() -> Self {
        Self {
            stuck: Mutex::new(BTreeSet::new()),
        }
    }

    /// Asks all of them, each by `ask`, which hands over its answers as it has them.
    pub(super) fn ask_all<T, F>(&'static self, names: Vec<PathBuf>, limit: Duration, ask: F) -> Answers<T>
    where
        T: Send + 'static,
        F: Fn(&Path, &mut dyn FnMut(T)) + Send + Sync + 'static,
    {
        let (mut jobs, hanging) = self.without_stuck(names);
        let mut answers = Answers {
            answers: BTreeMap::new(),
            hanging,
        };
        let queue = Arc::new(Mutex::new(jobs.values().cloned().collect::<VecDeque<Job>>()));
        let (sender, receiver) = mpsc::channel();
        let ask = Arc::new(ask);
        for _ in 0..jobs.len().min(THREADS) {
            let (queue, sender, ask) = (Arc::clone(&queue), sender.clone(), Arc::clone(&ask));
            let work = move || self.work(&queue, &sender, ask.as_ref());
            // Without a thread the others ask.
            if let Err(error) = thread::Builder::new().name("ct look".to_owned()).spawn(work) {
                log::debug!("unable to start a thread - {error}");
            }
        }
        drop(sender);
        let deadline = Instant::now() + limit;
        while !jobs.is_empty() {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Said::Answer(name, answer)) => answers.answers.entry(name).or_default().push(answer),
                Ok(Said::Done(name)) => drop(jobs.remove(&name)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        // Those whose turn did not come are asked the next time.
        lock(&queue).drain(..).for_each(|job| drop(jobs.remove(&job.name)));
        self.leave(&jobs);
        answers.hanging.extend(jobs.into_keys());
        answers
    }

    fn without_stuck(&self, names: Vec<PathBuf>) -> (BTreeMap<PathBuf, Job>, BTreeSet<PathBuf>) {
        let stuck = lock(&self.stuck);
        let full = stuck.len() >= MAX_STUCK;
        let (hanging, free): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| full || stuck.contains(name));
        let job = |name: PathBuf| {
            let done = Arc::default();
            (name.clone(), Job { name, done })
        };
        (free.into_iter().map(job).collect(), hanging.into_iter().collect())
    }

    /// Notes those that have not come back. One that comes back meanwhile is not noted.
    fn leave(&self, jobs: &BTreeMap<PathBuf, Job>) {
        let mut stuck = lock(&self.stuck);
        let hanging = jobs.values().filter(|job| !job.done.load(Ordering::SeqCst));
        stuck.extend(hanging.map(|job| job.name.clone()));
    }

    fn work<T>(&self, queue: &Mutex<VecDeque<Job>>, sender: &Sender<Said<T>>, ask: &impl Fn(&Path, &mut dyn FnMut(T))) {
        while let Some(job) = { lock(queue).pop_front() } {
            // Nobody listens any more to what comes late.
            ask(&job.name, &mut |answer| {
                let _ = sender.send(Said::Answer(job.name.clone(), answer));
            });
            let mut stuck = lock(&self.stuck);
            job.done.store(true, Ordering::SeqCst);
            stuck.remove(&job.name);
            drop(stuck);
            let _ = sender.send(Said::Done(job.name));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(200);

    /// A gate at which askers wait.
    type Gate = Arc<(Mutex<bool>, Condvar)>;

    fn crew() -> &'static Crew {
        Box::leak(Box::new(Crew::new()))
    }

    fn names(numbers: std::ops::Range<usize>) -> Vec<PathBuf> {
        numbers.map(|number| PathBuf::from(format!("{number}"))).collect()
    }

    /// Answers twice; those that `hangs` names wait at the gate in between.
    fn asker(gate: &Gate, hangs: fn(&str) -> bool) -> impl Fn(&Path, &mut dyn FnMut(usize)) + Send + Sync + 'static {
        let gate = Arc::clone(gate);
        move |name, say| {
            say(1);
            if hangs(name.to_str().unwrap()) {
                let _open = gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap();
            }
            say(2);
        }
    }

    fn open(gate: &Gate) {
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
    }

    #[test]
    fn one_that_hangs_delays_nobody_and_is_not_asked_again() {
        let (crew, gate) = (crew(), Gate::default());
        let hangs = |name: &str| name == "7";
        let seen = crew.ask_all(names(0..1000), SHORT, asker(&gate, hangs));
        assert_eq!(seen.hanging, BTreeSet::from([PathBuf::from("7")]));
        assert_eq!(seen.answers[Path::new("7")], [1], "what it said before counts");
        assert!(
            seen.answers
                .iter()
                .all(|(name, said)| name == Path::new("7") || said == &[1, 2])
        );
        assert_eq!(seen.answers.len(), 1000);

        let start = Instant::now();
        let seen = crew.ask_all(names(0..20), LONG, asker(&gate, hangs));
        assert!(start.elapsed() < LONG / 2, "nobody waits for one that is known to hang");
        assert_eq!((seen.hanging.len(), seen.answers.len()), (1, 19));

        open(&gate);
        pve_testing::wait_for("it comes back", || {
            crew.ask_all(names(7..8), LONG, asker(&gate, hangs)).hanging.is_empty()
        });
    }

    #[test]
    fn those_who_hang_are_bounded() {
        let (crew, gate) = (crew(), Gate::default());
        let all = |_: &str| true;
        let seen = crew.ask_all(names(0..THREADS + 5), SHORT, asker(&gate, all));
        assert_eq!(
            seen.hanging.len(),
            THREADS,
            "the rest had no turn and is asked the next time"
        );
        for _ in 0..MAX_STUCK / THREADS {
            crew.ask_all(names(0..MAX_STUCK + 20), SHORT, asker(&gate, all));
        }
        assert_eq!(lock(&crew.stuck).len(), MAX_STUCK);
        let start = Instant::now();
        let seen = crew.ask_all(names(900..901), LONG, asker(&gate, |_| false));
        assert_eq!((seen.hanging.len(), seen.answers.len()), (1, 0));
        assert!(start.elapsed() < LONG / 2);
        open(&gate);
    }
}
