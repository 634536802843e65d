//! What one client of the event socket says, and what it is told: no I/O here.

use pve_schema::ids::VmId;
use serde_json::{Value, json};

/// Most bytes of one message. The longest real ones are a few kilobytes; a client that sends more is no QEMU.
const MAX_MESSAGE: usize = 256 << 10;

/// Guest states in which a VM that announced its shutdown is not over after all.
const ALIVE: [&str; 4] = ["running", "paused", "suspended", "prelaunch"];

/// A client that does not speak the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("client does not speak the protocol")]
pub struct Garbage;

/// Cuts a byte stream into JSON values. They need no line ends between them: backup clients send none.
#[derive(Debug, Default)]
pub struct Messages(Vec<u8>);

impl Messages {
    /// Takes in bytes and hands out the values that are complete now.
    ///
    /// # Errors
    /// [`Garbage`] for anything that is no JSON, or too long.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Value>, Garbage> {
        self.0.extend_from_slice(bytes);
        let mut values = Vec::new();
        let mut stream = serde_json::Deserializer::from_slice(&self.0).into_iter::<Value>();
        let consumed = loop {
            let before = stream.byte_offset();
            match stream.next() {
                Some(Ok(value)) => values.push(value),
                Some(Err(error)) if error.is_eof() => break before,
                Some(Err(_)) => return Err(Garbage),
                None => break stream.byte_offset(),
            }
        };
        self.0.drain(..consumed);
        if self.0.len() > MAX_MESSAGE {
            return Err(Garbage);
        }
        Ok(values)
    }
}

/// What a client's first message says it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Introduction {
    /// A VM's second monitor.
    Vm,
    /// Somebody who needs the VM's process to stay until the connection closes.
    Backup(VmId),
    /// The process of a backup, whose end – when the connection closes – is to be noticed. Our own word.
    Worker(VmId),
}

/// Reads a client's first message.
///
/// # Errors
/// [`Garbage`] for anything else.
pub(crate) fn introduction(message: &Value) -> Result<Introduction, Garbage> {
    if message.get("QMP").is_some() {
        return Ok(Introduction::Vm);
    }
    let holder = message.pointer("/vzdump/vmid");
    let vmid = holder.or_else(|| message.pointer("/backup/vmid")).ok_or(Garbage)?;
    let text = match vmid {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(Garbage),
    };
    let vmid = text.parse().map_err(|_| Garbage)?;
    Ok(match holder {
        Some(_) => Introduction::Backup(vmid),
        None => Introduction::Worker(vmid),
    })
}

/// What is to be done for a VM.
#[derive(Debug, PartialEq)]
pub(crate) enum Reaction {
    /// Send this.
    Send(Value),
    /// The VM is over: end its process, unless a backup holds it.
    End,
}

/// What is known of a connected VM.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VmState {
    /// It shut down.
    pub graceful: bool,
    /// The guest itself asked for that.
    pub guest: bool,
}

impl VmState {
    /// Takes in a message of the VM.
    pub(crate) fn receive(&mut self, message: &Value) -> Vec<Reaction> {
        if message.get("QMP").is_some() {
            // A VM that shut down while nobody listened will not say so again: ask.
            return vec![Reaction::Send(capabilities()), Reaction::Send(query_status())];
        }
        if message.get("event").and_then(Value::as_str) == Some("SHUTDOWN") {
            self.graceful = true;
            // Our own `quit` causes another such event, which says nothing about the guest.
            self.guest |= message.pointer("/data/guest").and_then(Value::as_bool).unwrap_or(false);
            return vec![Reaction::Send(query_status())];
        }
        match message.pointer("/return/status").and_then(Value::as_str) {
            Some(status) if self.is_over(status) => {
                self.graceful = true;
                vec![Reaction::End]
            }
            _ => Vec::new(),
        }
    }

    /// Without an announced shutdown only `shutdown` itself counts: a VM that waits for a migration is not over.
    fn is_over(self, status: &str) -> bool {
        if self.graceful {
            !ALIVE.contains(&status)
        } else {
            status == "shutdown"
        }
    }
}

