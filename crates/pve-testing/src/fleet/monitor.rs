//! The monitors of a fleet: all of them on one thread.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::Backlog;
use serde_json::{Value, json};

use super::{Figures, Manner, State};

/// How often the server looks whether it is to end, in milliseconds.
const LOOK: u8 = 50;
/// Set in the data of an event that is about a client, not about a listener.
const CLIENT: u64 = 1 << 32;
/// What stock QEMU 10.0 counts of a disk and of the file below it.
const COUNTERS: [&str; 29] = [
    "unmap_operations",
    "unmap_merged",
    "failed_zone_append_operations",
    "flush_total_time_ns",
    "wr_highest_offset",
    "wr_total_time_ns",
    "failed_wr_operations",
    "failed_rd_operations",
    "wr_merged",
    "wr_bytes",
    "failed_unmap_operations",
    "zone_append_merged",
    "failed_flush_operations",
    "rd_total_time_ns",
    "invalid_unmap_operations",
    "flush_operations",
    "wr_operations",
    "unmap_bytes",
    "rd_merged",
    "rd_bytes",
    "unmap_total_time_ns",
    "invalid_flush_operations",
    "zone_append_total_time_ns",
    "zone_append_operations",
    "rd_operations",
    "zone_append_bytes",
    "invalid_zone_append_operations",
    "invalid_wr_operations",
    "invalid_rd_operations",
];

/// The listeners of a fleet and their clients.
pub(super) struct Monitors {
    epoll: Epoll,
    listeners: BTreeMap<u32, UnixListener>,
    clients: BTreeMap<u32, Client>,
    state: Arc<Mutex<State>>,
}

struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    manner: Manner,
}

