//! The event socket: one thread waits for all clients; what follows a VM's end runs in threads of its own.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use pve_schema::ids::VmId;
use pve_schema::{Site, errno_text};
use serde_json::Value;

use super::Exit;
use super::session::{Garbage, Introduction, Messages, Reaction, VmState, introduction, query_status, quit};
use crate::cleanup;
use crate::process::{self, Process, Stat};

/// How long a VM may take to follow `quit` or SIGTERM before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(60);

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The socket cannot be used.
    #[error("unable to use the event socket - {0}")]
    Socket(io::Error),
    /// Waiting for clients failed.
    #[error("unable to wait for clients - {0}")]
    Poll(nix::Error),
}

/// Who a client is.
#[derive(Debug)]
enum Role {
    /// It has not said yet.
    Stranger,
    Vm {
        vmid: VmId,
        process: Process,
        state: VmState,
    },
    /// It needs the VM's process.
    Backup(VmId),
    /// A backup itself.
    Worker(VmId),
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    pid: i32,
    /// The VM that the process is, read as soon as it connects: it may be gone before its first word is heard.
    vm: Option<(VmId, Process)>,
    messages: Messages,
    role: Role,
}

/// What reading from a client came to.
enum Received {
    Values(Vec<Value>),
    Closed,
    Garbage,
}

/// The event socket and its clients.
pub struct Server {
    site: Arc<Site>,
    listener: UnixListener,
    clients: Vec<Client>,
    /// VMs that were told to end, and when they will be killed.
    ending: Vec<(Process, Instant)>,
    after_exit: Arc<dyn Fn(Exit) + Send + Sync>,
    after_backup: Option<Arc<dyn Fn(VmId) + Send + Sync>>,
    /// What runs after VMs that have gone.
    cleaning: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves a socket that listens. `after_exit` runs in a thread of its own for each VM that has gone.
    ///
    /// # Errors
    /// [`ServerError::Socket`].
    pub fn new(
        site: Arc<Site>,
        listener: UnixListener,
        after_exit: Arc<dyn Fn(Exit) + Send + Sync>,
    ) -> Result<Self, ServerError> {
        listener.set_nonblocking(true).map_err(ServerError::Socket)?;
        Ok(Self {
            site,
            listener,
            clients: Vec::new(),
            ending: Vec::new(),
            after_exit,
            after_backup: None,
            cleaning: Vec::new(),
        })
    }

    /// `after_backup` runs in a thread of its own when a backup has ended, be it that it was killed.
    #[must_use]
    pub fn on_backup_end(mut self, after_backup: Arc<dyn Fn(VmId) + Send + Sync>) -> Self {
        self.after_backup = Some(after_backup);
        self
    }

