//! The daemon in a directory of its own, beside things that hang: a file system that never answers and a monitor that
//! never greets. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_cfs::Cfs;
use pve_metrics::{Consolidation, Rrd, Subject, Timeframe, Told, ToldRecords};
use pve_qemu::runtime::{self, Runtime};
use pve_schema::site::Instance;
use pve_schema::{Context, Site};

/// Two cycles and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with one VM and two storages, and the daemon that looks at them.
struct Lab {
    directory: tempfile::TempDir,
    context: Context,
    daemon: Option<Child>,
    vm: Child,
    _monitor: UnixListener,
    hung: HungMount,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("statd").tempdir_in("/tmp").unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("run")).unwrap();
        let context = Context::new(Site {
            instance: Some(Instance::try_from("sd0".to_owned()).unwrap()),
            ..pve_testing::site(root.canonicalize().unwrap(), "n1")
        });
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        let good = directory.path().join("good");
        let hung = HungMount::new(directory.path().join("hung"));
        let storages = format!(
            "dir: hung\n\tpath {}\n\tcontent iso\n\ndir: local\n\tpath {}\n\tcontent iso\n",
            hung.path.display(),
            good.display()
        );
        cfs.write("storage.cfg", storages.as_bytes()).unwrap();
        cfs.create("qemu-server/100.conf", b"name: web\nmemory: 256\n").unwrap();
        cfs.create("qemu-server/101.conf", b"name: off\n").unwrap();
        runtime::create_directory(&context.site).unwrap();
        let runtime = Runtime::new(&context.site, 100.try_into().unwrap());
        // Somebody who takes calls and says nothing, as a QEMU that was stopped does.
        let monitor = UnixListener::bind(runtime.monitor()).unwrap();
        let vm = process_that_looks_like_qemu(&runtime.pid_file());
        Self {
            directory,
            context,
            daemon: None,
            vm,
            _monitor: monitor,
            hung,
        }
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, environment: &[(&str, &str)]) {
        let log = File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pvestatd"));
        command.args(["start", "--foreground", "--node", "n1", "--instance", "sd0", "--root"]);
        command
            .arg(&self.context.site.root)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// The process that does the work.
    fn worker(&self) -> Option<Pid> {
        let master = self.daemon.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).ok()?;
        children
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()
            .map(Pid::from_raw)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn told(&self, subject: &Subject) -> Option<Told> {
        let records = ToldRecords::load(&Cfs::new(&self.context), self.context.now()).unwrap();
        records.get(subject).cloned()
    }

    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "{}", self.log());
            assert!(Instant::now() < deadline, "waited in vain for {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = self.vm.kill();
        let _ = self.vm.wait();
        let _ = umount2(&self.hung.path, MntFlags::MNT_DETACH);
    }
}

/// A FUSE file system whose server has not said a word yet: whoever looks at it waits. Closing the device frees them.
struct HungMount {
    path: PathBuf,
    _device: File,
}

