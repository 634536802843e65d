//! Signals: read from a descriptor in the master, turned into a readable pipe in a worker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::process;

/// What the master acts on.
const HANDLED: [Signal; 5] = [
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGCHLD,
];

/// The master's signals. They stay blocked across a reload, so that one that comes between two images waits for the new
/// one instead of ending it.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals and opens the descriptor that tells of them.
    pub(crate) fn new() -> io::Result<Self> {
        let set = SigSet::from_iter(HANDLED);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        Ok(Self(SignalFd::with_flags(
            &set,
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )?))
    }

    /// The next signal that came in, if any.
    pub(crate) fn next(&self) -> Option<Signal> {
        let info = self.0.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
    }

    /// Lets the next SIGINT kill at once: who presses ^C twice does not want to wait.
    pub(crate) fn default_interrupt(&self) {
        // Failing that, the second ^C does nothing.
        let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from(Signal::SIGINT)), None);
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where the handler of a worker writes; -1 in any other process.
static DRAIN: AtomicI32 = AtomicI32::new(-1);

/// Gives a worker the signals it is to have: none blocked, TERM and QUIT make the returned descriptor readable,
/// everything else does what it does by default.
pub(crate) fn set_up_worker() -> io::Result<OwnedFd> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // The handler owns the write end for the life of the process.
    DRAIN.store(write.into_raw_fd(), Ordering::SeqCst);
    let action = SigAction::new(SigHandler::Handler(request_drain), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        // SAFETY: the handler does nothing but write to a pipe, which is async-signal-safe.
        #[allow(unsafe_code)]
        unsafe {
            sigaction(signal, &action)?;
        }
    }
    let unblocked = process::reset_mask();
    unblocked.map(|()| read)
}

/// Writes a byte into the drain pipe. A full pipe is readable already.
extern "C" fn request_drain(_signal: libc::c_int) {
    let fd = DRAIN.load(Ordering::SeqCst);
    // SAFETY: write(2) and the location of errno are async-signal-safe; the byte lives in this frame; errno is put back
    // so that the interrupted code does not see another one.
    #[allow(unsafe_code)]
    unsafe {
        let errno = *libc::__errno_location();
        let byte = b'D';
        libc::write(fd, std::ptr::from_ref(&byte).cast(), 1);
        *libc::__errno_location() = errno;
    }
}
