//! Consoles that outlived their container: `lxc-console -n 100`, where there is no container 100 any more (reference 04
//! §9.8).

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_schema::Site;
use pve_schema::ids::VmId;

use crate::names;

/// Kills the consoles of containers that this node does not have. `proc` is where processes are shown.
pub fn end_stale(site: &Site, proc: &Path, containers: &[VmId]) {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        // A process that is gone by now needs no end.
        let Ok(command) = fs::read(proc.join(format!("{pid}/cmdline"))) else {
            continue;
        };
        let Some(vmid) = vmid_of(site, &command).filter(|vmid| !containers.contains(vmid)) else {
            continue;
        };
        log::info!("remove stale lxc-console for CT {vmid}");
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
            log::debug!("unable to end process {pid} - {error}");
        }
    }
}

/// The container whose console a command line is. A lab's names LXC's directory: what does not is the system's, and
/// none of the lab's business.
fn vmid_of(site: &Site, command: &[u8]) -> Option<VmId> {
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

    /// A process with a command line of its own that does not end: it says something that nobody hears.
    fn process(program: &str, arguments: &[&str], silence: &PipeWriter) -> Process {
        let mut command = Command::new("/bin/echo");
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

    #[test]
    fn only_consoles_without_a_container_end() {
        let (_reader, silence) = full_pipe();
        let mut stale = process("lxc-console", &["-n", "812"], &silence);
        let mut used = process("lxc-console", &["-n", "813"], &silence);
        let mut other = process("lxc-attach", &["-n", "812"], &silence);
        // Of all processes of the machine only these.
        let proc = tempfile::tempdir().unwrap();
        for child in [&stale, &used, &other] {
            let pid = child.0.id().to_string();
            symlink(format!("/proc/{pid}"), proc.path().join(&pid)).unwrap();
        }
        let site = pve_testing::site("/", "n1");
        end_stale(&site, proc.path(), &["813".parse().unwrap()]);
        assert_eq!(stale.0.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
        for child in [&mut used, &mut other] {
            assert!(child.0.try_wait().unwrap().is_none());
        }
    }
}
