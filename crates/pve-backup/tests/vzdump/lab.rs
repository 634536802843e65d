//! A site with real guests and a target for their backups. Backups run as real tasks: processes of this image.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pve_access::AccessControl;
use pve_backup::vma::{Plan, RawFile, Reader, extract};
use pve_backup::vzdump::{Answer, VzdumpError, request};
use pve_cfs::Cfs;
use pve_qemu::events::{Exit, Server};
use pve_qemu::journal::SystemLog;
use pve_qemu::process::{self, Process};
use pve_qemu::{cleanup, files, hold, runtime, start};
use pve_schema::ids::{AuthId, Upid, VmId};
use pve_schema::site::Instance;
use pve_schema::{Context, Param, Params, Site};
use pve_task::TaskList;
use pve_testing::guest::{OBEY_BUTTON, OBEYS};
use pve_testing::{noise, wait_for};

pub(crate) const VMID: u32 = 105;

pub(crate) fn vmid() -> VmId {
    VMID.try_into().unwrap()
}

pub(crate) struct Lab {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) context: Context,
    mounts: Vec<PathBuf>,
}

impl Lab {
    /// `mark` sets the lab's kernel names apart from those of other tests.
    pub(crate) fn new(mark: &str) -> Self {
        // Sockets below it must stay short.
        let directory = tempfile::Builder::new().prefix("v").tempdir_in("/tmp").unwrap();
        let context = Context::new(Site {
            instance: Some(Instance::try_from(mark.to_owned()).unwrap()),
            ..pve_testing::site(directory.path().join("r"), "n1")
        });
        fs::create_dir_all(directory.path().join("disks")).unwrap();
        fs::create_dir_all(directory.path().join("target")).unwrap();
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        let base = directory.path().display();
        let storages = format!(
            "dir: disks\n\tpath {base}/disks\n\tcontent images\n\ndir: st\n\tpath {base}/target\n\tcontent backup\n"
        );
        cfs.write("storage.cfg", storages.as_bytes()).unwrap();
        runtime::create_directory(&context.site).unwrap();
        Self {
            directory,
            context,
            mounts: Vec::new(),
        }
    }

