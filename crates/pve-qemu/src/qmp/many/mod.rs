//! Many monitors at once, on one thread and without waiting for any: how all machines of a node are asked every ten
//! seconds.
//!
//! ```text
//!           connects, sends all commands in one write             last answer
//!  WAITING ──────────────────────────────────────────▶ TALKING ──────────────────▶ over
//!     ▲                          │ busy                   │ deadline, garbage, end
//!     └────── after a while ─────┘                        └─────────────────────▶ over, with the reason
//! ```
//!
//! QEMU takes commands before it has answered those before them, and answers in order, so that a machine costs one
//! write and a few reads. Commands that change something wait for the greeting ([`Script::change`]): a QEMU that hangs
//! would find them when it comes back, much later. A monitor serves one client at a time: it is left with the last answer. For a dialogue with one
//! machine there is [`super::Qmp`].

mod talk;

use std::collections::{BTreeSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pve_schema::ids::VmId;

use super::link::{LinkError, RETRY, connect_nonblocking};
use super::{QmpError, failure};
pub(crate) use talk::{Call, Line, Listener, Release, Said, Script};
use talk::{Talk, Turn};

/// Most connections at once: descriptors are few where nobody raised their limit.
const MAX_TALKING: usize = 512;
/// Read at once.
const CHUNK: usize = 64 << 10;

/// Has all these conversations, each within its budget and all of them within `limit`. The outcome is which were not
/// held to their end, and why; what was answered until then was told.
pub(crate) fn ask(calls: Vec<Call>, limit: Duration, listener: &mut impl Listener) -> Vec<(VmId, QmpError)> {
    let now = Instant::now();
    match Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC) {
        Ok(epoll) => Exchange {
            epoll,
            end: now + limit,
            waiting: (0..calls.len()).collect(),
            not_before: now,
            due: vec![None; calls.len()],
            deadlines: BTreeSet::new(),
            talks: calls.iter().map(|_| None).collect(),
            talking: 0,
            calls,
            failed: Vec::new(),
        }
        .run(listener),
        Err(errno) => {
            let fail = |call: &Call| (call.vmid, error(call, 0, LinkError::Io(errno.into())));
            calls.iter().map(fail).collect()
        }
    }
}

/// All conversations of a turn. They are known by their place in `calls`.
struct Exchange {
    epoll: Epoll,
    end: Instant,
    calls: Vec<Call>,
    /// Not connected yet.
    waiting: VecDeque<usize>,
    /// While a peer or this process has no room, nobody is called.
    not_before: Instant,
    /// When a call that was begun has to be over, were it only tried: a QEMU that hangs takes no more connections after
    /// its first two.
    due: Vec<Option<Instant>>,
    /// The same in the order of time.
    deadlines: BTreeSet<(Instant, usize)>,
    talks: Vec<Option<Talk>>,
    talking: usize,
    failed: Vec<(VmId, QmpError)>,
}

