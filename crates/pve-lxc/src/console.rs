//! Consoles that outlived their container: `lxc-console -n 100`, where there is no container 100 any more (reference 04
//! §9.8).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use nix::sys::signal::Signal;
use pve_cfs::{Cfs, CfsError};
use pve_daemon::process::Handle;
use pve_guest::GuestKind;
use pve_schema::ids::VmId;
use pve_schema::{Context, Site};

use crate::names;

/// The name of the program, as the kernel shows it of a process.
const PROGRAM: &str = "lxc-console";
/// No console's command line has so many bytes: a process says itself what is shown of it, so it may be of any length.
const MAX_COMMAND: u64 = 256;

/// Kills the consoles of containers that this node does not have. `proc` is where processes are shown.
///
/// # Errors
/// When it cannot be found out whether there is a container. Then its consoles stay.
pub fn end_stale(context: &Context, proc: &Path) -> Result<(), CfsError> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let process = proc.join(pid.to_string());
        // A process that is gone by now needs no end.
        let Some(vmid) = console_of(&context.site, &process) else {
            continue;
        };
        if !is_gone(context, vmid)? {
            continue;
        }
        // From here on the process is the same one: is it the console still?
        let ended = Handle::of(pid).and_then(|handle| {
            if console_of(&context.site, &process) == Some(vmid) {
                log::info!("remove stale lxc-console for CT {vmid}");
                handle.signal(Signal::SIGKILL)?;
            }
            Ok(())
        });
        if let Err(error) = ended {
            log::debug!("unable to end process {pid} - {error}");
        }
    }
    Ok(())
}

/// Whether this node has no such container any more. While configs are away nobody knows, and none is gone.
fn is_gone(context: &Context, vmid: VmId) -> Result<bool, CfsError> {
    let (cfs, node) = (Cfs::new(context), &context.site.node);
    let directory = format!("nodes/{node}/{}", GuestKind::Lxc.folder());
    let config = Cfs::guest_config_path(GuestKind::Lxc, node, vmid);
    // Before and after: they may come or go in between.
    Ok(cfs.exists(&directory)? && !cfs.exists(&config)? && cfs.exists(&directory)?)
}

/// The container whose console a process is, by what is shown of it.
fn console_of(site: &Site, process: &Path) -> Option<VmId> {
    let name = first_bytes(&process.join("comm")).ok()?;
    if name.strip_suffix(b"\n")? != PROGRAM.as_bytes() {
        return None;
    }
    vmid_of(site, &first_bytes(&process.join("cmdline")).ok()?)
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_COMMAND).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The container whose console a command line is. A lab's names LXC's directory: what does not is the system's, and
/// none of the lab's business.
fn vmid_of(site: &Site, command: &[u8]) -> Option<VmId> {
    if u64::try_from(command.len()).ok()? >= MAX_COMMAND {
        return None;
    }
    let arguments: Vec<&str> = std::str::from_utf8(command)
        .ok()?
        .strip_suffix('\0')?
        .split('\0')
        .collect();
    let lxc_path = names::lxc_path(site);
    let vmid = match (site.is_system(), arguments.as_slice()) {
        (true, [program, "-n", vmid]) if is_console(program) => vmid,
        (false, [program, "-P", path, "-n", vmid]) if is_console(program) && Path::new(path) == lxc_path => vmid,
        _ => return None,
    };
    vmid.parse().ok()
}