impl Monitors {
    pub(super) fn listen(directory: &Path, vmids: &[u32], state: Arc<Mutex<State>>) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
        let listen = |vmid: &u32| {
            let listener = UnixListener::bind(directory.join(format!("{vmid}.qmp"))).expect("a socket");
            // The queue of QEMU's own socket.
            nix::sys::socket::listen(&listener, Backlog::new(1).expect("a length")).expect("a shorter queue");
            listener.set_nonblocking(true).expect("a socket that does not block");
            epoll.add(&listener, event(u64::from(*vmid))).expect("to be watched");
            (*vmid, listener)
        };
        let listeners = vmids.iter().map(listen).collect();
        Self {
            epoll,
            listeners,
            clients: BTreeMap::new(),
            state,
        }
    }

    pub(super) fn serve(mut self, is_over: &AtomicBool) {
        let mut events = vec![EpollEvent::empty(); 256];
        while !is_over.load(Ordering::SeqCst) {
            let count = self.epoll.wait(&mut events, LOOK).unwrap_or(0);
            for event in &events[..count] {
                let vmid = u32::try_from(event.data() & (CLIENT - 1)).expect("a number as was given");
                match event.data() & CLIENT {
                    0 => self.accept(vmid),
                    _ => self.answer(vmid),
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a client; until it is gone nobody else is looked at.
    fn accept(&mut self, vmid: u32) {
        if self.state().manners.get(&vmid) == Some(&Manner::Deaf) {
            let listener = self.listeners.get(&vmid).expect("it has one");
            let _ = self.epoll.delete(listener);
            return;
        }
        let Some(Ok((mut stream, _))) = self.listeners.get(&vmid).map(UnixListener::accept) else {
            return;
        };
        let manner = {
            let mut state = self.state();
            state.calls += 1;
            state.manners.get(&vmid).copied().unwrap_or(Manner::Kind)
        };
        stream.set_nonblocking(true).expect("a client that does not block");
        let greeting = match manner {
            Manner::Silent | Manner::Deaf | Manner::Dead => String::new(),
            Manner::Babbling => "HTTP/1.1 400 Bad Request\r\n".to_owned(),
            Manner::Kind | Manner::Stuck => {
                let qemu = json!({ "micro": 2, "minor": 0, "major": 10 });
                let greeting = json!({ "version": { "qemu": qemu, "package": "Debian" }, "capabilities": ["oob"] });
                format!("{}\r\n", json!({ "QMP": greeting }))
            }
        };
        // A client may have gone already.
        let _ = stream.write_all(greeting.as_bytes());
        let listener = self.listeners.get(&vmid).expect("it was just used");
        let _ = self.epoll.delete(listener);
        self.epoll
            .add(&stream, event(CLIENT | u64::from(vmid)))
            .expect("to be watched");
        let client = Client {
            stream,
            received: Vec::new(),
            manner,
        };
        self.clients.insert(vmid, client);
    }

    fn answer(&mut self, vmid: u32) {
        let Some(mut client) = self.clients.remove(&vmid) else {
            return;
        };
        let mut chunk = [0; 4096];
        let is_gone = match client.stream.read(&mut chunk) {
            Ok(0) => true,
            Ok(count) => {
                client.received.extend_from_slice(&chunk[..count]);
                while let Some(end) = client.received.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = client.received.drain(..=end).collect();
                    let reply = self.reply(vmid, client.manner, &line);
                    if reply.is_empty() {
                        // What comes after a command that hangs is not answered either.
                        client.manner = Manner::Silent;
                    }
                    let _ = client.stream.write_all(reply.as_bytes());
                }
                false
            }
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        if !is_gone {
            self.clients.insert(vmid, client);
            return;
        }
        drop(client);
        if let Some(listener) = self.listeners.get(&vmid) {
            self.epoll
                .add(listener.as_fd(), event(u64::from(vmid)))
                .expect("to be watched");
        }
    }

    /// The answer to a line; empty for none.
    fn reply(&self, vmid: u32, manner: Manner, line: &[u8]) -> String {
        let Ok(request) = serde_json::from_slice::<Value>(line) else {
            return String::new();
        };
        let command = request["execute"].as_str().unwrap_or_default();
        let is_quiet = match manner {
            Manner::Kind => false,
            Manner::Stuck => command == "query-blockstats",
            Manner::Silent | Manner::Deaf | Manner::Dead | Manner::Babbling => true,
        };
        if is_quiet {
            return String::new();
        }
        let id = request
            .get("id")
            .map_or_else(String::new, |id| format!(", \"id\": {id}"));
        match self.result(vmid, command, &request["arguments"]) {
            Ok(result) => format!("{{\"return\": {result}{id}}}\r\n"),
            Err(text) => format!("{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"{text}\"}}{id}}}\r\n"),
        }
    }

    fn result(&self, vmid: u32, command: &str, arguments: &Value) -> Result<String, &'static str> {
        let figures = Figures::of(vmid);
        let property = (arguments["path"].as_str(), arguments["property"].as_str());
        Ok(match (command, property) {
            ("qmp_capabilities", _) => "{}".to_owned(),
            ("query-status", _) => "{\"status\": \"running\", \"running\": true}".to_owned(),
            ("query-blockstats", _) => block_stats(figures),
            ("query-balloon", _) => {
                let set = self.state().balloons.get(&vmid).copied();
                format!("{{\"actual\": {}}}", set.unwrap_or(figures.balloon))
            }
            ("balloon", _) => {
                let value = arguments["value"].as_u64().ok_or("Parameter 'value' is missing")?;
                self.state().balloons.insert(vmid, value);
                "{}".to_owned()
            }
            ("qom-get", (Some("/machine/peripheral/balloon0"), Some("guest-stats"))) => format!(
                "{{\"stats\": {{\"stat-htlb-pgalloc\": 0, \"stat-swap-out\": 0, \"stat-available-memory\": {0}, \
                 \"stat-free-memory\": {0}, \"stat-minor-faults\": 3, \"stat-major-faults\": 1, \"stat-total-memory\": \
                 {1}, \"stat-swap-in\": 0, \"stat-disk-caches\": 9}}, \"last-update\": 1700000000}}",
                figures.free, figures.memory
            ),
            ("qom-get", (Some("/machine"), Some("type"))) => "\"pc-i440fx-10.0-machine\"".to_owned(),
            ("query-version", _) => {
                "{\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}, \"package\": \"x\"}".into()
            }
            _ => return Err("no such thing"),
        })
    }
}

fn event(data: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, data)
}

/// The answer to `query-blockstats`, as long as stock QEMU's is for one disk of a qcow2 file.
fn block_stats(figures: Figures) -> String {
    let counters = |figures: Option<Figures>| {
        let counter = |name: &&str| {
            let value = match (*name, figures) {
                ("rd_bytes", Some(figures)) => figures.read,
                ("wr_bytes", Some(figures)) => figures.written,
                _ => 4711,
            };
            format!("\"{name}\": {value}, ")
        };
        let all: String = COUNTERS.iter().map(counter).collect();
        format!("{{{all}\"timed_stats\": [], \"account_invalid\": true, \"account_failed\": true}}")
    };
    format!(
        "[{{\"device\": \"\", \"parent\": {{\"stats\": {}, \"node-name\": \"file-scsi0\", \"driver-specific\": \
         {{\"discard-bytes-ok\": 0, \"discard-nb-ok\": 0, \"driver\": \"file\", \"discard-nb-failed\": 0}}}}, \"stats\": \
         {}, \"node-name\": \"drive-scsi0\", \"qdev\": \"scsi0\"}}]",
        counters(None),
        counters(Some(figures))
    )
}