    /// Makes the target's file system one of so many bytes.
    pub(crate) fn shrink_target(&mut self, size: &str) {
        let target = self.directory.path().join("target");
        let options = format!("size={size}");
        nix::mount::mount(
            Some("tmpfs"),
            &target,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        self.mounts.push(target);
    }

    pub(crate) fn dump(&self) -> PathBuf {
        self.directory.path().join("target/dump")
    }

    /// Puts a disk on the storage; what stands for it in a config.
    pub(crate) fn disk(&self, number: u32, content: &[u8]) -> String {
        let name = format!("vm-{VMID}-disk-{number}.raw");
        let directory = self.directory.path().join(format!("disks/images/{VMID}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(&name), content).unwrap();
        format!("disks:{VMID}/{name},cache=writeback,size={}K", content.len() / 1024)
    }

    /// A disk with a program that obeys the power button, and so many MiB of noise.
    pub(crate) fn program(mebibytes: usize) -> Vec<u8> {
        let mut disk = noise(7, mebibytes << 20);
        disk[..512].fill(0);
        disk[..OBEY_BUTTON.len()].copy_from_slice(OBEY_BUTTON);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk
    }

    /// Writes the config of a VM that needs little and no KVM.
    pub(crate) fn configure(&self, vmid: u32, more: &str) {
        let config = format!("kvm: 0\nmemory: 32\n{more}");
        let path = format!("nodes/n1/qemu-server/{vmid}.conf");
        Cfs::new(&self.context).write(&path, config.as_bytes()).unwrap();
    }

    /// A VM that obeys its power button and runs; what is on its disk.
    pub(crate) fn running(&self, mebibytes: usize) -> Vec<u8> {
        let content = Self::program(mebibytes);
        let disk = self.disk(0, &content);
        self.configure(VMID, &format!("name: web\nvirtio0: {disk}\nboot: order=virtio0\n"));
        start::start(&self.context, vmid(), &start::Options::default(), &mut SystemLog).unwrap();
        let read = || {
            let page = pve_qemu::status::current(&self.context, vmid()).unwrap();
            page["blockstat"]["virtio0"]["rd_bytes"].as_u64().unwrap_or(0)
        };
        wait_for("the program obeys", || read() >= OBEYS);
        content
    }

    pub(crate) fn process(&self) -> Option<Process> {
        process::find(&self.context.site, vmid())
    }

    pub(crate) fn status(&self) -> String {
        hold::status(&self.context.site, vmid()).unwrap()
    }

    pub(crate) fn lock(&self) -> Option<String> {
        files::load(&self.context, vmid()).unwrap().lock().map(str::to_owned)
    }

    pub(crate) fn request(&self, params: &[(&str, &str)]) -> Result<Answer, VzdumpError> {
        let text = |text: &str| Param::Text(text.to_owned());
        let params: Params = params
            .iter()
            .map(|(name, value)| ((*name).to_owned(), text(value)))
            .collect();
        let access = AccessControl::load(&self.context).unwrap();
        request(&self.context, &access, &AuthId::root(), "r1", &params)
    }

    /// Starts a backup.
    pub(crate) fn begin(&self, params: &[(&str, &str)]) -> Upid {
        match self.request(params).unwrap() {
            Answer::Started(upid) => upid,
            Answer::Nothing => panic!("no task was started"),
        }
    }

    pub(crate) fn log(&self, upid: &Upid) -> String {
        fs::read_to_string(TaskList::new(&self.context).log_path(upid)).unwrap_or_default()
    }

    /// Waits for a task's end; its log and status.
    pub(crate) fn wait(&self, upid: &Upid) -> (String, String) {
        wait_for(&format!("{upid} ends"), || !pve_task::process::is_running(upid));
        let status = pve_task::status::of_log(&TaskList::new(&self.context).log_path(upid));
        (self.log(upid), status)
    }

    /// Runs a backup to its end; its log and status.
    pub(crate) fn back_up(&self, params: &[(&str, &str)]) -> (String, String) {
        let mut all = vec![("storage", "st")];
        all.extend(params);
        self.wait(&self.begin(&all))
    }

    /// What lies in the target's directory, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dump()).into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The archives among them.
    pub(crate) fn archives(&self) -> Vec<PathBuf> {
        let is_archive = |name: &String| name.ends_with(".vma") || name.ends_with(".vma.zst");
        let names = self.files().into_iter().filter(is_archive);
        names.map(|name| self.dump().join(name)).collect()
    }

    /// What an archive that is not compressed holds of a device.
    pub(crate) fn content(&self, archive: &Path, device: &str) -> Vec<u8> {
        let mut reader = Reader::open(fs::File::open(archive).unwrap()).unwrap();
        let devices: Vec<_> = reader.header().devices().to_vec();
        let wanted = devices.iter().find(|known| known.name == device).expect("the device");
        let path = self.directory.path().join("extracted");
        let file = fs::File::create(&path).unwrap();
        let mut plan = Plan::new();
        plan.target(wanted, RawFile::fresh(file, wanted).unwrap(), false)
            .unwrap();
        for other in devices.iter().filter(|known| known.name != device) {
            let other_file = fs::File::create(self.directory.path().join("other")).unwrap();
            plan.target(other, RawFile::fresh(other_file, other).unwrap(), false)
                .unwrap();
        }
        extract(&mut reader, plan, &mut |_| Ok(())).unwrap();
        fs::read(path).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(process) = self.process() {
            process.signal(nix::sys::signal::Signal::SIGKILL);
            process.wait_gone(Duration::from_secs(5));
        }
        for mount in &self.mounts {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// The event daemon's logic, in a thread.
pub(crate) struct Daemon {
    stop: Option<std::io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    pub(crate) fn new(lab: &Lab) -> Self {
        let listener = UnixListener::bind(runtime::event_socket(&lab.context.site)).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let context = lab.context.clone();
        let start = |context: &Context, vmid, next| {
            if next == cleanup::Next::Start {
                start::start(context, vmid, &start::Options::default(), &mut SystemLog).unwrap();
            }
        };
        let after_exit = move |exit: Exit| {
            let next = cleanup::after_exit(&context, exit, &mut SystemLog).unwrap();
            start(&context, exit.vmid, next);
        };
        let context = lab.context.clone();
        let after_backup = move |vmid| {
            let next = hold::settle_after_end(&context, vmid, &mut SystemLog).unwrap();
            start(&context, vmid, next);
        };
        let server = Server::new(Arc::clone(&lab.context.site), listener, Arc::new(after_exit)).unwrap();
        let mut server = server.on_backup_end(Arc::new(after_backup));
        let thread = std::thread::spawn(move || server.run(reader.as_fd()).unwrap());
        Self {
            stop: Some(writer),
            thread: Some(thread),
        }
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
