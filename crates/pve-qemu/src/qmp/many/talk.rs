//! One conversation with a machine: what is said, and what is made of the lines that come back.
//!
//! Nothing here waits or sends. The peer is a QEMU that a guest may have taken over: what it says has limits.

use std::borrow::Cow;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use pve_schema::ids::VmId;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::qmp::QmpError;
use crate::qmp::link::LinkError;

/// Most bytes of one line: the statistics of some hundred disks. Many may be held at once, so that this is less than
/// what a dialogue with a single machine allows.
const MAX_LINE: usize = 1 << 20;
/// Most bytes of one conversation.
const MAX_TOTAL: usize = 4 << 20;
/// Most events between answers; guests can cause them.
const MAX_EVENTS: usize = 1000;
/// Most characters of a refusal that are told.
const MAX_TEXT: usize = 200;

/// What one machine is asked.
#[derive(Debug)]
pub(crate) struct Call {
    /// The machine.
    pub vmid: VmId,
    /// Its monitor's socket.
    pub socket: PathBuf,
    /// Its commands.
    pub script: Cow<'static, Script>,
    /// How long all of it may take from the first attempt to connect.
    pub budget: Duration,
}

/// Commands as they go over the wire, the negotiation first.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(super) names: Vec<&'static str>,
    text: String,
    /// Nothing is said before the greeting.
    is_patient: bool,
}

impl Script {
    /// A command that changes something, and its arguments.
    pub(crate) fn change(name: &'static str, arguments: Value) -> Self {
        Self {
            is_patient: true,
            ..Self::new([(name, arguments)])
        }
    }

    /// Commands and their arguments (null for none).
    pub(crate) fn new(commands: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut script = Self {
            names: Vec::new(),
            text: String::new(),
            is_patient: false,
        };
        script.add("qmp_capabilities", Value::Null);
        for (name, arguments) in commands {
            script.add(name, arguments);
        }
        script
    }

    fn add(&mut self, name: &'static str, arguments: Value) {
        let mut request = crate::qmp::request(name, arguments, None);
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
    version: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    qemu: Release,
}

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Release {
    major: u32,
    minor: u32,
    micro: u32,
}

impl std::fmt::Display for Release {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.micro)
    }
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

    /// Takes the version that a machine's monitor greets with.
    fn greeted(&mut self, _vmid: VmId, _version: Release) {}
}

/// One conversation.
pub(super) struct Talk {
    pub(super) stream: UnixStream,
    pub(super) sent: usize,
    /// The begin of a line.
    received: Vec<u8>,
    /// Bytes received.
    total: usize,
    /// Messages received that answered nothing.
    events: usize,
    is_greeted: bool,
    /// Commands that were answered.
    pub(super) answered: usize,
}

/// What came of looking at a conversation.
pub(super) enum Turn {
    /// It goes on.
    On,
    /// All is said.
    Over,
}

impl Talk {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            sent: 0,
            received: Vec::new(),
            total: 0,
            events: 0,
            is_greeted: false,
            answered: 0,
        }
    }

    /// What may be said now and was not.
    pub(super) fn unsent<'a>(&self, call: &'a Call) -> &'a [u8] {
        if call.script.is_patient && !self.is_greeted {
            return &[];
        }
        call.script.text.as_bytes().get(self.sent..).unwrap_or_default()
    }

    /// Takes what was received, line by line.
    pub(super) fn hear(&mut self, call: &Call, bytes: &[u8], listener: &mut impl Listener) -> Result<Turn, LinkError> {
        self.total += bytes.len();
        if self.received.len() + bytes.len() > MAX_LINE || self.total > MAX_TOTAL {
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
            if let Some(version) = greeting.qmp.version {
                listener.greeted(call.vmid, version.qemu);
            }
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
        if is_answer.ok_or(LinkError::Garbage)? {
            self.answered += 1;
            return Ok(());
        }
        self.events += 1;
        if self.events > MAX_EVENTS {
            return Err(LinkError::TooLarge);
        }
        Ok(())
    }
}

impl Refusal {
    /// The refusal as an error of a machine's command.
    pub(crate) fn error(&self, vmid: VmId, command: &str) -> QmpError {
        QmpError::Command {
            vmid,
            channel: "qmp",
            command: command.to_owned(),
            description: shortened(&self.desc),
            class: shortened(&self.class),
        }
    }
}

/// A text of QEMU as far as anybody reads.
fn shortened(text: &str) -> String {
    let end = text.char_indices().nth(MAX_TEXT).map(|(end, _)| end);
    match end.and_then(|end| text.get(..end)) {
        Some(begin) => format!("{begin}…"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
