//! The guest agent's socket (reference 06b §5, §12).
//!
//! Each command follows a `guest-sync-delimited`, so that an answer to somebody who gave up earlier is not taken for
//! ours.

use std::time::{Duration, Instant};

use pve_schema::ids::VmId;
use pve_schema::{Failure, Site};
use serde_json::{Value, json};

use super::link::{Link, LinkError};
use super::{QmpError, describe_connect, failure, interpret, request, timeouts};
use crate::process;
use crate::runtime::Runtime;

/// How long connecting and synchronising may take: the same as a ping's whole time.
const SYNC: Duration = Duration::from_secs(3);
/// Most frames of others that are passed over while synchronising.
const MAX_FRAMES: usize = 1000;

/// Why the agent is not to be asked at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AgentGate {
    /// The configuration has none.
    #[error("No QEMU guest agent configured")]
    NotConfigured,
    /// The VM is off.
    #[error("VM {0} is not running")]
    NotRunning(VmId),
    /// It does not answer; providers poll for exactly this text.
    #[error("QEMU guest agent is not running")]
    Silent,
}

impl Failure for AgentGate {}

/// The guest agent of a VM.
#[derive(Debug, Clone, Copy)]
pub struct Agent<'a> {
    site: &'a Site,
    vmid: VmId,
}

impl<'a> Agent<'a> {
    /// The agent of a VM.
    pub fn new(site: &'a Site, vmid: VmId) -> Self {
        Self { site, vmid }
    }

    /// Whether it may be asked: the three questions in their order. `configured` is the `agent` key's `enabled`.
    ///
    /// # Errors
    /// [`AgentGate`].
    pub fn check(&self, configured: bool) -> Result<(), AgentGate> {
        if !configured {
            return Err(AgentGate::NotConfigured);
        }
        if !process::is_running(self.site, self.vmid) {
            return Err(AgentGate::NotRunning(self.vmid));
        }
        self.execute("guest-ping", Value::Null)
            .map(drop)
            .map_err(|_| AgentGate::Silent)
    }

    /// Executes a command.
    ///
    /// # Errors
    /// [`QmpError`]; a command that ends the guest may close without an answer, which counts as success.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        if !process::is_running(self.site, self.vmid) {
            return Err(QmpError::NotRunning(self.vmid));
        }
        let fail = |error| failure(self.vmid, "qga", command, error);
        let mut link = self.synchronise().map_err(fail)?;
        let deadline = Instant::now() + timeouts::of(command);
        link.send(&request(command, arguments, None), deadline).map_err(fail)?;
        match link.receive(deadline) {
            Ok(answer) => interpret(self.vmid, "qga", command, answer),
            Err(LinkError::Closed) if may_end_silently(command) => Ok(json!({})),
            Err(error) => Err(fail(error)),
        }
    }

    fn synchronise(&self) -> Result<Link, LinkError> {
        let deadline = Instant::now() + SYNC;
        let path = Runtime::new(self.site, self.vmid).agent();
        let mut link = Link::open(&path, deadline).map_err(|error| describe_connect(error, self.vmid, "qga"))?;
        let id = sync_id();
        let sync = request("guest-sync-delimited", json!({ "id": id }), None);
        link.send_framed(&sync, deadline)?;
        for _ in 0..MAX_FRAMES {
            link.skip_to_frame(deadline)?;
            let answer = link.receive(deadline)?;
            if answer.get("return").and_then(Value::as_i64) == Some(id) {
                return Ok(link);
            }
        }
        Err(LinkError::Garbage)
    }
}

/// A number that no earlier client of the same agent is likely to have used; it needs no secrecy.
fn sync_id() -> i64 {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    (i64::from(std::process::id()) << 20) ^ i64::from(nanos)
}

fn may_end_silently(command: &str) -> bool {
    command == "guest-shutdown" || command.starts_with("guest-suspend-")
}
