//! The journal, shared by those who write to it and those who look for an interrupt.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use pve_qemu::journal::Journal;

use super::error::RestoreError;

/// How often somebody who waits looks for an interrupt.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// A journal that several parts hold at once, none of them for longer than a call.
pub(super) struct Talk<'a>(RefCell<&'a mut dyn Journal>);

impl<'a> Talk<'a> {
    pub(super) fn new(journal: &'a mut dyn Journal) -> Self {
        Self(RefCell::new(journal))
    }

    pub(super) fn log(&self, line: &str) {
        self.0.borrow_mut().log(line);
    }

    /// Runs code that writes to the journal itself.
    pub(super) fn with<T>(&self, code: impl FnOnce(&mut dyn Journal) -> T) -> T {
        code(&mut **self.0.borrow_mut())
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.0.borrow().is_interrupted()
    }

    /// Ends the work here if somebody wants it to stop.
    pub(super) fn check(&self) -> Result<(), RestoreError> {
        if self.is_interrupted() {
            Err(RestoreError::Interrupted)
        } else {
            Ok(())
        }
    }

    /// Sleeps; `false` if somebody wants the work to stop.
    pub(super) fn sleep(&self, duration: Duration) -> bool {
        let end = Instant::now() + duration;
        loop {
            if self.is_interrupted() {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}
