//! A node of its own for each test: a site, a storage `local`, and VM 105.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pve_backup::restore::{Order, restore};
use pve_backup::vma::{Header, Writer};
use pve_cfs::Cfs;
use pve_qemu::journal::Journal;
use pve_qemu::{create, restored};
use pve_schema::Context;
use pve_schema::ids::VmId;

use crate::common::{CTIME, UUID};

const CONFIG: &str = "nodes/n1/qemu-server/105.conf";
const USERS: &str = "user:root@pam:1:0::::::\nuser:joe@pve:1:0::::::\npool:p1:::\nacl:1:/vms:joe@pve:PVEVMAdmin:\n";

/// Why a restore failed, and what it said before.
pub(crate) type Failed = (String, Vec<String>);

/// Bytes without a zero among them, that do not repeat in blocks.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state % 255).unwrap() + 1
    };
    (0..len).map(|_| next()).collect()
}

/// An archive in the making.
pub(crate) struct Archive {
    pub(crate) config: String,
    firewall: Option<String>,
    devices: Vec<(String, Vec<u8>)>,
}

impl Archive {
    pub(crate) fn new(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            firewall: None,
            devices: Vec::new(),
        }
    }

    pub(crate) fn one_disk(disk: &[u8]) -> Self {
        let config = "scsi0: local:100/vm-100-disk-0.raw\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n";
        Self::new(config).device("drive-scsi0", disk)
    }

    pub(crate) fn device(mut self, name: &str, content: &[u8]) -> Self {
        self.devices.push((name.to_owned(), content.to_vec()));
        self
    }

    pub(crate) fn firewall(mut self, rules: &str) -> Self {
        self.firewall = Some(rules.to_owned());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = Header::new(UUID, CTIME);
        header.add_config("qemu-server.conf", self.config.as_bytes()).unwrap();
        if let Some(rules) = &self.firewall {
            header.add_config("qemu-server.fw", rules.as_bytes()).unwrap();
        }
        let add = |header: &mut Header, name: &str, len: usize| header.add_device(name, len as u64).unwrap();
        let devices = self.devices.iter();
        let ids: Vec<_> = devices
            .map(|(name, content)| add(&mut header, name, content.len()))
            .collect();
        let mut writer = Writer::new(Vec::new(), header).unwrap();
        for (id, (_, content)) in ids.into_iter().zip(&self.devices) {
            writer.device(id, &mut content.as_slice()).unwrap();
        }
        writer.finish().unwrap().0
    }
}

/// A journal that remembers, and is interrupted at a line.
#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    stop_at: Option<String>,
    stopped: Cell<bool>,
}

impl Journal for Lines {
    fn log(&mut self, line: &str) {
        if self.stop_at.as_ref().is_some_and(|stop| line.starts_with(stop)) {
            self.stopped.set(true);
        }
        self.lines.push(line.to_owned());
    }

    fn warn(&mut self, line: &str) {
        self.lines.push(format!("WARN: {line}"));
    }

    fn is_interrupted(&self) -> bool {
        self.stopped.get()
    }
}

pub(crate) struct Node {
    directory: tempfile::TempDir,
    pub(crate) context: Context,
    vmid: VmId,
}

impl Node {
    pub(crate) fn new() -> Self {
        // Sockets below it must stay short.
        let directory = tempfile::Builder::new().prefix("r").tempdir_in("/tmp").unwrap();
        let context = pve_testing::context(directory.path().join("root"), "n1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("user.cfg", USERS.as_bytes()).unwrap();
        // The path of `local` is built in.
        let path = context.site.path("/var/lib/vz");
        fs::create_dir_all(&path).unwrap();
        let storages = format!(
            "dir: local\n\tpath /var/lib/vz\n\tcontent images,iso,backup,snippets\n\n\
             dir: backups\n\tpath {}\n\tcontent backup\n",
            path.display()
        );
        cfs.write("storage.cfg", storages.as_bytes()).unwrap();
        Self {
            directory,
            context,
            vmid: 105.try_into().unwrap(),
        }
    }

    /// A place on the storage.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.context.site.path("/var/lib/vz").join(below)
    }