impl Exchange {
    fn run(mut self, listener: &mut impl Listener) -> Vec<(VmId, QmpError)> {
        let mut events = vec![EpollEvent::empty(); MAX_TALKING];
        let mut chunk = vec![0; CHUNK];
        loop {
            self.call_waiting();
            self.end_late();
            if self.talking == 0 && self.waiting.is_empty() {
                return self.failed;
            }
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => {
                    self.give_up(errno);
                    return self.failed;
                }
            };
            for event in events.iter().take(count) {
                let at = usize::try_from(event.data()).unwrap_or(usize::MAX);
                self.turn(at, &mut chunk, listener);
                if Instant::now() >= self.end {
                    break;
                }
            }
        }
    }

    /// How long nothing is due but what comes from the monitors.
    fn patience(&self) -> EpollTimeout {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let call = (!self.waiting.is_empty() && self.talking < MAX_TALKING).then_some(self.not_before);
        let due = deadline.into_iter().chain(call).fold(self.end, Instant::min);
        // Rounded up, so that what is due is due afterwards.
        let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::ZERO)
    }

    /// Connects to those who wait, as many as may be.
    fn call_waiting(&mut self) {
        let now = Instant::now();
        if now < self.not_before {
            return;
        }
        for _ in 0..self.waiting.len() {
            if self.talking >= MAX_TALKING {
                return;
            }
            let Some(at) = self.waiting.pop_front() else { return };
            self.set_deadline(at, now);
            let Some(call) = self.calls.get(at) else { continue };
            match connect_nonblocking(&call.socket) {
                Ok(stream) => self.begin(at, stream),
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    self.waiting.push_back(at);
                    self.not_before = now + RETRY;
                }
                // Others will give theirs back.
                Err(Errno::EMFILE | Errno::ENFILE) if self.talking > 0 => {
                    self.waiting.push_front(at);
                    self.not_before = now + RETRY;
                    return;
                }
                Err(Errno::ENOENT) => self.fail(at, LinkError::NoSocket),
                Err(errno) => self.fail(at, LinkError::Connect(errno.into())),
            }
        }
    }

    /// Gives a call its time when it is tried first.
    fn set_deadline(&mut self, at: usize, now: Instant) {
        if let (Some(call), Some(due @ None)) = (self.calls.get(at), self.due.get_mut(at)) {
            let deadline = self.end.min(now + call.budget);
            *due = Some(deadline);
            self.deadlines.insert((deadline, at));
        }
    }

    /// A machine took the call: says what may be said.
    fn begin(&mut self, at: usize, stream: UnixStream) {
        let talk = Talk::new(stream);
        self.talking += 1;
        if let Some(place) = self.talks.get_mut(at) {
            *place = Some(talk);
        }
        match self.send(at) {
            Ok(is_sent) => {
                let event = EpollEvent::new(interest(is_sent), at as u64);
                let watched = self.talks.get(at).and_then(Option::as_ref);
                let watched = watched.map_or(Ok(()), |talk| self.epoll.add(&talk.stream, event));
                if let Err(errno) = watched {
                    self.fail(at, LinkError::Io(errno.into()));
                }
            }
            Err(error) => self.fail(at, error),
        }
    }

    /// Sends what is unsent and may be said: whether nothing is left.
    fn send(&mut self, at: usize) -> Result<bool, LinkError> {
        let (Some(call), Some(Some(talk))) = (self.calls.get(at), self.talks.get_mut(at)) else {
            return Ok(true);
        };
        loop {
            let rest = talk.unsent(call);
            if rest.is_empty() {
                return Ok(true);
            }
            match talk.stream.write(rest) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(count) => talk.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => super::link::retriable(error)?,
            }
        }
    }

    /// Something happened on a connection.
    fn turn(&mut self, at: usize, chunk: &mut [u8], listener: &mut impl Listener) {
        match self.go_on(at, chunk, listener) {
            Ok(Turn::On) => {}
            Ok(Turn::Over) => self.close(at),
            Err(error) => self.fail(at, error),
        }
    }

    fn go_on(&mut self, at: usize, chunk: &mut [u8], listener: &mut impl Listener) -> Result<Turn, LinkError> {
        self.go_on_sending(at)?;
        let (Some(call), Some(Some(talk))) = (self.calls.get(at), self.talks.get_mut(at)) else {
            return Ok(Turn::On);
        };
        let turn = match talk.stream.read(chunk) {
            Ok(0) => Err(LinkError::Closed),
            Ok(count) => talk.hear(call, chunk.get(..count).unwrap_or_default(), listener),
            Err(error) => super::link::retriable(error).map(|()| Turn::On),
        }?;
        if matches!(turn, Turn::On) {
            // The greeting may be what was waited for.
            self.go_on_sending(at)?;
        }
        Ok(turn)
    }

    fn go_on_sending(&mut self, at: usize) -> Result<(), LinkError> {
        let has_unsent = match (self.calls.get(at), self.talks.get(at)) {
            (Some(call), Some(Some(talk))) => !talk.unsent(call).is_empty(),
            _ => false,
        };
        if !has_unsent {
            return Ok(());
        }
        let is_sent = self.send(at)?;
        self.watch(at, interest(is_sent))
    }

    fn watch(&self, at: usize, interest: EpollFlags) -> Result<(), LinkError> {
        let Some(Some(talk)) = self.talks.get(at) else {
            return Ok(());
        };
        let mut event = EpollEvent::new(interest, at as u64);
        let changed = self.epoll.modify(&talk.stream, &mut event);
        changed.map_err(|errno| LinkError::Io(errno.into()))
    }

    /// Ends the conversations that took too long, and at the end of all time those that never began.
    fn end_late(&mut self) {
        let now = Instant::now();
        while let Some((deadline, at)) = self.deadlines.first().copied() {
            if now < deadline {
                break;
            }
            self.deadlines.pop_first();
            self.waiting.retain(|waiting| *waiting != at);
            self.fail(at, LinkError::Timeout);
        }
        if now >= self.end {
            for at in std::mem::take(&mut self.waiting) {
                self.fail(at, LinkError::Timeout);
            }
        }
    }

    fn give_up(&mut self, errno: Errno) {
        for at in 0..self.calls.len() {
            let is_talking = self.talks.get(at).is_some_and(Option::is_some);
            if is_talking || self.waiting.contains(&at) {
                self.fail(at, LinkError::Io(errno.into()));
            }
        }
    }

    /// Closing a connection ends its being watched, too.
    fn close(&mut self, at: usize) {
        if let Some(deadline) = self.due.get_mut(at).and_then(Option::take) {
            self.deadlines.remove(&(deadline, at));
        }
        if self.talks.get_mut(at).and_then(Option::take).is_some() {
            self.talking -= 1;
        }
    }

    fn fail(&mut self, at: usize, why: LinkError) {
        let answered = self
            .talks
            .get(at)
            .and_then(Option::as_ref)
            .map_or(0, |talk| talk.answered);
        self.close(at);
        if let Some(call) = self.calls.get(at) {
            self.failed.push((call.vmid, error(call, answered, why)));
        }
    }
}

/// What is waited for on a connection on which all was said, or not.
fn interest(is_sent: bool) -> EpollFlags {
    if is_sent {
        EpollFlags::EPOLLIN
    } else {
        EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
    }
}

/// What went wrong with the first command that was not answered.
fn error(call: &Call, answered: usize, why: LinkError) -> QmpError {
    // The negotiation is nobody's command.
    let names = call.script.names.get(answered.max(1)).or(call.script.names.first());
    failure(call.vmid, "qmp", names.copied().unwrap_or_default(), why)
}
