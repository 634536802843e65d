//! The monitor of a running VM (reference 06b §5).
//!
//! A [`Qmp`] is one batch of commands: it connects when the first command is sent and closes when it is dropped, because
//! QEMU serves one client at a time. Nothing is sent to a VM that does not run.
//!
//! All monitors of a node at once are asked by [`many`].
//!
//! The guest agent's socket speaks nearly the same and lives in [`agent`]. Why the connection is written here and the
//! message types come from `qapi-spec` is told in `docs/decisions/0010-qmp.md`.

pub mod agent;
mod link;
pub(crate) mod many;
mod timeouts;

use std::path::Path;
use std::time::{Duration, Instant};

use pve_schema::ids::VmId;
use pve_schema::{Failure, Site};
use qapi_spec::Response;
use serde_json::{Value, json};

pub use agent::Agent;
use link::{Link, LinkError};

use crate::process;
use crate::runtime::Runtime;

/// How long a connection and its greeting may take before the VM's monitor counts as stuck.
const CONNECT: Duration = Duration::from_secs(5);
/// Most messages (events, late answers) that are passed over while an answer is awaited: a guest that causes events
/// without end must not hold a command beyond its time by that.
const MAX_SKIPPED: usize = 100_000;

/// What can go wrong with a monitor command.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// There is nobody to ask.
    #[error("VM {0} not running")]
    NotRunning(VmId),
    /// The process runs, its socket is missing.
    #[error("unable to open monitor socket")]
    NoSocket,
    /// QEMU or the agent refused, or did not answer as it should.
    #[error("VM {vmid} {channel} command '{command}' failed - {description}")]
    Command {
        /// The VM.
        vmid: VmId,
        /// `qmp` or `qga`.
        channel: &'static str,
        /// The command.
        command: String,
        /// QEMU's own text, `got timeout`, or what is wrong with the connection.
        description: String,
        /// QEMU's error class; empty when the connection is at fault.
        class: String,
    },
}

impl Failure for QmpError {}

impl QmpError {
    /// Whether QEMU said that it does not know the command.
    pub fn is_unknown_command(&self) -> bool {
        matches!(self, Self::Command { class, .. } if class == "CommandNotFound")
    }

    /// Whether QEMU said that a drive's tray is closed which has to be open.
    pub(crate) fn is_closed_tray(&self) -> bool {
        matches!(self, Self::Command { description, .. }
            if description.starts_with("Tray of ") && description.ends_with(" is not open"))
    }

    /// Whether the answer came from the other side rather than from the connection.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Command { class, .. } if !class.is_empty())
    }
}

/// One batch of monitor commands.
#[derive(Debug)]
pub struct Qmp<'a> {
    site: &'a Site,
    vmid: VmId,
    link: Option<Link>,
    deadline: Option<Instant>,
    sent: u64,
}

impl<'a> Qmp<'a> {
    /// A batch of commands for a VM; nothing is sent yet.
    pub fn new(site: &'a Site, vmid: VmId) -> Self {
        Self {
            site,
            vmid,
            link: None,
            deadline: None,
            sent: 0,
        }
    }

    /// The whole batch must be done by then, whatever the commands' own limits are.
    pub fn within(mut self, budget: Duration) -> Self {
        self.deadline = Some(pve_schema::clock::deadline(budget));
        self
    }