    /// A storage `small` with room for so many bytes.
    pub(crate) fn small_storage(&self, bytes: u64) -> Mount {
        let path = self.directory.path().join("small");
        fs::create_dir(&path).unwrap();
        let options = format!("size={bytes}");
        nix::mount::mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        let cfs = Cfs::new(&self.context);
        let mut storages = cfs.read_text("storage.cfg").unwrap().unwrap();
        storages.push_str(&format!("\ndir: small\n\tpath {}\n\tcontent images\n", path.display()));
        cfs.write("storage.cfg", storages.as_bytes()).unwrap();
        Mount(path)
    }

    /// Puts an archive on the storage; its volume id.
    pub(crate) fn store(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path("dump");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name), bytes).unwrap();
        format!("local:backup/{name}")
    }

    pub(crate) fn store_compressed(&self, name: &str, bytes: &[u8], program: &str) -> String {
        let plain = self.directory.path().join("plain");
        fs::write(&plain, bytes).unwrap();
        let command = Command::new(program)
            .args(["-q", "-c"])
            .arg(&plain)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(command.status.success(), "{command:?}");
        self.store(name, &command.stdout)
    }

    /// Makes a file of the VM.
    pub(crate) fn image(&self, name: &str, content: &[u8]) {
        let path = self.path("images/105");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name), content).unwrap();
    }

    /// The VM's files on the storage.
    pub(crate) fn images(&self) -> Vec<String> {
        names(&self.path("images/105"))
    }

    /// What is left in the runtime directory.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        names(&self.context.site.path("/run/qemu-server"))
    }

    pub(crate) fn config(&self) -> String {
        Cfs::new(&self.context).read_text(CONFIG).unwrap().unwrap()
    }

    pub(crate) fn write_config(&self, text: &str) {
        Cfs::new(&self.context).write(CONFIG, text.as_bytes()).unwrap();
    }

    /// The VM, its disks and all archives are gone.
    pub(crate) fn forget(&self) {
        Cfs::new(&self.context).remove(CONFIG).unwrap();
        let _ = fs::remove_dir_all(self.path("images"));
        let _ = fs::remove_dir_all(self.path("dump"));
    }

    pub(crate) fn restore(&self, archive: &str, set: impl FnOnce(&mut Order)) -> Result<Vec<String>, Failed> {
        self.run("root@pam", archive, false, None, set)
    }

    pub(crate) fn restore_over(&self, archive: &str, set: impl FnOnce(&mut Order)) -> Result<Vec<String>, Failed> {
        self.run("root@pam", archive, true, None, set)
    }

    pub(crate) fn restore_over_as(&self, who: &str, archive: &str) -> Result<Vec<String>, Failed> {
        self.run(who, archive, true, None, |_| ())
    }

    pub(crate) fn restore_interrupted(&self, archive: &str, at: &str) -> Result<Vec<String>, Failed> {
        self.run("root@pam", archive, false, Some(at.to_owned()), |_| ())
    }

    fn run(
        &self,
        who: &str,
        archive: &str,
        force: bool,
        stop_at: Option<String>,
        set: impl FnOnce(&mut Order),
    ) -> Result<Vec<String>, Failed> {
        restored::claim(&self.context, self.vmid, force).map_err(|error| (error.to_string(), Vec::new()))?;
        let mut order = Order {
            archive: archive.to_owned(),
            storage: None,
            unique: false,
            bwlimit: None,
            own: create::Order {
                set: std::collections::BTreeMap::new(),
                pool: None,
            },
        };
        set(&mut order);
        let mut lines = Lines {
            stop_at,
            ..Lines::default()
        };
        match restore(&self.context, self.vmid, &order, &who.parse().unwrap(), &mut lines) {
            Ok(()) => Ok(lines.lines),
            Err(error) => Err((error.to_string(), lines.lines)),
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A mounted directory.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}
