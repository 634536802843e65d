//! What a running container must be asked for: its first process and its file system. Either may hang.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

type Known = BTreeMap<PathBuf, (u64, First)>;

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
    let (asked, of) = (known.clone(), site.clone());
    let names: BTreeSet<PathBuf> = sockets.keys().cloned().collect();
    let seen = CREW.ask_all(&names, LIMIT, move |socket, say| {
        let first = match asked.get(socket) {
            Some(first) => Ok(*first),
            None => ask_monitor(&of, socket).inspect(|first| say(Answer::First(*first))),
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
    let mut new = Known::new();
    for (socket, (vmid, inode)) in sockets {
        let mut look = Look {
            first: known.get(&socket).copied(),
            fault: if seen.hanging.contains(&socket) {
                Some("no answer in time".to_owned())
            } else if seen.waiting.contains(&socket) {
                Some("not looked at, since others do not answer".to_owned())
            } else {
                None
            },
            ..Look::default()
        };
        for answer in seen.answers.get(&socket).into_iter().flatten() {
            match answer {
                Answer::First(first) => {
                    look.first = Some(*first);
                    new.insert(socket.clone(), (inode, *first));
                }
                Answer::Disk(disk) => look.disk = Some(*disk),
                Answer::Fault(text) => look.fault = Some(text.clone()),
            }
        }
        looks.insert(vmid, look);
    }
    if !new.is_empty() {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        remember(&mut known, new, First::is_there);
    }
    looks
}

fn ask_monitor(site: &Site, socket: &Path) -> Result<First, String> {
    let pid = monitor::first_process(site, socket).map_err(|error| format!("unable to get PID - {error}"))?;
    let started = process::start_time(pid).ok_or_else(|| format!("process {pid} has gone"))?;
    Ok(First { pid, started })
}

fn known(socket: &Path, inode: u64) -> Option<First> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let (of, first) = known.get(socket).copied()?;
    drop(known);
    (of == inode && first.is_there()).then_some(first)
}

/// Of containers that are gone nothing is asked for: they would stay for ever.
fn remember(known: &mut Known, mut new: Known, mut is_there: impl FnMut(&First) -> bool) {
    known.append(&mut new);
    known.retain(|_, (_, first)| is_there(first));
}

#[cfg(test)]
mod tests {
    use super::super::tests::monitor;
    use super::*;

    #[test]
    fn what_is_remembered_is_looked_at_once_however_many_are_new() {
        let first = |pid| First { pid, started: 1 };
        let of = |pids: std::ops::Range<u32>| -> Known {
            pids.map(|pid| (PathBuf::from(pid.to_string()), (1, first(pid))))
                .collect()
        };
        let (mut known, mut looks) = (of(1..101), 0);
        remember(&mut known, of(101..1101), |first| {
            looks += 1;
            first.pid > 50
        });
        assert_eq!((looks, known), (1100, of(51..1101)));
    }

    #[test]
    fn a_container_is_looked_at_through_its_first_process() {
        let directory = tempfile::tempdir().unwrap();
        let site = pve_testing::site(directory.path(), "n1");
        let [up, down]: [VmId; 2] = ["812", "813"].map(|vmid| vmid.parse().unwrap());
        let pid = std::process::id();
        let monitor = monitor(&site, up, pid);
        let running = BTreeMap::from([(up, 5), (down, 6)]);
        let first = Some(First {
            pid,
            started: process::start_time(pid).unwrap(),
        });
        for asked in [1, 1] {
            let mut looks = at(&site, &running);
            let look = looks.remove(&up).unwrap();
            assert_eq!((look.first, look.fault), (first, None));
            assert!(look.disk.is_some_and(|disk| disk.total > 0));
            assert_eq!(monitor.asked(), asked, "asked once, remembered then");
            let look = looks.remove(&down).unwrap();
            assert_eq!((look.first, look.disk), (None, None));
            let fault = look.fault.unwrap();
            assert!(fault.starts_with("unable to get PID - "), "{fault}");
        }
        at(&site, &BTreeMap::from([(up, 7)]));
        assert_eq!(monitor.asked(), 2, "another life of it is asked again");
    }
}
