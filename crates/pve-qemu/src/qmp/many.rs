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
//! write and a few reads. A monitor serves one client at a time: it is left with the last answer. For a dialogue with one
//! machine there is [`super::Qmp`].

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pve_schema::ids::VmId;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::link::{LinkError, MAX_MESSAGE, RETRY, connect_nonblocking};
use super::{QmpError, failure};

/// Most connections at once: descriptors are few where nobody raised their limit.
const MAX_TALKING: usize = 512;
/// Read at once.
const CHUNK: usize = 64 << 10;

/// What one machine is asked.
#[derive(Debug)]
pub(crate) struct Call {
    /// The machine.
    pub vmid: VmId,
    /// Its monitor's socket.
    pub socket: PathBuf,
    /// Its commands.
    pub script: Cow<'static, Script>,
}

/// Commands as they go over the wire, the negotiation first.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    names: Vec<&'static str>,
    text: String,
}

impl Script {
    /// Commands and their arguments (null for none).
    pub(crate) fn new(commands: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut script = Self {
            names: Vec::new(),
            text: String::new(),
        };
        script.add("qmp_capabilities", Value::Null);
        for (name, arguments) in commands {
            script.add(name, arguments);
        }
        script
    }

    fn add(&mut self, name: &'static str, arguments: Value) {
        let mut request = super::request(name, arguments, None);
        request["id"] = self.names.len().into();
        self.names.push(name);
        self.text.push_str(&request.to_string());
        self.text.push('\n');
    }
}

/// A message of QEMU, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Message<T> {
    id: Option<usize>,
    #[serde(rename = "return")]
    result: Option<T>,
    error: Option<Refusal>,
}

/// QEMU's refusal of a command.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    class: String,
    desc: String,
}

#[derive(Deserialize)]
struct Greeting {
    #[serde(rename = "QMP")]
    qmp: Offer,
}

#[derive(Deserialize)]
struct Offer {
    #[serde(default)]
    version: Value,
}

/// What was said about one command.
#[derive(Debug)]
pub(crate) enum Said<T> {
    /// The result.
    Result(T),
    /// It was refused.
    Refused(Refusal),
    /// Something else: an event.
    Other,
}

/// A line that may be the answer to the next command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    bytes: &'a [u8],
    /// Which command that is, the negotiation counted.
    id: usize,
}

impl<'a> Line<'a> {
    /// Takes it apart; `None` for what is no QMP.
    pub(crate) fn parse<T: Deserialize<'a>>(self) -> Option<Said<T>> {
        let message: Message<T> = serde_json::from_slice(self.bytes).ok()?;
        Some(match message {
            Message { id: Some(id), .. } if id != self.id => return None,
            // Without an id it is QEMU's "I could not even parse that": it can only be about the next one.
            Message {
                error: Some(refusal), ..
            } => Said::Refused(refusal),
            Message {
                id: Some(_),
                result: Some(result),
                ..
            } => Said::Result(result),
            Message { id: Some(_), .. } => return None,
            _ => Said::Other,
        })
    }
}