    /// Serves until `stop` becomes readable, and lets what runs after VMs end first.
    ///
    /// # Errors
    /// [`ServerError::Poll`].
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), ServerError> {
        loop {
            let Some(ready) = self.wait(stop)? else {
                self.finish();
                return Ok(());
            };
            // From the last to the first: removing a client moves only those that were looked at already.
            for index in ready.clients.into_iter().rev() {
                self.serve(index);
            }
            if ready.listener {
                self.accept();
            }
            self.kill_overdue(Instant::now());
        }
    }

    fn wait(&self, stop: BorrowedFd<'_>) -> Result<Option<Ready>, ServerError> {
        let mut descriptors = vec![
            PollFd::new(stop, PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        let streams = self.clients.iter().map(|client| client.stream.as_fd());
        descriptors.extend(streams.map(|stream| PollFd::new(stream, PollFlags::POLLIN)));
        match poll(&mut descriptors, self.next_deadline()) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(ServerError::Poll(errno)),
        }
        let mut ready = descriptors.iter().map(|descriptor| descriptor.any().unwrap_or(true));
        if ready.next().unwrap_or(true) {
            return Ok(None);
        }
        let listener = ready.next().unwrap_or(false);
        let clients = ready.enumerate().filter(|(_, ready)| *ready).map(|(index, _)| index);
        Ok(Some(Ready {
            listener,
            clients: clients.collect(),
        }))
    }

    fn next_deadline(&self) -> PollTimeout {
        let Some(earliest) = self.ending.iter().map(|(_, deadline)| *deadline).min() else {
            return PollTimeout::NONE;
        };
        let left = earliest.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    /// Takes in a client, if it is root's.
    fn accept(&mut self) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                log::warn!("unable to accept a client - {error}");
                return;
            }
        };
        let peer = match getsockopt(&stream, PeerCredentials) {
            Ok(peer) if peer.uid() == self.site.root_user.uid => peer,
            Ok(peer) => {
                log::warn!("refused a client of user {}", peer.uid());
                return;
            }
            Err(error) => {
                log::warn!("unable to tell who a client is - {error}");
                return;
            }
        };
        if let Err(error) = stream.set_nonblocking(true) {
            log::warn!("unable to prepare a client's connection - {error}");
            return;
        }
        self.clients.push(Client {
            stream,
            pid: peer.pid(),
            vm: identify(&self.site, peer.pid()),
            messages: Messages::default(),
            role: Role::Stranger,
        });
    }

    fn serve(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        let outcome = match receive(client) {
            Received::Values(values) => values.iter().try_for_each(|value| self.take_in(index, value)),
            Received::Garbage => Err(Garbage),
            Received::Closed => return self.closed(index),
        };
        if let Err(garbage) = outcome {
            self.drop_client(index, &garbage);
        }
    }

    fn take_in(&mut self, index: usize, message: &Value) -> Result<(), Garbage> {
        let client = self.clients.get_mut(index).ok_or(Garbage)?;
        if matches!(client.role, Role::Stranger) {
            client.role = introduce(client.vm, message)?;
        }
        let Role::Vm { vmid, state, .. } = &mut client.role else {
            return Ok(());
        };
        let vmid = *vmid;
        for reaction in state.receive(message) {
            match reaction {
                // A process that is ending says so and closes: the answer may come too late, and its end follows.
                Reaction::Send(request) => {
                    if let Err(error) = send(&mut client.stream, &request) {
                        log::debug!("unable to ask VM {vmid} - {error}");
                    }
                }
                Reaction::End if is_held(&self.clients, vmid) => {
                    log::info!("VM {vmid} has shut down; a backup holds it");
                    return Ok(());
                }
                Reaction::End => {
                    self.end(index);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Tells a VM's process to end.
    fn end(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        let Role::Vm { vmid, process, .. } = client.role else {
            return;
        };
        if self.ending.iter().any(|(known, _)| *known == process) {
            return;
        }
        log::info!("VM {vmid} has shut down; ending its process");
        if let Err(error) = send(&mut client.stream, &quit()) {
            log::warn!("unable to send 'quit' to VM {vmid} - {error}; terminating it");
            process.signal(Signal::SIGTERM);
        }
        self.ending.push((process, Instant::now() + KILL_AFTER));
    }

    fn kill_overdue(&mut self, now: Instant) {
        self.ending.retain(|(process, deadline)| {
            if !process.is_alive() {
                return false;
            }
            if now >= *deadline {
                log::warn!("process {} did not end in time; killing it", process.pid);
                process.signal(Signal::SIGKILL);
            }
            now < *deadline
        });
    }

    /// A client has closed its side.
    fn closed(&mut self, index: usize) {
        match self.clients.swap_remove(index).role {
            Role::Stranger => self.handle_leftovers(),
            Role::Backup(vmid) => self.ask_again(vmid),
            Role::Worker(vmid) => self.backup_ended(vmid),
            Role::Vm { vmid, process, state } => self.exited(vmid, process, state),
        }
    }

    /// A backup has ended, or was killed.
    fn backup_ended(&mut self, vmid: VmId) {
        if let Some(after_backup) = self.after_backup.clone() {
            self.aside(&format!("cleanup-{vmid}"), move || after_backup(vmid));
        }
    }

    /// A VM may have shut down while a backup held it.
    fn ask_again(&mut self, vmid: VmId) {
        for client in &mut self.clients {
            let asked = match &client.role {
                Role::Vm { vmid: other, .. } if *other == vmid => send(&mut client.stream, &query_status()),
                _ => Ok(()),
            };
            if let Err(error) = asked {
                log::warn!("unable to ask VM {vmid} for its state - {error}");
            }
        }
    }

    /// A client is not understood. A VM that lives on connects again; one that has gone is cleaned up.
    fn drop_client(&mut self, index: usize, reason: &Garbage) {
        let client = self.clients.swap_remove(index);
        log::warn!("process {}: {reason}", client.pid);
        match client.role {
            Role::Vm { vmid, process, state } if !process.is_alive() => self.exited(vmid, process, state),
            Role::Backup(vmid) => self.ask_again(vmid),
            Role::Worker(vmid) => self.backup_ended(vmid),
            Role::Stranger => self.handle_leftovers(),
            _ => {}
        }
    }

    /// Deals with VMs that ended without anybody hearing of it: before this daemon came, or between connecting and the
    /// first word.
    pub fn handle_leftovers(&mut self) {
        for vmid in cleanup::leftovers(&self.site) {
            log::info!("VM {vmid} has ended unheard");
            self.handle_exit(Exit {
                vmid,
                graceful: false,
                guest: false,
                process: None,
            });
        }
    }

    fn exited(&mut self, vmid: VmId, process: Process, state: VmState) {
        self.handle_exit(Exit {
            vmid,
            graceful: state.graceful,
            guest: state.guest,
            process: Some(process),
        });
    }

    /// Has a VM's end dealt with in a thread of its own.
    fn handle_exit(&mut self, exit: Exit) {
        let after_exit = Arc::clone(&self.after_exit);
        self.aside(&format!("cleanup-{}", exit.vmid), move || after_exit(exit));
    }

    /// Does work in a thread of that name, which the server's end waits for. It may wait for locks: the events do not.
    pub fn aside(&mut self, name: &str, work: impl FnOnce() + Send + 'static) {
        self.cleaning.retain(|thread| !thread.is_finished());
        match std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            Ok(thread) => self.cleaning.push(thread),
            Err(error) => log::error!("unable to start thread '{name}' - {}", errno_text(&error)),
        }
    }

    fn finish(&mut self) {
        for thread in self.cleaning.drain(..) {
            if thread.join().is_err() {
                log::error!("a clean-up died");
            }
        }
    }
}

/// What [`Server::wait`] found.
struct Ready {
    listener: bool,
    clients: Vec<usize>,
}

fn is_held(clients: &[Client], vmid: VmId) -> bool {
    clients
        .iter()
        .any(|client| matches!(client.role, Role::Backup(held) if held == vmid))
}

/// The VM that a process is, if it is one of this site's.
fn identify(site: &Site, pid: i32) -> Option<(VmId, Process)> {
    let vmid = process::vmid_of(site, pid)?;
    let started = Stat::read(pid)?.started;
    Some((vmid, Process { pid, started }))
}

/// Finds out who a client is from its first message.
fn introduce(vm: Option<(VmId, Process)>, message: &Value) -> Result<Role, Garbage> {
    match introduction(message)? {
        Introduction::Backup(vmid) => Ok(Role::Backup(vmid)),
        Introduction::Worker(vmid) => Ok(Role::Worker(vmid)),
        Introduction::Vm => {
            let (vmid, process) = vm.ok_or(Garbage)?;
            Ok(Role::Vm {
                vmid,
                process,
                state: VmState::default(),
            })
        }
    }
}

fn receive(client: &mut Client) -> Received {
    let mut chunk = [0; 16 << 10];
    match client.stream.read(&mut chunk) {
        Ok(0) => Received::Closed,
        Ok(read) => match client.messages.push(chunk.get(..read).unwrap_or_default()) {
            Ok(values) => Received::Values(values),
            Err(Garbage) => Received::Garbage,
        },
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Received::Values(Vec::new())
        }
        Err(_) => Received::Closed,
    }
}

/// Requests are far smaller than a socket's buffer: a client whose buffer is full does not read, and has failed.
fn send(stream: &mut UnixStream, message: &Value) -> io::Result<()> {
    let mut line = message.to_string();
    line.push('\n');
    stream.write_all(line.as_bytes())
}