fn is_console(program: &str) -> bool {
    matches!(program, "lxc-console" | "/usr/bin/lxc-console")
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Write as _, pipe};
    use std::os::unix::fs::symlink;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command, Stdio};

    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;

    #[test]
    fn consoles_are_known_by_their_whole_command_line() {
        let system = pve_testing::site("/", "n1");
        let lab = pve_testing::site("/L", "n1");
        // A blank stands for the zero byte that ends an argument.
        for (command, of_system, of_lab) in [
            ("lxc-console -n 100 ", true, false),
            ("/usr/bin/lxc-console -n 100 ", true, false),
            ("lxc-console -P /L/var/lib/lxc -n 100 ", false, true),
            ("lxc-console -P /M/var/lib/lxc -n 100 ", false, false),
            ("/opt/lxc-console -n 100 ", false, false),
            ("lxc-console -n 100 -e -1 ", false, false),
            ("lxc-console -n web ", false, false),
            ("lxc-console -n 100", false, false),
            ("", false, false),
        ] {
            let bytes = command.replace(' ', "\0").into_bytes();
            let found = [&system, &lab].map(|site| vmid_of(site, &bytes).is_some());
            assert_eq!(found, [of_system, of_lab], "{command:?}");
        }
    }

    /// A process that ends with its test at the latest.
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A process with a name and a command line of its own that does not end: it says something that nobody hears.
    fn process(copy: &Path, program: &str, arguments: &[&str], silence: &PipeWriter) -> Process {
        if !copy.exists() {
            symlink("/bin/echo", copy).unwrap();
        }
        let mut command = Command::new(copy);
        command
            .arg0(program)
            .args(arguments)
            .stdout(silence.try_clone().unwrap());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        // For a moment a program that was just begun shows no command line.
        let shown = format!("/proc/{}/cmdline", child.id());
        pve_testing::wait_for("its command line", || {
            fs::read(&shown).unwrap().starts_with(program.as_bytes())
        });
        Process(child)
    }

    /// A pipe in which there is no room, and the end that nobody reads from.
    fn full_pipe() -> (PipeReader, PipeWriter) {
        let (reader, mut writer) = pipe().unwrap();
        let size = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap();
        writer.write_all(&vec![0; usize::try_from(size).unwrap()]).unwrap();
        (reader, writer)
    }

    /// A node with container 813, the command lines of three processes, and what is shown of them.
    struct Node {
        directory: tempfile::TempDir,
        context: Context,
        processes: [Process; 4],
        _reader: PipeReader,
    }

    impl Node {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let context = pve_testing::context(directory.path(), "n1");
            let cfs = Cfs::new(&context);
            cfs.ensure_tree().unwrap();
            cfs.create("nodes/n1/lxc/813.conf", b"").unwrap();
            let lxc_path = names::lxc_path(&context.site);
            let lxc_path = lxc_path.to_str().unwrap();
            let (reader, silence) = full_pipe();
            let processes = [
                ("lxc-console", "lxc-console", "812"),
                ("lxc-console", "lxc-console", "813"),
                ("lxc-console", "lxc-attach", "812"),
                // It only says that it is one.
                ("other", "lxc-console", "812"),
            ]
            .map(|(name, says, vmid)| {
                process(
                    &directory.path().join(name),
                    says,
                    &["-P", lxc_path, "-n", vmid],
                    &silence,
                )
            });
            // Of all processes of the machine only these.
            let proc = directory.path().join("proc");
            fs::create_dir(&proc).unwrap();
            for process in &processes {
                let pid = process.0.id().to_string();
                symlink(format!("/proc/{pid}"), proc.join(&pid)).unwrap();
            }
            Self {
                directory,
                context,
                processes,
                _reader: reader,
            }
        }

        fn end_stale(&self) {
            end_stale(&self.context, &self.directory.path().join("proc")).unwrap();
        }

        fn live(&mut self) -> [bool; 4] {
            self.processes
                .each_mut()
                .map(|process| process.0.try_wait().unwrap().is_none())
        }
    }

    #[test]
    fn only_consoles_without_a_container_end() {
        let mut node = Node::new();
        node.end_stale();
        let ended = node.processes[0].0.wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32));
        assert_eq!(node.live(), [false, true, true, true]);
    }

    #[test]
    fn none_ends_while_configs_are_away() {
        let mut node = Node::new();
        let configs = Cfs::new(&node.context).full_path("nodes/n1/lxc").unwrap();
        let away = node.directory.path().join("away");
        fs::rename(&configs, &away).unwrap();
        node.end_stale();
        assert!(!is_gone(&node.context, "812".parse().unwrap()).unwrap());
        assert_eq!(node.live(), [true; 4]);
        fs::rename(&away, &configs).unwrap();
        node.end_stale();
        let ended = node.processes[0].0.wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn no_more_is_read_than_a_consoles_command_line_has() {
        let directory = tempfile::tempdir().unwrap();
        let site = pve_testing::site("/", "n1");
        fs::write(directory.path().join("comm"), "lxc-console\n").unwrap();
        let shown = directory.path().join("cmdline");
        fs::write(&shown, "lxc-console\0-n\x00100\0").unwrap();
        assert!(console_of(&site, directory.path()).is_some());
        let most = usize::try_from(MAX_COMMAND).unwrap();
        fs::write(&shown, vec![0; most + 1]).unwrap();
        assert_eq!(first_bytes(&shown).unwrap().len(), most);
        assert_eq!(console_of(&site, directory.path()), None);
    }
}