impl HungMount {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(
            Some("hung"),
            &path,
            Some("fuse"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .expect("mount as root");
        Self { path, _device: device }
    }
}

/// A process with the arguments by which a VM's process is known; it waits for its standard input.
fn process_that_looks_like_qemu(pid_file: &Path) -> Child {
    let mut command = Command::new("/bin/sh");
    command
        .arg0("qemu-system-fake")
        .args(["-c", "read x", "sh", "-pidfile"])
        .arg(pid_file);
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    fs::write(pid_file, format!("{}\n", child.id())).unwrap();
    child
}

fn storage(id: &str) -> Subject {
    Subject::Storage("n1".parse().unwrap(), id.parse().unwrap())
}

fn guest(vmid: u32) -> Subject {
    Subject::Guest(vmid.try_into().unwrap())
}

#[test]
fn what_hangs_delays_nothing_else() {
    let mut lab = Lab::new();
    lab.start();
    let node = Subject::Node("n1".parse().unwrap());
    let time = |told: &Told| told.figure(2).unwrap();
    let first = lab.until("the node", |lab| lab.told(&node));
    let local = lab.until("a storage", |lab| lab.told(&storage("local")));
    let (total, used) = (local.figure(1).unwrap(), local.figure(2).unwrap());
    assert!(total > 0.0 && used <= total);
    // The monitor is given two seconds; what needs no monitor is told all the same.
    let vm = lab.until("the VM whose monitor hangs", |lab| lab.told(&guest(100)));
    assert_eq!(
        (vm.text(1), vm.text(2), vm.text(13)),
        (Some("web"), Some("running"), None)
    );
    assert_eq!(
        (vm.figure(7), vm.figure(15) > Some(0.0)),
        (Some(f64::from(256 << 20)), true)
    );
    let off = lab.until("the VM that is off", |lab| lab.told(&guest(101)));
    assert_eq!((off.text(2), off.text(6)), (Some("stopped"), None));
    let info = Cfs::new(&lab.context).status().get("kv/static-info").unwrap();
    assert!(String::from_utf8(info.unwrap()).unwrap().contains("\"cgroup-mode\":"));
    lab.until("the ticket key", |lab| {
        Cfs::new(&lab.context).exists("authkey.pub").unwrap().then_some(())
    });

    let after = |before: f64| move |told: &Told| time(told) > before;
    let second = lab.until("the next cycle", |lab| lab.told(&node).filter(after(time(&first))));
    assert!(
        (5.0..=20.0).contains(&(time(&second) - time(&first))),
        "every ten seconds"
    );
    assert!(second.figure(5).unwrap() > 0.0, "now there are two readings");
    let third = lab.until("one more", |lab| lab.told(&node).filter(after(time(&second))));
    assert!(
        (5.0..=20.0).contains(&(time(&third) - time(&second))),
        "every ten seconds"
    );

    assert_eq!(lab.told(&storage("hung")), None);
    let log = lab.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("'hung'")).collect();
    assert_eq!(lines.len(), 1, "said once: {log}");
    for subject in [&node, &storage("local"), &guest(100), &guest(101)] {
        let rows = Rrd::new(&lab.context).rows(subject, Timeframe::Hour, Consolidation::Average);
        assert!(!rows.unwrap().is_empty(), "{subject}");
    }

    let daemon = lab.daemon.as_mut().unwrap();
    kill(Pid::from_raw(daemon.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let told = Instant::now();
    assert!(daemon.wait().unwrap().success());
    assert!(
        told.elapsed() < Duration::from_secs(9),
        "what hangs does not keep it from ending"
    );
    assert!(lab.log().contains("server stopped"));
}

#[test]
fn it_goes_on_after_a_reload() {
    let mut lab = Lab::new();
    lab.start();
    let node = Subject::Node("n1".parse().unwrap());
    let before = lab.until("the node", |lab| lab.told(&node)).figure(2).unwrap();
    let pid = lab.daemon.as_ref().unwrap().id();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGHUP).unwrap();
    lab.until("the reload", |lab| {
        lab.log().contains("restarting server").then_some(())
    });
    lab.until("the next record", |lab| {
        lab.told(&node).filter(|told| told.figure(2) > Some(before))
    });
    assert_eq!(lab.daemon.as_ref().unwrap().id(), pid);
}

/// Master and worker as under systemd, with a watchdog of twelve seconds: the worker has half of it.
#[test]
fn a_cycle_that_stands_still_is_noticed_and_replaced() {
    let mut lab = Lab::new();
    let socket = lab.directory.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = socket.to_str().unwrap().to_owned();
    lab.start_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "12000000")]);
    let node = Subject::Node("n1".parse().unwrap());
    let before = lab.until("the node", |lab| lab.told(&node)).figure(2).unwrap();
    let worker = lab.worker().unwrap();
    kill(worker, Signal::SIGSTOP).unwrap();
    let other = lab.until("another worker", |lab| lab.worker().filter(|pid| *pid != worker));
    assert!(lab.log().contains(&format!("worker {worker} hangs")), "{}", lab.log());
    lab.until("its records", |lab| {
        lab.told(&node).filter(|told| told.figure(2) > Some(before))
    });
    assert_eq!(lab.worker(), Some(other), "one that turns is left alone");
    let mut feeds = 0;
    let mut buffer = [0; 256];
    notified.set_nonblocking(true).unwrap();
    while let Ok(length) = notified.recv(&mut buffer) {
        feeds += usize::from(buffer[..length].starts_with(b"WATCHDOG=1"));
    }
    assert!(feeds > 0, "systemd's watchdog is fed");
}
