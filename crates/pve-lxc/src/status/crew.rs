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
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads of one call that ask at the same time. An answer takes microseconds, so this is how many may hang in one go
/// before others have to wait for the next one.
const THREADS: usize = 16;
/// Threads of all calls. When there are so many, because all hang, nobody is asked any more.
const MAX_THREADS: usize = 64;

/// Who asks. One per process.
pub(super) struct Crew {
    state: Mutex<State>,
    /// One came back: another call may ask it now.
    free: Condvar,
}

struct State {
    threads: usize,
    /// Those who are asked now, each with whether its time is over.
    asked: BTreeMap<PathBuf, bool>,
    /// Where the next queue begins: those before had their turn last.
    next: Option<PathBuf>,
}

/// Those who wait for their turn in one call.
type Queue = Mutex<VecDeque<PathBuf>>;

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
    /// Those whose turn did not come, since others hang. They are the first ones the next time.
    pub waiting: BTreeSet<PathBuf>,
}

impl Crew {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                threads: 0,
                asked: BTreeMap::new(),
                next: None,
            }),
            free: Condvar::new(),
        }
    }

    /// Asks all of them, each by `ask`, which hands over its answers as it has them. One that another call asks is asked
    /// when it comes back there.
    pub(super) fn ask_all<T, F>(&'static self, names: &BTreeSet<PathBuf>, limit: Duration, ask: F) -> Answers<T>
    where
        T: Send + 'static,
        F: Fn(&Path, &mut dyn FnMut(T)) + Send + Sync + 'static,
    {
        let deadline = Instant::now() + limit;
        let (hanging, queue) = self.queue(names);
        let mut open: BTreeSet<PathBuf> = queue.iter().cloned().collect();
        let mut answers = BTreeMap::<PathBuf, Vec<T>>::new();
        let queue = Arc::new(Mutex::new(queue));
        let (sender, receiver) = mpsc::channel();
        let ask = Arc::new(ask);
        for _ in 0..open.len().min(THREADS) {
            let Some(seat) = Seat::take(self) else { break };
            let (queue, sender, ask) = (Arc::clone(&queue), sender.clone(), Arc::clone(&ask));
            let work = move || seat.crew().work(&queue, deadline, &sender, ask.as_ref());
            // Without a thread the others ask.
            if let Err(error) = thread::Builder::new().name("ct look".to_owned()).spawn(work) {
                log::debug!("unable to start a thread - {error}");
            }
        }
        drop(sender);
        while !open.is_empty() {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Said::Answer(name, answer)) => answers.entry(name).or_default().push(answer),
                Ok(Said::Done(name)) => drop(open.remove(&name)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let waiting = self.leave(&queue, &open);
        Answers {
            answers,
            hanging: open.difference(&waiting).cloned().chain(hanging).collect(),
            waiting,
        }
    }

    /// Those who are known to hang, and the others in the order in which they are asked.
    fn queue(&self, names: &BTreeSet<PathBuf>) -> (BTreeSet<PathBuf>, VecDeque<PathBuf>) {
        let state = self.state();
        let is_stuck = |name: &&PathBuf| state.asked.get(*name).is_some_and(|late| *late);
        let (hanging, others): (Vec<&PathBuf>, Vec<&PathBuf>) = names.iter().partition(is_stuck);
        let (first, last): (Vec<&PathBuf>, Vec<&PathBuf>) = others
            .into_iter()
            .partition(|name| state.next.as_ref().is_none_or(|next| *name >= next));
        (
            hanging.into_iter().cloned().collect(),
            first.into_iter().chain(last).cloned().collect(),
        )
    }

    /// Ends a call: who has not come back hangs. Returns those whose turn did not come.
    fn leave(&self, queue: &Queue, open: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        // In this order, as in `next_of`.
        let mut queue = lock(queue);
        let mut state = self.state();
        let left = mem::take(&mut *queue);
        for name in open {
            if let Some(late) = state.asked.get_mut(name) {
                *late = true;
            }
        }
        let mut waiting = left.into_iter().filter(|name| !state.asked.contains_key(name));
        let first = waiting.next();
        let rest: BTreeSet<PathBuf> = waiting.collect();
        if first.is_some() {
            state.next.clone_from(&first);
        }
        first.into_iter().chain(rest).collect()
    }

    fn work<T>(
        &self,
        queue: &Queue,
        deadline: Instant,
        sender: &Sender<Said<T>>,
        ask: &impl Fn(&Path, &mut dyn FnMut(T)),
    ) {
        while let Some(asked) = self.next_of(queue, deadline) {
            // Nobody listens any more to what comes late.
            ask(&asked.name, &mut |answer| {
                let _ = sender.send(Said::Answer(asked.name.clone(), answer));
            });
            let name = asked.name.clone();
            drop(asked);
            let _ = sender.send(Said::Done(name));
        }
    }

    /// The first of a queue that nobody asks; waits for one until the deadline.
    fn next_of(&self, queue: &Queue, deadline: Instant) -> Option<Asked<'_>> {
        loop {
            let mut names = lock(queue);
            let mut state = self.state();
            let left = deadline.saturating_duration_since(Instant::now());
            if names.is_empty() || left.is_zero() {
                return None;
            }
            let place = names.iter().position(|name| !state.asked.contains_key(name));
            if let Some(name) = place.and_then(|place| names.remove(place)) {
                state.asked.insert(name.clone(), false);
                return Some(Asked { crew: self, name });
            }
            drop(names);
            drop(
                self.free
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A thread that may run, as long as this is there.
struct Seat(&'static Crew);

impl Seat {
    fn take(crew: &'static Crew) -> Option<Self> {
        let mut state = crew.state();
        if state.threads >= MAX_THREADS {
            return None;
        }
        state.threads += 1;
        Some(Self(crew))
    }

    /// Borrows all of it, so that a thread's closure takes the seat with it.
    fn crew(&self) -> &'static Crew {
        self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.state().threads -= 1;
    }
}

/// One that is asked, as long as this is there.
struct Asked<'a> {
    crew: &'a Crew,
    name: PathBuf,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.crew.state().asked.remove(&self.name);
        self.crew.free.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(100);

    /// A gate at which askers wait, and how many wait there.
    #[derive(Default)]
    struct Gate {
        is_open: Mutex<bool>,
        opened: Condvar,
        at: AtomicUsize,
    }

    impl Gate {
        fn open(&self) {
            *self.is_open.lock().unwrap() = true;
            self.opened.notify_all();
        }

        fn pass(&self) {
            self.at.fetch_add(1, Ordering::SeqCst);
            let _open = self
                .opened
                .wait_while(self.is_open.lock().unwrap(), |open| !*open)
                .unwrap();
            self.at.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A new crew, and a gate that opens at the end of a test.
    fn crew() -> (&'static Crew, Arc<Gate>) {
        (Box::leak(Box::new(Crew::new())), Arc::default())
    }

    fn name(number: usize) -> PathBuf {
        PathBuf::from(format!("{number:04}"))
    }

    fn names(numbers: std::ops::Range<usize>) -> BTreeSet<PathBuf> {
        numbers.map(name).collect()
    }

    /// Answers twice; those that `hangs` names wait at the gate in between.
    fn asker(
        gate: &Arc<Gate>,
        hangs: fn(&str) -> bool,
    ) -> impl Fn(&Path, &mut dyn FnMut(usize)) + Send + Sync + 'static {
        let gate = Arc::clone(gate);
        move |name, say| {
            say(1);
            if hangs(name.to_str().unwrap()) {
                gate.pass();
            }
            say(2);
        }
    }

    /// However slow the machine is, sooner or later they are asked in time and hang.
    fn hang(crew: &'static Crew, gate: &Arc<Gate>, who: &BTreeSet<PathBuf>) -> Answers<usize> {
        let mut last = None;
        pve_testing::wait_for("they hang", || {
            let seen = crew.ask_all(who, SHORT, asker(gate, |_| true));
            last.insert(seen).hanging == *who
        });
        last.unwrap()
    }

    #[test]
    fn one_that_hangs_delays_nobody_and_is_not_asked_again() {
        let (crew, gate) = crew();
        hang(crew, &gate, &names(7..8));
        let start = Instant::now();
        let seen = crew.ask_all(&names(0..1000), LONG, asker(&gate, |_| false));
        assert!(start.elapsed() < LONG / 2, "nobody waits for one that is known to hang");
        assert_eq!((seen.hanging, seen.waiting), (names(7..8), BTreeSet::new()));
        assert_eq!(seen.answers.len(), 999);
        assert!(seen.answers.values().all(|said| said == &[1, 2]));

        gate.open();
        pve_testing::wait_for("it comes back", || {
            let seen = crew.ask_all(&names(7..8), LONG, asker(&gate, |_| false));
            seen.hanging.is_empty() && seen.answers[&name(7)] == [1, 2]
        });
    }

    #[test]
    fn what_one_said_before_it_hung_counts() {
        let mut said = None;
        pve_testing::wait_for("a first answer in time", || {
            let (crew, gate) = crew();
            let seen = crew.ask_all(&names(7..8), SHORT, asker(&gate, |_| true));
            gate.open();
            said = seen.answers.get(&name(7)).cloned();
            said.is_some()
        });
        assert_eq!(said.unwrap(), [1]);
    }

    #[test]
    fn those_who_hang_are_bounded_by_threads() {
        let (crew, gate) = crew();
        // No multiple of what one call begins.
        hang(crew, &gate, &names(0..5));
        let mut all = BTreeSet::new();
        pve_testing::wait_for("all threads hang", || {
            let seen = crew.ask_all(&names(0..1000), SHORT, asker(&gate, |_| true));
            assert_eq!(seen.hanging.len() + seen.waiting.len(), 1000, "each is told of");
            all = seen.hanging;
            all.len() == MAX_THREADS
        });
        for _ in 0..3 {
            crew.ask_all(&names(0..1000), SHORT, asker(&gate, |_| true));
        }
        pve_testing::wait_for("all threads stand at the gate", || {
            gate.at.load(Ordering::SeqCst) >= MAX_THREADS
        });
        assert_eq!(gate.at.load(Ordering::SeqCst), MAX_THREADS);
        let start = Instant::now();
        let seen = crew.ask_all(&names(2000..2001), LONG, asker(&gate, |_| false));
        assert_eq!((seen.hanging, seen.waiting), (BTreeSet::new(), names(2000..2001)));
        assert!(start.elapsed() < LONG / 2, "nobody is left who could ask");

        gate.open();
        pve_testing::wait_for("all come back", || crew.state().threads == 0);
        let seen = crew.ask_all(&names(2000..2001), LONG, asker(&gate, |_| false));
        assert_eq!(seen.answers[&name(2000)], [1, 2]);
    }

    #[test]
    fn calls_at_the_same_time_ask_one_once_each_after_the_other() {
        let (crew, gate) = crew();
        let calls: Vec<_> = (0..5)
            .map(|_| {
                let gate = Arc::clone(&gate);
                thread::spawn(move || crew.ask_all(&names(7..8), LONG, asker(&gate, |_| true)))
            })
            .collect();
        pve_testing::wait_for("all are about to ask", || crew.state().threads == 5);
        pve_testing::wait_for("one asks", || gate.at.load(Ordering::SeqCst) > 0);
        assert_eq!(gate.at.load(Ordering::SeqCst), 1);
        gate.open();
        for call in calls {
            let seen = call.join().unwrap();
            assert_eq!(
                (seen.answers[&name(7)].as_slice(), seen.hanging.len()),
                (&[1, 2][..], 0)
            );
        }
    }

    #[test]
    fn who_had_no_turn_is_told_of_and_comes_first_the_next_time() {
        let (crew, gate) = crew();
        let order = Arc::new(Mutex::new(Vec::new()));
        let slow = {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            move |name: &Path, say: &mut dyn FnMut(usize)| {
                order.lock().unwrap().push(name.to_owned());
                gate.pass();
                say(1);
            }
        };
        let all = names(0..THREADS + 5);
        let seen = crew.ask_all(&all, SHORT, slow);
        assert!(seen.waiting.is_superset(&names(THREADS..THREADS + 5)));
        let first = seen.waiting.first().unwrap().clone();
        assert_eq!(seen.hanging.union(&seen.waiting).count(), all.len());
        // They come back, only too late: the next time all could be asked.
        gate.open();
        pve_testing::wait_for("all come back", || crew.state().threads == 0);
        assert_eq!(crew.queue(&all).1.front(), Some(&first));
        assert_eq!(crew.queue(&all).1.len(), all.len());
    }
}
