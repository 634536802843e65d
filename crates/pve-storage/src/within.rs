//! File system calls with a deadline.
//!
//! A directory on a dead network or FUSE mount answers nothing, and a call that waits for it cannot be broken off. Such
//! a call runs on a thread of its own, which is left behind when it misses its deadline; how many may be left behind at
//! once is limited.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How long a directory may take to say that it is there (reference 08 §5.1).
pub(crate) const DIRECTORY_DEADLINE: Duration = Duration::from_secs(2);

/// Threads that wait for file systems, over all callers of this process. One more dead mount than that is not asked any
/// more: a daemon must not drown in waiting threads.
const MAX_WAITING: usize = 32;

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Counts a waiting thread for as long as it lives.
struct Slot;

impl Slot {
    fn take() -> Option<Self> {
        let taken = WAITING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| {
            (waiting < MAX_WAITING).then_some(waiting + 1)
        });
        taken.ok().map(|_| Self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a call answers; `None` when it misses its deadline.
pub(crate) fn within<T: Send + 'static>(deadline: Duration, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let slot = Slot::take()?;
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

    #[test]
    fn a_call_that_hangs_is_given_up_on() {
        assert_eq!(within(Duration::from_secs(10), || 7), Some(7));
        let (release, wait) = mpsc::channel::<()>();
        let answer = within(Duration::from_millis(50), move || wait.recv());
        assert_eq!(answer, None);
        drop(release);
    }
}
