//! File system calls with a deadline.
//!
//! A directory on a dead network or FUSE mount answers nothing, and a call that waits for it cannot be broken off. Such
//! a call runs on a thread of its own, which is left behind when it misses its deadline; how many may be left behind at
//! once is limited.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long a directory may take to say that it is there (reference 08 §5.1).
pub(crate) const DIRECTORY_DEADLINE: Duration = Duration::from_secs(2);

/// Threads that wait for file systems, over all callers of this process. One more dead mount than that is not asked any
/// more: a daemon must not drown in waiting threads.
const MAX_WAITING: usize = 32;

static WAITING: Mutex<Waiting> = Mutex::new(Waiting {
    next: 0,
    calls: BTreeMap::new(),
});

/// The calls that have not come back.
struct Waiting {
    next: u64,
    calls: BTreeMap<u64, Call>,
}

struct Call {
    place: PathBuf,
    deadline: Instant,
}

/// Counts a waiting thread for as long as it lives.
struct Slot(u64);

impl Slot {
    /// `None` while too many wait, or while a call for the same place is overdue: asking a place that hangs over and
    /// over would use up the threads of those that do not.
    fn take(place: &Path, deadline: Duration) -> Option<Self> {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let overdue = |call: &Call| call.place == place && now >= call.deadline;
        if waiting.calls.len() >= MAX_WAITING || waiting.calls.values().any(overdue) {
            return None;
        }
        let number = waiting.next;
        waiting.next += 1;
        let call = Call {
            place: place.to_owned(),
            deadline: now + deadline,
        };
        waiting.calls.insert(number, call);
        Some(Self(number))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.calls.remove(&self.0);
    }
}

/// What a call about a place answers; `None` when it misses its deadline.
pub(crate) fn within<T: Send + 'static>(
    place: &Path,
    deadline: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let slot = Slot::take(place, deadline)?;
    let (sender, receiver) = mpsc::channel();
    let spawned = std::thread::Builder::new()
        .name("storage-call".to_owned())
        .spawn(move || {
            let _slot = slot;
            // Nobody listens any more after the deadline.
            let _ = sender.send(call());
        });
    spawned.ok()?;
    receiver.recv_timeout(deadline).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn a_call_that_hangs_is_given_up_on() {
        let place = Path::new("/given/up");
        assert_eq!(within(place, LONG, || 7), Some(7));
        let (release, wait) = mpsc::channel::<()>();
        assert_eq!(within(place, SHORT, move || wait.recv()), None);
        drop(release);
    }

    #[test]
    fn a_place_that_hangs_is_not_asked_again_before_it_answers() {
        let (hung, other) = (Path::new("/hung"), Path::new("/other"));
        let (release, wait) = mpsc::channel::<()>();
        assert_eq!(within(hung, SHORT, move || wait.recv()), None);
        for _ in 0..2 * MAX_WAITING {
            assert_eq!(within(hung, LONG, || 7), None);
        }
        assert_eq!(within(other, LONG, || 7), Some(7));
        drop(release);
        let deadline = Instant::now() + LONG;
        while within(hung, LONG, || 7).is_none() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
