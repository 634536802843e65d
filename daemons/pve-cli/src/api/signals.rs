//! What ends the program waits until it may: a handler that is cut off between two files leaves half of a change, and locks
//! of a mounted cluster that nobody gives back.
//!
//! SIGINT, SIGTERM and SIGHUP end the program at once, except while they are held: then it ends when nothing holds them any
//! longer, as if they came just then. What is ignored, as under `nohup`, stays ignored. Processes that are started inherit
//! none of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::{fs, io};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// How signals are treated now.
#[derive(Debug)]
struct State {
    /// Whether SIGINT ends the program at once.
    is_interruptible: Arc<AtomicBool>,
    /// Whether the others do.
    is_mortal: Arc<AtomicBool>,
    /// The last signal that came; 0 is none.
    came: Arc<AtomicUsize>,
}

static STATE: OnceLock<State> = OnceLock::new();

/// Makes signals holdable, before anything is held.
///
/// # Errors
/// What the system says.
pub(super) fn install() -> io::Result<()> {
    let state = STATE.get_or_init(|| State {
        is_interruptible: Arc::new(AtomicBool::new(true)),
        is_mortal: Arc::new(AtomicBool::new(true)),
        came: Arc::default(),
    });
    let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
    for signal in ENDING {
        if ignored >> (signal - 1) & 1 == 1 {
            continue;
        }
        let at_once = match signal {
            SIGINT => &state.is_interruptible,
            _ => &state.is_mortal,
        };
        // In this order: who ends at once has nothing to remember.
        flag::register_conditional_default(signal, Arc::clone(at_once))?;
        flag::register_usize(
            signal,
            Arc::clone(&state.came),
            usize::try_from(signal).unwrap_or_default(),
        )?;
    }
    Ok(())
}

/// The set of ignored signals in `/proc/PID/status` (proc(5)).
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or_default()
}

/// Signals wait until this is dropped. One of them at a time: it does not nest.
#[derive(Debug)]
pub(super) struct Held(());

/// Lets signals wait.
pub(super) fn hold() -> Held {
    set(false);
    Held(())
}

fn set(at_once: bool) {
    if let Some(state) = STATE.get() {
        state.is_interruptible.store(at_once, Ordering::SeqCst);
        state.is_mortal.store(at_once, Ordering::SeqCst);
    }
}

impl Held {
    /// Whether one is waiting.
    pub(super) fn is_waiting(&self) -> bool {
        waiting() != 0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // First this: what comes between the two ends the program by itself.
        set(true);
        if let Some(signal) = ENDING
            .into_iter()
            .find(|signal| usize::try_from(*signal) == Ok(waiting()))
        {
            // It does not come back.
            let _ = low_level::emulate_default_handler(signal);
        }
    }
}

fn waiting() -> usize {
    STATE.get().map_or(0, |state| state.came.load(Ordering::SeqCst))
}

/// From here on somebody else heeds SIGINT.
pub(super) fn leave_interrupts() {
    if let Some(state) = STATE.get() {
        state.is_interruptible.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_told_by_the_system() {
        assert_eq!(
            ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n"),
            0x1001
        );
        assert_eq!(ignored(""), 0);
    }
}