/// Who is told of the answers.
pub(crate) trait Listener {
    /// Takes a line that may be the answer to a machine's command, by its place among those given to [`Script::new`]:
    /// whether it was. `None` for what is no QMP.
    fn take(&mut self, vmid: VmId, place: usize, line: Line<'_>) -> Option<bool>;

    /// Takes the version that a machine's monitor greets with: `{"qemu": {…}, "package": …}`.
    fn greeted(&mut self, _vmid: VmId, _version: Value) {}
}

/// Has all these conversations, each within `budget` from its begin and all of them within `limit`. The outcome is which
/// were not held to their end, and why; what was answered until then was told.
pub(crate) fn ask(
    calls: Vec<Call>,
    budget: Duration,
    limit: Duration,
    listener: &mut impl Listener,
) -> Vec<(VmId, QmpError)> {
    let now = Instant::now();
    match Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC) {
        Ok(epoll) => Exchange {
            epoll,
            budget,
            end: now + limit,
            waiting: (0..calls.len()).collect(),
            not_before: now,
            deadlines: VecDeque::new(),
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
    budget: Duration,
    end: Instant,
    calls: Vec<Call>,
    /// Not connected yet.
    waiting: VecDeque<usize>,
    /// While a peer or this process has no room, nobody is called.
    not_before: Instant,
    /// When those that talk have to be over, in the order in which they began.
    deadlines: VecDeque<(Instant, usize)>,
    talks: Vec<Option<Talk>>,
    talking: usize,
    failed: Vec<(VmId, QmpError)>,
}

/// One conversation.
struct Talk {
    stream: UnixStream,
    sent: usize,
    received: Vec<u8>,
    is_greeted: bool,
    /// Commands that were answered.
    answered: usize,
}

/// What came of looking at a conversation.
enum Turn {
    /// It goes on.
    On,
    /// All is said.
    Over,
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
            }
        }
    }

    /// How long nothing is due but what comes from the monitors.
    fn patience(&self) -> EpollTimeout {
        let deadline = self.deadlines.front().map(|(deadline, _)| *deadline);
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
            let Some(call) = self.calls.get(at) else { continue };
            match connect_nonblocking(&call.socket) {
                Ok(stream) => self.begin(at, stream, now),
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

    /// A machine took the call: says everything.
    fn begin(&mut self, at: usize, stream: UnixStream, now: Instant) {
        let talk = Talk {
            stream,
            sent: 0,
            received: Vec::new(),
            is_greeted: false,
            answered: 0,
        };
        self.deadlines.push_back((self.end.min(now + self.budget), at));
        self.talking += 1;
        if let Some(place) = self.talks.get_mut(at) {
            *place = Some(talk);
        }
        match self.send(at) {
            Ok(is_sent) => {
                let interest = if is_sent {
                    EpollFlags::EPOLLIN
                } else {
                    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
                };
                let event = EpollEvent::new(interest, at as u64);
                let watched = self.talks.get(at).and_then(Option::as_ref);
                let watched = watched.map_or(Ok(()), |talk| self.epoll.add(&talk.stream, event));
                if let Err(errno) = watched {
                    self.fail(at, LinkError::Io(errno.into()));
                }
            }
            Err(error) => self.fail(at, error),
        }
    }

    /// Sends what is unsent: whether nothing is left.
    fn send(&mut self, at: usize) -> Result<bool, LinkError> {
        let (Some(call), Some(Some(talk))) = (self.calls.get(at), self.talks.get_mut(at)) else {
            return Ok(true);
        };
        loop {
            let rest = call.script.text.as_bytes().get(talk.sent..).unwrap_or_default();
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
        let has_unsent = self.has_unsent(at);
        if has_unsent && self.send(at)? {
            self.watch_input_only(at)?;
        }
        let (Some(call), Some(Some(talk))) = (self.calls.get(at), self.talks.get_mut(at)) else {
            return Ok(Turn::On);
        };
        match talk.stream.read(chunk) {
            Ok(0) => Err(LinkError::Closed),
            Ok(count) => talk.hear(call, chunk.get(..count).unwrap_or_default(), listener),
            Err(error) => super::link::retriable(error).map(|()| Turn::On),
        }
    }

    fn has_unsent(&self, at: usize) -> bool {
        match (self.calls.get(at), self.talks.get(at)) {
            (Some(call), Some(Some(talk))) => talk.sent < call.script.text.len(),
            _ => false,
        }
    }

    fn watch_input_only(&self, at: usize) -> Result<(), LinkError> {
        let Some(Some(talk)) = self.talks.get(at) else {
            return Ok(());
        };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN, at as u64);
        let changed = self.epoll.modify(&talk.stream, &mut event);
        changed.map_err(|errno| LinkError::Io(errno.into()))
    }

    /// Ends the conversations that took too long, and at the end of all time those that never began.
    fn end_late(&mut self) {
        let now = Instant::now();
        while let Some((deadline, at)) = self.deadlines.front().copied() {
            let is_over = self.talks.get(at).is_none_or(Option::is_none);
            if !is_over && now < deadline {
                break;
            }
            self.deadlines.pop_front();
            if !is_over {
                self.fail(at, LinkError::Timeout);
            }
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

impl Talk {
    /// Takes what was received, line by line.
    fn hear(&mut self, call: &Call, bytes: &[u8], listener: &mut impl Listener) -> Result<Turn, LinkError> {
        if self.received.len() + bytes.len() > MAX_MESSAGE {
            return Err(LinkError::TooLarge);
        }
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.received.is_empty() {
                self.hear_line(call, line, listener)?;
            } else {
                let mut whole = std::mem::take(&mut self.received);
                whole.extend_from_slice(line);
                self.hear_line(call, &whole, listener)?;
            }
            if self.answered >= call.script.names.len() {
                return Ok(Turn::Over);
            }
        }
        self.received.extend_from_slice(rest);
        Ok(Turn::On)
    }

    fn hear_line(&mut self, call: &Call, line: &[u8], listener: &mut impl Listener) -> Result<(), LinkError> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        if !self.is_greeted {
            let greeting: Greeting = serde_json::from_slice(line).map_err(|_| LinkError::Garbage)?;
            self.is_greeted = true;
            listener.greeted(call.vmid, greeting.qmp.version);
            return Ok(());
        }
        let line = Line {
            bytes: line,
            id: self.answered,
        };
        let is_answer = match self.answered {
            0 => line.parse::<IgnoredAny>().map(|said| !matches!(said, Said::Other)),
            answered => listener.take(call.vmid, answered - 1, line),
        };
        self.answered += usize::from(is_answer.ok_or(LinkError::Garbage)?);
        Ok(())
    }
}

impl Refusal {
    /// The refusal as an error of a machine's command.
    pub(crate) fn error(self, vmid: VmId, command: &str) -> QmpError {
        QmpError::Command {
            vmid,
            channel: "qmp",
            command: command.to_owned(),
            description: self.desc,
            class: self.class,
        }
    }
}

/// What went wrong with the first command that was not answered.
fn error(call: &Call, answered: usize, why: LinkError) -> QmpError {
    // The negotiation is nobody's command.
    let names = call.script.names.get(answered.max(1)).or(call.script.names.first());
    failure(call.vmid, "qmp", names.copied().unwrap_or_default(), why)
}
