//! A site of its own for each test, with QEMU guests that need no operating system.

#![allow(dead_code)]

use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pve_cfs::Cfs;
use pve_qemu::events::{Exit, Server};
use pve_qemu::journal::Journal;
use pve_qemu::process::{self, Process};
use pve_qemu::{cleanup, runtime, start};
use pve_schema::ids::VmId;
use pve_schema::site::Instance;
use pve_schema::{Context, Site};

/// A journal that remembers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Journal for Lines {
    fn log(&mut self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }

    fn warn(&mut self, line: &str) {
        self.0.lock().unwrap().push(format!("WARN: {line}"));
    }
}

/// A site below a directory of its own, with a storage `local`.
pub(crate) struct Lab {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) context: Context,
    pub(crate) vmid: VmId,
}

impl Lab {
    /// `number` sets the lab's address and kernel names apart from those of other tests.
    pub(crate) fn new(number: u8) -> Self {
        // Sockets below it must stay short.
        let directory = tempfile::Builder::new().prefix("q").tempdir_in("/tmp").unwrap();
        let context = Context::new(Site {
            instance: Some(Instance::try_from(format!("t{number}")).unwrap()),
            address: pve_testing::loopback(number),
            ..pve_testing::site(directory.path(), "n1")
        });
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        let store = directory.path().join("store");
        std::fs::create_dir_all(&store).unwrap();
        let storage = format!(
            "dir: disks\n\tpath {}\n\tcontent images,iso,snippets\n",
            store.display()
        );
        cfs.write("storage.cfg", storage.as_bytes()).unwrap();
        runtime::create_directory(&context.site).unwrap();
        Self {
            directory,
            context,
            vmid: 105.try_into().unwrap(),
        }
    }

    /// Writes the config of a VM that needs little and no KVM.
    pub(crate) fn configure(&self, vmid: VmId, more: &str) {
        let config = format!("kvm: 0\nmemory: 32\n{more}");
        let path = format!("nodes/n1/qemu-server/{vmid}.conf");
        Cfs::new(&self.context).write(&path, config.as_bytes()).unwrap();
    }

    /// Writes the config of a VM that runs a program of at most 510 bytes instead of an operating system.
    pub(crate) fn configure_program(&self, program: &[u8]) {
        let mut disk = vec![0; 1 << 20];
        disk[..program.len()].copy_from_slice(program);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        let directory = self.directory.path().join(format!("store/images/{}", self.vmid));
        std::fs::create_dir_all(&directory).unwrap();
        let file = format!("vm-{}-disk-0.raw", self.vmid);
        std::fs::write(directory.join(&file), disk).unwrap();
        let drive = format!(
            "virtio0: disks:{}/{file},cache=writeback,size=1M\nboot: order=virtio0\n",
            self.vmid
        );
        self.configure(self.vmid, &drive);
    }

    pub(crate) fn start(&self, vmid: VmId) -> Lines {
        let mut lines = Lines::default();
        let result = start::start(&self.context, vmid, &start::Options::default(), &mut lines);
        assert!(result.is_ok(), "{result:?}\n{}", lines.text());
        lines
    }

    pub(crate) fn process(&self) -> Process {
        process::find(&self.context.site, self.vmid).expect("a running VM")
    }

    pub(crate) fn is_running(&self) -> bool {
        process::is_running(&self.context.site, self.vmid)
    }

    pub(crate) fn runtime_file(&self, suffix: &str) -> PathBuf {
        runtime::directory(&self.context.site).join(format!("{}.{suffix}", self.vmid))
    }

    /// Nothing is left of a VM but its config.
    pub(crate) fn is_clean(&self) -> bool {
        ["pid", "qmp", "vnc", "cleanup", "reboot"]
            .iter()
            .all(|suffix| !self.runtime_file(suffix).exists())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for number in 100..110u32 {
            if let Some(process) = process::find(&self.context.site, number.try_into().unwrap()) {
                process.signal(nix::sys::signal::Signal::SIGKILL);
                process.wait_gone(Duration::from_secs(5));
            }
        }
    }
}

/// The event daemon's logic, in a thread.
pub(crate) struct Daemon {
    stop: Option<std::io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
    pub(crate) exits: Arc<Mutex<Vec<Exit>>>,
    pub(crate) lines: Lines,
}

impl Daemon {
    pub(crate) fn new(lab: &Lab) -> Self {
        let path = runtime::event_socket(&lab.context.site);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let exits = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::default();
        let after_exit = {
            let (context, exits, lines) = (lab.context.clone(), Arc::clone(&exits), lines.clone());
            move |exit: Exit| {
                let mut lines = lines.clone();
                let next = cleanup::after_exit(&context, exit, &mut lines).unwrap();
                if next == cleanup::Next::Start {
                    start::start(&context, exit.vmid, &start::Options::default(), &mut lines).unwrap();
                }
                exits.lock().unwrap().push(exit);
            }
        };
        let mut server = Server::new(Arc::clone(&lab.context.site), listener, Arc::new(after_exit)).unwrap();
        let thread = std::thread::spawn(move || server.run(reader.as_fd()).unwrap());
        Self {
            stop: Some(writer),
            thread: Some(thread),
            exits,
            lines,
        }
    }

    /// The ends that were dealt with so far.
    pub(crate) fn exits(&self) -> Vec<Exit> {
        self.exits.lock().unwrap().clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}
