//! A real QEMU with disks, on a site of its own.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pve_backup::copy::{Disk, Source, Watch};
use pve_backup::vma::Config;
use pve_qemu::qmp::Qmp;
use pve_schema::Context;
use pve_schema::ids::VmId;
use pve_testing::{noise, wait_for};
use serde_json::{Value, json};

/// Environment variable that tells a process the root of the site, where it is not made by that process.
pub(crate) const ROOT: &str = "PVE_TEST_SITE";

/// An image of the VM: attached as `scsiN` in the order given.
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    pub(crate) format: &'static str,
    /// What is on it before the VM starts.
    pub(crate) content: Vec<u8>,
}

/// A VM. It ends when this is dropped.
pub(crate) struct Lab {
    pub(crate) context: Context,
    pub(crate) vmid: VmId,
    pub(crate) images: Vec<Image>,
    directory: tempfile::TempDir,
    qemu: Option<Child>,
}

/// A site below a directory.
pub(crate) fn context(root: &Path) -> Context {
    pve_testing::context(root, "n1")
}

pub(crate) fn vmid() -> VmId {
    8106.try_into().unwrap()
}

impl Lab {
    /// A VM with a raw disk of 12 MiB and a bit, with a hole, and a qcow2 disk of 6 MiB; `None` (and a word about it)
    /// where QEMU is missing.
    pub(crate) fn with_two_disks() -> Option<Self> {
        let mut first = noise(1, (12 << 20) + 512 * 3);
        first[1 << 20..3 << 20].fill(0);
        first[4096 * 5..4096 * 6].fill(0);
        Self::start(vec![("raw", first), ("qcow2", noise(2, 6 << 20))], &[])
    }

    /// A VM with these disks, whose QEMU gets these arguments, too.
    pub(crate) fn start(disks: Vec<(&'static str, Vec<u8>)>, arguments: &[&str]) -> Option<Self> {
        if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
            println!("SKIP: qemu-system-x86_64 is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("run/qemu-server")).unwrap();
        let images = (disks.into_iter().enumerate())
            .map(|(number, (format, content))| make_image(directory.path(), number, format, content))
            .collect();
        let mut lab = Self {
            context: context(directory.path()),
            vmid: vmid(),
            images,
            directory,
            qemu: None,
        };
        lab.launch(arguments);
        Some(lab)
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    fn launch(&mut self, arguments: &[&str]) {
        let run = self.root().join("run/qemu-server");
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-machine",
            "pc,accel=tcg",
            "-m",
            "32",
            "-nodefaults",
            "-display",
            "none",
            "-S",
        ]);
        command.arg("-pidfile").arg(run.join(format!("{}.pid", self.vmid)));
        let monitor = run.join(format!("{}.qmp", self.vmid));
        command
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command.args(["-device", "virtio-scsi-pci,id=scsihw0"]);
        for (number, image) in self.images.iter().enumerate() {
            // The graph of the product: throttle, format, protocol.
            let graph = json!({
                "driver": "throttle", "node-name": format!("drive-scsi{number}"), "throttle-group": format!("t{number}"),
                "file": { "driver": image.format, "file": { "driver": "file", "filename": image.path } },
            });
            command.arg("-object").arg(format!("throttle-group,id=t{number}"));
            command.arg("-blockdev").arg(graph.to_string());
            command.arg("-device").arg(format!(
                "scsi-hd,bus=scsihw0.0,scsi-id={number},drive=drive-scsi{number},id=scsi{number}"
            ));
        }
        command.args(arguments);
        // `qemu-io` commands report to standard output.
        let output = File::create(self.root().join("qemu.out")).unwrap();
        let errors = File::create(self.root().join("qemu.err")).unwrap();
        let command = command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().unwrap();
        self.qemu = Some(child);
        // The socket is there before anybody listens.
        wait_for("QEMU", || self.qmp().execute("query-status", Value::Null).is_ok());
    }

    pub(crate) fn qmp(&self) -> Qmp<'_> {
        Qmp::new(&self.context.site, self.vmid)
    }

    pub(crate) fn ask(&self, command: &str, arguments: Value) -> Value {
        self.qmp().execute(command, arguments).unwrap()
    }