/// The negotiation that QEMU demands before any command.
fn capabilities() -> Value {
    json!({ "execute": "qmp_capabilities" })
}

/// Asks for the guest's state.
pub(crate) fn query_status() -> Value {
    json!({ "execute": "query-status" })
}

/// Ends the process.
pub(crate) fn quit() -> Value {
    json!({ "execute": "quit" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_out_of_any_pieces() {
        let mut messages = Messages::default();
        let text = "{\"QMP\": {}}\r\n{\"event\": \"RESUME\"}{\"a\": [1, \"}\"]}";
        let mut values = Vec::new();
        for byte in text.as_bytes() {
            values.extend(messages.push(&[*byte]).unwrap());
        }
        let expected = [json!({"QMP": {}}), json!({"event": "RESUME"}), json!({"a": [1, "}"]})];
        assert_eq!(values, expected);
        assert_eq!(Messages::default().push(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_json_or_has_no_end_is_refused() {
        for garbage in ["hello\n", "{]", "\u{0}\u{1}", &"[".repeat(100_000)] {
            assert_eq!(
                Messages::default().push(garbage.as_bytes()),
                Err(Garbage),
                "{garbage:.10}"
            );
        }
        let mut messages = Messages::default();
        let endless = std::iter::once(messages.push(b"\"")).chain((0..100).map(|_| messages.push(&[b'a'; 4096])));
        assert!(endless.last().unwrap().is_err());
    }

    #[test]
    fn clients_introduce_themselves() {
        let vmid = 105.try_into().unwrap();
        let cases = [
            (json!({"QMP": {"version": {}}}), Ok(Introduction::Vm)),
            (json!({"vzdump": {"vmid": "105"}}), Ok(Introduction::Backup(vmid))),
            (json!({"vzdump": {"vmid": 105}}), Ok(Introduction::Backup(vmid))),
            (json!({"vzdump": {"vmid": "5"}}), Err(Garbage)),
            (json!({"backup": {"vmid": "105"}}), Ok(Introduction::Worker(vmid))),
            (json!({"backup": {}}), Err(Garbage)),
            (json!({"event": "SHUTDOWN"}), Err(Garbage)),
            (json!([]), Err(Garbage)),
        ];
        for (message, expected) in cases {
            assert_eq!(introduction(&message), expected, "{message}");
        }
    }

    /// Reference 06b, vector 29.
    #[test]
    fn a_guest_that_powers_off_is_ended() {
        let mut vm = VmState::default();
        let greeting = vm.receive(&json!({"QMP": {}}));
        assert_eq!(
            greeting,
            [Reaction::Send(capabilities()), Reaction::Send(query_status())]
        );
        assert_eq!(vm.receive(&json!({"return": {}})), []);
        assert_eq!(
            vm.receive(&json!({"return": {"status": "running", "running": true}})),
            []
        );
        let shutdown = json!({"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}});
        assert_eq!(vm.receive(&shutdown), [Reaction::Send(query_status())]);
        assert_eq!(vm.receive(&json!({"return": {"status": "shutdown"}})), [Reaction::End]);
        assert_eq!((vm.graceful, vm.guest), (true, true));
        let quit = json!({"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}});
        vm.receive(&quit);
        assert_eq!((vm.graceful, vm.guest), (true, true));
    }

    #[test]
    fn states_say_whether_a_vm_is_over() {
        let cases = [
            (true, "shutdown", true),
            (true, "guest-panicked", true),
            (true, "running", false),
            (true, "paused", false),
            (true, "suspended", false),
            (true, "prelaunch", false),
            (false, "shutdown", true),
            (false, "inmigrate", false),
            (false, "postmigrate", false),
        ];
        for (graceful, status, over) in cases {
            let mut vm = VmState { graceful, guest: false };
            let reactions = vm.receive(&json!({"return": {"status": status}}));
            assert_eq!(reactions == [Reaction::End], over, "{graceful} {status}");
        }
    }
}
