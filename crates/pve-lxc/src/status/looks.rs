//! What a running container must be asked for: its first process and its file system. Either may hang.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use pve_daemon::process;
use pve_node::status::FileSystem;
use pve_schema::Site;
use pve_schema::ids::VmId;

use super::crew::Crew;
use super::monitor;
use crate::names;

/// How long all of them may take together (reference 04 §14.3).
const LIMIT: Duration = Duration::from_secs(1);

static CREW: Crew = Crew::new();

/// The first process of a container, and when it started in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First {
    pub pid: u32,
    pub started: u64,
}

impl First {
    fn is_there(&self) -> bool {
        process::start_time(self.pid) == Some(self.started) && process::is_alive(self.pid)
    }
}

/// First processes by their monitor's socket: its name and inode.
static KNOWN: LazyLock<Mutex<BTreeMap<PathBuf, (u64, First)>>> = LazyLock::new(Mutex::default);

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub first: Option<First>,
    pub disk: Option<FileSystem>,
    pub fault: Option<String>,
}

enum Answer {
    First(First),
    Disk(FileSystem),
    Fault(String),
}

/// Looks at running containers, given with their sockets' inodes.
pub(super) fn at(site: &Site, running: &BTreeMap<VmId, u64>) -> BTreeMap<VmId, Look> {
    let sockets: BTreeMap<PathBuf, (VmId, u64)> = running
        .iter()
        .map(|(vmid, inode)| (names::command_socket(site, *vmid), (*vmid, *inode)))
        .collect();
    let known: BTreeMap<PathBuf, First> = sockets
        .iter()
        .filter_map(|(socket, (_, inode))| Some((socket.clone(), known(socket, *inode)?)))
        .collect();
    let asked = known.clone();
    let seen = CREW.ask_all(sockets.keys().cloned().collect(), LIMIT, move |socket, say| {
        let first = match asked.get(socket) {
            Some(first) => Ok(*first),
            None => ask_monitor(socket).inspect(|first| say(Answer::First(*first))),
        };
        match first {
            Ok(first) => say(Answer::Disk(FileSystem::of(&PathBuf::from(format!(
                "/proc/{}/root/",
                first.pid
            ))))),
            Err(error) => say(Answer::Fault(error)),
        }
    });
    let mut looks = BTreeMap::new();
    for (socket, (vmid, inode)) in sockets {
        let mut look = Look {
            first: known.get(&socket).copied(),
            fault: seen.hanging.contains(&socket).then(|| "no answer in time".to_owned()),
            ..Look::default()
        };
        for answer in seen.answers.get(&socket).into_iter().flatten() {
            match answer {
                Answer::First(first) => {
                    look.first = Some(*first);
                    remember(socket.clone(), inode, *first);
                }
                Answer::Disk(disk) => look.disk = Some(*disk),
                Answer::Fault(text) => look.fault = Some(text.clone()),
            }
        }
        looks.insert(vmid, look);
    }
    looks
}

fn ask_monitor(socket: &std::path::Path) -> Result<First, String> {
    let pid = monitor::first_process(socket).map_err(|error| format!("unable to get PID - {error}"))?;
    let started = process::start_time(pid).ok_or_else(|| format!("process {pid} has gone"))?;
    Ok(First { pid, started })
}

fn known(socket: &std::path::Path, inode: u64) -> Option<First> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let (of, first) = known.get(socket).copied()?;
    drop(known);
    (of == inode && first.is_there()).then_some(first)
}

fn remember(socket: PathBuf, inode: u64, first: First) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.insert(socket, (inode, first));
    // Of containers that are gone nothing is asked for: they would stay for ever.
    known.retain(|_, (_, first)| first.is_there());
}