    /// Writes to a disk as the guest does, through its device.
    pub(crate) fn write(&self, disk: usize, pattern: u8, offset: u64, length: u64) {
        let line = format!("qemu-io -d scsi{disk} \"write -P {pattern} {offset} {length}\"");
        let answer = self.qmp().human(&line).unwrap();
        assert_eq!(answer.trim(), "", "{line}");
    }

    /// The VM as a copy takes it.
    pub(crate) fn source(&self) -> Source {
        let disks = (0..self.images.len()).map(|number| {
            let key = format!("scsi{number}").parse().unwrap();
            Disk {
                key,
                device: format!("drive-{key}"),
                volume: None,
            }
        });
        Source {
            vmid: self.vmid,
            disks: disks.collect(),
            configs: vec![Config {
                name: "qemu-server.conf".to_owned(),
                data: b"name: lab\n".to_vec(),
            }],
            ctime: 1_787_193_005,
        }
    }

    /// No job, no node, no filter, no socket of a backup is left.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.ask("query-jobs", Value::Null), json!([]));
        let nodes = self.ask("query-named-block-nodes", json!({ "flat": true }));
        for node in nodes.as_array().unwrap() {
            let (name, driver) = (node["node-name"].as_str().unwrap(), node["drv"].as_str().unwrap());
            let foreign = name.starts_with("vzdump") || matches!(driver, "nbd" | "copy-before-write" | "backup-top");
            assert!(!foreign, "{name} ({driver}) is left");
        }
        assert!(!self.socket().exists());
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.root()
            .join(format!("run/qemu-server/{}.vzdump-nbd.sock", self.vmid))
    }

    /// Ends the VM: what its disks hold then, and what `qemu-io` said.
    pub(crate) fn end(mut self) -> (Vec<Vec<u8>>, String) {
        // The answer may get lost with the monitor.
        let _ = self.qmp().execute("quit", Value::Null);
        self.qemu.take().unwrap().wait().unwrap();
        let contents = self.images.iter().map(|image| read_image(self.root(), image)).collect();
        let said = fs::read_to_string(self.root().join("qemu.out")).unwrap();
        (contents, said)
    }

    /// Ends QEMU the hard way.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.qemu.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill();
    }
}

fn make_image(directory: &Path, number: usize, format: &'static str, content: Vec<u8>) -> Image {
    let path = directory.join(format!("disk{number}.{format}"));
    if format == "raw" {
        write_sparse(&path, &content);
    } else {
        let raw = directory.join("content");
        write_sparse(&raw, &content);
        qemu_img(&["convert", "-f", "raw", "-O", format], &raw, &path);
        fs::remove_file(raw).unwrap();
    }
    Image { path, format, content }
}

/// Writes a file with holes where 64 KiB are zero.
fn write_sparse(path: &Path, content: &[u8]) {
    let file = File::create(path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (number, part) in content.chunks(65_536).enumerate() {
        if part.iter().any(|byte| *byte != 0) {
            file.write_all_at(part, number as u64 * 65_536).unwrap();
        }
    }
}

fn read_image(directory: &Path, image: &Image) -> Vec<u8> {
    if image.format == "raw" {
        return fs::read(&image.path).unwrap();
    }
    let raw = directory.join("content");
    qemu_img(&["convert", "-f", image.format, "-O", "raw"], &image.path, &raw);
    fs::read(raw).unwrap()
}

pub(crate) fn qemu_img(arguments: &[&str], from: &Path, to: &Path) {
    let status = Command::new("qemu-img")
        .args(arguments)
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Remembers what a copy says; does what the test wants at the instant.
pub(crate) struct Notes<'a> {
    pub(crate) lines: Vec<String>,
    pub(crate) job: Option<String>,
    pub(crate) at_start: Box<dyn FnMut() + 'a>,
    pub(crate) interrupted: Box<dyn Fn() -> bool + 'a>,
}

impl Default for Notes<'_> {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            job: None,
            at_start: Box::new(|| ()),
            interrupted: Box::new(|| false),
        }
    }
}

impl Watch for Notes<'_> {
    fn log(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }
    fn freeze(&mut self) {
        self.lines.push("(freeze)".to_owned());
    }
    fn thaw(&mut self) {
        self.lines.push("(thaw)".to_owned());
    }
    fn started(&mut self, job: &str) {
        self.job = Some(job.to_owned());
        (self.at_start)();
    }
    fn progress(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }
    fn is_interrupted(&self) -> bool {
        (self.interrupted)()
    }
}