    /// Executes a command; `arguments` is an object, or null for none. The answer is the `return` value.
    ///
    /// # Errors
    /// [`QmpError`]; after one, the next command of the batch connects anew.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(command, arguments, timeouts::of(command))
    }

    /// Executes a command that has a time limit of its own.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn execute_within(&mut self, command: &str, arguments: Value, limit: Duration) -> Result<Value, QmpError> {
        let answer = self.attempt(command, arguments, limit);
        if answer.as_ref().is_err_and(|error| !error.is_refusal()) {
            self.link = None;
        }
        answer
    }

    /// Executes a human monitor command; the answer is its text.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn human(&mut self, line: &str) -> Result<String, QmpError> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    fn attempt(&mut self, command: &str, arguments: Value, limit: Duration) -> Result<Value, QmpError> {
        let vmid = self.vmid;
        let fail = |error| failure(vmid, "qmp", command, error);
        let mut link = match self.link.take() {
            Some(link) => link,
            None => {
                if !process::is_running(self.site, vmid) {
                    return Err(QmpError::NotRunning(vmid));
                }
                let path = Runtime::new(self.site, vmid).monitor();
                greet(&path, vmid, self.limited(CONNECT)).map_err(fail)?
            }
        };
        let deadline = self.limited(limit);
        self.sent += 1;
        let id = format!("{}:{}", std::process::id(), self.sent);
        let answer = round_trip(&mut link, command, arguments, &id, deadline).map_err(fail)?;
        self.link = Some(link);
        interpret(vmid, "qmp", command, answer)
    }

    fn limited(&self, limit: Duration) -> Instant {
        let deadline = pve_schema::clock::deadline(limit);
        self.deadline.map_or(deadline, |batch| batch.min(deadline))
    }
}

/// Executes a single command: one connection.
///
/// # Errors
/// As [`Qmp::execute`].
pub fn execute(site: &Site, vmid: VmId, command: &str, arguments: Value) -> Result<Value, QmpError> {
    Qmp::new(site, vmid).execute(command, arguments)
}

/// Connects and negotiates.
fn greet(path: &Path, vmid: VmId, deadline: Instant) -> Result<Link, LinkError> {
    let mut link = Link::open(path, deadline).map_err(|error| describe_connect(error, vmid, "qmp"))?;
    let greeting = link.receive(deadline)?;
    if greeting.get("QMP").is_none() {
        return Err(LinkError::Garbage);
    }
    round_trip(&mut link, "qmp_capabilities", Value::Null, "greeting", deadline)?;
    Ok(link)
}

/// Sends a command and passes over events and answers to other commands until its own answer comes.
fn round_trip(
    link: &mut Link,
    command: &str,
    arguments: Value,
    id: &str,
    deadline: Instant,
) -> Result<Value, LinkError> {
    link.send(&request(command, arguments, Some(id)), deadline)?;
    for _ in 0..MAX_SKIPPED {
        let message = link.receive(deadline)?;
        // An answer without an id is QEMU's "I could not even parse that": it can only be ours.
        let ours = match message.get("id") {
            Some(answered) => answered.as_str() == Some(id),
            None => message.get("error").is_some(),
        };
        if ours {
            return Ok(message);
        }
    }
    Err(LinkError::Timeout)
}

/// A command as it goes over the wire.
fn request(command: &str, arguments: Value, id: Option<&str>) -> Value {
    let mut request = json!({ "execute": command });
    if !arguments.is_null() {
        request["arguments"] = arguments;
    }
    if let Some(id) = id {
        request["id"] = json!(id);
    }
    request
}

/// The `return` value, or the peer's refusal.
fn interpret(vmid: VmId, channel: &'static str, command: &str, answer: Value) -> Result<Value, QmpError> {
    let refused = |description: String, class: String| QmpError::Command {
        vmid,
        channel,
        command: command.to_owned(),
        description,
        class,
    };
    match serde_json::from_value::<Response<Value>>(answer) {
        Ok(response) => response
            .result()
            .map_err(|error| refused(error.desc, format!("{:?}", error.class))),
        Err(_) => Err(refused(LinkError::Garbage.to_string(), String::new())),
    }
}

fn failure(vmid: VmId, channel: &'static str, command: &str, error: LinkError) -> QmpError {
    match error {
        LinkError::NoSocket => QmpError::NoSocket,
        error => QmpError::Command {
            vmid,
            channel,
            command: command.to_owned(),
            description: error.to_string(),
            class: String::new(),
        },
    }
}

/// Says what could not be connected to.
fn describe_connect(error: LinkError, vmid: VmId, channel: &str) -> LinkError {
    match error {
        LinkError::Busy(_) | LinkError::Connect(_) => LinkError::Connect(std::io::Error::other(format!(
            "unable to connect to VM {vmid} {channel} socket - {error}"
        ))),
        error => error,
    }
}

#[cfg(test)]
mod tests;
